//! The example, as a user runs it.

use autolrs_tests::server::{Server, built};
use tokio::process::Command;

#[tokio::test]
async fn digits_are_learnt_while_the_rate_is_searched() {
    let server = Server::start().await;
    let mut command = Command::new(built("examples/digits"));
    let output = command.args(["digits", "720"]).env("AUTOLRS_SERVER", server.url()).output().await.unwrap();
    let told = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{told}{}", String::from_utf8_lossy(&output.stderr));
    for part in ["trial", "warm-up", "stable", "cooldown"] {
        assert!(told.contains(part), "no {part} in\n{told}");
    }
    let accuracy =
        told.lines().last().and_then(|line| line.strip_prefix("Finished: test accuracy ")).unwrap();
    let accuracy: f64 = accuracy.trim_end_matches(" %").parse().unwrap();
    assert!(accuracy > 90.0, "{told}");
}

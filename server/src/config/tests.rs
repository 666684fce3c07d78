use super::*;
use std::io::Write;

fn read(flags: &[(&str, &str)], env: &[(&str, &str)], file: &str) -> Result<Config, ConfigError> {
    let mut path = tempfile::NamedTempFile::new().unwrap();
    path.write_all(file.as_bytes()).unwrap();
    let flags = flags.iter().map(|(k, v)| ((*k).into(), (*v).into())).collect();
    let env = env.iter().map(|(k, v)| ((*k).into(), (*v).into())).collect();
    Config::read(&flags, &env, Some(path.path()))
}

fn keys(error: &ConfigError) -> Vec<&str> {
    error.0.iter().map(|problem| problem.key.as_str()).collect()
}

#[test]
fn the_defaults_are_usable() {
    let config = read(&[], &[], "").unwrap();
    assert_eq!(config.listen, "127.0.0.1:7461".parse().unwrap());
    assert_eq!(config.http_listen, Some("127.0.0.1:7462".parse().unwrap()));
    assert_eq!(config.limits.max_message_bytes, 4 << 20);
}

#[test]
fn a_flag_beats_the_environment_and_that_the_file() {
    let file = "mailbox = 1\nidle = 2\ndrain = 3";
    let env = [("AUTOLRS_IDLE", "20"), ("AUTOLRS_DRAIN", "30")];
    let config = read(&[("drain", "300")], &env, file).unwrap();
    assert_eq!(config.limits.mailbox, 1);
    assert_eq!(config.limits.idle, Duration::from_secs(20));
    assert_eq!(config.drain, Duration::from_secs(300));
}

#[test]
fn all_errors_come_at_once_with_their_origin() {
    let file = "lisen = \"x\"\nmailbox = 0\n[limits]\nx = 1";
    let env = [("AUTOLRS_DATADIR", "x"), ("AUTOLRS_IDLE", "soon")];
    let error = read(&[("listen", "localhost"), ("log_format", "xml")], &env, file).unwrap_err();
    assert_eq!(
        keys(&error),
        ["limits", "lisen", "AUTOLRS_DATADIR", "listen", "log_format", "mailbox", "idle"]
    );
    let text = error.to_string();
    assert!(
        text.contains("idle must be a whole number from 1 to 86400, is \"soon\" (from AUTOLRS_IDLE)"),
        "{text}"
    );
    assert!(text.contains("(from --listen)"), "{text}");
}

#[test]
fn a_broken_or_absent_file_is_one_of_the_errors() {
    let error = read(&[("drain", "x")], &[], "listen = ").unwrap_err();
    assert_eq!(keys(&error), ["config", "drain"]);
    let absent =
        Config::read(&BTreeMap::new(), &HashMap::new(), Some(Path::new("/nonexistent/autolrs.toml")));
    assert_eq!(keys(&absent.unwrap_err()), ["config"]);
}

#[test]
fn beyond_loopback_only_if_insecure() {
    let error = read(&[("listen", "0.0.0.0:1"), ("http_listen", "[::]:2")], &[], "").unwrap_err();
    assert_eq!(keys(&error), ["listen", "http_listen"]);
    assert!(error.to_string().contains("--insecure"));
    assert!(read(&[("listen", "0.0.0.0:1"), ("http_listen", "off")], &[], "insecure = true").is_ok());
}

#[test]
fn variables_of_clients_and_of_kubernetes_are_left_alone() {
    let env = [
        ("AUTOLRS_SERVER", "http://x"),
        ("AUTOLRS_SERVICE_HOST", "10.0.0.1"),
        ("AUTOLRS_PORT_7461_TCP_ADDR", "10.0.0.1"),
    ];
    assert!(read(&[], &env, "").is_ok());
}

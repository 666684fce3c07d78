//! The audit log of the real binary: who has done what, and what was decided for it.

use autolrs_client::{Session, SessionConfig, Token};
use autolrs_proto::v1::{ListStagesRequest, job_service_client::JobServiceClient};
use autolrs_tests::{
    command::autolrs_as,
    jobs::Kind,
    rpcs::call,
    security::{Files, bearer, id_of, secret_of},
    server::Server,
    sim::{Optimum, SimTrainer},
    training::train,
};
use serde_json::Value;
use std::{fs, time::Duration};

const SOON: Duration = Duration::from_secs(20);

/// A server that keeps an audit log in the file `audit`.
async fn server(files: &Files) -> Server {
    let mut server = Server::prepare(tempfile::tempdir().unwrap());
    let [tokens, audit] = [files.text("tokens.json"), files.text("audit")];
    server.flags = ["--tokens", &tokens, "--audit", &audit].map(str::to_owned).to_vec();
    server.secured = true;
    server.up().await;
    server
}

/// What is in the log of a server that has ended in order.
fn entries(files: &Files) -> Vec<Value> {
    let text = fs::read_to_string(files.path("audit")).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn of<'e>(entries: &'e [Value], action: &str) -> Vec<&'e Value> {
    entries.iter().filter(|entry| entry["action"] == action).collect()
}

#[tokio::test]
async fn every_decision_and_every_change_has_its_entry() {
    let files = Files::new();
    let trainer = files.token("vision", "write").await;
    let admin = files.token("vision", "admin").await;
    let operator = files.token("*", "admin").await;
    let mut server = server(&files).await;
    let token = Some(Token::from(trainer.as_str()));
    let config = SessionConfig {
        server: server.url(),
        token,
        replay: true,
        ..SessionConfig::new("job", Kind::Scan.spec())
    };
    let session = Session::open(config).await.unwrap();
    let mut sim = SimTrainer::new(Optimum::default());
    train(&session, &mut sim).await;
    session.close(SOON).await;
    let request = ListStagesRequest { job: "job".into(), ..Default::default() };
    let mut jobs = JobServiceClient::new(bearer(server.channel(), &trainer));
    let stages = jobs.list_stages(request).await.unwrap().into_inner().stages;
    let url = server.url();
    let delete = ["jobs", "delete", "job", "--server", &url];
    let denied = call(bearer(server.channel(), &trainer), "DeleteJob", "job").await;
    assert!(denied.is_err());
    call(bearer(server.channel(), &admin), "CreateJob", "other").await.unwrap();
    call(bearer(server.channel(), &admin), "CancelJob", "other").await.unwrap();
    call(bearer(server.channel(), &admin), "CancelJob", "other").await.unwrap();
    call(bearer(server.channel(), &admin), "DeleteJob", "job").await.unwrap();
    call(bearer(server.channel(), &operator), "Backup", "").await.unwrap();
    let deleted = autolrs_as(delete, &[("AUTOLRS_TOKEN", &trainer)]).await;
    assert_eq!(deleted.code, Some(1), "{deleted:?}");
    assert!(server.terminate().success());

    let entries = entries(&files);
    for entry in &entries {
        assert!(entry["time"].as_str().unwrap().ends_with('Z'), "{entry}");
    }
    let decided = of(&entries, "decide");
    let seqs: Vec<_> = decided.iter().map(|entry| entry["seq"].as_u64().unwrap()).collect();
    assert!(seqs.len() > 5 && seqs.is_sorted_by(|a, b| a < b), "each directive once: {seqs:?}");
    for entry in &decided {
        assert_eq!((&entry["tenant"], &entry["job"]), (&"vision".into(), &"job".into()));
        assert_eq!(entry["token"], id_of(&trainer), "{entry}");
    }
    assert_eq!(decided.last().unwrap()["done"], "finished");
    // The LRs that were decided are those that were run.
    let run: Vec<f64> = sim.line.iter().map(|step| step.lr).collect();
    let mut begun = decided.iter().filter_map(|entry| entry["lr_start"].as_f64());
    assert!(begun.all(|lr| run.contains(&lr)));
    let committed: Vec<_> =
        of(&entries, "commit").iter().map(|entry| entry["lr"].as_f64().unwrap()).collect();
    let expected: Vec<_> = stages.iter().filter_map(|stage| stage.lr).collect();
    assert!(!expected.is_empty());
    assert_eq!(committed, expected);

    assert_eq!(of(&entries, "create").len(), 2);
    assert_eq!(of(&entries, "open_session").len(), 1);
    // A request that is repeated has one effect and one entry.
    let cancelled = of(&entries, "cancel");
    assert_eq!(cancelled.len(), 1);
    assert_eq!(
        (&cancelled[0]["request_id"], &cancelled[0]["token"]),
        (&"other".into(), &id_of(&admin).into())
    );
    assert_eq!(of(&entries, "delete")[0]["token"], id_of(&admin));
    assert_eq!(of(&entries, "backup")[0]["token"], id_of(&operator));
    let denied = of(&entries, "deny");
    assert_eq!(denied.len(), 2);
    for entry in denied {
        assert_eq!((&entry["rpc"], &entry["token"]), (&"DeleteJob".into(), &id_of(&trainer).into()));
    }
    let text = fs::read_to_string(files.path("audit")).unwrap();
    for token in [&trainer, &admin, &operator] {
        assert!(!text.contains(secret_of(token)));
    }
}

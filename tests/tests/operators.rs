//! What operators do to jobs of the real server, with the real command line.

use autolrs_proto::v1::{
    CancelJobRequest, ConstantPolicy, DeleteJobRequest, GetJobRequest, JobState, Report, ScanPolicy,
    StoppedBecause, ValidateJobSpecRequest, job_spec::Policy, stopped_because::Cause,
};
use autolrs_tests::{
    server::{Server, binary},
    trainer::{Model, advance, assert_refused, bad_fields, open, spec},
};
use std::process::{Command, Output};
use tonic::Code;

fn constant() -> Policy {
    Policy::Constant(ConstantPolicy::default())
}

/// `autolrs jobs ARGS`.
async fn jobs(server: &Server, args: &[&str]) -> Output {
    let mut command = Command::new(binary());
    command.arg("jobs").args(args).args(["--server", &server.url()]);
    tokio::task::spawn_blocking(move || command.output().expect("the binary runs")).await.unwrap()
}

/// What a command printed, if it ended well.
async fn says(server: &Server, args: &[&str]) -> String {
    let Output { status, stdout, stderr } = jobs(server, args).await;
    assert!(status.success(), "{args:?}: {}", String::from_utf8_lossy(&stderr));
    String::from_utf8(stdout).unwrap()
}

/// What a command that was refused printed.
async fn refuses(server: &Server, args: &[&str]) -> String {
    let Output { status, stderr, .. } = jobs(server, args).await;
    assert_eq!(status.code(), Some(1), "{args:?}");
    String::from_utf8(stderr).unwrap()
}

async fn state(server: &Server, name: &str) -> JobState {
    server
        .jobs()
        .get_job(GetJobRequest { name: name.into() })
        .await
        .unwrap()
        .into_inner()
        .job
        .unwrap()
        .state()
}

#[tokio::test]
async fn a_spec_is_validated_and_nothing_is_made() {
    let server = Server::start().await;
    let mut narrow = spec(500, Policy::Scan(ScanPolicy::default()));
    narrow.lr_min = Some(1.0);
    let validate = |spec| ValidateJobSpecRequest { spec: Some(spec) };
    let said = server.jobs().validate_job_spec(validate(narrow.clone())).await.unwrap().into_inner();
    assert_eq!(said.violations, []);
    let fields: Vec<_> = said.warnings.iter().map(|note| note.field.as_str()).collect();
    assert_eq!(fields, ["spec.total_steps", "spec.lr_max"]);
    (narrow.total_steps, narrow.lr_max) = (Some(0), Some(0.5));
    let said = server.jobs().validate_job_spec(validate(narrow)).await.unwrap().into_inner();
    let fields: Vec<_> = said.violations.iter().map(|note| note.field.as_str()).collect();
    assert_eq!((fields, said.warnings), (vec!["spec.total_steps", "spec.lr_max"], vec![]));
    assert_eq!(says(&server, &["list"]).await, "no jobs\n");
}

#[tokio::test]
async fn a_job_is_cancelled_and_then_deleted() {
    let mut server = Server::start().await;
    let opened = open(&server, "resnet50", spec(1000, constant())).await.unwrap();
    assert!(refuses(&server, &["delete", "resnet50"]).await.contains("[JOB_NOT_ENDED]"));
    assert!(says(&server, &["cancel", "resnet50"]).await.starts_with("job resnet50 is training; "));
    let report = Report { job: "resnet50".into(), session: opened.session, seq: 1, ..Report::default() };
    let number = advance(&server, report.clone()).await.unwrap().interrupt.expect("the trainer is told");
    let last = Report {
        train_losses: vec![1.0; 5],
        finished: true,
        stopped_because: Some(StoppedBecause { cause: Some(Cause::Interrupt(number)) }),
        ..report.clone()
    };
    advance(&server, last).await.unwrap();
    assert_eq!(state(&server, "resnet50").await, JobState::Cancelled);
    let delete =
        |uid: &str| DeleteJobRequest { name: "resnet50".into(), request_id: "r".into(), uid: uid.into() };
    let refused = server.jobs().delete_job(delete("0000000000000001")).await;
    assert_refused(refused, Code::NotFound, "JOB_NOT_FOUND");
    let refused = server.jobs().delete_job(delete("x")).await;
    assert_eq!(bad_fields(&assert_refused(refused, Code::InvalidArgument, "INVALID_FIELD")), ["uid"]);
    assert_eq!(says(&server, &["delete", "resnet50"]).await, "job resnet50 is deleted\n");
    assert!(refuses(&server, &["delete", "resnet50"]).await.contains("[JOB_NOT_FOUND]"));
    server.kill();
    server.up().await;
    assert_refused(advance(&server, report).await, Code::NotFound, "JOB_NOT_FOUND");
    assert_eq!(says(&server, &["list"]).await, "no jobs\n");
}

#[tokio::test]
async fn a_job_without_a_trainer_is_cancelled_at_once() {
    let server = Server::start().await;
    open(&server, "a", spec(1000, constant())).await.unwrap();
    let create = autolrs_proto::v1::CreateJobRequest {
        name: "b".into(),
        spec: Some(spec(1000, constant())),
        ..Default::default()
    };
    server.jobs().create_job(create).await.unwrap();
    assert_eq!(says(&server, &["cancel", "b"]).await, "job b is cancelled\n");
    let again = CancelJobRequest { name: "b".into(), request_id: "again".into() };
    server.jobs().cancel_job(again).await.expect("changes nothing");
    assert!(refuses(&server, &["finish", "b"]).await.contains("[JOB_FINISHED]"));
    assert!(refuses(&server, &["cancel", "nobody"]).await.contains("[JOB_NOT_FOUND]"));
}

#[tokio::test]
async fn a_job_is_finished_with_a_cooldown() {
    let server = Server::start().await;
    let opened = open(&server, "a", spec(1000, constant())).await.unwrap();
    let json = says(&server, &["finish", "a", "--cooldown-steps", "7", "--output", "json"]).await;
    let shown: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!((shown["name"].as_str(), shown["state"].as_str()), (Some("a"), Some("training")));
    let report = Report { job: "a".into(), session: opened.session, seq: 1, ..Report::default() };
    let number = advance(&server, report.clone()).await.unwrap().interrupt.expect("the trainer is told");
    let last = Report {
        train_losses: vec![1.0; 5],
        finished: true,
        stopped_because: Some(StoppedBecause { cause: Some(Cause::Interrupt(number)) }),
        ..report
    };
    let cooldown = advance(&server, last).await.unwrap().directive.unwrap();
    assert_eq!(state(&server, "a").await, JobState::Cooling);
    let report = Model::default().carry_out("a", opened.session, &cooldown).unwrap();
    assert_eq!(report.train_losses.len(), 7);
    advance(&server, report).await.unwrap();
    assert_eq!(state(&server, "a").await, JobState::Finished);
    assert_eq!(says(&server, &["delete", "a"]).await, "job a is deleted\n");
}

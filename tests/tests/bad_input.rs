//! Bad input over the wire: each with its code, its reason and the field; nothing is lost.

use autolrs_proto::v1::{
    Capabilities, ConstantPolicy, CreateJobRequest, GetJobRequest, OpenSessionRequest, Report, Resume,
    ScanPolicy, StoppedBecause, job_spec::Policy, stopped_because::Cause, stopped_because::StopRule,
};
use autolrs_tests::{
    command::{Ran, bare, finish},
    server::Server,
    trainer::{advance, assert_refused, bad_fields, lrs, open, spec},
};
use tonic::Code;

fn constant() -> Policy {
    Policy::Constant(ConstantPolicy::default())
}

async fn create(server: &Server, name: &str, spec: autolrs_proto::v1::JobSpec) -> Result<(), tonic::Status> {
    let request = CreateJobRequest { name: name.into(), spec: Some(spec), ..CreateJobRequest::default() };
    server.jobs().create_job(request).await.map(drop)
}

#[tokio::test]
async fn a_bad_spec_names_every_field() {
    let server = Server::start().await;
    let mut upside_down =
        spec(1000, Policy::Scan(ScanPolicy { lr_factor: Some(7.0), ..ScanPolicy::default() }));
    (upside_down.lr_min, upside_down.lr_max) = (Some(1.0), Some(0.1));
    let refused =
        assert_refused(create(&server, "a", upside_down).await, Code::InvalidArgument, "INVALID_FIELD");
    assert_eq!(bad_fields(&refused), ["spec.lr_max", "spec.scan.lr_factor"]);
    for name in ["a/b", "", "A", "-a", &"x".repeat(64)] {
        let refused = create(&server, name, spec(1000, constant())).await;
        assert_eq!(bad_fields(&assert_refused(refused, Code::InvalidArgument, "INVALID_FIELD")), ["name"]);
    }
    let mut nan = spec(1000, constant());
    nan.fallback_lr = Some(f64::NAN);
    let refused = assert_refused(create(&server, "a", nan).await, Code::InvalidArgument, "INVALID_FIELD");
    assert_eq!(bad_fields(&refused), ["spec.fallback_lr", "spec.constant.lr"]);
}

#[tokio::test]
async fn an_unknown_job_and_a_job_that_differs() {
    let server = Server::start().await;
    let get = server.jobs().get_job(GetJobRequest { name: "nobody".into() }).await;
    assert_refused(get, Code::NotFound, "JOB_NOT_FOUND");
    create(&server, "a", spec(1000, constant())).await.unwrap();
    create(&server, "a", spec(1000, constant())).await.expect("an equal spec finds the job");
    let refused = create(&server, "a", spec(2000, constant())).await;
    assert_refused(refused, Code::AlreadyExists, "JOB_DIFFERS");
}

#[tokio::test]
async fn sessions_are_fenced() {
    let server = Server::start().await;
    let first = open(&server, "a", spec(1000, constant())).await.unwrap();
    let again = OpenSessionRequest { job: "a".into(), ..OpenSessionRequest::default() };
    let refused = server.trainer().open_session(again.clone()).await;
    assert_refused(refused, Code::FailedPrecondition, "SESSION_ACTIVE");
    let takeover = OpenSessionRequest { takeover: true, ..again.clone() };
    let second = server.trainer().open_session(takeover).await.unwrap().into_inner();
    assert_eq!(second.session, first.session + 1);
    let seq = first.directive.unwrap().seq;
    let stale =
        Report { job: "a".into(), session: first.session, seq, train_losses: vec![1.0], ..Report::default() };
    assert_refused(advance(&server, stale.clone()).await, Code::FailedPrecondition, "FENCED");
    let fresh = Report { session: second.session, ..stale };
    assert_eq!(advance(&server, fresh.clone()).await.unwrap().received_through, 1);
    let takeover = OpenSessionRequest { takeover: true, ..again.clone() };
    let refused = server.trainer().open_session(takeover).await;
    assert_refused(refused, Code::FailedPrecondition, "RESUME_REQUIRED");
    let unknown = Report { seq: 999, ..fresh };
    assert_refused(advance(&server, unknown).await, Code::FailedPrecondition, "UNKNOWN_DIRECTIVE");
    let other = Resume { uid: "0000000000000001".into(), seq, ..Resume::default() };
    let refused = server.trainer().open_session(OpenSessionRequest { resume: Some(other), ..again }).await;
    assert_refused(refused, Code::FailedPrecondition, "CHECKPOINT_MISMATCH");
}

#[tokio::test]
async fn nan_losses_are_information_and_a_wrong_end_is_refused() {
    let server = Server::start().await;
    let capabilities = Some(Capabilities { replay: true, validate: false });
    create(&server, "a", spec(2000, Policy::Scan(ScanPolicy::default()))).await.unwrap();
    let request = OpenSessionRequest { job: "a".into(), capabilities, ..OpenSessionRequest::default() };
    let opened = server.trainer().open_session(request).await.unwrap().into_inner();
    let first = opened.directive.unwrap();
    let n = lrs(&first).len();
    let report = Report { job: "a".into(), session: opened.session, seq: first.seq, ..Report::default() };
    let whole = Report { train_losses: vec![2.0; n], finished: true, ..report.clone() };
    let rule = StopRule { rule: 0, offset: 3 };
    let lie = Report {
        stopped_because: Some(StoppedBecause { cause: Some(Cause::StopRule(rule)) }),
        ..whole.clone()
    };
    assert_refused(advance(&server, lie).await, Code::InvalidArgument, "STOP_MISMATCH");
    let next = advance(&server, whole).await.unwrap().directive.expect("the next branch");
    let nan = Report {
        seq: next.seq,
        train_losses: vec![f64::NAN],
        finished: true,
        stopped_because: Some(StoppedBecause {
            cause: Some(Cause::StopRule(StopRule { rule: 0, offset: 0 })),
        }),
        ..report
    };
    let after =
        advance(&server, nan).await.unwrap().directive.expect("a diverged branch is followed by another");
    assert!(after.seq > next.seq);
    assert_eq!(after.slot_ops[0].kind(), autolrs_proto::v1::slot_op::Kind::Restore);
}

fn serve(listen: &str, data: &std::path::Path) -> Ran {
    let flags = ["serve", "--listen", listen, "--http-listen", "off", "--data-dir"];
    finish(bare().args(flags).arg(data))
}

#[tokio::test]
async fn a_port_in_use() {
    let server = Server::start().await;
    let empty = tempfile::tempdir().unwrap();
    let second = serve(&server.address.to_string(), empty.path());
    assert!(second.code == Some(69) && second.err.contains("in use"), "{second:?}");
    assert!(server.jobs().get_job(GetJobRequest { name: "x".into() }).await.is_err(), "the first goes on");
}

//! The conformance kit: our server keeps every promise that it checks, and a server that breaks one is found out.

use autolrs_proto::v1::{
    Ack, AdvanceRequest, AdvanceResponse, CreateJobRequest, DeleteJobRequest, Directive,
    ExportScheduleResponse, FinishJobRequest, GetJobResponse, ListJobsRequest, ListJobsResponse,
    ListStagesResponse, OpenSessionRequest, OpenSessionResponse, Run, SlotOp, UpdateJobRequest,
    ValidateJobSpecResponse, directive::Action, slot_op::Kind,
};
use autolrs_tests::{
    command::{Ran, autolrs},
    proxy::{Forge, Proxy, Side},
    server::{Server, built},
};
use serde_json::Value;
use std::sync::atomic::{AtomicU64, Ordering};

/// `autolrs conformance --server URL ARGS`, as JSON.
async fn conformance(url: &str, args: &[&str]) -> (Ran, Value) {
    let common = ["conformance", "--server", url, "--output", "json"];
    let args = common.iter().chain(args);
    let ran = autolrs(args).await;
    let value = serde_json::from_str(&ran.out).unwrap_or_else(|error| panic!("{error}: {ran:?}"));
    (ran, value)
}

async fn no_jobs(server: &Server) {
    let listed = server.jobs().list_jobs(ListJobsRequest::default()).await.expect("an answer").into_inner();
    let names: Vec<String> = listed.jobs.into_iter().map(|job| job.name).collect();
    assert_eq!(names, ["bystander"], "nothing but what was there before is left");
}

#[tokio::test]
async fn our_server_keeps_every_promise() {
    let server = Server::start().await;
    autolrs_tests::trainer::open(&server, "bystander", spec()).await.expect("a job of somebody else");
    let (ran, report) = conformance(&server.url(), &[]).await;
    let of = |outcome: &str| {
        let checks = report["checks"].as_array().expect("checks");
        checks.iter().filter(|check| check["outcome"] == outcome).cloned().collect::<Vec<Value>>()
    };
    assert_eq!((of("fail"), of("skip"), ran.code), (vec![], vec![], Some(0)));
    assert_eq!((&report["passed"], &report["left"]), (&of("pass").len().into(), &Value::Array(vec![])));
    assert_eq!(listed("server", &[]).await, of("pass").len(), "every check that is listed was run");
    no_jobs(&server).await;
}

/// How many checks of this half `autolrs conformance --list ARGS` names.
async fn listed(half: &str, args: &[&str]) -> usize {
    let common = ["conformance", "--list", "--output", "json"];
    let ran = autolrs(common.iter().chain(args)).await;
    let listed: Value = serde_json::from_str(&ran.out).unwrap_or_else(|error| panic!("{error}: {ran:?}"));
    listed["checks"].as_array().expect("checks").iter().filter(|check| check["half"] == half).count()
}

fn spec() -> autolrs_proto::v1::JobSpec {
    use autolrs_proto::v1::{ConstantPolicy, job_spec::Policy};
    autolrs_tests::trainer::spec(100, Policy::Constant(ConstantPolicy::default()))
}

/// Changes every answer to a report.
fn acks(change: impl Fn(&mut Ack) + Send + Sync + 'static) -> Forge {
    Forge::new("Advance", Side::Reply, move |reply: &mut AdvanceResponse| {
        if let Some(ack) = &mut reply.ack {
            change(ack);
        }
    })
}

/// Changes every directive that answers an end.
fn directives(change: impl Fn(&mut Directive) + Send + Sync + 'static) -> Forge {
    acks(move |ack| {
        if let Some(directive) = &mut ack.directive {
            change(directive);
        }
    })
}

/// Changes the segment of the first directive.
fn first_runs(change: impl Fn(&mut Run) + Send + Sync + 'static) -> Forge {
    Forge::new("OpenSession", Side::Reply, move |reply: &mut OpenSessionResponse| {
        if let Some(Action::Run(run)) =
            reply.directive.as_mut().and_then(|directive| directive.action.as_mut())
        {
            change(run);
        }
    })
}

fn requests<M: prost::Message + Default>(
    method: &'static str,
    change: impl Fn(&mut M) + Send + Sync + 'static,
) -> Forge {
    Forge::new(method, Side::Request, change)
}

fn replies<M: prost::Message + Default>(
    method: &'static str,
    change: impl Fn(&mut M) + Send + Sync + 'static,
) -> Forge {
    Forge::new(method, Side::Reply, change)
}

/// A check, how its promise is broken, and by what.
fn broken() -> Vec<(&'static str, &'static str, Forge)> {
    let restore_of_nothing =
        SlotOp { kind: Kind::Restore.into(), slot: autolrs_proto::v1::Slot::SafePrev.into() };
    let (again, jitter, ends) = (AtomicU64::new(0), AtomicU64::new(0), AtomicU64::new(0));
    vec![
        ("whole-constant", "a negative LR", first_runs(|run| run.lr[0].start = -1.0)),
        ("whole-constant", "an infinite LR", first_runs(|run| run.lr[0].start = f64::INFINITY)),
        ("whole-constant", "no non_finite rule", first_runs(|run| run.stop_if.clear())),
        (
            "whole-constant",
            "more steps than the budget",
            first_runs(|run| {
                (run.lr[0].steps, run.lr[0].of) = (500, 500);
            }),
        ),
        ("whole-scan", "no fallback", directives(|directive| directive.fallback = None)),
        (
            "whole-scan",
            "a restore of what was never saved",
            directives(move |directive| {
                directive.slot_ops.push(restore_of_nothing);
            }),
        ),
        ("whole-scan", "a seq that was used", directives(|directive| directive.seq = 1)),
        ("diverged-trial", "no restore", directives(|directive| directive.slot_ops.clear())),
        (
            "whole-cosine",
            "an export of another LR",
            replies("ExportSchedule", |reply: &mut ExportScheduleResponse| {
                if let Some(piece) = reply.schedule.as_mut().and_then(|schedule| schedule.pieces.first_mut())
                {
                    piece.end *= 1.5;
                }
            }),
        ),
        (
            "whole-paper",
            "steps that were never run",
            replies("GetJob", |reply: &mut GetJobResponse| {
                if let Some(steps) = reply.job.as_mut().and_then(|job| job.steps.as_mut()) {
                    steps.search *= 2;
                }
            }),
        ),
        (
            "determinism",
            "an LR that depends on chance",
            directives(move |directive| {
                let number = jitter.fetch_add(1, Ordering::Relaxed) as f64;
                if let Some(Action::Run(run)) = &mut directive.action {
                    run.lr[0].start *= 1.0 + number * 1e-15;
                }
            }),
        ),
        (
            "end-again",
            "another answer each time",
            directives(move |directive| {
                directive.seq += again.fetch_add(1, Ordering::Relaxed);
            }),
        ),
        ("exactly-once", "a repeated loss counts twice", acks(|ack| ack.received_through += 1)),
        ("gap", "the wrong place to go on", acks(|ack| ack.received_through = 0)),
        ("durable-seq", "nothing is ever durable", acks(|ack| ack.durable_seq = 0)),
        ("rungs", "a word for another place", acks(|ack| ack.go_on = ack.go_on.map(|at| at + 1))),
        (
            "wrong-ends",
            "a false end is taken",
            requests("Advance", |request: &mut AdvanceRequest| {
                if let Some(report) = &mut request.report {
                    report.finished = false;
                    report.stopped_because = None;
                }
            }),
        ),
        (
            "fencing",
            "an old session may speak",
            requests("Advance", move |request: &mut AdvanceRequest| {
                // Two trainers end a directive each; what the first says next is heard after the takeover.
                let number = ends.fetch_add(1, Ordering::Relaxed);
                if let Some(report) =
                    request.report.as_mut().filter(|report| number >= 2 && report.session == 1)
                {
                    report.session = 2;
                }
            }),
        ),
        (
            "session-active",
            "a second trainer gets in",
            requests("OpenSession", |open: &mut OpenSessionRequest| {
                open.takeover = true;
            }),
        ),
        (
            "open-nonce",
            "a copy opens another session",
            requests("OpenSession", |open: &mut OpenSessionRequest| {
                open.nonce.clear();
                open.takeover = true;
            }),
        ),
        (
            "rewind",
            "a rewind to the wrong place",
            replies("OpenSession", |reply: &mut OpenSessionResponse| {
                if let Some(directive) = reply.directive.as_mut().filter(|directive| directive.seq > 1) {
                    directive.seq += 1;
                }
            }),
        ),
        (
            "resume-in-a-trial",
            "losses that are past the checkpoint",
            replies("OpenSession", |reply: &mut OpenSessionResponse| {
                reply.received_through += u64::from(reply.received_through > 0);
            }),
        ),
        (
            "validations",
            "a trainer that can't gets in",
            requests("OpenSession", |open: &mut OpenSessionRequest| {
                if let Some(capabilities) = &mut open.capabilities {
                    capabilities.validate = true;
                }
            }),
        ),
        (
            "switch-every",
            "another switch_every",
            replies("OpenSession", |reply: &mut OpenSessionResponse| {
                reply.switch_every = 1;
            }),
        ),
        (
            "create-differs",
            "another spec is the same",
            requests("CreateJob", |create: &mut CreateJobRequest| {
                if let Some(spec) = &mut create.spec {
                    (spec.total_steps, spec.lr_max) = (Some(1500), Some(10.0));
                }
            }),
        ),
        (
            "spec-violations",
            "one violation at a time",
            replies("ValidateJobSpec", |reply: &mut ValidateJobSpecResponse| {
                reply.violations.truncate(1);
            }),
        ),
        (
            "list-pages",
            "one page and no more",
            replies("ListJobs", |reply: &mut ListJobsResponse| {
                reply.next_page_token.clear();
            }),
        ),
        (
            "delete",
            "whichever job has the name",
            requests("DeleteJob", |delete: &mut DeleteJobRequest| {
                delete.uid.clear();
            }),
        ),
        (
            "stages",
            "a trial is forgotten",
            replies("ListStages", |reply: &mut ListStagesResponse| {
                reply.stages.iter_mut().for_each(|stage| drop(stage.trials.pop()));
            }),
        ),
        (
            "finish",
            "another cooldown",
            requests("FinishJob", |finish: &mut FinishJobRequest| {
                finish.cooldown_steps = Some(7);
            }),
        ),
        (
            "update",
            "an LR that is not the one asked for",
            requests("UpdateJob", |update: &mut UpdateJobRequest| {
                update.lr_override = update.lr_override.map(|lr| lr * 2.0);
            }),
        ),
        ("cancel", "no interrupt", acks(|ack| ack.interrupt = None)),
    ]
}

#[tokio::test]
async fn a_server_that_breaks_a_promise_is_found_out() {
    let server = Server::start().await;
    autolrs_tests::trainer::open(&server, "bystander", spec()).await.expect("a job of somebody else");
    let mut missed = Vec::new();
    for (check, how, forge) in broken() {
        let proxy = Proxy::forging(server.address, forge).await;
        let (ran, report) = conformance(&proxy.url(), &["--only", check]).await;
        let found = &report["checks"][0];
        let told = found["expected"].is_string() && found["came"].is_string();
        if ran.code != Some(1) || found["outcome"] != "fail" || !told {
            missed.push(format!("{check}: {how}: {report}"));
        }
    }
    assert!(missed.is_empty(), "not found out:\n{}", missed.join("\n"));
}

#[tokio::test]
async fn our_rust_client_keeps_every_promise() {
    let program = built("examples/conformance");
    let program = program.to_str().expect("a path of letters");
    let ran = autolrs(["conformance", "--client", "--output", "json", "--", program]).await;
    let report: Value = serde_json::from_str(&ran.out).unwrap_or_else(|error| panic!("{error}: {ran:?}"));
    let counts = (&report["failed"], &report["skipped"], ran.code);
    assert_eq!(counts, (&0.into(), &0.into(), Some(0)), "{report}");
    assert_eq!(report["passed"], listed("client", &["--client"]).await);
}

#[tokio::test]
async fn a_program_that_does_nothing_is_found_out() {
    let ran = autolrs(["conformance", "--client", "--only", "slots", "--", "true"]).await;
    assert_eq!(ran.code, Some(1));
    assert!(ran.out.contains("OpenSession on the server of AUTOLRS_SERVER"), "{}", ran.out);
}

#[tokio::test]
async fn a_server_that_is_not_there_and_a_check_that_does_not_exist() {
    let nobody = autolrs_tests::server::free_address();
    let ran = autolrs(["conformance", "--server", &format!("http://{nobody}")]).await;
    assert_eq!(ran.code, Some(1));
    assert!(ran.err.contains("no server answers at"), "{}", ran.err);
    let ran = autolrs(["conformance", "--client", "--server", "http://127.0.0.1:1", "--", "true"]).await;
    assert!(ran.code == Some(64) && ran.err.contains("exclude each other"), "{ran:?}");
    let ran = autolrs(["conformance", "--client"]).await;
    assert!(ran.code == Some(64) && ran.err.contains("--client -- COMMAND"), "{ran:?}");
    assert_eq!(
        listed("server", &["--only", "slots"]).await + listed("client", &["--only", "slots"]).await,
        1
    );
    let ran = autolrs(["conformance", "--only", "no-such-check"]).await;
    assert_eq!(ran.code, Some(64));
    assert!(ran.err.contains("there is no check \"no-such-check\""), "{}", ran.err);
}

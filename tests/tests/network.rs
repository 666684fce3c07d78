//! Calls that are lost, repeated, late or cut between the real client and the real server: whatever the network does,
//! the LRs that were run and the job that is left are those of the undisturbed run, to the bit.

use autolrs_client::{Session, SessionConfig, Status};
use autolrs_proto::v1::{GetJobRequest, Job, JobState, ListStagesRequest, Stage};
use autolrs_tests::{
    jobs::Kind,
    proxy::{Cut, Fault, Nth, Proxy},
    server::Server,
    sim::{Optimum, SimTrainer},
    training::{bits, carry_out, enter, step},
};
use proptest::{
    prelude::*,
    test_runner::{TestError, TestRunner},
};
use std::{cell::Cell, time::Duration};

/// Longer than any case: no fallback is wanted here.
const PATIENCE: Duration = Duration::from_secs(60);
/// Cases of each kind of job, unless `PROPTEST_CASES` says otherwise; `PROPTEST_RNG_SEED` makes them the same again.
const CASES: u32 = 6;

/// What is left of a training.
#[derive(Debug, PartialEq)]
struct Outcome {
    /// LR and loss of every step.
    line: Vec<(u64, u64)>,
    job: Job,
    stages: Vec<Stage>,
}

impl Outcome {
    /// Says no more than where two differ first: all of it would fill pages.
    fn same_as(&self, expected: &Self) -> Result<(), TestCaseError> {
        let first = self.line.iter().zip(&expected.line).position(|(a, b)| a != b);
        prop_assert_eq!((first, self.line.len()), (None, expected.line.len()), "first other step, and steps");
        prop_assert_eq!(&self.job, &expected.job);
        for (stage, expected) in self.stages.iter().zip(&expected.stages) {
            prop_assert_eq!(stage, expected);
        }
        prop_assert_eq!(self.stages.len(), expected.stages.len());
        Ok(())
    }
}

/// Runs a job through a network, with the calls that were made.
async fn outcome(
    server: &Server,
    name: &str,
    kind: Kind,
    plan: Vec<Fault>,
) -> (Outcome, Vec<(String, Fault)>) {
    let proxy = Proxy::start(server.address, plan).await;
    let config = SessionConfig {
        server: proxy.url(),
        token: None,
        replay: true,
        connect_timeout: PATIENCE,
        decision_timeout: PATIENCE,
        ..SessionConfig::new(name, kind.spec())
    };
    let session = Session::open(config).await.unwrap();
    let mut trainer = SimTrainer::new(Optimum::default());
    while session.done().is_none() {
        if !ends_in_first_half(&session, &mut trainer).await {
            carry_out(&session, &mut trainer);
        }
        session.next().await.unwrap();
    }
    carry_out(&session, &mut trainer);
    assert!(session.flush(PATIENCE).await);
    assert!(!session.snapshot().detached);
    session.close(Duration::ZERO).await;
    proxy.deliver_late_requests().await;
    let request = GetJobRequest { name: name.into() };
    let job = server.jobs().get_job(request).await.unwrap().into_inner().job.unwrap();
    let request = ListStagesRequest { job: name.into(), ..ListStagesRequest::default() };
    let stages = server.jobs().list_stages(request).await.unwrap().into_inner().stages;
    (Outcome { line: bits(&trainer), job: anonymous(job), stages }, proxy.calls())
}

/// Runs half of a directive, if it does not end before, and reports it: a job this short would make no reports but of
/// whole ones.
async fn ends_in_first_half(session: &Session, trainer: &mut SimTrainer) -> bool {
    enter(session, trainer);
    while session.snapshot().offset < session.snapshot().steps / 2 {
        if step(session, trainer) == Status::Ended {
            return true;
        }
    }
    assert!(session.flush(PATIENCE).await);
    false
}

/// A job without what tells it from another run of the same. (Revisions are numbers of the whole store.)
fn anonymous(job: Job) -> Job {
    Job { name: String::new(), uid: String::new(), revision: 0, create_time: None, heard_time: None, ..job }
}

fn cut() -> impl Strategy<Value = Cut> {
    prop::sample::select(vec![Cut::Reset, Cut::HangUp, Cut::Short])
}

fn fault() -> impl Strategy<Value = Fault> {
    prop_oneof![
        1 => Just(Fault::LoseRequest),
        1 => Just(Fault::LoseReply),
        1 => prop::sample::select(vec![Nth::First, Nth::Second]).prop_map(Fault::Repeat),
        1 => Just(Fault::LateReply),
        1 => (1u8..6).prop_map(Fault::LateRequest),
        1 => (1u8..6).prop_map(Fault::LateCopy),
        1 => (any::<u8>(), cut()).prop_map(|(share, cut)| Fault::CutRequest(share, cut)),
        1 => (any::<u8>(), cut()).prop_map(|(share, cut)| Fault::CutReply(share, cut)),
    ]
}

/// What the calls of a job meet: those that open it, then the reports.
fn plans() -> impl Strategy<Value = Vec<Fault>> {
    let opening = prop::collection::vec(prop_oneof![Just(Fault::None), fault()], 0..5);
    let reports = prop::collection::vec(prop_oneof![3 => Just(Fault::None), 1 => fault()], 0..40);
    (opening, reports).prop_map(|(opening, reports)| [opening, reports].concat())
}

/// Any plan leaves the schedule and the job of a kind as they are.
fn no_plan_changes_anything(kind: Kind) {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let server = runtime.block_on(Server::start());
    let (expected, _) = runtime.block_on(outcome(&server, "undisturbed", kind, Vec::new()));
    assert_eq!(expected.job.state(), JobState::Finished);
    assert_eq!(expected.line.len() as u64, kind.spec().total_steps.unwrap());
    let asked = ProptestConfig::default();
    let cases = if std::env::var_os("PROPTEST_CASES").is_some() { asked.cases } else { CASES };
    let config = ProptestConfig { cases, failure_persistence: None, max_shrink_iters: 200, ..asked };
    let number = Cell::new(0);
    let ran = TestRunner::new(config).run(&plans(), |plan| {
        let name = format!("job-{}", number.replace(number.get() + 1));
        let (found, _) = runtime.block_on(outcome(&server, &name, kind, plan));
        found.same_as(&expected)
    });
    match ran {
        Ok(()) => {}
        Err(TestError::Fail(reason, plan)) => panic!("{kind:?} with {plan:?}: {reason}"),
        Err(TestError::Abort(reason)) => panic!("{reason}"),
    }
}

#[test]
fn no_plan_changes_a_scan() {
    no_plan_changes_anything(Kind::Scan);
}

#[test]
fn no_plan_changes_a_staged_search_with_rungs() {
    no_plan_changes_anything(Kind::Staged);
}

#[test]
fn no_plan_changes_paper() {
    no_plan_changes_anything(Kind::Paper);
}

#[test]
fn no_plan_changes_a_plain_schedule() {
    no_plan_changes_anything(Kind::Wsd);
}

/// Each fault alone, at each of a job's first calls: the one that makes it, the one that opens it, and reports.
#[tokio::test(flavor = "multi_thread")]
async fn every_fault_is_met_by_every_kind_of_call() {
    let server = Server::start().await;
    let (expected, calls) = outcome(&server, "undisturbed", Kind::Wsd, Vec::new()).await;
    let methods: Vec<&str> = calls.iter().map(|(method, _)| method.as_str()).collect();
    assert_eq!(methods[..4], ["CreateJob", "OpenSession", "Advance", "Advance"]);
    let cuts = [Cut::Reset, Cut::HangUp, Cut::Short];
    let faults = [Fault::LoseRequest, Fault::LoseReply, Fault::LateReply]
        .into_iter()
        .chain([Nth::First, Nth::Second].map(Fault::Repeat))
        .chain([Fault::LateRequest(1), Fault::LateRequest(4), Fault::LateCopy(1), Fault::LateCopy(4)])
        .chain(cuts.map(|cut| Fault::CutRequest(128, cut)))
        .chain(cuts.map(|cut| Fault::CutReply(128, cut)));
    for (number, fault) in faults.enumerate() {
        for (call, method) in methods[..4].iter().enumerate() {
            let plan = [vec![Fault::None; call], vec![fault]].concat();
            let name = format!("job-{number}-{call}");
            let (found, calls) = outcome(&server, &name, Kind::Wsd, plan).await;
            found.same_as(&expected).unwrap_or_else(|error| panic!("{fault:?} at {method}: {error}"));
            assert_eq!(calls[call], (method.to_string(), fault));
            if !matches!(fault, Fault::Repeat(_) | Fault::LateCopy(_)) {
                let again = if *method == "OpenSession" { "CreateJob" } else { method };
                assert_eq!(calls[call + 1].0, again, "{fault:?} at {method} is felt, and asked again");
            }
        }
    }
}

//! `kill -9` of the real server while a job runs: nothing is lost, and the schedule is the undisturbed one.

use autolrs_proto::v1::{
    FinishJobRequest, GetJobRequest, JobSpec, JobState, OpenBudget, PaperPolicy, Report, ScanPolicy,
    StagedPolicy, TrainRequest, job_spec::Policy,
};
use autolrs_tests::{
    server::Server,
    trainer::{Model, advance, open, spec},
};

/// Where the server is killed in the life of a directive.
#[derive(Clone, Copy, PartialEq)]
enum Kill {
    Never,
    BeforeTheReport,
    AfterHalfOfTheLosses,
    AfterTheAnswer,
}

/// Runs a job to its end; `kill` says when the server dies. Returns the LR of every step.
async fn schedule(policy: Policy, kill: impl Fn(usize) -> Kill) -> Vec<f64> {
    schedule_of(spec(1500, policy), None, kill).await
}

/// The same of any spec; an operator finishes the job during the directive of this number.
async fn schedule_of(spec: JobSpec, finish: Option<usize>, kill: impl Fn(usize) -> Kill) -> Vec<f64> {
    let mut server = Server::start().await;
    let opened = open(&server, "job", spec).await.unwrap();
    let (mut model, mut directive, mut done) = (Model::default(), opened.directive.unwrap(), 0);
    for number in 0.. {
        let Some(report) = model.carry_on("job", opened.session, &directive, done) else { break };
        if finish == Some(number) {
            let request =
                FinishJobRequest { name: "job".into(), request_id: "f".into(), cooldown_steps: None };
            server.jobs().finish_job(request).await.unwrap();
        }
        let kill = kill(number);
        if kill == Kill::AfterHalfOfTheLosses {
            let half = report.train_losses[..report.train_losses.len() / 2].to_vec();
            let part = Report { train_losses: half, finished: false, at_rung: false, ..report.clone() };
            advance(&server, part).await.unwrap();
        }
        let answer =
            if kill == Kill::AfterTheAnswer { advance(&server, report.clone()).await.ok() } else { None };
        if kill != Kill::Never {
            server.kill();
            server.up().await;
        }
        let ack = advance(&server, report).await.unwrap();
        assert!(answer.is_none_or(|answer| answer == ack), "asked again, the same answer");
        done = ack.go_on.unwrap_or(0) as usize;
        if done == 0 {
            directive = ack.directive.expect("the next directive");
        }
    }
    let job =
        server.jobs().get_job(GetJobRequest { name: "job".into() }).await.unwrap().into_inner().job.unwrap();
    assert_eq!(job.state(), JobState::Finished);
    let steps = job.steps.unwrap();
    assert_eq!((steps.committed + steps.search, steps.lost), (model.line.len() as u64, 0));
    model.line.into_iter().map(|(_, lr)| lr).collect()
}

#[tokio::test]
async fn scan_goes_on_where_it_was() {
    let policy = || Policy::Scan(ScanPolicy::default());
    let undisturbed = schedule(policy(), |_| Kill::Never).await;
    let kills = [Kill::BeforeTheReport, Kill::AfterHalfOfTheLosses, Kill::AfterTheAnswer];
    assert_eq!(schedule(policy(), |n| kills[n % 3]).await, undisturbed);
}

#[tokio::test]
async fn a_scan_without_a_budget_goes_on_where_it_was() {
    let policy = Policy::Scan(ScanPolicy::default());
    let open = JobSpec { total_steps: None, open_budget: Some(OpenBudget::default()), ..spec(0, policy) };
    let undisturbed = schedule_of(open.clone(), Some(20), |_| Kill::Never).await;
    let kills = [Kill::BeforeTheReport, Kill::AfterHalfOfTheLosses, Kill::AfterTheAnswer];
    assert_eq!(schedule_of(open, Some(20), |n| kills[n % 3]).await, undisturbed);
}

#[tokio::test]
async fn paper_goes_on_where_it_was() {
    let options =
        PaperPolicy { tau: Some(100), tau_max: Some(400), candidates: Some(4), ..PaperPolicy::default() };
    let policy = || Policy::Paper(options);
    let undisturbed = schedule(policy(), |_| Kill::Never).await;
    let kills = [Kill::AfterTheAnswer, Kill::BeforeTheReport, Kill::Never, Kill::AfterHalfOfTheLosses];
    assert_eq!(schedule(policy(), |n| kills[n % 4]).await, undisturbed);
}

#[tokio::test]
async fn staged_goes_on_where_it_was() {
    let options = StagedPolicy { tau: Some(100), trial_fraction: Some(0.2), ..StagedPolicy::default() };
    let policy = || Policy::Staged(options);
    let undisturbed = schedule(policy(), |_| Kill::Never).await;
    let kills = [Kill::AfterTheAnswer, Kill::BeforeTheReport, Kill::AfterHalfOfTheLosses, Kill::Never];
    assert_eq!(schedule(policy(), |n| kills[n % 4]).await, undisturbed);
}

#[tokio::test]
async fn a_drained_server_ends_well_and_loses_nothing() {
    let mut server = Server::start().await;
    let opened = open(&server, "job", spec(1500, Policy::Scan(ScanPolicy::default()))).await.unwrap();
    let report = Model::default().carry_out("job", opened.session, &opened.directive.unwrap()).unwrap();
    let before = advance(&server, report.clone()).await.unwrap();
    assert_eq!(server.terminate().code(), Some(0));
    server.up().await;
    assert_eq!(advance(&server, report).await.unwrap(), before);
}

#[tokio::test]
async fn the_stream_answers_as_the_unary_call_does() {
    let server = Server::start().await;
    let opened = open(&server, "job", spec(1500, Policy::Staged(StagedPolicy::default()))).await.unwrap();
    let (mut model, mut directive, mut done) = (Model::default(), opened.directive.unwrap(), 0);
    let (send, receive) = tokio::sync::mpsc::channel(4);
    let requests = tokio_stream::wrappers::ReceiverStream::new(receive);
    let mut answers = server.trainer().train(requests).await.unwrap().into_inner();
    let mut went_on = 0;
    while let Some(report) = model.carry_on("job", opened.session, &directive, done) {
        for _ in 0..2 {
            send.send(TrainRequest { report: Some(report.clone()) }).await.unwrap();
            let streamed = answers.message().await.unwrap().unwrap().ack.unwrap();
            let ack = advance(&server, report.clone()).await.unwrap();
            assert_eq!(streamed, ack);
            done = ack.go_on.unwrap_or(0) as usize;
            directive = ack.directive.unwrap_or(directive);
        }
        went_on += usize::from(done > 0);
    }
    assert!(went_on > 2, "trials went on from rungs {went_on} times");
}

//! The Rust client against the real server: outages, take-overs, checkpoints.

use autolrs_client::{
    Error, JobSpec, OnOutage, PolicySpec, ScanOptions, Session, SessionConfig, WsdOptions, blocking,
    session::Machine,
};
use autolrs_proto::v1::{GetJobRequest, Holder, Job, JobState, OpenSessionRequest};
use autolrs_tests::{
    server::{Server, free_address},
    sim::{Optimum, SimTrainer},
    training::{bits, carry_out, train},
};
use std::time::Duration;

const SOON: Duration = Duration::from_secs(20);

fn spec(policy: PolicySpec) -> JobSpec {
    JobSpec {
        total_steps: Some(1000),
        lr_min: Some(1e-4),
        lr_max: Some(1.0),
        fallback_lr: Some(0.05),
        policy: Some(policy),
        ..JobSpec::default()
    }
}

fn config(url: String, policy: PolicySpec) -> SessionConfig {
    SessionConfig { server: url, token: None, replay: true, ..SessionConfig::new("job", spec(policy)) }
}

fn scan() -> PolicySpec {
    PolicySpec::Scan(ScanOptions::default())
}

fn wsd() -> PolicySpec {
    PolicySpec::Wsd(WsdOptions::default())
}

async fn undisturbed(policy: PolicySpec) -> Vec<(u64, u64)> {
    let server = Server::start().await;
    let session = Session::open(config(server.url(), policy)).await.unwrap();
    let mut trainer = SimTrainer::new(Optimum::default());
    train(&session, &mut trainer).await;
    session.close(SOON).await;
    bits(&trainer)
}

async fn job(server: &Server) -> Job {
    let request = GetJobRequest { name: "job".into() };
    server.jobs().get_job(request).await.unwrap().into_inner().job.unwrap()
}

#[tokio::test]
async fn a_killed_server_is_waited_for() {
    let expected = undisturbed(scan()).await;
    let mut server = Server::start().await;
    let session = Session::open(config(server.url(), scan())).await.unwrap();
    let mut trainer = SimTrainer::new(Optimum::default());
    for number in 0.. {
        if session.done().is_some() {
            break;
        }
        if number % 3 == 0 {
            server.kill();
        }
        carry_out(&session, &mut trainer);
        if number % 3 == 0 {
            let (next, ()) = tokio::join!(session.next(), server.up());
            next.unwrap();
        } else {
            session.next().await.unwrap();
        }
    }
    session.close(SOON).await;
    assert_eq!(bits(&trainer), expected);
    assert_eq!(job(&server).await.state(), JobState::Finished);
}

#[tokio::test]
async fn a_silent_server_puts_the_fallback_in_force_and_takes_it_over_later() {
    let expected = undisturbed(scan()).await;
    let mut server = Server::start().await;
    let config =
        SessionConfig { decision_timeout: Duration::from_millis(300), ..config(server.url(), scan()) };
    let session = Session::open(config).await.unwrap();
    let mut trainer = SimTrainer::new(Optimum::default());
    carry_out(&session, &mut trainer);
    session.next().await.unwrap();
    carry_out(&session, &mut trainer);
    server.kill();
    session.next().await.unwrap();
    assert!(session.snapshot().detached);
    let notices = session.take_notices();
    assert!(
        notices.len() == 2 && notices[1].contains("fallback"),
        "what is wrong, and what is done: {notices:?}"
    );
    let before = trainer.line.len();
    server.up().await;
    train(&session, &mut trainer).await;
    session.close(SOON).await;
    assert_eq!(bits(&trainer)[..before], expected[..before]);
    let job = job(&server).await;
    let steps = job.steps.unwrap();
    assert_eq!(job.state(), JobState::Finished);
    assert_eq!(steps.committed + steps.search + steps.lost, trainer.line.len() as u64);
    assert_eq!(trainer.line.len(), 1000);
}

#[tokio::test]
async fn a_trainer_that_wants_to_know_is_told() {
    let mut server = Server::start().await;
    let url = server.url();
    let config = SessionConfig {
        decision_timeout: Duration::from_millis(200),
        on_outage: OnOutage::Raise,
        ..config(url.clone(), wsd())
    };
    let session = Session::open(config).await.unwrap();
    let mut trainer = SimTrainer::new(Optimum::default());
    server.kill();
    carry_out(&session, &mut trainer);
    let error = session.next().await.unwrap_err();
    assert!(matches!(&error, Error::ServerUnavailable { server, .. } if *server == url), "{error}");
    server.up().await;
    for _ in 0..100 {
        if session.next().await.is_ok() {
            break;
        }
    }
    train(&session, &mut trainer).await;
    assert_eq!(trainer.line.len(), 1000);
}

#[tokio::test]
async fn without_a_server_the_constructor_fails_or_trains_alone() {
    let url = format!("http://{}", free_address());
    let config = SessionConfig { connect_timeout: Duration::from_millis(300), ..config(url, scan()) };
    let error = Session::open(config.clone()).await.err().unwrap();
    assert!(matches!(error, Error::ServerUnavailable { .. }), "{error}");
    let session = Session::open(SessionConfig { on_outage: OnOutage::Fallback, ..config }).await.unwrap();
    let now = session.snapshot();
    assert_eq!((now.lr, now.steps, now.detached), (0.05, 1000, true));
    let mut trainer = SimTrainer::new(Optimum::default());
    train(&session, &mut trainer).await;
    assert!(session.flush(Duration::ZERO).await, "there is nothing to flush");
    assert_eq!(trainer.line.len(), 1000);
}

#[tokio::test]
async fn a_second_trainer_is_refused_and_a_takeover_fences_the_first() {
    let server = Server::start().await;
    let config = config(server.url(), wsd());
    let first = Session::open(config.clone()).await.unwrap();
    let refused = Session::open(config.clone()).await.err().unwrap();
    let pid = std::process::id();
    assert!(matches!(refused, Error::SessionActive { pid: p, same_host: true, .. } if p == pid), "{refused}");
    let second = Session::open(SessionConfig { takeover: true, ..config }).await.unwrap();
    let mut trainer = SimTrainer::new(Optimum::default());
    train(&first, &mut trainer).await;
    assert_eq!(trainer.line.len(), 1000, "it goes on with its fallback");
    let notices = first.take_notices();
    assert!(notices.len() == 1 && notices[0].contains("session 2"), "{notices:?}");
    let mut trainer = SimTrainer::new(Optimum::default());
    train(&second, &mut trainer).await;
    assert_eq!(job(&server).await.state(), JobState::Finished);
}

#[tokio::test]
async fn a_trainer_that_died_on_this_host_is_replaced_at_once() {
    let server = Server::start().await;
    let config = config(server.url(), wsd());
    drop(Session::open(config.clone()).await.unwrap());
    let host = job(&server).await.holder.unwrap().host;
    let mut child = std::process::Command::new("true").spawn().unwrap();
    child.wait().unwrap();
    let dead = Holder { host, pid: child.id() };
    let open =
        OpenSessionRequest { job: "job".into(), takeover: true, holder: Some(dead), ..Default::default() };
    server.trainer().open_session(open).await.unwrap();
    let session = Session::open(config).await.unwrap();
    assert_eq!(session.snapshot().seq, 1);
}

#[tokio::test]
async fn a_trainer_goes_on_from_its_checkpoint() {
    let expected = undisturbed(scan()).await;
    let server = Server::start().await;
    let config = config(server.url(), scan());
    let mut session = Session::open(config.clone()).await.unwrap();
    let mut trainer = SimTrainer::new(Optimum::default());
    let mut number = 0;
    while session.done().is_none() {
        carry_out(&session, &mut trainer);
        session.next().await.unwrap();
        number += 1;
        // After the search every start over goes forward; before it, a few are enough.
        if number % 4 == 3 && (number < 12 || trainer.line.len() > 200) {
            let file = trainer.file(session.state().unwrap(), session.state_slot());
            let lost = SimTrainer::clone(&trainer);
            drop(session);
            let resume = Some(file.session.clone());
            session = Session::open(SessionConfig { resume, ..config.clone() }).await.unwrap();
            trainer = SimTrainer::load(&file, Optimum::default(), session.snapshot().total_step);
            assert!(trainer.line.len() <= lost.line.len());
        }
    }
    session.close(SOON).await;
    assert_eq!(bits(&trainer), expected);
}

#[tokio::test]
async fn a_job_is_started_again_with_another_spec() {
    let server = Server::start().await;
    let config = config(server.url(), wsd());
    let session = Session::open(config.clone()).await.unwrap();
    train(&session, &mut SimTrainer::new(Optimum::default())).await;
    session.close(SOON).await;
    let again = Session::open(config.clone()).await.err().unwrap();
    assert!(matches!(again, Error::JobFinished(_)), "{again}");
    let other = SessionConfig { spec: JobSpec { total_steps: Some(300), ..spec(wsd()) }, ..config };
    let differs = Session::open(other.clone()).await.err().unwrap();
    assert!(matches!(&differs, Error::JobDiffers { fields, .. } if fields == &["total_steps"]), "{differs}");
    let session = Session::open(SessionConfig { restart: true, ..other }).await.unwrap();
    let mut trainer = SimTrainer::new(Optimum::default());
    train(&session, &mut trainer).await;
    assert_eq!(trainer.line.len(), 300);
}

#[tokio::test]
async fn foreign_checkpoints_are_refused() {
    let server = Server::start().await;
    let config = config(server.url(), wsd());
    let session = Session::open(config.clone()).await.unwrap();
    let bytes = session.state().unwrap();
    let refused = |resume: Vec<u8>, job: &str| {
        let config = SessionConfig { resume: Some(resume), job: job.into(), ..config.clone() };
        async { Session::open(config).await.err().unwrap() }
    };
    assert!(matches!(refused(bytes.clone(), "other").await, Error::CheckpointMismatch(_)));
    assert!(matches!(refused(b"nonsense".to_vec(), "job").await, Error::BadCheckpoint(_)));
    let other = Server::start().await;
    let elsewhere = SessionConfig { server: other.url(), resume: Some(bytes), ..config.clone() };
    let error = Session::open(elsewhere).await.err().unwrap();
    assert!(matches!(error, Error::CheckpointMismatch(_)), "{error}");
}

#[tokio::test]
async fn every_field_of_a_bad_spec_is_named() {
    let server = Server::start().await;
    let bad = JobSpec { total_steps: Some(0), lr_max: Some(1e-9), ..spec(scan()) };
    let config = SessionConfig { spec: bad, ..config(server.url(), scan()) };
    let error = Session::open(config).await.err().unwrap();
    let Error::InvalidSpec { violations } = &error else { panic!("{error}") };
    assert_eq!(violations.len(), 2, "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_thread_without_a_runtime_trains_the_same() {
    let expected = undisturbed(scan()).await;
    let server = Server::start().await;
    let config = config(server.url(), scan());
    let line = tokio::task::spawn_blocking(move || {
        let session = blocking::Session::open(config).unwrap();
        let mut trainer = SimTrainer::new(Optimum::default());
        while session.done().is_none() {
            carry_out(&session, &mut trainer);
            session.next().unwrap();
        }
        assert!(session.flush(SOON).unwrap());
        session.close(SOON).unwrap();
        session.close(SOON).unwrap();
        bits(&trainer)
    });
    assert_eq!(line.await.unwrap(), expected);
}

#[test]
fn the_machine_can_be_shared_between_threads() {
    fn shareable<T: Send + Sync>() {}
    shareable::<Machine>();
    shareable::<Session>();
    shareable::<blocking::Session>();
}

//! Training stands still for no longer than the decision time-out, wherever and however the server falls silent.

use super::{
    super::{Handle, Session, driver, shared::Shared, trace::Trace, trace_context::TraceContext},
    *,
};
use crate::{
    config::{DEFAULT_DECISION_TIMEOUT, OnOutage, SessionConfig},
    error::Error,
    session::{Machine, Status, tests},
};
use autolrs_core::{
    directive::{Action, Directive, DoneReason, Phase, Slot, SlotOp},
    job::Opened,
    spec::JobSpec,
};
use autolrs_proto::v1::{self, AdvanceResponse};
use std::sync::{
    Arc,
    atomic::{AtomicU32, Ordering::SeqCst},
};
use tracing::Span;

/// Where the trainer waits for an answer.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Place {
    /// At the end of a stretch.
    End,
    /// At a rung of a trial.
    Rung,
    /// A guard has ended a stretch.
    Stop,
    /// At the end of the last stretch, which nothing follows.
    LastEnd,
}

const PLACES: [Place; 4] = [Place::End, Place::Rung, Place::Stop, Place::LastEnd];

fn stretch(seq: u64, phase: Phase, lr: f64) -> Directive {
    let mut directive = tests::run(seq, phase, 4, lr);
    if let Action::Run(run) = &mut directive.action {
        run.rungs = if phase == Phase::Trial { vec![0] } else { Vec::new() };
    }
    directive
}

fn directive(place: Place) -> Directive {
    let phase = if place == Place::Rung { Phase::Trial } else { Phase::Stable };
    let save = vec![SlotOp::Save(Slot::Stage)];
    let back = vec![SlotOp::Restore(Slot::Stage)];
    let fallback = (place != Place::LastEnd).then(|| Box::new(stretch(2, Phase::Cooldown, 0.02)));
    let on_stop = Some(Box::new(Directive { slot_ops: back, ..stretch(3, Phase::Cooldown, 0.03) }));
    Directive { slot_ops: save, fallback, fallback_on_stop: on_stop, ..stretch(1, phase, 0.1) }
}

/// A session over `network` that has run to where it waits.
fn session_at(place: Place, network: Network, on_outage: OnOutage) -> Session {
    let config = SessionConfig { on_outage, ..SessionConfig::new("job", JobSpec::default()) };
    let opened = Opened {
        session: 1,
        directive: directive(place),
        received_through: 0,
        slot_ops: Vec::new(),
        uid: 7,
        switch_every: 1,
    };
    let machine = Machine::open("job", 0.01, opened);
    let trace = Trace::new(Span::none(), &machine);
    let shared = Arc::new(Shared::new(machine, &config, TraceContext::new(None, Span::none()), trace));
    tokio::spawn(driver::drive(shared.clone(), network.link(&config).unwrap()));
    let session = Session { handle: Handle(shared) };
    run(&session, if place == Place::Stop { f64::NAN } else { 1.0 });
    session
}

fn run(session: &Session, loss: f64) {
    session.take_slot_ops();
    while session.done().is_none() && session.record(loss) != Status::Ended {}
}

#[tokio::test(start_paused = true)]
async fn the_fallback_is_in_force_after_the_decision_time_out_and_nobody_is_waited_for_again() {
    for (what, network) in Network::all_silent() {
        for place in PLACES {
            let what = format!("{what}, {place:?}");
            let session = session_at(place, network.clone(), OnOutage::Auto);
            let began = Instant::now();
            session.next().await.unwrap();
            assert_waited(began, DEFAULT_DECISION_TIMEOUT, &what);
            let seq = match place {
                Place::End | Place::Rung => 2,
                Place::Stop => 3,
                Place::LastEnd => 0,
            };
            assert_eq!(session.snapshot().seq, seq, "{what}");
            assert_eq!(session.snapshot().detached, place != Place::LastEnd, "{what}");
            let began = Instant::now();
            while session.done().is_none() {
                run(&session, 1.0);
                session.next().await.unwrap();
            }
            assert_waited(began, Duration::ZERO, &what);
            assert_eq!(session.done(), Some(DoneReason::Finished), "{what}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_trainer_that_asked_for_it_gets_an_error_and_stands_where_it_was() {
    for (what, network) in Network::all_silent() {
        for place in PLACES {
            let session = session_at(place, network.clone(), OnOutage::Raise);
            for _ in 0..2 {
                let began = Instant::now();
                let error = session.next().await.unwrap_err();
                assert!(matches!(error, Error::ServerUnavailable { .. }), "{what}: {error}");
                assert_waited(began, DEFAULT_DECISION_TIMEOUT, what);
                assert_eq!((session.snapshot().seq, session.snapshot().detached), (1, false), "{what}");
            }
        }
    }
}

/// It has the losses of none, for ever.
#[tokio::test(start_paused = true)]
async fn a_server_that_answers_and_never_decides_is_waited_for_no_longer() {
    for place in PLACES {
        let nothing = v1::Ack { session: 1, seq: 1, ..v1::Ack::default() };
        let answer = AdvanceResponse { ack: Some(nothing) };
        let network = Network::answers(move |_| Answer::after(Duration::from_secs(1), &answer));
        let session = session_at(place, network, OnOutage::Auto);
        let began = Instant::now();
        session.next().await.unwrap();
        assert_waited(began, DEFAULT_DECISION_TIMEOUT, &format!("{place:?}"));
        assert_ne!(session.snapshot().seq, 1);
    }
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_comes_in_time_is_taken() {
    let began = Instant::now();
    let back_after = DEFAULT_DECISION_TIMEOUT * 3 / 4;
    let finished = v1::Done { reason: v1::done::Reason::Finished.into(), ..v1::Done::default() };
    let done = v1::Directive {
        seq: 9,
        session: 1,
        action: Some(v1::directive::Action::Done(finished)),
        ..v1::Directive::default()
    };
    let next = v1::Ack {
        session: 1,
        seq: 1,
        received_through: 4,
        durable_seq: 1,
        directive: Some(done),
        ..v1::Ack::default()
    };
    let answer = AdvanceResponse { ack: Some(next) };
    let network = Network::answers(move |_| {
        let back = began.elapsed() > back_after;
        if back { Answer::after(Duration::ZERO, &answer) } else { Answer::Never }
    });
    let session = session_at(Place::End, network, OnOutage::Auto);
    session.next().await.unwrap();
    assert_eq!((session.snapshot().seq, session.done()), (9, Some(DoneReason::Finished)));
    assert!((back_after..DEFAULT_DECISION_TIMEOUT).contains(&began.elapsed()), "{:?}", began.elapsed());
    assert!(!session.snapshot().detached);
}

/// What the session for programs without a runtime waits by.
#[tokio::test(start_paused = true)]
async fn what_is_left_to_wait_shrinks_to_nothing() {
    let session = session_at(Place::End, Network::NoRoute, OnOutage::Auto);
    let shared = session.handle.0.clone();
    let part = DEFAULT_DECISION_TIMEOUT / 4;
    for parts in (1..=4).rev() {
        assert_eq!(shared.wait_for_next().unwrap(), Some(part * parts));
        tokio::time::advance(part).await;
    }
    assert_eq!(shared.wait_for_next().unwrap(), None);
    assert_eq!(session.snapshot().seq, 2);
}

#[tokio::test(start_paused = true)]
async fn a_flush_takes_no_longer_than_it_may() {
    for (what, network) in Network::all_silent() {
        let session = session_at(Place::End, network, OnOutage::Auto);
        let began = Instant::now();
        assert!(!session.flush(Duration::from_secs(2)).await, "{what}");
        assert_waited(began, Duration::from_secs(2), what);
    }
}

/// The pauses are the server's wish and a second or so of back-off; without it there would be dozens of calls.
#[tokio::test(start_paused = true)]
async fn a_server_that_asks_for_time_is_given_it() {
    let calls = Arc::new(AtomicU32::new(0));
    let counted = calls.clone();
    let network = Network::answers(move |_| {
        counted.fetch_add(1, SeqCst);
        Answer::Later(DEFAULT_DECISION_TIMEOUT / 4)
    });
    let session = session_at(Place::End, network, OnOutage::Auto);
    session.next().await.unwrap();
    assert!(session.snapshot().detached);
    assert!((2..=4).contains(&calls.load(SeqCst)), "{calls:?}");
}

//! Driven training loops against the real server: the same line as by hand, through outages and checkpoints.

use autolrs_client::{
    DoneReason, Error, Handle, InMemory, JobSpec, OnOutage, PolicySpec, ScanOptions, Session, SessionConfig,
    Slot, SlotOp, Status, Trainable, WsdOptions, blocking,
};
use autolrs_proto::v1::{GetJobRequest, Job};
use autolrs_tests::{
    server::Server,
    sim::{Optimum, SimTrainer, Step},
};
use std::{thread, time::Duration};

const SOON: Duration = Duration::from_secs(20);
const STEPS: u64 = 1000;

fn config(server: &Server, policy: PolicySpec) -> SessionConfig {
    let spec = JobSpec {
        total_steps: Some(STEPS),
        lr_min: Some(1e-4),
        lr_max: Some(1.0),
        fallback_lr: Some(0.05),
        policy: Some(policy),
        ..JobSpec::default()
    };
    SessionConfig { server: server.url(), token: None, replay: true, ..SessionConfig::new("job", spec) }
}

fn scan() -> PolicySpec {
    PolicySpec::Scan(ScanOptions::default())
}

fn wsd() -> PolicySpec {
    PolicySpec::Wsd(WsdOptions::default())
}

/// The simulated trainer, driven; `event` happens after the step of this number.
struct Driven<E> {
    trainer: SimTrainer,
    event: Option<(u64, E)>,
}

impl<E: FnOnce()> Driven<E> {
    fn new(event: Option<(u64, E)>) -> Self {
        Self { trainer: SimTrainer::new(Optimum::default()), event }
    }

    fn bits(&self) -> Vec<(u64, u64)> {
        self.trainer.line.iter().map(Step::bits).collect()
    }
}

fn undisturbed() -> Driven<fn()> {
    Driven::new(None)
}

impl<E: FnOnce()> Trainable for Driven<E> {
    type Error = Error;

    fn step(&mut self, lr: f64) -> Result<f64, Error> {
        Ok(self.trainer.step(0, lr))
    }

    fn save_slot(&mut self, slot: Slot) -> Result<(), Error> {
        self.trainer.carry_out(&[SlotOp::Save(slot)], false);
        Ok(())
    }

    fn restore_slot(&mut self, slot: Slot) -> Result<(), Error> {
        self.trainer.carry_out(&[SlotOp::Restore(slot)], false);
        Ok(())
    }

    fn drop_slot(&mut self, slot: Slot) -> Result<(), Error> {
        self.trainer.carry_out(&[SlotOp::Drop(slot)], false);
        Ok(())
    }

    fn rewind(&mut self, slot: Slot) -> Result<(), Error> {
        self.trainer.carry_out(&[SlotOp::Restore(slot)], true);
        Ok(())
    }

    fn after_step(&mut self, session: &Handle) -> Result<(), Error> {
        if let Some((_, event)) = self.event.take_if(|(at, _)| *at == session.snapshot().total_step) {
            event();
        }
        Ok(())
    }
}

/// The loop that people write by hand.
async fn by_hand(session: &Session) -> Vec<(u64, u64)> {
    let mut trainer = SimTrainer::new(Optimum::default());
    loop {
        trainer.carry_out(&session.take_slot_ops(), session.snapshot().replay);
        if session.done().is_some() {
            return trainer.line.iter().map(Step::bits).collect();
        }
        while session.record(trainer.step(0, session.lr())) != Status::Ended {}
        session.next().await.unwrap();
    }
}

async fn job(server: &Server) -> Job {
    let request = GetJobRequest { name: "job".into() };
    server.jobs().get_job(request).await.unwrap().into_inner().job.unwrap()
}

#[tokio::test]
async fn a_driven_loop_runs_the_line_of_one_by_hand() {
    let servers = [Server::start().await, Server::start().await, Server::start().await];
    let expected = by_hand(&Session::open(config(&servers[0], scan())).await.unwrap()).await;
    assert_eq!(expected.len() as u64, STEPS);
    let session = Session::open(config(&servers[1], scan())).await.unwrap();
    let mut trainer = undisturbed();
    assert_eq!(session.train(&mut trainer).await, Ok(DoneReason::Finished));
    assert_eq!(session.train(&mut trainer).await, Ok(DoneReason::Finished), "nothing is left to do");
    assert_eq!(trainer.bits(), expected);
    let config = config(&servers[2], scan());
    let in_a_thread = thread::spawn(move || {
        let session = blocking::Session::open(config).unwrap();
        let mut trainer = undisturbed();
        assert_eq!(session.train(&mut trainer), Ok(DoneReason::Finished));
        session.close(SOON).unwrap();
        trainer.bits()
    });
    assert_eq!(in_a_thread.join().unwrap(), expected);
}

#[tokio::test]
async fn a_driven_loop_goes_on_with_the_fallback() {
    let mut server = Server::start().await;
    let config = SessionConfig { decision_timeout: Duration::from_millis(200), ..config(&server, scan()) };
    let session = Session::open(config).await.unwrap();
    let mut trainer = Driven::new(Some((200, || server.kill())));
    assert_eq!(session.train(&mut trainer).await, Ok(DoneReason::Finished));
    assert_eq!(trainer.trainer.line.len() as u64, STEPS);
    assert!(session.snapshot().detached);
}

#[tokio::test]
async fn a_driven_loop_that_was_told_of_an_outage_goes_on_where_it_was() {
    let mut server = Server::start().await;
    let expected = by_hand(&Session::open(config(&server, wsd())).await.unwrap()).await;
    server = Server::start().await;
    let config = SessionConfig {
        decision_timeout: Duration::from_millis(200),
        on_outage: OnOutage::Raise,
        ..config(&server, wsd())
    };
    let session = Session::open(config).await.unwrap();
    let mut trainer = Driven::new(Some((50, || server.kill())));
    let error = session.train(&mut trainer).await.unwrap_err();
    assert!(matches!(error, Error::ServerUnavailable { .. }), "{error}");
    let Driven { trainer, .. } = trainer;
    let mut trainer = Driven::<fn()> { trainer, event: None };
    server.up().await;
    let mut done = session.train(&mut trainer).await;
    while done.is_err() {
        done = session.train(&mut trainer).await;
    }
    assert_eq!(trainer.bits(), expected);
}

#[tokio::test]
async fn a_loop_that_can_not_replay_says_so() {
    struct Plain;
    impl Trainable for Plain {
        type Error = Error;
        fn step(&mut self, _: f64) -> Result<f64, Error> {
            Ok(1.0)
        }
        fn save_slot(&mut self, _: Slot) -> Result<(), Error> {
            Ok(())
        }
        fn restore_slot(&mut self, _: Slot) -> Result<(), Error> {
            Ok(())
        }
        fn drop_slot(&mut self, _: Slot) -> Result<(), Error> {
            Ok(())
        }
    }
    let server = Server::start().await;
    let session = Session::open(config(&server, scan())).await.unwrap();
    assert_eq!(session.train(&mut Plain).await, Err(Error::CannotReplay(Slot::Start)));
    drop(session);
    let config = SessionConfig { replay: false, restart: true, takeover: true, ..config(&server, scan()) };
    let session = Session::open(config).await.unwrap();
    assert_eq!(session.train(&mut Plain).await, Ok(DoneReason::Finished));
}

/// A weight, its momentum, and a loss that depends on the batch.
type State = (f64, f64);

fn sgd(state: &mut State, batch: u64, lr: f64) -> f64 {
    let noise = ((batch * 37) % 101) as f64 / 50.0 - 1.0;
    let loss = 0.2 + state.0 * state.0;
    state.1 = 0.5 * state.1 + 2.0 * state.0 + 0.2 * noise;
    state.0 -= 0.5 * lr * state.1;
    loss
}

type Run = fn(&mut State, u64, f64) -> f64;

/// What a trainer writes to its disk.
struct File {
    session: Vec<u8>,
    state: State,
    position: u64,
    line: Vec<u64>,
}

/// Writes a checkpoint after the step of number `at`, and dies 23 steps later.
struct Mortal {
    inner: InMemory<State, Run>,
    at: Option<u64>,
    /// Loss bits of the steps so far.
    line: Vec<u64>,
    file: Option<File>,
}

impl Trainable for Mortal {
    type Error = Error;

    fn step(&mut self, lr: f64) -> Result<f64, Error> {
        let loss = self.inner.step(lr)?;
        self.line.push(loss.to_bits());
        Ok(loss)
    }

    fn save_slot(&mut self, slot: Slot) -> Result<(), Error> {
        self.inner.save_slot(slot)
    }

    fn restore_slot(&mut self, slot: Slot) -> Result<(), Error> {
        self.inner.restore_slot(slot)
    }

    fn drop_slot(&mut self, slot: Slot) -> Result<(), Error> {
        self.inner.drop_slot(slot)
    }

    fn rewind(&mut self, slot: Slot) -> Result<(), Error> {
        self.inner.rewind(slot)
    }

    fn forward(&mut self) -> Result<(), Error> {
        self.inner.forward()
    }

    fn after_step(&mut self, session: &Handle) -> Result<(), Error> {
        let (step, Some(at)) = (session.snapshot().total_step, self.at) else { return Ok(()) };
        if step == at {
            let (state, position) = self.inner.checkpoint(session.state_slot())?;
            let line = self.line.clone();
            self.file = Some(File { session: session.state()?, state, position, line });
        }
        if step < at + 23 { Ok(()) } else { Err(Error::Refused("dead".into())) }
    }
}

/// A trainer's life from a checkpoint to the next, or to the end.
fn live(config: SessionConfig, from: Option<File>, at: Option<u64>) -> Mortal {
    let resume = from.as_ref().map(|file| file.session.clone());
    let session = blocking::Session::open(SessionConfig { resume, ..config }).unwrap();
    let first = File { session: Vec::new(), state: (1.0, 0.0), position: 0, line: Vec::new() };
    let File { state, position, mut line, .. } = from.unwrap_or(first);
    line.truncate(usize::try_from(session.snapshot().total_step).unwrap());
    let inner = InMemory::resume(state, position, sgd as Run);
    let mut trainer = Mortal { inner, at, line, file: None };
    let done = session.train(&mut trainer);
    assert_eq!(done.is_ok(), at.is_none(), "{done:?}");
    trainer
}

#[tokio::test(flavor = "multi_thread")]
async fn a_loop_in_memory_goes_on_from_its_checkpoints() {
    let (undisturbed, server) = (Server::start().await, Server::start().await);
    let (quiet, config) = (config(&undisturbed, scan()), config(&server, scan()));
    tokio::task::spawn_blocking(move || {
        let expected = live(quiet, None, None).line;
        assert_eq!(expected.len() as u64, STEPS);
        let mut file = None;
        // In the first trial, in a later one, in the warm-up, in the stable phase.
        for at in [10, 40, 150, 500] {
            file = live(config.clone(), file, Some(at)).file;
            assert!(file.is_some());
        }
        assert_eq!(live(config, file, None).line, expected);
    })
    .await
    .unwrap();
}

/// Reports flow while the trainer keeps the only thread of its runtime busy.
#[tokio::test]
async fn a_step_may_keep_the_executor_busy() {
    let server = Server::start().await;
    let session = Session::open(config(&server, wsd())).await.unwrap();
    for _ in 0..10 {
        session.record(1.0);
    }
    let heard = thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            while job(&server).await.steps.unwrap().committed < 10 {
                tokio::task::yield_now().await;
            }
        });
    });
    // Waits without giving the runtime's thread back, as a long step would.
    heard.join().unwrap();
}

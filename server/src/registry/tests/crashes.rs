//! A whole job's life over a store that crashes at every one of its writes, or fails at random: the answers are those
//! of an undisturbed life.

use super::*;
use crate::store::{
    faulty::{Flaky, Freezing, LastWrite},
    memory::MemoryStore,
};
use autolrs_core::{
    directive::{Directive, Slot, SlotOp},
    lr_pieces,
    spec::{PaperOptions, ScanOptions, StagedOptions},
};
use std::collections::BTreeMap;

/// A model of one number, as in `tests/src/trainer.rs`.
#[derive(Default)]
struct Model {
    state: f64,
    slots: BTreeMap<Slot, f64>,
    losses: Vec<f64>,
}

impl Model {
    /// Carries a directive out from `done` steps to the next rung or the end; none at the end of the job.
    fn carry_on(&mut self, session: u64, directive: &Directive, done: u64) -> Option<Report> {
        let run = directive.run()?;
        if done == 0 {
            self.begin(directive);
        }
        let rungs = (done + 1..run.steps()).find(|&at| run.is_rung(at, 1));
        let end = rungs.unwrap_or(run.steps());
        for i in done..end {
            let lr = lr_pieces::lr_at(&run.lr, i).expect("a step of the segment");
            let misfit = (lr.max(1e-9) / 0.3).log10();
            self.state += lr / (1.0 + misfit.powi(4));
            self.losses.push(0.3 + 2.0 / (1.0 + self.state) + 0.05 * misfit.tanh().max(0.0));
        }
        let (finished, at_rung) = (end == run.steps(), end < run.steps());
        let train_losses = self.losses.clone();
        Some(Report { session, seq: directive.seq, train_losses, finished, at_rung, ..Report::default() })
    }

    fn begin(&mut self, directive: &Directive) {
        self.losses.clear();
        for op in &directive.slot_ops {
            match op {
                SlotOp::Save(slot) => drop(self.slots.insert(*slot, self.state)),
                SlotOp::Restore(slot) => self.state = self.slots[slot],
                SlotOp::Drop(slot) => drop(self.slots.remove(slot)),
            }
        }
    }
}

/// A server that is started again when it has failed.
struct Restarting<F> {
    server: Server,
    start: F,
    failures: usize,
}

impl<F: Fn() -> Server> Restarting<F> {
    fn new(start: F) -> Self {
        Self { server: start(), start, failures: 0 }
    }

    /// Asks until there is an answer.
    async fn ask<T>(&mut self, ask: impl AsyncFn(&Server) -> Result<T, Error>) -> T {
        for _ in 0..50 {
            match ask(&self.server).await {
                Ok(answer) => return answer,
                Err(error) => assert_eq!(reason(&error), "STORE_UNAVAILABLE"),
            }
            self.failures += 1;
            if self.failures % 2 == 1 {
                self.server = (self.start)();
            }
        }
        panic!("no answer after 50 attempts");
    }

    /// Lives a job from its creation to its end; the answers to its reports.
    async fn live(&mut self, policy: &PolicySpec) -> Vec<Ack> {
        let asked = JobSpec {
            total_steps: Some(400),
            lr_min: Some(1e-4),
            lr_max: Some(10.0),
            fallback_lr: Some(0.05),
            policy: Some(policy.clone()),
            ..JobSpec::default()
        };
        let resolved = resolve(&asked).expect("a good spec");
        self.ask(async |server| {
            let specs = Box::new((asked.clone(), resolved.clone()));
            server.registry.ask(&server.key, |reply| Message::Create(specs, reply)).await
        })
        .await;
        let open = Open { nonce: "one".into(), ..Open::default() };
        let opened = self.ask(async |server| server.open(open.clone()).await).await;
        assert_eq!(opened.session, 1, "an opening that was not heard of is found again");
        let (mut model, mut directive, mut done) = (Model::default(), opened.directive, 0);
        let mut answers = Vec::new();
        while let Some(report) = model.carry_on(opened.session, &directive, done) {
            let ack = self.ask(async |server| server.report(report.clone()).await).await;
            done = ack.go_on.unwrap_or(0);
            directive = ack.directive.clone().unwrap_or(directive);
            answers.push(ack);
        }
        let view = self.ask(async |server| server.registry.ask(&server.key, Message::Show).await).await;
        let Shown::Whole(view) = view else { panic!("{view:?}") };
        assert_eq!((view.view.state, view.view.spent.total()), (autolrs_core::job::JobState::Finished, 400));
        answers
    }
}

fn policies() -> [PolicySpec; 3] {
    let staged = StagedOptions { tau: Some(100), trial_fraction: Some(0.2), ..StagedOptions::default() };
    let paper =
        PaperOptions { tau: Some(50), tau_max: Some(200), candidates: Some(3), ..PaperOptions::default() };
    [PolicySpec::Scan(ScanOptions::default()), PolicySpec::Staged(staged), PolicySpec::Paper(paper)]
}

fn on(store: Arc<dyn JobStore>) -> impl Fn() -> Server {
    move || Server::on(store.clone(), START)
}

/// The answers of an undisturbed life, and how many writes it took.
async fn undisturbed(policy: &PolicySpec) -> (Vec<Ack>, u64) {
    let store = Arc::new(MemoryStore::default());
    let answers = Restarting::new(on(store.clone())).live(policy).await;
    let stored = store.load(&JobKey::new("default", "job")).await.expect("a read").expect("the job");
    (answers, stored.version)
}

#[tokio::test]
async fn a_crash_at_any_write_changes_no_decision() {
    for policy in policies() {
        let (expected, writes) = undisturbed(&policy).await;
        assert!(writes > 5, "{writes} writes");
        for last in [LastWrite::Answered, LastWrite::Unheard] {
            for durable in 0..writes {
                let below: Arc<dyn JobStore> = Arc::new(MemoryStore::default());
                let crashing = Arc::new(Freezing::new(below.clone(), durable, last));
                // The first process writes to the store that crashes, its successors to what that has left.
                let first = std::sync::Mutex::new(Some(crashing.clone()));
                let mut servers = Restarting::new(|| {
                    let first = first.lock().unwrap().take();
                    Server::on(first.map_or(below.clone(), |store| store as Arc<dyn JobStore>), START)
                });
                let answers = servers.live(&policy).await;
                assert!(answers == expected, "{last:?}, a crash after {durable} of {writes} writes");
                assert!(crashing.failures() > 0 && servers.failures == 1);
            }
        }
    }
}

#[tokio::test]
async fn failures_at_random_change_no_decision() {
    let mut failures = 0;
    for policy in policies() {
        let (expected, _) = undisturbed(&policy).await;
        for seed in 0..10 {
            let store: Arc<dyn JobStore> = Arc::new(Flaky::new(Arc::new(MemoryStore::default()), 200, seed));
            let mut servers = Restarting::new(on(store));
            assert!(servers.live(&policy).await == expected, "seed {seed}");
            failures += servers.failures;
        }
    }
    assert!(failures > 50, "{failures} failures");
}

/// Each start finds the time of day years off in another direction.
#[tokio::test]
async fn a_clock_that_jumps_changes_no_decision() {
    const YEAR: u64 = 365 * 86_400_000;
    for policy in policies() {
        let (expected, writes) = undisturbed(&policy).await;
        let times = [START + 30 * YEAR, START, 0, START - 5000, 50 * YEAR, START + 59_999];
        let mut starts = times.into_iter().cycle();
        let next = std::sync::Mutex::new(move || starts.next().unwrap_or(START));
        let store = Arc::new(MemoryStore::default());
        // Failures make the servers start anew.
        let flaky = Arc::new(Flaky::new(store, 400, 1));
        let start = || Server::on(flaky.clone(), (next.lock().unwrap())());
        let mut servers = Restarting::new(start);
        assert!(servers.live(&policy).await == expected);
        assert!(servers.failures as u64 > writes / 4, "{} restarts", servers.failures);
    }
}

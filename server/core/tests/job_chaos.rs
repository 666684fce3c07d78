//! A whole trainer and a server between which anything is lost, repeated or restarted. Without an outage the kept LRs
//! are those of the undisturbed run, bit for bit; with one, the run still ends in its budget and the books are right.

mod common;

use autolrs_core::{
    directive::Slot,
    job::{Refusal, Report},
    spec::{ConstantOptions, CosineOptions, Objective, PolicySpec, ResolvedPolicy, ResolvedSpec},
};
use common::{
    Desk,
    given::{finish, paper, scan, staged, update},
    spec,
    whole::{Cliff, Whole},
};
use proptest::prelude::*;

/// What happens around one report.
#[derive(Debug, Clone, Copy)]
enum Mishap {
    None,
    /// The report is lost.
    RequestLost,
    /// The report is taken, its answer is lost.
    AnswerLost,
    /// The report arrives twice.
    Twice,
    /// An old report arrives once more, and its answer too.
    Late(usize),
    ServerRestarts,
    /// The trainer writes a checkpoint.
    Save,
    /// The trainer dies; another process goes on from a checkpoint, the newest being number 0.
    Crash {
        back: usize,
        takeover: bool,
    },
    /// Nobody answers for a while; the trainer goes on alone, maybe more than once.
    Outage(usize),
    /// An operator finishes the job.
    Finish(Option<u64>),
    /// An operator sets the LR, or the budget.
    Update(Option<f64>, Option<u64>),
}

fn mishap(outages: bool) -> impl Strategy<Value = Mishap> {
    let weight = u32::from(outages);
    prop_oneof![
        4 => Just(Mishap::None),
        2 => Just(Mishap::RequestLost),
        3 => Just(Mishap::AnswerLost),
        2 => Just(Mishap::Twice),
        2 => (0usize..40).prop_map(Mishap::Late),
        3 => Just(Mishap::ServerRestarts),
        3 => Just(Mishap::Save),
        2 => (0usize..3, any::<bool>()).prop_map(|(back, takeover)| Mishap::Crash { back, takeover }),
        2 * weight => (1usize..4).prop_map(Mishap::Outage),
        weight => operators(),
    ]
}

fn operators() -> impl Strategy<Value = Mishap> {
    let change = (prop::option::of(0.01..0.5f64), prop::option::of(300u64..2000));
    prop_oneof![
        prop::option::of(0u64..300).prop_map(Mishap::Finish),
        change.prop_map(|(lr, total_steps)| Mishap::Update(lr, total_steps)),
    ]
}

struct World {
    desk: Desk,
    trainer: Whole,
    saved: Vec<Whole>,
    sent: Vec<Report>,
    keeps_slots: bool,
    outages: bool,
    crashes: u32,
}

impl World {
    fn new(spec: ResolvedSpec, cliff: Cliff, validates: bool, keeps_slots: bool, outages: bool) -> Self {
        let mut desk = Desk::new(spec);
        let trainer = Whole::open(&mut desk, cliff, validates);
        Self { desk, trainer, saved: Vec::new(), sent: Vec::new(), keeps_slots, outages, crashes: 0 }
    }

    fn deliver(&mut self, report: Report, answered: bool) {
        if self.sent.len() < 1000 {
            self.sent.push(report.clone());
        }
        let ack = self.desk.report(report).unwrap();
        if answered {
            self.trainer.take(ack);
        }
    }

    fn step(&mut self, mishap: Mishap, n: usize) {
        self.trainer.run(n);
        match mishap {
            Mishap::ServerRestarts => self.desk.restart(),
            Mishap::Save => self.saved.push(self.trainer.checkpoint(self.keeps_slots)),
            Mishap::Crash { back, takeover } => self.crash(back, takeover),
            Mishap::Outage(n) => (0..n).for_each(|_| {
                self.trainer.silence();
                self.trainer.run(150);
            }),
            Mishap::Late(n) => self.late(n),
            Mishap::Finish(steps) => {
                drop(self.desk.send(finish(&format!("f{}", self.sent.len()), steps)));
            }
            Mishap::Update(lr, total_steps) => {
                drop(self.desk.send(update(&format!("u{}", self.sent.len()), lr, total_steps)));
            }
            Mishap::None | Mishap::RequestLost | Mishap::AnswerLost | Mishap::Twice => {}
        }
        let Some(report) = self.trainer.report(n.max(1)) else { return };
        match mishap {
            Mishap::RequestLost => {}
            Mishap::AnswerLost => self.deliver(report, false),
            Mishap::Twice => {
                self.deliver(report.clone(), true);
                self.sent.push(report);
                self.late(self.sent.len() - 1);
            }
            _ => self.deliver(report, true),
        }
    }

    fn late(&mut self, n: usize) {
        let Some(report) = self.sent.get(n % self.sent.len().max(1)).cloned() else { return };
        let before = self.desk.stored();
        let session = report.session;
        match self.desk.report(report) {
            Ok(ack) => self.trainer.take(ack),
            Err(Refusal::Fenced { .. }) => {
                assert!(session < self.trainer.session);
                assert!(before == self.desk.stored(), "a refused event changes nothing");
            }
            Err(other) => panic!("{other}"),
        }
    }

    fn crash(&mut self, back: usize, takeover: bool) {
        let Some(n) = self.saved.len().checked_sub(1 + back) else { return };
        if let Some(trainer) = self.saved[n].clone().resume(&mut self.desk, takeover) {
            (self.trainer, self.crashes) = (trainer, self.crashes + 1);
            if self.outages {
                // A fallback may be adopted in two timelines; only the newer one can be gone on with.
                self.saved.truncate(n + 1);
            }
        }
    }

    /// Until the trainer has nothing left to do or to say.
    fn drain(&mut self) {
        for _ in 0..10_000 {
            if self.trainer.report(1).is_none() {
                return;
            }
            self.step(Mishap::None, 97);
        }
        panic!("the run does not end: {:?}", self.desk.job.view());
    }
}

/// `paper`, by the validation loss where there is one.
fn by_validation() -> ResolvedSpec {
    let mut spec = paper(400, 50);
    if let ResolvedPolicy::Paper(options) = &mut spec.policy {
        options.objective = Objective::Validation;
    }
    spec
}

fn specs() -> impl Strategy<Value = ResolvedSpec> {
    let constant = PolicySpec::Constant(ConstantOptions { lr: Some(0.3), ..ConstantOptions::default() });
    let cosine = PolicySpec::Cosine(CosineOptions {
        lr: Some(0.3),
        warmup_steps: Some(150),
        ..CosineOptions::default()
    });
    let policies = prop_oneof![
        Just(spec(900, constant)),
        Just(spec(900, cosine)),
        Just(scan(1500)),
        Just(paper(400, 50)),
        Just(by_validation()),
        Just(staged(600, 60)),
    ];
    (policies, prop_oneof![Just(1u64), Just(8)]).prop_map(|(mut spec, switch_every)| {
        spec.switch_every = switch_every;
        spec
    })
}

fn script(outages: bool) -> impl Strategy<Value = Vec<(Mishap, usize)>> {
    let steps = prop_oneof![1usize..40, Just(0), Just(300)];
    prop::collection::vec((mishap(outages), steps), 1..60)
}

fn cliff() -> impl Strategy<Value = Cliff> {
    prop::option::of((100usize..800, prop_oneof![Just(0.2), Just(0.05)]))
}

/// The books are the trainer's own account.
fn check_books(world: &World) {
    let spent = world.desk.job.view().spent;
    let total = world.desk.job.spec().budget.limit();
    assert!(world.desk.job.ended().is_some(), "{:?} {}", world.desk.job.view(), world.desk.history());
    assert!(world.trainer.total <= total, "{} steps of {total}", world.trainer.total);
    if !world.trainer.refilled {
        assert_eq!(
            (spent.committed, spent.total()),
            (world.trainer.model.path.len() as u64, world.trainer.total)
        );
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn mishaps_do_not_change_the_run(
        spec in specs(), script in script(false), cliff in cliff(), validates in any::<bool>(),
        keeps_slots in any::<bool>(),
    ) {
        let mut undisturbed = World::new(spec.clone(), cliff, validates, true, false);
        undisturbed.drain();
        check_books(&undisturbed);
        let mut world = World::new(spec, cliff, validates, keeps_slots, false);
        for (mishap, n) in script {
            world.step(mishap, n);
        }
        world.drain();
        check_books(&world);
        if !world.trainer.refilled {
            prop_assert_eq!(&world.trainer.model, &undisturbed.trainer.model);
            prop_assert_eq!(world.trainer.done, undisturbed.trainer.done);
            prop_assert_eq!(world.desk.job.view().commits, undisturbed.desk.job.view().commits);
            prop_assert_eq!(world.desk.job.view().spent, undisturbed.desk.job.view().spent);
        }
    }

    #[test]
    fn outages_end_in_budget_with_right_books(
        spec in specs(), script in script(true), cliff in cliff(), validates in any::<bool>(),
        keeps_slots in any::<bool>(),
    ) {
        let mut world = World::new(spec, cliff, validates, keeps_slots, true);
        for (mishap, n) in script {
            world.step(mishap, n);
        }
        world.drain();
        check_books(&world);
    }
}

#[test]
fn the_slots_of_a_trainer_that_keeps_them_are_never_asked_for_again() {
    let mut world = World::new(scan(1500), None, true, true, false);
    for _ in 0..40 {
        world.step(Mishap::Save, 20);
        world.step(Mishap::Crash { back: 0, takeover: true }, 20);
    }
    assert!(world.crashes > 30 && !world.trainer.refilled);
    assert!(world.trainer.slots.keys().all(|slot| *slot != Slot::Best));
}

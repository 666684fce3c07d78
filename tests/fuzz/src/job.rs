//! The life of a job: the first bytes choose its policy and budget, the others are events, sensible or not.

use crate::{
    common::{
        Desk, open_scan, spec,
        steps::{Because, Step, carry_out},
    },
    input::Input,
};
use autolrs_core::{
    forecast::Forecaster,
    job::{Row, View},
    lr_pieces::Piece,
    policy::TrialOutcome,
    spec::{
        ClrOptions, ConstantOptions, CosineOptions, Objective, OneCycleOptions, PaperOptions, PolicySpec,
        ReplayOptions, ResolvedSpec, ScanOptions, SgdrOptions, StagedOptions, StepOptions, WsdOptions,
    },
};
use std::collections::BTreeMap;

/// Events of one input.
const MAX_STEPS: usize = 60;
/// Highest LR of the jobs, unless an operator sets another.
const MAX_LR: f64 = 10.0;

/// No panic; steps within the budget and search within its share of it; every LR finite and in its range; no LR committed
/// whose trial diverged; a refused event changes nothing; the same events give the same job.
///
/// # Panics
/// If that does not hold.
pub fn target(bytes: &[u8]) {
    let mut input = Input(bytes);
    let spec = any_spec(&mut input);
    let mut desks = [Desk::new(spec.clone()), Desk::new(spec)];
    let mut seen = Seen::new(&desks[0]);
    for number in 0..MAX_STEPS {
        if input.is_empty() {
            break;
        }
        let step = any_step(&mut input);
        let before = desks[0].rows.len();
        for desk in &mut desks {
            carry_out(desk, &step, number);
        }
        seen.check(&desks[0], before, &step);
    }
    assert_eq!(desks[0].stored(), desks[1].stored(), "the same events give the same job");
}

fn any_spec(input: &mut Input<'_>) -> ResolvedSpec {
    let paper =
        PaperOptions { tau: Some(50), tau_max: Some(200), candidates: Some(4), ..PaperOptions::default() };
    let policy = match input.byte() % 16 {
        0 => return open_scan(),
        1 => PolicySpec::Paper(PaperOptions { forecaster: Some(Forecaster::Mixture), ..paper }),
        2 => PolicySpec::Paper(PaperOptions { objective: Some(Objective::Validation), ..paper }),
        3 => PolicySpec::Paper(paper),
        4 | 5 => PolicySpec::Staged(StagedOptions { tau: Some(60), ..StagedOptions::default() }),
        6 => PolicySpec::Constant(ConstantOptions::default()),
        7 => PolicySpec::Cosine(CosineOptions { warmup_steps: Some(1), ..CosineOptions::default() }),
        8 => PolicySpec::Step(StepOptions { milestones: vec![3, 40, 41, 700], ..StepOptions::default() }),
        9 => PolicySpec::OneCycle(OneCycleOptions::default()),
        10 => PolicySpec::Clr(ClrOptions { step_size: Some(7), ..ClrOptions::default() }),
        11 => PolicySpec::Sgdr(SgdrOptions { t0: Some(5), ..SgdrOptions::default() }),
        12 => PolicySpec::Wsd(WsdOptions::default()),
        13 => PolicySpec::Replay(ReplayOptions {
            pieces: vec![Piece::warmup(30, 0.3), Piece::cooldown(500, 0.3)],
        }),
        _ => PolicySpec::Scan(ScanOptions::default()),
    };
    let total = match input.byte() {
        n @ 0..=99 => 1 + u64::from(n),
        n @ 100..=179 => 4 * u64::from(n),
        180..=219 => 900,
        _ => 3000,
    };
    spec(total, policy)
}

fn any_step(input: &mut Input<'_>) -> Step {
    match input.byte() % 24 {
        0..=8 => Step::Train(input.float()),
        9..=12 => Step::ToRung(input.float()),
        13..=16 => Step::Raw {
            seq: input.near(),
            session: input.near(),
            offset: input.word(),
            losses: (0..input.byte() % 48).map(|_| input.float()).collect(),
            finished: input.flag(),
            because: input.maybe(|input| (because(input), input.word())),
            at_rung: input.flag(),
        },
        17 => Step::Open {
            takeover: input.flag(),
            restart: input.flag(),
            active: input.flag(),
            validate: input.flag(),
        },
        18 | 19 => Step::Resume {
            seq: input.near(),
            offset: input.word(),
            slots: input.flag(),
            uid: !input.flag(),
            validate: input.flag(),
        },
        20 => Step::Finish(input.maybe(Input::word)),
        21 => Step::Cancel(input.flag()),
        22 => Step::Update(input.maybe(Input::float), input.maybe(Input::near)),
        _ => Step::Restart,
    }
}

fn because(input: &mut Input<'_>) -> Because {
    match input.byte() % 3 {
        0 => Because::Rule,
        1 => Because::Interrupt,
        _ => Because::NoAnswer,
    }
}

/// What is remembered to judge what follows.
struct Seen {
    /// The largest budget so far: an operator may lower it when the search is over.
    budget: u64,
    /// The highest LR that anybody asked for.
    highest: f64,
    /// LR of the trials that diverged, by (stage, trial).
    diverged: BTreeMap<(u32, u32), f64>,
}

impl Seen {
    fn new(desk: &Desk) -> Self {
        Self { budget: desk.job.spec().budget.limit(), highest: MAX_LR, diverged: BTreeMap::new() }
    }

    fn check(&mut self, desk: &Desk, before: usize, step: &Step) {
        if let Step::Update(Some(lr), _) = step
            && lr.is_finite()
        {
            self.highest = self.highest.max(*lr);
        }
        if let Step::Resume { .. } | Step::Open { .. } = step {
            // The job may have gone back to where those trials were still to come.
            self.diverged.clear();
        }
        let spec = desk.job.spec();
        self.budget = self.budget.max(spec.budget.limit());
        let view = desk.job.view();
        assert!(view.spent.total() <= spec.budget.limit(), "over budget: {:?}", view.spent);
        let share = spec.max_overhead * self.budget as f64;
        assert!(view.spent.search as f64 <= share, "{:?} of {share}", view.spent);
        desk.rows[before..].iter().for_each(|row| self.row(row));
        readable(&view);
    }

    fn row(&mut self, row: &Row) {
        match row {
            Row::Clear => self.diverged.clear(),
            Row::Trial(note) if note.outcome == TrialOutcome::Diverged => {
                self.diverged.insert((note.stage, note.trial), note.lr);
            }
            Row::Trial(note) => drop(self.diverged.remove(&(note.stage, note.trial))),
            Row::Commit(note) => {
                let of_stage = self.diverged.iter().filter(|((stage, _), _)| *stage == note.stage);
                let broken: Vec<f64> = of_stage.map(|(_, lr)| *lr).collect();
                assert!(!broken.contains(&note.lr), "{} is committed, of {broken:?} that diverged", note.lr);
                self.lr(note.lr);
            }
            Row::Directive(record) => {
                let run = record.directive.run();
                run.iter().flat_map(|run| &run.lr).for_each(|piece| {
                    self.lr(piece.lr(0));
                    self.lr(piece.lr(piece.steps - 1));
                });
            }
            _ => {}
        }
    }

    fn lr(&self, lr: f64) {
        assert!(lr.is_finite() && lr >= 0.0 && lr <= self.highest * (1.0 + 1e-9), "LR {lr}");
    }
}

/// People are shown no number that is none, but a validation loss as it was measured.
fn readable(view: &View) {
    assert!(view.train_loss.is_none_or(f64::is_finite));
    assert!(view.lr.is_none_or(|lr| lr.is_finite() && lr >= 0.0));
}

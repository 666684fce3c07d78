//! The plan of a branch.

use super::{
    branch::branch_line,
    law::{self, Law},
    search::Search,
};
use crate::{
    directive::{Batches, Phase, Run, Slot},
    policy::{
        Context,
        line::{Next, unattended_from, warm_hold_cool},
    },
    spec::ResolvedScan,
    stop_rules::StopIf,
};

/// The branch under way. Branches replay the batches of the first one where the trainer can: they differ by their LR
/// alone. An unattended trainer restores `START` and trains to the end with what was measured so far.
pub(super) fn trial(search: &Search, options: &ResolvedScan, cx: &Context<'_>) -> Next {
    let replayed = cx.replay && search.trials() > 0;
    let mut stop_if = vec![StopIf::NonFinite];
    stop_if.extend(search.stop_if());
    let run = Run {
        phase: Phase::Trial,
        batches: if replayed { Batches::Replay } else { Batches::Fresh },
        lr: branch_line(cx.spec.budget.nominal(), search.branch_lr()),
        stop_if,
        stage: 0,
        trial: Some(search.trials()),
        validate_at: Vec::new(),
        rungs: Vec::new(),
    };
    let budget = cx.spec.budget;
    let law = search.best().map_or(Law::Held, |_| Law::new(options, budget));
    let lr = search.provisional(law::factor(options, budget), cx.spec);
    let line = warm_hold_cool(
        cx.left() - run.steps(),
        law::warmup_steps(options, budget),
        libm::round(options.cooldown_fraction * budget.nominal() as f64) as u64,
        lr,
        |warmup, hold| law.line(warmup, hold, lr),
    );
    let fallback = unattended_from(Slot::Start, Phase::Warmup, 0, line, Slot::Start);
    Next { keep: Vec::new(), run, or_else: Some(fallback.clone().into()), on_stop: fallback }
}

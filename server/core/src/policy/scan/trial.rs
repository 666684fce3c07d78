//! The plan of a branch.

use super::{branch::branch_line, search::Search};
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
        lr: branch_line(cx.spec.total_steps, search.branch_lr()),
        stop_if,
        stage: 0,
        trial: Some(search.trials()),
    };
    let share = |fraction: f64| libm::round(fraction * cx.spec.total_steps as f64) as u64;
    let line = warm_hold_cool(
        cx.left() - run.steps(),
        share(options.warmup_fraction),
        share(options.cooldown_fraction),
        search.provisional(options.lr_factor, cx.spec),
    );
    let fallback = unattended_from(Slot::Start, Phase::Warmup, 0, line, Slot::Start);
    Next { keep: Vec::new(), run, or_else: Some(fallback.clone().into()), on_stop: fallback }
}

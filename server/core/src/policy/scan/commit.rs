//! The commit: from the branches to an LR, with the reason.

use super::{
    bias::excess,
    branch::branch_dose,
    law::{self, Law},
    search::Search,
    stretch::Stretch,
};
use crate::{
    policy::{CommitNote, Context, Notes, diverged::divided},
    spec::ResolvedScan,
};

/// Commits from what was measured; `fallback_lr` if that is nothing.
pub(super) fn commit(
    search: &Search,
    options: &ResolvedScan,
    cx: &Context<'_>,
    notes: &mut Notes,
) -> Stretch {
    let Some(choice) = search.choose() else { return fall_back(search, options, cx, notes) };
    let (law, factor) = (Law::new(options, cx.spec.budget), law::factor(options, cx.spec.budget));
    let mut lr = search.lr(choice.z, factor);
    let best_lr = search.lr(choice.best.z, 1.0);
    let place = if choice.interpolated {
        "the vertex of the parabola through the best branch and its neighbours"
    } else {
        "the best branch"
    };
    let shown = libm::round(1000.0 * factor) / 1000.0;
    let mut why = format!(
        "{shown} times {:.3e}, {place} (LR {best_lr:.3e}, score {:.6}, of {} branches)",
        search.lr(choice.z, 1.0),
        choice.best.score,
        search.trials(),
    );
    if options.rms_decay > 0.0 {
        let times = excess(cx.spec.budget.nominal(), options.rms_decay);
        why += &format!("; with rms_decay {}, steps in a branch are {times:.2} times too large", options.rms_decay);
    }
    if law != Law::Held {
        why += "; after the warm-up it falls with the cube root of the steps";
    }
    let stopped = search.stopped();
    if stopped.contains(lr) {
        why = format!("the best branch's own LR, because a branch at {lr:.3e} diverged");
        lr = best_lr;
    }
    if search.is_highest(choice.best.z) {
        notes.warnings.push(format!("the best branch was the highest, {best_lr:.3e}: consider a higher lr_max"));
    }
    notes.commits.push(CommitNote { stage: 0, lr, why, forecast: None, curve: choice.curve });
    let scales = search.scales().map(|scales| (scales, branch_dose(cx.spec.budget.nominal(), best_lr)));
    Stretch::new(options, lr, law, search.bound(), scales, stopped, cx)
}

fn fall_back(search: &Search, options: &ResolvedScan, cx: &Context<'_>, notes: &mut Notes) -> Stretch {
    let fallback = cx.spec.fallback_lr;
    let stopped = search.stopped();
    let lr = stopped.avoid(fallback, 2.0);
    let lowered = divided(fallback, lr);
    let why = match (search.trials(), lr < fallback) {
        (0, _) => "fallback_lr: nothing was measured".into(),
        (n, false) => format!("fallback_lr: none of {n} branches learnt anything"),
        (n, true) => format!("fallback_lr, which diverged, {lowered}: none of {n} branches learnt anything"),
    };
    notes.warnings.push(format!("the LR {lr:.3e} is {why}"));
    notes.commits.push(CommitNote { stage: 0, lr, why, forecast: None, curve: Vec::new() });
    Stretch::new(options, lr, Law::Held, search.bound(), None, stopped, cx)
}

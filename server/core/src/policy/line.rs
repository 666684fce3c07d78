//! Lines that policies and fallbacks share: pieces that fill a number of steps exactly, by phase.

use crate::{
    directive::{Batches, DoneReason, Failure, Phase, Run, Slot},
    lr_pieces::{self, Piece},
    plan::{FromSlot, Keep, Plan},
    stop_rules::StopIf,
};

/// Warm-up to `lr`, hold, cool down: `total` steps in all. Where they don't fit, the hold goes first, then the warm-up.
/// `hold`: from the steps of the warm-up and its own to its pieces.
pub(crate) fn warm_hold_cool(
    total: u64,
    warmup: u64,
    cooldown: u64,
    lr: f64,
    hold: impl FnOnce(u64, u64) -> Vec<Piece>,
) -> Vec<Piece> {
    let cooldown = cooldown.min(total);
    let warmup = warmup.min(total - cooldown);
    let held = hold(warmup, total - cooldown - warmup);
    let line = [vec![Piece::warmup(warmup, lr)], held, vec![Piece::cooldown(cooldown, lr)]].concat();
    line.into_iter().filter(|piece| piece.steps > 0).collect()
}

/// A committed run over fresh batches that only a non-finite loss ends.
pub(crate) fn committed(phase: Phase, stage: u32, lr: Vec<Piece>) -> Run {
    let stop_if = vec![StopIf::NonFinite];
    let (rungs, validate_at) = (Vec::new(), Vec::new());
    Run { phase, batches: Batches::Fresh, lr, stop_if, stage, trial: None, rungs, validate_at }
}

/// A line at `factor` of its LR.
pub(crate) fn scaled(line: &[Piece], factor: f64) -> Vec<Piece> {
    line.iter().map(|piece| piece.scaled(factor)).collect()
}

/// What an unattended trainer goes on with at the end of its segment: `line` to the end of the budget. None where
/// nothing is left: the job is done then. A line that breaks restores `slot` and ends the job there: how many steps are
/// left by then can't be known beforehand.
pub(crate) fn unattended(phase: Phase, stage: u32, line: Vec<Piece>, slot: Slot) -> Option<Plan> {
    (!line.is_empty()).then(|| Plan::go_on([], committed(phase, stage, line)).on_stop(broken(slot)))
}

/// What an unattended trainer does after a stop: `line` from `slot`, or the end where nothing is left of the budget.
/// `last_resort` is restored if that breaks too.
pub(crate) fn unattended_from(
    slot: Slot,
    phase: Phase,
    stage: u32,
    line: Vec<Piece>,
    last_resort: Slot,
) -> FromSlot {
    if line.is_empty() {
        return FromSlot::done(slot, DoneReason::Finished);
    }
    FromSlot::run(slot, [], committed(phase, stage, line)).on_stop(broken(last_resort))
}

/// Restores `slot`; the job has failed.
pub(crate) fn broken(slot: Slot) -> FromSlot {
    FromSlot::done(slot, DoneReason::Failed(Failure::Unstable))
}

/// A segment with its fallbacks, before it is said where it starts.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Next {
    pub(crate) keep: Vec<Keep>,
    pub(crate) run: Run,
    /// None: the segment ends with the budget.
    pub(crate) or_else: Option<Plan>,
    pub(crate) on_stop: FromSlot,
}

impl Next {
    /// Starts where the trainer stands.
    pub(crate) fn go_on(self) -> Plan {
        let plan = Plan::go_on(self.keep, self.run).on_stop(self.on_stop);
        match self.or_else {
            Some(fallback) => plan.or_else(fallback),
            None => plan,
        }
    }

    /// Starts from `slot`.
    pub(crate) fn from(self, slot: Slot) -> FromSlot {
        let plan = FromSlot::run(slot, self.keep, self.run).on_stop(self.on_stop);
        match self.or_else {
            Some(fallback) => plan.or_else(fallback),
            None => plan,
        }
    }
}

/// The plan where the trainer stands, or the end of the job.
pub(crate) fn go_on(next: Option<Next>) -> Plan {
    next.map_or_else(|| Plan::done(DoneReason::Finished), Next::go_on)
}

/// The plan from a slot, or the end of the job there.
pub(crate) fn from(slot: Slot, next: Option<Next>) -> FromSlot {
    next.map_or_else(|| FromSlot::done(slot, DoneReason::Finished), |next| next.from(slot))
}

/// A line whose pieces know their phase.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct PhasedLine(Vec<(Phase, Piece)>);

impl PhasedLine {
    /// Pieces without steps are left out.
    pub(crate) fn new(pieces: impl IntoIterator<Item = (Phase, Piece)>) -> Self {
        Self(pieces.into_iter().filter(|(_, piece)| piece.steps > 0).collect())
    }

    /// Its pieces.
    pub(crate) fn pieces(&self) -> Vec<Piece> {
        self.0.iter().map(|(_, piece)| *piece).collect()
    }

    /// The line without its first `done` steps.
    #[must_use]
    pub(crate) fn after(&self, done: u64) -> Self {
        let mut left = done;
        Self::new(self.0.iter().flat_map(|&(phase, piece)| {
            let skipped = left.min(piece.steps);
            left -= skipped;
            lr_pieces::cut(&[piece], skipped).1.into_iter().map(move |part| (phase, part))
        }))
    }

    /// The first at most `steps` steps, of one phase, and the rest. None of an empty line.
    pub(crate) fn split(&self, steps: u64) -> Option<(Phase, Vec<Piece>, Vec<Piece>)> {
        let &(phase, _) = self.0.first()?;
        let pieces = |line: &[(Phase, Piece)]| line.iter().map(|(_, piece)| *piece).collect::<Vec<_>>();
        let same = self.0.iter().take_while(|(p, _)| *p == phase).count();
        let (head, mut rest) = lr_pieces::cut(&pieces(&self.0[..same]), steps);
        rest.extend(pieces(&self.0[same..]));
        Some((phase, head, rest))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_does_not_fit_goes_in_order() {
        let hold = |_, steps| vec![Piece::constant(steps, 1.0)];
        let steps =
            |total| warm_hold_cool(total, 10, 40, 1.0, hold).iter().map(|p| p.steps).collect::<Vec<_>>();
        assert_eq!(steps(100), [10, 50, 40]);
        assert_eq!(steps(45), [5, 40]);
        assert_eq!(steps(3), [3]);
        assert_eq!(steps(0), [0; 0]);
    }

    #[test]
    fn a_split_has_one_phase_and_loses_no_step() {
        let line = PhasedLine::new([
            (Phase::Warmup, Piece::warmup(10, 1.0)),
            (Phase::Stable, Piece::constant(0, 1.0)),
            (Phase::Cooldown, Piece::cooldown(3, 1.0)),
            (Phase::Cooldown, Piece::cooldown(17, 0.3)),
        ]);
        let whole = [Piece::warmup(10, 1.0), Piece::cooldown(3, 1.0), Piece::cooldown(17, 0.3)];
        let mut done = 0;
        while let Some((phase, head, rest)) = line.after(done).split(7) {
            assert_eq!(phase, if done < 10 { Phase::Warmup } else { Phase::Cooldown });
            for i in 0..lr_pieces::steps(&head) {
                assert_eq!(lr_pieces::lr_at(&head, i), lr_pieces::lr_at(&whole, done + i));
            }
            done += lr_pieces::steps(&head);
            assert_eq!(done + lr_pieces::steps(&rest), 30);
        }
        assert_eq!(done, 30);
    }
}

//! Lines that policies and fallbacks share: warm-up, hold, cooldown, as pieces that fill a number of steps exactly.

use crate::{
    directive::{Batches, Phase, Run},
    lr_pieces::Piece,
    stop_rules::StopIf,
};

/// Warm-up to `lr`, hold, cool down: `total` steps in all. Where they don't fit, the hold goes first, then the warm-up.
pub(crate) fn warm_hold_cool(total: u64, warmup: u64, cooldown: u64, lr: f64) -> Vec<Piece> {
    let cooldown = cooldown.min(total);
    let warmup = warmup.min(total - cooldown);
    let hold = total - cooldown - warmup;
    [Piece::warmup(warmup, lr), Piece::constant(hold, lr), Piece::cooldown(cooldown, lr)]
        .into_iter()
        .filter(|piece| piece.steps > 0)
        .collect()
}

/// A committed run over fresh batches that only a non-finite loss ends.
pub(crate) fn committed(phase: Phase, stage: u32, lr: Vec<Piece>) -> Run {
    Run { phase, batches: Batches::Fresh, lr, stop_if: vec![StopIf::NonFinite], stage, trial: None }
}

//! What a policy is measured against: the best of many plain schedules, found with as many full runs.
//!
//! Shapes: `constant`; `wsd` with a cooldown over the last 40 %; `cosine` to 0; the latter two with a linear warm-up over
//! the first 10 %. LRs: 8 per decade over the range, both ends included. All steps of the budget are committed steps,
//! nothing guards them, and a run that diverges drops out. The noise is that of the policy's own run (the same surface,
//! seed and batches), so the best of so many runs is a little lower than any of them would be on average: regret errs on
//! the side of too much.

use super::surface::Surface;
use crate::{
    lr_pieces::{Cursor, Piece, Shape},
    spec::LrRange,
};

/// The best schedule found.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Reference {
    /// Its shape: `constant`, `wsd` or `cosine`.
    pub shape: &'static str,
    /// Its highest LR.
    pub lr: f64,
    /// True loss of its final state, in loss units; infinite if every run diverged.
    pub loss: f64,
    /// Full runs that it took to find.
    pub runs: u32,
}

/// LRs per decade.
const PER_DECADE: f64 = 8.0;

/// The best schedule of `steps` steps from this state.
pub fn reference<S: Surface>(surface: &S, steps: u64, range: LrRange) -> Reference {
    let mut best = Reference { shape: "constant", lr: range.lo, loss: f64::INFINITY, runs: 0 };
    for lr in grid(range) {
        for (shape, line) in shapes(steps, lr) {
            best.runs += 1;
            let loss = end(surface.clone(), &line);
            if loss < best.loss {
                best = Reference { shape, lr, loss, ..best };
            }
        }
    }
    best
}

/// LRs from `lo` to `hi`, `PER_DECADE` or a few more per decade.
pub fn grid(range: LrRange) -> Vec<f64> {
    let (lo, hi) = (libm::log10(range.lo), libm::log10(range.hi));
    let gaps = libm::ceil((hi - lo) * PER_DECADE - 1e-9).max(1.0) as u32;
    (0..=gaps).map(|i| libm::pow(10.0, lo + (hi - lo) * f64::from(i) / f64::from(gaps))).collect()
}

fn shapes(steps: u64, lr: f64) -> [(&'static str, Vec<Piece>); 3] {
    let share = |share: f64| (steps as f64 * share) as u64;
    let (warmup, cooldown) = (share(0.1), share(0.4));
    let piece = |steps: u64, make: fn(u64, f64) -> Piece| (steps > 0).then(|| make(steps, lr));
    let line = |pieces: [Option<Piece>; 3]| pieces.into_iter().flatten().collect();
    let cosine = |steps, lr| Piece::new(steps, lr, 0.0, Shape::Cosine);
    [
        ("constant", line([piece(steps, Piece::constant), None, None])),
        (
            "wsd",
            line([
                piece(warmup, Piece::warmup),
                piece(steps - warmup - cooldown, Piece::constant),
                piece(cooldown, Piece::cooldown),
            ]),
        ),
        ("cosine", line([piece(warmup, Piece::warmup), piece(steps - warmup, cosine), None])),
    ]
}

/// The true loss after a line; infinite if a loss on the way was not finite.
fn end<S: Surface>(mut surface: S, line: &[Piece]) -> f64 {
    let mut cursor = Cursor::at(line, 0);
    for batch in 0.. {
        let Some(lr) = cursor.lr(line) else { break };
        cursor.advance(line);
        if !surface.step(lr, batch).is_finite() {
            return f64::INFINITY;
        }
    }
    let loss = surface.true_loss();
    if loss.is_finite() { loss } else { f64::INFINITY }
}

//! A branch: a short run from `START` whose LR goes up, stays and comes down, and what is kept of it.
//!
//! | symbol | meaning |
//! |---|---|
//! | `B` | budget in steps, search included |
//! | `L` | steps of a branch: max(24, round(B / 100)), at most 1000 |
//! | `w`, `m` | its steps up and down: max(1, round(L / 4)), max(1, round(0.4 L)) |
//! | `n` | losses in a score: max(4, round(0.15 L)) |
//! | `eta` | its LR; z = log10 eta |

use crate::{forecast::noise, lr_pieces::Piece, policy::limits::finite};
use serde::{Deserialize, Serialize};

/// L of a budget.
pub(super) fn branch_steps(total_steps: u64) -> u64 {
    (libm::round(total_steps as f64 / 100.0) as u64).clamp(24, 1000)
}

/// n of a budget.
pub(super) fn scored_steps(total_steps: u64) -> usize {
    (libm::round(0.15 * branch_steps(total_steps) as f64) as usize).max(4)
}

/// LINEAR eta / w to eta over w, CONSTANT, LINEAR eta m / (m + 1) to eta / (m + 1) over m.
pub(super) fn branch_line(total_steps: u64, eta: f64) -> Vec<Piece> {
    let steps = branch_steps(total_steps);
    let up = (libm::round(steps as f64 / 4.0) as u64).max(1);
    let down = (libm::round(0.4 * steps as f64) as u64).max(1);
    vec![Piece::warmup(up, eta), Piece::constant(steps - up - down, eta), Piece::cooldown(down, eta)]
}

/// The sum of the LRs over a branch's steps: how far it could go.
pub(super) fn branch_dose(total_steps: u64, eta: f64) -> f64 {
    branch_line(total_steps, eta).iter().map(dose).sum()
}

/// The sum of the LRs over a LINEAR or CONSTANT piece.
pub(super) fn dose(piece: &Piece) -> f64 {
    piece.steps as f64 * (piece.start + piece.end) / 2.0
}

/// A branch that ended.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub(super) struct Branch {
    /// log10 of its LR.
    pub(super) z: f64,
    /// None if it was stopped.
    pub(super) finished: Option<Finished>,
}

/// What is kept of a branch that finished. All finite.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub(super) struct Finished {
    /// The loss of the initial state: the mean of the first n losses or, where the branch leapt, the first alone.
    pub(super) head: f64,
    /// Mean of the last n losses.
    pub(super) score: f64,
    /// Standard deviation of the noise of one loss, as most losses show it.
    pub(super) noise: f64,
    /// The same with the losses that stand out.
    pub(super) rough: f64,
}

impl Finished {
    /// From all losses of a branch; none if they are not numbers.
    pub(super) fn new(losses: &[f64], n: usize, bound: Option<f64>) -> Option<Self> {
        let head = if leapt(losses, n, bound) { losses[0] } else { noise::mean(&losses[..n.min(losses.len())])? };
        let score = noise::mean(&losses[losses.len().saturating_sub(n)..])?;
        let finite = head.is_finite() && score.is_finite();
        finite.then(|| Self { head, score, noise: noise::slow_sd(losses), rough: noise::rough_sd(losses) })
    }
}

/// Whether a branch leapt from its initial state: the median of the losses 1 to n is above the first loss by more than
/// half of that one's distance from the lower bound and eight times the noise of the second half. Such losses say nothing
/// of the initial state, and a branch that comes back from them to where it began has learnt nothing.
fn leapt(losses: &[f64], n: usize, bound: Option<f64>) -> bool {
    let Some((&first, rest)) = losses.split_first() else { return false };
    let Some(middle) = noise::median(&rest[..n.min(rest.len())]) else { return false };
    let size = bound.map_or(0.0, |bound| finite(first - bound).abs());
    let noise = noise::noise_sd(&losses[losses.len() / 2..]);
    finite(middle - first) > (0.5 * size).max(finite(8.0 * noise)) && middle > first
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lr_pieces;

    #[test]
    fn lengths_follow_the_budget() {
        assert_eq!([3, 2250, 45_000, 5_000_000].map(branch_steps), [24, 24, 450, 1000]);
        assert_eq!([3, 45_000].map(scored_steps), [4, 68]);
        let line = branch_line(2250, 1.0);
        assert_eq!(line.iter().map(|p| p.steps).collect::<Vec<_>>(), [6, 8, 10]);
        assert_eq!([0, 5, 13].map(|i| lr_pieces::lr_at(&line, i).unwrap()), [1.0 / 6.0, 1.0, 1.0]);
        assert!((lr_pieces::lr_at(&line, 23).unwrap() - 1.0 / 11.0).abs() < 1e-15);
    }

    #[test]
    fn a_score_is_the_mean_of_the_last_losses() {
        let finished = Finished::new(&[5.0, 3.0, 2.0, 2.0, 1.0, 1.0], 4, None).unwrap();
        assert_eq!((finished.head, finished.score), (3.0, 1.5));
        assert_eq!(Finished::new(&[1.0, f64::NAN], 4, None), None);
        assert_eq!(Finished::new(&[], 4, None), None);
    }

    #[test]
    fn a_branch_that_leapt_began_at_its_first_loss() {
        let back: Vec<f64> = [2.3, 9.0, 30.0, 12.0].into_iter().chain([2.32; 20]).collect();
        for bound in [None, Some(0.0)] {
            assert_eq!(Finished::new(&back, 4, bound).unwrap().head, 2.3);
        }
        // A spike among the first losses, and noise as large as the first loss, are no leaps.
        let spike: Vec<f64> = [0.02, 0.9, 0.02, 0.03].into_iter().chain([0.02; 20]).collect();
        assert!(Finished::new(&spike, 4, Some(0.0)).unwrap().head > 0.2);
        let noisy: Vec<f64> = (0..24).map(|i| if i % 3 == 0 { 0.1 } else { 1.0 }).collect();
        assert!(Finished::new(&noisy, 4, Some(0.0)).unwrap().head > 0.4);
    }
}

//! A training on paper: one number on a loss surface that depends on it and on the LR, so that a wrong LR or a wrong
//! restore shows in every loss that follows.

/// The state. The best constant LR is about 0.3.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Surface {
    state: f64,
    /// Steps above this LR lose every number.
    pub(super) breaks_at: f64,
}

impl Surface {
    /// One that no LR breaks.
    pub(super) fn new() -> Self {
        Self { state: 0.0, breaks_at: f64::INFINITY }
    }

    /// The same state where other LRs break it.
    pub(super) fn breaking_at(self, breaks_at: f64) -> Self {
        Self { breaks_at, ..self }
    }

    /// The loss of a step at `lr`.
    pub(super) fn step(&mut self, lr: f64) -> f64 {
        if lr > self.breaks_at {
            self.state = f64::NAN;
        }
        let misfit = (lr.max(1e-9) / 0.3).log10();
        self.state += lr / (1.0 + misfit.powi(4));
        self.loss() + 0.05 * misfit.tanh().max(0.0) + 0.01 * (self.state * 37.0).sin()
    }

    /// A validation loss.
    pub(super) fn loss(&self) -> f64 {
        0.3 + 2.0 / (1.0 + self.state)
    }
}

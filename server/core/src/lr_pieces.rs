//! The learning-rate line of a directive: pieces, their evaluation and their cutting. The trainer and the server
//! evaluate the same function, so both know the LR of every step to the bit.
//!
//! | symbol | meaning |
//! |---|---|
//! | `n` | steps of the uncut piece, [`Piece::of`] |
//! | `j` | step inside the uncut piece, 0 <= j < n; `index + i` for step `i` of a cut part |
//! | `u` | `j / (n - 1)`, 0 when n = 1: both ends are trained at |
//!
//! LINEAR `start + (end - start) u`; COSINE `start + (end - start) (1 - cos(pi u)) / 2`;
//! POWER `start ((origin + j) / origin)^exponent`; CONSTANT `start`.

use serde::{Deserialize, Serialize};

/// The most steps that one `Run` may have; a longer line is cut into consecutive directives.
pub const MAX_RUN_STEPS: u64 = 65_536;

/// The curve of a [`Piece`].
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub enum Shape {
    /// `start` at every step.
    Constant,
    /// A straight line from `start` to `end`, both included.
    Linear,
    /// Half a cosine wave from `start` to `end`, both included.
    Cosine,
    /// `start ((origin + j) / origin)^exponent`; `end` is not used.
    Power {
        /// Any finite number; negative decays.
        exponent: f64,
        /// Steps, > 0: where the power law's own time starts.
        origin: f64,
    },
}

/// A stretch of steps on one curve.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Piece {
    /// Steps of this part, >= 1.
    pub steps: u64,
    /// LR at the first step of the uncut piece.
    pub start: f64,
    /// LR at the last step of the uncut piece.
    pub end: f64,
    /// The curve between them.
    pub shape: Shape,
    /// Steps of the uncut piece that came before this part; 0 for a piece that was not cut.
    pub index: u64,
    /// Steps of the uncut piece, >= `index + steps`.
    pub of: u64,
}

impl Piece {
    /// An uncut piece.
    pub const fn new(steps: u64, start: f64, end: f64, shape: Shape) -> Self {
        Self { steps, start, end, shape, index: 0, of: steps }
    }

    /// `steps` at one LR.
    pub const fn constant(steps: u64, lr: f64) -> Self {
        Self::new(steps, lr, lr, Shape::Constant)
    }

    /// Warm-up over `steps` to `lr`: LINEAR from `lr / steps` to `lr`.
    pub fn warmup(steps: u64, lr: f64) -> Self {
        Self::new(steps, lr / steps.max(1) as f64, lr, Shape::Linear)
    }

    /// Cooldown over `steps` from `lr` towards 0: LINEAR from `lr n / (n + 1)` to `lr / (n + 1)`.
    pub fn cooldown(steps: u64, lr: f64) -> Self {
        let n = steps as f64;
        Self::new(steps, lr * n / (n + 1.0), lr / (n + 1.0), Shape::Linear)
    }

    /// The LR at step `i` of this part, 0 <= i < `steps`.
    pub fn lr(&self, i: u64) -> f64 {
        let j = (self.index + i) as f64;
        let u = if self.of <= 1 { 0.0 } else { j / (self.of - 1) as f64 };
        match self.shape {
            Shape::Constant => self.start,
            Shape::Linear => self.start + (self.end - self.start) * u,
            Shape::Cosine => {
                self.start + (self.end - self.start) * ((1.0 - libm::cos(core::f64::consts::PI * u)) / 2.0)
            }
            Shape::Power { exponent, origin } => self.start * libm::pow((origin + j) / origin, exponent),
        }
    }

    /// Whether its numbers make an LR at every step: finite, not negative, inside the uncut piece.
    pub fn is_valid(&self) -> bool {
        self.fault().is_none()
    }

    /// The first field whose number makes no LR at every step, and what it must be instead.
    pub fn fault(&self) -> Option<(&'static str, String)> {
        let Self { steps, start, end, index, of, .. } = *self;
        if steps == 0 {
            return Some(("steps", "must be at least 1, is 0".into()));
        }
        if index.checked_add(steps).is_none_or(|to| to > of) {
            return Some(("of", format!("must be at least index + steps = {index} + {steps}, is {of}")));
        }
        for (field, lr) in [("start", start), ("end", end)] {
            if !(lr.is_finite() && lr >= 0.0) {
                return Some((field, format!("must be finite and at least 0, is {lr}")));
            }
        }
        let Shape::Power { exponent, origin } = self.shape else { return None };
        if !(origin.is_finite() && origin > 0.0) {
            return Some(("origin", format!("must be finite and above 0, is {origin}")));
        }
        // A power law is monotonic: both ends finite, all finite.
        if !(exponent.is_finite() && self.lr(0).is_finite() && self.lr(steps - 1).is_finite()) {
            return Some(("exponent", format!("must give a finite LR at every step, is {exponent}")));
        }
        None
    }

    /// The highest LR of a valid piece: all curves are monotonic.
    pub fn highest(&self) -> f64 {
        self.lr(0).max(self.lr(self.steps.saturating_sub(1)))
    }

    /// Scales the LR by `factor`, keeping the shape.
    #[must_use]
    pub fn scaled(mut self, factor: f64) -> Self {
        self.start *= factor;
        self.end *= factor;
        self
    }

    /// Scales the LR such that `from` becomes `to`, exactly, keeping the shape.
    #[must_use]
    pub fn rescaled(mut self, from: f64, to: f64) -> Self {
        self.start = self.start / from * to;
        self.end = self.end / from * to;
        self
    }
}

/// The highest LR of a line; 0 of an empty one.
pub fn highest(pieces: &[Piece]) -> f64 {
    // Every shape is monotone.
    pieces.iter().flat_map(|p| [p.lr(0), p.lr(p.steps - 1)]).fold(0.0, f64::max)
}

/// A line with `lr` as its highest LR and the others in their ratio to that. None where it has no LR that a double can
/// be scaled from: all of it is (almost) 0.
pub fn scaled_to(pieces: &[Piece], lr: f64) -> Option<Vec<Piece>> {
    let highest = highest(pieces);
    let scaled: Vec<Piece> = pieces.iter().map(|piece| piece.rescaled(highest, lr)).collect();
    (highest > 0.0 && scaled.iter().all(Piece::is_valid)).then_some(scaled)
}

/// Steps of all pieces.
pub fn steps(pieces: &[Piece]) -> u64 {
    pieces.iter().map(|p| p.steps).sum()
}

/// The LR at `offset` of the line; past its end, the LR of the last step. An empty line has none.
pub fn lr_at(pieces: &[Piece], offset: u64) -> Option<f64> {
    let mut left = offset;
    for piece in pieces {
        if left < piece.steps {
            return Some(piece.lr(left));
        }
        left -= piece.steps;
    }
    pieces.last().map(|p| p.lr(p.steps - 1))
}

/// Cuts a line after `at` steps. Both parts evaluate exactly as the whole did.
pub fn cut(pieces: &[Piece], at: u64) -> (Vec<Piece>, Vec<Piece>) {
    let (mut head, mut tail) = (Vec::new(), Vec::new());
    let mut left = at;
    for &piece in pieces {
        let taken = left.min(piece.steps);
        if taken > 0 {
            head.push(Piece { steps: taken, ..piece });
        }
        if taken < piece.steps {
            tail.push(Piece { steps: piece.steps - taken, index: piece.index + taken, ..piece });
        }
        left -= taken;
    }
    (head, tail)
}

/// Adds a piece to a line, as part of its last one where the two lie on one curve.
pub fn push(line: &mut Vec<Piece>, piece: Piece) {
    if let Some(last) = line.last_mut() {
        let level = last.shape == Shape::Constant && piece.shape == Shape::Constant;
        if level && last.start == piece.start {
            *last = Piece::constant(last.steps + piece.steps, last.start);
            return;
        }
        if *last == (Piece { steps: last.steps, index: last.index, ..piece })
            && last.index + last.steps == piece.index
        {
            last.steps += piece.steps;
            return;
        }
    }
    // Where a level piece was cut from does not matter.
    let level = piece.shape == Shape::Constant;
    line.push(if level { Piece::constant(piece.steps, piece.start) } else { piece });
}

/// Walks a line step by step without searching it.
#[derive(Debug, Clone, Default)]
pub struct Cursor {
    piece: usize,
    step: u64,
}

impl Cursor {
    /// A cursor at `offset`.
    pub fn at(pieces: &[Piece], offset: u64) -> Self {
        let mut cursor = Self { piece: 0, step: offset };
        cursor.settle(pieces);
        cursor
    }

    /// The LR of the step it stands on, `None` past the end.
    pub fn lr(&self, pieces: &[Piece]) -> Option<f64> {
        pieces.get(self.piece).map(|p| p.lr(self.step))
    }

    /// Goes one step on.
    pub fn advance(&mut self, pieces: &[Piece]) {
        self.step += 1;
        self.settle(pieces);
    }

    fn settle(&mut self, pieces: &[Piece]) {
        while let Some(piece) = pieces.get(self.piece)
            && self.step >= piece.steps
        {
            self.step -= piece.steps;
            self.piece += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn both_ends_are_trained_at() {
        let warmup = Piece::warmup(4, 1.0);
        assert_eq!((0..4).map(|i| warmup.lr(i)).collect::<Vec<_>>(), [0.25, 0.5, 0.75, 1.0]);
        let cooldown = Piece::cooldown(3, 1.0);
        assert_eq!((cooldown.lr(0), cooldown.lr(2)), (0.75, 0.25));
        let cosine = Piece::new(3, 1.0, 0.0, Shape::Cosine);
        assert_eq!((cosine.lr(0), cosine.lr(2)), (1.0, 0.0));
        assert!((cosine.lr(1) - 0.5).abs() < 1e-15);
        assert_eq!(Piece::new(1, 0.3, 0.1, Shape::Linear).lr(0), 0.3);
        let power = Piece::new(9, 2.0, 0.0, Shape::Power { exponent: -0.5, origin: 1.0 });
        assert_eq!(power.lr(3), 1.0);
    }

    #[test]
    fn past_the_end_the_last_lr_holds() {
        let line = [Piece::constant(2, 0.1), Piece::warmup(2, 0.4)];
        assert_eq!(lr_at(&line, 99), Some(0.4));
        assert_eq!(lr_at(&[], 0), None);
    }

    fn piece() -> impl Strategy<Value = Piece> {
        let shape = prop_oneof![
            Just(Shape::Constant),
            Just(Shape::Linear),
            Just(Shape::Cosine),
            Just(Shape::Power { exponent: -0.33, origin: 5.0 }),
        ];
        (1u64..40, 0.0..1.0f64, 0.0..1.0f64, shape).prop_map(|(n, a, b, s)| Piece::new(n, a, b, s))
    }

    proptest! {
        #[test]
        fn cutting_changes_no_lr(line in prop::collection::vec(piece(), 1..5), at in 0u64..200, again in 0u64..200) {
            let total = steps(&line);
            let (head, tail) = cut(&line, at);
            let (middle, end) = cut(&tail, again);
            let joined: Vec<Piece> = [head, middle, end].concat();
            prop_assert!(joined.iter().all(Piece::is_valid));
            prop_assert_eq!(steps(&joined), total);
            let mut cursor = Cursor::at(&joined, 0);
            for offset in 0..total {
                prop_assert_eq!(lr_at(&line, offset), lr_at(&joined, offset));
                prop_assert_eq!(cursor.lr(&joined), lr_at(&line, offset));
                cursor.advance(&joined);
            }
            prop_assert_eq!(cursor.lr(&joined), None);
            let mut whole = Vec::new();
            joined.iter().for_each(|&piece| push(&mut whole, piece));
            prop_assert!(whole.len() <= line.len() && whole.iter().all(Piece::is_valid));
            for offset in 0..total {
                prop_assert_eq!(lr_at(&line, offset), lr_at(&whole, offset));
            }
        }
    }
}

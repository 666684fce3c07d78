//! The LR of every step of a training as a file: exported by the server or by a trainer, and replayed anywhere, with
//! the service or without. Both forms of the file are described at `Schedule` in the proto.

mod csv;
mod json;

pub use json::{pieces_from_json, pieces_to_json};

use crate::lr_pieces::{self, Piece};
use serde::{Deserialize, Serialize};
use thiserror::Error;

/// The first line of the JSON form says this.
pub const FORMAT: &str = "autolrs.schedule.v1";

/// The most steps of a schedule.
pub const MAX_STEPS: u64 = 1_000_000_000_000;

/// The LR of every step, in pieces; at least one step.
///
/// ```
/// use autolrs_core::schedule::Schedule;
///
/// let schedule = Schedule::parse(
///     r#"{ "format": "autolrs.schedule.v1",
///          "pieces": [ { "steps": 2, "shape": "linear", "start": 0.1, "end": 0.2 },
///                      { "steps": 3, "shape": "constant", "start": 0.2, "end": 0.2 } ] }"#,
/// )?;
/// assert_eq!(schedule.steps(), 5);
/// assert_eq!(schedule.iter().collect::<Vec<_>>(), [0.1, 0.2, 0.2, 0.2, 0.2]);
/// assert_eq!(schedule.lr_at(99), 0.2); // past its end the last LR holds
/// # Ok::<(), autolrs_core::schedule::BadSchedule>(())
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct Schedule {
    about: About,
    pieces: Vec<Piece>,
    /// For each piece, the steps up to its end.
    ends: Vec<u64>,
}

/// Where a schedule comes from. A file may leave all of it out.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct About {
    /// Name of the job.
    pub job: String,
    /// Its uid, 16 hexadecimal digits.
    pub uid: String,
    /// Name of its policy.
    pub policy: String,
    /// Where the job stood, in small letters. The schedule of one that had not ended is the one so far.
    pub state: String,
    /// LRs committed, one per stage. Only a server knows them.
    pub commits: Vec<Commit>,
}

/// An LR that was committed for a stage.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Commit {
    /// Stage, from 0.
    pub stage: u32,
    /// The LR.
    pub lr: f64,
}

/// What makes a file no schedule.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{field}: {description}")]
pub struct BadSchedule {
    /// Path of the field, `pieces[3].steps`, or the line of a table, `line 7`.
    pub field: String,
    /// What it must be instead, with the value found.
    pub description: String,
}

impl BadSchedule {
    fn new(field: impl Into<String>, description: impl Into<String>) -> Self {
        Self { field: field.into(), description: description.into() }
    }
}

impl Schedule {
    /// A schedule of these pieces, in order.
    ///
    /// # Errors
    /// The first field that makes no LR; no piece; more than [`MAX_STEPS`].
    pub fn new(about: About, pieces: Vec<Piece>) -> Result<Self, BadSchedule> {
        let mut ends = Vec::with_capacity(pieces.len());
        let mut steps: u64 = 0;
        for (i, piece) in pieces.iter().enumerate() {
            if let Some((field, description)) = piece.fault() {
                return Err(BadSchedule::new(format!("pieces[{i}].{field}"), description));
            }
            steps = steps.saturating_add(piece.steps);
            ends.push(steps);
        }
        if !(1..=MAX_STEPS).contains(&steps) {
            return Err(BadSchedule::new(
                "pieces",
                format!("must have 1 to {MAX_STEPS} steps, have {steps}"),
            ));
        }
        Ok(Self { about, pieces, ends })
    }

    /// The first steps of each part, one part after the other, in as few pieces as that needs.
    ///
    /// # Errors
    /// As [`Schedule::new`].
    pub fn joined(about: About, parts: &[(Vec<Piece>, u64)]) -> Result<Self, BadSchedule> {
        let mut line = Vec::new();
        for (pieces, steps) in parts {
            let (head, _) = lr_pieces::cut(pieces, *steps);
            head.into_iter().for_each(|piece| lr_pieces::push(&mut line, piece));
        }
        Self::new(about, line)
    }

    /// Reads a file of either form.
    ///
    /// # Errors
    /// The first field, or line, that is wrong.
    pub fn parse(text: &str) -> Result<Self, BadSchedule> {
        if text.trim_start().starts_with('{') { Self::from_json(text) } else { Self::from_csv(text) }
    }

    /// Where it comes from.
    pub fn about(&self) -> &About {
        &self.about
    }

    /// Its pieces, in order.
    pub fn pieces(&self) -> &[Piece] {
        &self.pieces
    }

    /// Its steps, at least 1.
    pub fn steps(&self) -> u64 {
        self.ends.last().copied().unwrap_or_default()
    }

    /// The LR of a step, from 0; past the end that of the last step.
    pub fn lr_at(&self, step: u64) -> f64 {
        let step = step.min(self.steps() - 1);
        let i = self.ends.partition_point(|&end| end <= step);
        let piece = &self.pieces[i];
        piece.lr(step - (self.ends[i] - piece.steps))
    }

    /// The LRs of all steps, in order.
    pub fn iter(&self) -> impl Iterator<Item = f64> + '_ {
        self.pieces.iter().flat_map(|piece| (0..piece.steps).map(|i| piece.lr(i)))
    }
}

/// The line as exactly `total` steps: a shorter `total` cuts it, in a longer one the last LR holds.
pub fn fit(pieces: &[Piece], total: u64) -> Vec<Piece> {
    let steps = lr_pieces::steps(pieces);
    let (mut line, _) = lr_pieces::cut(pieces, total);
    if let Some(last) = lr_pieces::lr_at(pieces, steps).filter(|_| total > steps) {
        lr_pieces::push(&mut line, Piece::constant(total - steps, last));
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lr_pieces::Shape;

    #[test]
    fn an_lr_is_that_of_the_line() {
        let pieces = vec![Piece::warmup(3, 0.3), Piece::constant(1, 0.2), Piece::cooldown(4, 0.2)];
        let schedule = Schedule::new(About::default(), pieces.clone()).unwrap();
        let all: Vec<f64> = schedule.iter().collect();
        assert_eq!((schedule.steps(), all.len()), (8, 8));
        for step in 0..20 {
            assert_eq!(Some(schedule.lr_at(step)), lr_pieces::lr_at(&pieces, step));
            assert_eq!(schedule.lr_at(step), all[(step as usize).min(7)]);
        }
        assert_eq!(schedule.lr_at(u64::MAX), all[7]);
    }

    #[test]
    fn what_makes_no_lr_is_named() {
        let fault = |piece: Piece| {
            Schedule::new(About::default(), vec![Piece::constant(1, 0.1), piece]).unwrap_err().field
        };
        let fine = Piece::new(4, 0.1, 0.2, Shape::Linear);
        assert_eq!(fault(Piece { steps: 0, ..fine }), "pieces[1].steps");
        assert_eq!(fault(Piece { index: 1, ..fine }), "pieces[1].of");
        assert_eq!(fault(Piece { index: u64::MAX, ..fine }), "pieces[1].of");
        assert_eq!(fault(Piece { start: -0.1, ..fine }), "pieces[1].start");
        assert_eq!(fault(Piece { end: f64::INFINITY, ..fine }), "pieces[1].end");
        let power = |exponent, origin| Piece { shape: Shape::Power { exponent, origin }, ..fine };
        assert_eq!(fault(power(-0.5, 0.0)), "pieces[1].origin");
        assert_eq!(fault(power(f64::NAN, 1.0)), "pieces[1].exponent");
        assert_eq!(fault(power(1e6, 1.0)), "pieces[1].exponent");
        let long = Piece::constant(MAX_STEPS, 0.1);
        assert_eq!(fault(long), "pieces");
        assert_eq!(Schedule::new(About::default(), Vec::new()).unwrap_err().field, "pieces");
    }

    #[test]
    fn parts_become_one_line() {
        let warmup = Piece::warmup(9, 0.3);
        let (head, tail) = lr_pieces::cut(&[warmup], 4);
        let rolled_back = vec![tail[0], Piece::constant(7, 0.3)];
        let parts = [(head, 4), (rolled_back, 5), (vec![], 0), (vec![Piece::constant(3, 0.15)], 2)];
        let schedule = Schedule::joined(About::default(), &parts).unwrap();
        assert_eq!(schedule.pieces(), [warmup, Piece::constant(2, 0.15)]);
    }

    #[test]
    fn a_line_is_fitted_to_a_budget() {
        let line = [Piece::warmup(3, 0.3), Piece::cooldown(4, 0.3)];
        assert_eq!(fit(&line, 7), line);
        assert_eq!(fit(&line, 9), [line[0], line[1], Piece::constant(2, line[1].lr(3))]);
        assert_eq!(fit(&line, 4), [line[0], Piece { steps: 1, ..line[1] }]);
        assert_eq!(fit(&[Piece::constant(2, 0.1)], 5), [Piece::constant(5, 0.1)]);
        assert_eq!(fit(&[], 5), []);
    }
}

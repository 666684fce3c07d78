//! The table: the header `step,lr`, then one line per step from 0. Numbers are written and read back to the bit.

use super::{About, BadSchedule, Schedule};
use crate::lr_pieces::{self, Piece};

const HEADER: &str = "step,lr";

impl Schedule {
    /// Reads the table; its steps are counted from 0, none is left out. Steps at one LR become one piece.
    ///
    /// # Errors
    /// The first line that is wrong.
    pub fn from_csv(text: &str) -> Result<Self, BadSchedule> {
        let mut lines = text.trim_end().lines().map(str::trim);
        let wrong = |step: usize, what: String| BadSchedule::new(format!("line {}", step + 2), what);
        match lines.next() {
            Some(HEADER) => {}
            found => {
                let what = format!("must be the header {HEADER:?}, is {:?}", found.unwrap_or_default());
                return Err(BadSchedule::new("line 1", what));
            }
        }
        let mut pieces = Vec::new();
        for (step, line) in lines.enumerate() {
            let (number, lr) = line.split_once(',').map_or((line, ""), |(n, lr)| (n.trim(), lr.trim()));
            if number.parse() != Ok(step) {
                return Err(wrong(step, format!("step must be {step}, is {number:?}")));
            }
            let lr = lr.parse().ok().filter(|lr: &f64| lr.is_finite() && *lr >= 0.0);
            let Some(lr) = lr else {
                return Err(wrong(step, format!("lr must be a finite number, at least 0: {line:?}")));
            };
            lr_pieces::push(&mut pieces, Piece::constant(1, lr));
        }
        Self::new(About::default(), pieces)
    }

    /// The table's lines, without their ends: the header, then one for each step.
    pub fn csv_lines(&self) -> impl Iterator<Item = String> + '_ {
        let rows = self.iter().enumerate().map(|(step, lr)| format!("{step},{lr:e}"));
        std::iter::once(HEADER.to_owned()).chain(rows)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn tables_of_other_programs_are_read() {
        let schedule = Schedule::from_csv("step,lr\r\n0, 0.1\r\n1, 1e-1\r\n2,0\r\n\r\n").unwrap();
        assert_eq!(schedule.pieces(), [Piece::constant(2, 0.1), Piece::constant(1, 0.0)]);
    }

    #[test]
    fn what_is_wrong_is_named() {
        let fault = |text: &str| Schedule::from_csv(text).unwrap_err().to_string();
        assert_eq!(fault("0,0.1\n"), r#"line 1: must be the header "step,lr", is "0,0.1""#);
        assert_eq!(fault("step,lr\n0,0.1\n2,0.1\n"), r#"line 3: step must be 1, is "2""#);
        for lr in ["", "x", "nan", "inf", "-0.1"] {
            let said = fault(&format!("step,lr\n0,{lr}\n"));
            assert!(said.starts_with("line 2: lr must be a finite number, at least 0: "), "{said}");
        }
        assert_eq!(fault("step,lr\n"), "pieces: must have 1 to 1000000000000 steps, have 0");
    }

    proptest! {
        #[test]
        fn every_lr_comes_back_to_the_bit(lrs in prop::collection::vec(any::<f64>(), 1..40)) {
            let lrs: Vec<f64> = lrs.iter().map(|x| if x.is_finite() { x.abs() } else { 0.1 }).collect();
            let pieces = lrs.iter().map(|&lr| Piece::constant(1, lr)).collect();
            let schedule = Schedule::new(About::default(), pieces).unwrap();
            let text: String = schedule.csv_lines().map(|line| line + "\n").collect();
            let again = Schedule::parse(&text).unwrap();
            let bits = |lrs: &[f64]| lrs.iter().map(|lr| lr.to_bits()).collect::<Vec<_>>();
            prop_assert_eq!(bits(&again.iter().collect::<Vec<_>>()), bits(&lrs));
        }
    }
}

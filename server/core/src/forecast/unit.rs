//! The unit of a window of losses: y' = (y - centre) / range, with the median as centre and max - min as range. In y'
//! every floor and tolerance is a plain number, and neither 1e300 nor 1e-12 is special.

use super::noise::median;

/// An affine map that neither overflows nor gives NaN.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Unit {
    centre: f64,
    /// max - min, 1 for equal values; times `shrink`.
    range: f64,
    flat: bool,
    /// 1, or 1/2 where max - min overflows.
    shrink: f64,
}

impl Unit {
    /// The unit of the finite values among `values`; none if there are none.
    pub fn of(values: &[f64]) -> Option<Self> {
        let finite: Vec<f64> = values.iter().copied().filter(|y| y.is_finite()).collect();
        let centre = median(&finite)?;
        let (lo, hi) = finite.iter().fold((centre, centre), |(lo, hi), y| (lo.min(*y), hi.max(*y)));
        let flat = lo == hi;
        let shrink = if (hi - lo).is_finite() { 1.0 } else { 0.5 };
        let range = if flat { 1.0 } else { hi * shrink - lo * shrink };
        Some(Self { centre, range, flat, shrink })
    }

    /// Whether all values are equal. Their range is then taken as 1.
    pub const fn is_flat(&self) -> bool {
        self.flat
    }

    /// y' of a value; one outside the window may be anywhere, also infinite.
    pub fn scaled(&self, y: f64) -> f64 {
        (y * self.shrink - self.centre * self.shrink) / self.range
    }

    /// The value of a y', at most the largest number.
    pub fn value(&self, scaled: f64) -> f64 {
        (self.centre + scaled * self.range / self.shrink).clamp(f64::MIN, f64::MAX)
    }

    /// A difference of y' in the unit of the values, at most the largest number.
    pub fn spread(&self, scaled: f64) -> f64 {
        (scaled * self.range / self.shrink).min(f64::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_and_back_at_any_size() {
        let windows: [&[f64]; 6] = [
            &[1.0, 2.0, 5.0],
            &[f64::MIN, 0.0, f64::MAX],
            &[1e300, 2e300, -1e300],
            &[5e-324, 1e-323, 0.0],
            &[-3.0, -3.0],
            &[1e-12, 2e-12, f64::NAN],
        ];
        for window in windows {
            let unit = Unit::of(window).unwrap();
            for &y in window.iter().filter(|y| y.is_finite()) {
                let scaled = unit.scaled(y);
                assert!((-1.0..=1.0).contains(&scaled), "{y} in {window:?}: {scaled}");
                assert!((unit.value(scaled) - y).abs() <= 1e-15 * y.abs(), "{y} in {window:?}");
            }
        }
        assert_eq!(Unit::of(&[f64::NAN]), None);
        assert_eq!(Unit::of(&[f64::MIN, f64::MAX]).unwrap().spread(9.0), f64::MAX);
    }
}

//! Ranges of axes, and which values a picture shows.

use super::{data::Point, style};
use crate::cli::render::number;
use std::ops::Range;

/// A loss axis is logarithmic where all values are above 0 and so many decades apart.
const DECADES: f64 = 2.0;
/// An axis ends here at the latest: the width of a range beyond it may be no number, and its ticks none either.
const LARGEST: f64 = 1e100;

/// A range of losses that shows all of `must`, and of `may` what lies near.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Losses {
    /// In loss units.
    pub(super) range: Range<f64>,
    /// Whether the axis is logarithmic.
    pub(super) log: bool,
}

impl Losses {
    /// `must`, in order, is shown from its first value on but for a few peaks far above the rest; `may` where it lies near:
    /// a third of that range beyond its ends, or a decade below it.
    pub(super) fn of(must: impl IntoIterator<Item = f64>, may: impl IntoIterator<Item = f64>) -> Self {
        let must: Vec<f64> = must.into_iter().filter(|x| x.is_finite()).collect();
        let start = must.first().map(|x| x.clamp(-LARGEST, LARGEST));
        let (mut must, mut may) = (finite(must), finite(may));
        if must.is_empty() {
            std::mem::swap(&mut must, &mut may);
        }
        let (Some(&first), Some(&last)) = (must.first(), must.last()) else {
            return Self { range: 0.0..1.0, log: false };
        };
        let usual = must[(0.99 * (must.len() - 1) as f64) as usize];
        let top = last.min(first + 4.0 * (usual - first)).max(start.unwrap_or(usual)).max(usual);
        let floor = first - (top - first) / 3.0;
        let floor = if first > 0.0 { floor.max(first / 10.0) } else { floor };
        let low = may.iter().find(|&&x| x >= floor).map_or(first, |&least| least.min(first));
        let near = may.iter().rev().find(|&&x| x <= top + (top - low) / 3.0);
        let high = near.map_or(top, |&x| x.max(top));
        let log = low > 0.0 && (high / low).log10() > DECADES;
        let range = if log { pad_log(low, high, 0.06) } else { pad(low, high) };
        Self { range, log }
    }

    /// The parts of a line that are in the picture, up to where they leave it.
    pub(super) fn lines(&self, points: &[Point]) -> Vec<Vec<Point>> {
        let mut lines = vec![Vec::new()];
        for (i, &point) in points.iter().enumerate() {
            let before = i.checked_sub(1).map(|i| points[i]);
            let crosses = before.filter(|before| self.shows(before.1) != self.shows(point.1));
            let edge = crosses.and_then(|before| self.edge(before, point));
            if self.shows(point.1) {
                let line = lines.last_mut().expect("there is always a line");
                line.extend(edge.into_iter().chain([point]));
            } else if before.is_some_and(|before| self.shows(before.1)) {
                lines.last_mut().expect("there is always a line").extend(edge);
                lines.push(Vec::new());
            }
        }
        lines.iter_mut().for_each(Vec::dedup);
        lines.retain(|line| !line.is_empty());
        lines
    }

    /// Where the line from `a` to `b` crosses the edge that one of them lies beyond.
    fn edge(&self, a: Point, b: Point) -> Option<Point> {
        let scale = |y: f64| if self.log { y.max(f64::MIN_POSITIVE).ln() } else { y };
        let outside = if self.shows(a.1) { b.1 } else { a.1 };
        let edge = self.clip(outside);
        let share = (scale(edge) - scale(a.1)) / (scale(b.1) - scale(a.1));
        share.is_finite().then_some((a.0 + (b.0 - a.0) * share, edge))
    }

    /// A value moved to the edge that it lies beyond; what is not finite, to the upper one.
    pub(super) fn clip(&self, x: f64) -> f64 {
        if x.is_nan() { self.range.end } else { x.clamp(self.range.start, self.range.end) }
    }

    /// Whether a value is in the picture.
    pub(super) fn shows(&self, x: f64) -> bool {
        (self.range.start..=self.range.end).contains(&x)
    }
}

fn finite(values: impl IntoIterator<Item = f64>) -> Vec<f64> {
    let finite = values.into_iter().filter(|x| x.is_finite());
    let mut values: Vec<f64> = finite.map(|x| x.clamp(-LARGEST, LARGEST)).collect();
    values.sort_by(f64::total_cmp);
    values
}

/// Room around a linear range; not below 0 where there is nothing below 0.
fn pad(low: f64, high: f64) -> Range<f64> {
    let room = if high > low { 0.07 * (high - low) } else { 0.1 * low.abs().max(1e-6) };
    let start = if low >= 0.0 { (low - room).max(0.0) } else { low - room };
    start..high + room
}

/// Room around a logarithmic range; at least half a decade wide in all.
pub(super) fn pad_log(low: f64, high: f64, share: f64) -> Range<f64> {
    let (low, high) = (low.log10(), high.log10());
    let room = (share * (high - low)).max((0.5 - (high - low)) / 2.0).max(0.04);
    10f64.powf(low - room)..10f64.powf(high + room)
}

/// The range of LRs, those at 0 left out.
pub(super) fn lrs(lrs: impl IntoIterator<Item = f64>) -> Range<f64> {
    let (low, high) = lrs
        .into_iter()
        .filter(|lr| *lr > 0.0 && lr.is_finite())
        .fold((f64::INFINITY, 0.0), |(low, high), lr| (lr.min(low), lr.max(high)));
    if high == 0.0 { 1e-4..1.0 } else { pad_log(low, high, 0.1) }
}

/// The label of a loss or an LR.
pub(super) fn label(x: &f64) -> String {
    style::number(*x)
}

/// The label of a step.
pub(super) fn step_label(x: &f64) -> String {
    number::steps(x.round().max(0.0) as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_blow_up_does_not_flatten_the_rest() {
        let kept: Vec<f64> = (0..1000).map(|i| 2.0 - f64::from(i) / 1000.0).collect();
        let losses = Losses::of(kept, [0.9, 2.2, 1e9, f64::NAN]);
        assert!(losses.range.start < 0.9 && (2.2..2.5).contains(&losses.range.end), "{losses:?}");
        assert!(!losses.log && losses.shows(1.5) && !losses.shows(1e9));
        assert_eq!((losses.clip(1e9), losses.clip(f64::NAN)), (losses.range.end, losses.range.end));
    }

    #[test]
    fn losses_over_decades_are_logarithmic_unless_one_is_not_positive() {
        assert!(Losses::of([2.0, 1e-3], []).log);
        assert!(!Losses::of([2.0, 0.0], []).log && !Losses::of([2.0, 1.0], []).log);
    }

    #[test]
    fn a_line_ends_where_it_leaves_the_picture() {
        let losses = Losses { range: 0.0..1.0, log: false };
        let lines = losses.lines(&[
            (0.0, 0.5),
            (1.0, 2.5),
            (2.0, 3.0),
            (3.0, -1.0),
            (4.0, 1.0),
            (5.0, f64::INFINITY),
        ]);
        assert_eq!(lines, [vec![(0.0, 0.5), (0.25, 1.0)], vec![(3.5, 0.0), (4.0, 1.0)]]);
        let logarithmic = Losses { range: 0.01..1.0, log: true };
        let lines = logarithmic.lines(&[(0.0, 0.1), (1.0, 10.0)]);
        assert!((lines[0][1].0 - 0.5).abs() < 1e-12 && lines[0][1].1 == 1.0);
    }

    #[test]
    fn nothing_and_one_value_have_a_range() {
        for must in [vec![], vec![0.0], vec![-3.0], vec![f64::NAN]] {
            let range = Losses::of(must, []).range;
            assert!(range.start < range.end, "{range:?}");
        }
        let range = Losses::of([f64::MAX, 0.0, 5e-324, f64::MIN], [1.0]).range;
        assert!((range.end - range.start).is_finite() && range.start < 0.0 && range.end > 1.0, "{range:?}");
        assert_eq!(lrs([0.0]), 1e-4..1.0);
        assert!(lrs([0.1]).contains(&0.1));
    }
}

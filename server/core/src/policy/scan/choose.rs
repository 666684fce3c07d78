//! The choice among scored points: the vertex of the parabola through the best point and its two neighbours.

use crate::policy::CurvePoint;

/// Points of the parabola that are kept for people to look at.
const CURVE_POINTS: u32 = 33;

/// A place and its score.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Point {
    /// Decades.
    pub(super) z: f64,
    /// Loss units; lower is better.
    pub(super) score: f64,
}

/// Where the loss is thought least, and why.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Choice {
    /// Decades.
    pub(super) z: f64,
    /// The point with the least score; of equal ones the lowest LR.
    pub(super) best: Point,
    /// The parabola between the neighbours, or the points where there is none.
    pub(super) curve: Vec<CurvePoint>,
    /// Whether there is a parabola.
    pub(super) interpolated: bool,
}

/// Chooses among `points`, sorted by z. The vertex is clipped half-way to each neighbour. Without both neighbours or
/// a positive curvature: the best point. None of no points.
pub(super) fn choose(points: &[Point]) -> Option<Choice> {
    let best = best_index(points)?;
    let around = best.checked_sub(1).and_then(|below| points.get(below..best + 2));
    let parabola = around.and_then(|p| Parabola::through(p[0], p[1], p[2]));
    let (z, curve) = match &parabola {
        Some(parabola) => (parabola.vertex, parabola.curve()),
        None => (points[best].z, points.iter().map(|p| curve_point(p.z, p.score)).collect()),
    };
    Some(Choice { z, best: points[best], curve, interpolated: parabola.is_some() })
}

fn best_index(points: &[Point]) -> Option<usize> {
    (0..points.len()).reduce(|best, i| if points[i].score < points[best].score { i } else { best })
}

/// y = y_0 + slope (x - x_0) + a (x - x_0)(x - x_1), by divided differences; y - y_1 in fact, so that a large common
/// level costs no digits.
struct Parabola {
    points: [Point; 3],
    slope: f64,
    a: f64,
    vertex: f64,
}

impl Parabola {
    fn through(below: Point, at: Point, above: Point) -> Option<Self> {
        let slope = (at.score - below.score) / (at.z - below.z);
        let next = (above.score - at.score) / (above.z - at.z);
        let a = (next - slope) / (above.z - below.z);
        if !(a > 0.0 && a.is_finite()) {
            return None;
        }
        let (lo, hi) = ((below.z + at.z) / 2.0, (at.z + above.z) / 2.0);
        let vertex = (lo - slope / (2.0 * a)).clamp(lo, hi);
        Some(Self { points: [below, at, above], slope, a, vertex })
    }

    fn value(&self, z: f64) -> f64 {
        let [below, at, _] = self.points;
        below.score + (z - below.z) * (self.slope + self.a * (z - at.z))
    }

    fn curve(&self) -> Vec<CurvePoint> {
        let (lo, hi) = (self.points[0].z, self.points[2].z);
        let z = |i: u32| lo + (hi - lo) * (f64::from(i) / f64::from(CURVE_POINTS - 1));
        (0..CURVE_POINTS).map(|i| curve_point(z(i), self.value(z(i)))).collect()
    }
}

fn curve_point(log10_lr: f64, mean: f64) -> CurvePoint {
    CurvePoint { log10_lr, mean, sd: 0.0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chosen(points: &[(f64, f64)]) -> f64 {
        let points: Vec<Point> = points.iter().map(|&(z, score)| Point { z, score }).collect();
        choose(&points).unwrap().z
    }

    #[test]
    fn the_vertex_of_an_exact_parabola() {
        let y = |z: f64| (z, 3.0 + 2.0 * (z + 0.3) * (z + 0.3));
        assert!((chosen(&[y(-2.0), y(-1.0), y(0.0), y(0.5)]) + 0.3).abs() < 1e-12);
        let shifted = |z: f64| (z, 0.01 * y(z).1 + 1000.0);
        assert!((chosen(&[shifted(-1.0), shifted(-0.5), shifted(0.0)]) + 0.3).abs() < 1e-9);
    }

    #[test]
    fn the_vertex_is_clipped_half_way() {
        assert_eq!(chosen(&[(-1.0, 1.0), (0.0, 1.0), (1.0, 90.0)]), -1.0);
        assert_eq!(chosen(&[(-3.0, 9.0), (-1.0, 1.0), (0.0, 1.0), (1.0, 90.0)]), -0.5);
    }

    #[test]
    fn without_neighbours_or_curvature_the_best_point() {
        assert_eq!(chosen(&[(0.0, 2.0)]), 0.0);
        assert_eq!(chosen(&[(0.0, 2.0), (1.0, 1.0)]), 1.0);
        assert_eq!(chosen(&[(-1.0, 3.0), (0.0, 2.0), (1.0, 1.0)]), 1.0);
        assert_eq!(chosen(&[(-1.0, 1.0), (0.0, 1.0), (1.0, 1.0)]), -1.0);
        assert_eq!(choose(&[]), None);
    }

    #[test]
    fn huge_scores_do_no_harm() {
        let z = chosen(&[(-1.0, f64::MAX), (0.0, f64::MIN), (1.0, f64::MAX)]);
        assert_eq!(z, 0.0);
    }
}

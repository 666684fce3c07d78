//! Where an acquisition is largest: a grid of 301 points, then golden section around the three best of its peaks.
//! One dimension and a cheap function: nothing finer is needed, and the answer is the same on every machine.

use super::{Acquisition, Bounds, FittedGp, golden};

const GRID: usize = 301;
const PEAKS: usize = 3;
/// Shrinks two cells of the grid by 1e-5: below 1e-6 decades on ten decades.
const GOLDEN_STEPS: u32 = 24;
/// Values closer than this, relatively, are a tie (symmetric places differ by rounding).
const TIE: f64 = 1e-9;
/// Distances closer than this, in decades, are a tie.
const TIE_DECADES: f64 = 1e-5;
/// A measurement this close to another, in decades (5 % of the LR), would tell little.
const TOO_CLOSE: f64 = 0.02;

#[derive(Debug, Clone, Copy)]
struct Point {
    z: f64,
    utility: f64,
}

/// The place in `bounds` that is worth most. Ties go to the place nearest the incumbent, then to the lower LR. A
/// place within 0.02 decade of one in `tried` gives way to the [`largest_gap`].
pub fn maximize(gp: &FittedGp, acquisition: Acquisition, bounds: Bounds, tried: &[f64]) -> f64 {
    let incumbent = gp.incumbent();
    let utility = |z: f64| {
        let value = acquisition.utility(gp.posterior(z), incumbent.y);
        if value.is_nan() { f64::NEG_INFINITY } else { value }
    };
    let grid: Vec<Point> = (0..GRID)
        .map(|i| bounds.lo + (bounds.hi - bounds.lo) * (i as f64 / (GRID - 1) as f64))
        .map(|z| Point { z, utility: utility(z) })
        .collect();
    let refined: Vec<Point> = peaks(&grid, incumbent.z)
        .into_iter()
        .map(|i| {
            let (lo, hi) = (grid[i.saturating_sub(1)].z, grid[(i + 1).min(GRID - 1)].z);
            let found = golden::minimize(|z| -utility(z), lo, hi, GOLDEN_STEPS);
            if -found.value > grid[i].utility { Point { z: found.x, utility: -found.value } } else { grid[i] }
        })
        .collect();
    let z = best_of(&refined, incumbent.z);
    if tried.iter().any(|t| (t - z).abs() <= TOO_CLOSE) { largest_gap(bounds, tried) } else { z }
}

/// The middle of the widest stretch of `bounds` without a place in `tried`; of equal ones the lowest. The ends of the
/// bounds count as edges of a stretch. Also what a policy does when there is no process to ask.
pub fn largest_gap(bounds: Bounds, tried: &[f64]) -> f64 {
    let mut edges: Vec<f64> = tried.iter().copied().filter(|z| *z > bounds.lo && *z < bounds.hi).collect();
    edges.push(bounds.lo);
    edges.push(bounds.hi);
    edges.sort_by(f64::total_cmp);
    let mut widest = (bounds.lo, bounds.lo);
    for pair in edges.windows(2) {
        if pair[1] - pair[0] > widest.1 - widest.0 {
            widest = (pair[0], pair[1]);
        }
    }
    widest.0 + (widest.1 - widest.0) / 2.0
}

/// Indices of the highest local maxima, at most [`PEAKS`].
fn peaks(grid: &[Point], incumbent: f64) -> Vec<usize> {
    let is_peak = |i: &usize| {
        let here = grid[*i].utility;
        let before = i.checked_sub(1).and_then(|i| grid.get(i));
        [before, grid.get(i + 1)].into_iter().flatten().all(|p| p.utility <= here)
    };
    let mut peaks: Vec<usize> = (0..grid.len()).filter(is_peak).collect();
    let distance = |i: usize| (grid[i].z - incumbent).abs();
    peaks.sort_by(|&a, &b| {
        let by_utility = grid[b].utility.total_cmp(&grid[a].utility);
        by_utility.then(distance(a).total_cmp(&distance(b))).then(a.cmp(&b))
    });
    peaks.truncate(PEAKS);
    peaks
}

fn best_of(points: &[Point], incumbent: f64) -> f64 {
    let highest = points.iter().map(|p| p.utility).fold(f64::NEG_INFINITY, f64::max);
    let enough = highest - TIE * highest.abs();
    let tied = || points.iter().filter(|p| p.utility >= enough || p.utility == highest).map(|p| p.z);
    let distance = |z: f64| (z - incumbent).abs();
    let nearest = tied().map(distance).fold(f64::INFINITY, f64::min);
    tied().filter(|z| distance(*z) <= nearest + TIE_DECADES).fold(f64::INFINITY, f64::min)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::search::{Gp, HyperParameters, Observation};

    const BOUNDS: Bounds = Bounds { lo: -4.0, hi: 0.0 };

    fn gp(points: &[(f64, f64)]) -> FittedGp {
        let observations: Vec<Observation> =
            points.iter().map(|&(z, y)| Observation { z, trial: 0, y, variance: 0.01 }).collect();
        Gp { hyper: HyperParameters { length: 0.7, signal: 1.0, noise: 1e-4 } }.fit(&observations).unwrap()
    }

    #[test]
    fn equal_places_go_to_the_lower_lr() {
        assert_eq!(maximize(&gp(&[(-2.0, 1.0)]), Acquisition::Lcb { kappa: 1000.0 }, BOUNDS, &[]), -4.0);
    }

    #[test]
    fn equal_places_go_to_the_one_nearest_the_incumbent() {
        // One observation and no weight on the uncertainty: the mean is the same everywhere.
        let z = maximize(&gp(&[(-1.0, 1.0)]), Acquisition::Lcb { kappa: 0.0 }, BOUNDS, &[]);
        assert!((z + 1.0).abs() < 0.01, "{z}");
    }

    #[test]
    fn golden_section_is_finer_than_the_grid() {
        let gp = gp(&[(-4.0, 2.0), (-2.0, 0.2), (-1.5, 0.3), (0.0, 3.0)]);
        for acquisition in [Acquisition::Lcb { kappa: 0.1 }, Acquisition::LogEi] {
            let utility = |z: f64| acquisition.utility(gp.posterior(z), gp.incumbent().y);
            let z = maximize(&gp, acquisition, BOUNDS, &[]);
            let fine = (0..=100_000).map(|i| utility(-4.0 + 4e-5 * f64::from(i))).fold(f64::MIN, f64::max);
            assert!(utility(z) >= fine - 1e-9, "{acquisition:?}");
        }
    }

    #[test]
    fn a_place_next_to_a_tried_one_gives_way() {
        let gp = gp(&[(-4.0, 2.0), (-2.0, 0.2), (0.0, 3.0)]);
        let greedy = Acquisition::Lcb { kappa: 0.0 };
        let best = maximize(&gp, greedy, BOUNDS, &[]);
        assert_eq!(maximize(&gp, greedy, BOUNDS, &[best + 0.03]), best);
        assert!(best < -2.0); // so the gap above is the wider one
        assert_eq!(maximize(&gp, greedy, BOUNDS, &[best - 0.019]), (best - 0.019) / 2.0);
    }

    #[test]
    fn gaps() {
        let table: [(&[f64], f64); 5] = [
            (&[], -2.0),
            (&[-2.0], -3.0),
            (&[-0.5, -3.0], -1.75),
            (&[-4.0, 0.0, 7.0, -9.0], -2.0),
            (&[f64::NAN, -1.0], -2.5),
        ];
        for (tried, expected) in table {
            assert_eq!(largest_gap(BOUNDS, tried), expected, "{tried:?}");
        }
    }
}

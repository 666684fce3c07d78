//! The smoother behind the removal of outliers: a running median of nine with Tukey's rule for the ends
//! (Tukey 1977, *Exploratory Data Analysis*, chapter 7).
//!
//! Why not a spline, as in the paper: its smoothing is set by the loss's own unit and at ordinary scales it becomes one
//! parabola over the whole trial, whose "outliers" are the steep first steps of a perfectly good curve. The running
//! median has no unit (y -> c y + d maps it exactly), it returns every monotone curve unchanged, however steep, and a
//! spike of up to four losses does not move it.

/// Neighbours on each side; fewer near the ends.
const HALF_WIDTH: usize = 4;

/// The running median of `values`, as long as they are. Expects finite values.
pub fn running_median(values: &[f64]) -> Vec<f64> {
    let n = values.len();
    let mut smooth: Vec<f64> = (0..n).map(|i| window_median(values, i)).collect();
    if n >= 3 {
        smooth[0] = end(values[0], smooth[1], smooth[2]);
        smooth[n - 1] = end(values[n - 1], smooth[n - 2], smooth[n - 3]);
    }
    smooth
}

/// Indices of `values`, ascending, that are left after `rounds` times `share` of the first half's points (rounded, half
/// up) have been dropped: those farthest from the smooth curve through what is left, of equal ones the first. A point
/// on the curve is never dropped.
pub fn without_outliers(values: &[f64], share: f64, rounds: u32) -> Vec<usize> {
    let mut kept: Vec<usize> = (0..values.len()).collect();
    for _ in 0..rounds {
        let in_half = kept.iter().filter(|i| 2 * **i < values.len()).count();
        let drop = (share * in_half as f64).round() as usize;
        if drop == 0 {
            break;
        }
        remove_farthest(&mut kept, values, in_half, drop);
    }
    kept
}

/// Indices left after the one point of the first half that is farthest from the smooth curve has been dropped.
pub fn without_farthest(values: &[f64]) -> Vec<usize> {
    let mut kept: Vec<usize> = (0..values.len()).collect();
    remove_farthest(&mut kept, values, values.len().div_ceil(2), 1);
    kept
}

/// Removes up to `drop` of the first `candidates` indices.
fn remove_farthest(kept: &mut Vec<usize>, values: &[f64], candidates: usize, drop: usize) {
    let left: Vec<f64> = kept.iter().map(|i| values[*i]).collect();
    let smooth = running_median(&left);
    let mut far: Vec<(f64, usize)> = left
        .iter()
        .zip(&smooth)
        .take(candidates)
        .map(|(y, s)| (y - s).abs())
        .zip(kept.iter().copied())
        .collect();
    far.retain(|(distance, _)| *distance > 0.0);
    far.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)));
    far.truncate(drop);
    kept.retain(|i| far.iter().all(|(_, dropped)| dropped != i));
}

fn window_median(values: &[f64], i: usize) -> f64 {
    let half = HALF_WIDTH.min(i).min(values.len() - 1 - i);
    let mut window = [0.0; 2 * HALF_WIDTH + 1];
    let window = &mut window[..=2 * half];
    window.copy_from_slice(&values[i - half..=i + half]);
    window.sort_unstable_by(f64::total_cmp);
    window[half]
}

/// Tukey's rule: the median of the end itself, its smooth neighbour, and the line through the neighbours, extended.
fn end(value: f64, next: f64, after: f64) -> f64 {
    let extended = 3.0 * next - 2.0 * after;
    value.max(next).min(value.min(next).max(extended))
}

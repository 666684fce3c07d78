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

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn four_spikes_in_a_row_do_not_move_it() {
        let line: Vec<f64> = (0..30).map(f64::from).collect();
        let mut spiked = line.clone();
        spiked[10..14].fill(1e9);
        let far = running_median(&spiked).iter().zip(&line).map(|(s, y)| (s - y).abs()).fold(0.0, f64::max);
        assert_eq!(far, 4.0); // four losses later on the line, not at the spike
    }

    #[test]
    fn a_spike_at_the_start_is_seen() {
        let mut values: Vec<f64> = (0..20).map(|i| 10.0 - f64::from(i)).collect();
        values[0] = 1e3;
        assert_eq!(running_median(&values)[0], 11.0);
        assert_eq!(without_farthest(&values), (1..20).collect::<Vec<_>>());
    }

    #[test]
    fn the_farthest_of_the_first_half_go() {
        let mut values: Vec<f64> = (0..100).map(|i| 100.0 - f64::from(i)).collect();
        for i in [3, 20, 40, 70] {
            values[i] += 500.0;
        }
        let kept = without_outliers(&values, 0.03, 10);
        assert_eq!(kept.len(), 97);
        assert!([3, 20, 40].iter().all(|i| !kept.contains(i)) && kept.contains(&70));
    }

    #[test]
    fn at_most_the_share_goes_each_time() {
        let rough: Vec<f64> = (0..100).map(|i| f64::from((i * 37) % 101)).collect();
        // 3 % of 50 is 2 (half up), then 1 of 48, nine times.
        assert_eq!(without_outliers(&rough, 0.03, 10).len(), 100 - 2 - 9);
        // 3 % of 16 is none.
        assert_eq!(without_outliers(&rough[..32], 0.03, 10).len(), 32);
    }

    proptest! {
        #[test]
        fn a_monotone_curve_is_left_alone(mut values in prop::collection::vec(-1e3..1e3f64, 0..60), up in any::<bool>()) {
            values.sort_by(f64::total_cmp);
            if !up {
                values.reverse();
            }
            let smooth = running_median(&values);
            for i in 1..values.len().saturating_sub(1) {
                prop_assert_eq!(smooth[i], values[i]);
            }
        }
    }
}

//! Robust statistics of losses: none of them panics or is misled by a few wild values.

use super::{MIN_SD, unit::Unit};

/// Of the standard normal distribution: 1 / (its median absolute deviation).
const SD_PER_MAD: f64 = 1.482_6;
/// Independent noise of sd s gives second differences of sd sqrt(1 + 4 + 1) s.
const SQRT_6: f64 = 2.449_489_742_783_178;

/// Losses that lie further apart than this are not compared by [`slow_sd`]: what changes more slowly is no noise.
const MAX_LAG: usize = 32;

/// The standard deviation of the noise around a smooth curve, in loss units: s1 = 1.4826 median(abs d) / sqrt 6 over
/// the second differences d of successive losses, which a curve that is nearly straight over three steps does not
/// enter; at least 1e-9 of the losses' range. Losses that are not finite are left out with the differences that they
/// enter; 0 if no three successive losses are finite or all are equal.
pub fn noise_sd(losses: &[f64]) -> f64 {
    let Some(unit) = Unit::of(losses).filter(|unit| !unit.is_flat()) else { return 0.0 };
    let scaled: Vec<f64> = losses.iter().map(|y| unit.scaled(*y)).collect();
    typical_sd(&scaled, 1).map_or(0.0, |sd| unit.spread(sd.max(MIN_SD)))
}

/// The same where the noise of successive losses may be alike: the largest s1 over differences of losses 1, 2, 4, ...
/// steps apart, at most 1/6 of all steps. A loss that falls to 1/20 on the way exponentially adds at most 4 % of its fall.
pub fn slow_sd(losses: &[f64]) -> f64 {
    let Some(unit) = Unit::of(losses).filter(|unit| !unit.is_flat()) else { return 0.0 };
    let scaled: Vec<f64> = losses.iter().map(|y| unit.scaled(*y)).collect();
    let lags = std::iter::successors(Some(1), |lag| Some(2 * lag));
    let lags = lags.take_while(|&lag| lag == 1 || lag <= MAX_LAG.min(losses.len() / 6));
    let largest = lags.filter_map(|lag| typical_sd(&scaled, lag)).reduce(f64::max);
    largest.map_or(0.0, |sd| unit.spread(sd.max(MIN_SD)))
}

/// s1 over differences of values `lag` steps apart.
fn typical_sd(values: &[f64], lag: usize) -> Option<f64> {
    let triples = values.windows(2 * lag + 1).map(|y| (y[0] - 2.0 * y[lag] + y[2 * lag]).abs());
    let differences: Vec<f64> = triples.filter(|d| d.is_finite()).collect();
    median(&differences).map(|middle| SD_PER_MAD * middle / SQRT_6)
}

/// The same from the root mean square of the differences, in place of their median: as [`noise_sd`] where the noise is
/// even, far above it where a few losses stand out. 0 if no three successive losses are finite.
pub fn rough_sd(losses: &[f64]) -> f64 {
    let Some(unit) = Unit::of(losses).filter(|unit| !unit.is_flat()) else { return 0.0 };
    let scaled: Vec<f64> = losses.iter().map(|y| unit.scaled(*y)).collect();
    let squares: Vec<f64> = scaled
        .windows(3)
        .map(|y| (y[0] - 2.0 * y[1] + y[2]) / SQRT_6)
        .filter(|d| d.is_finite())
        .map(|d| d * d)
        .collect();
    mean(&squares).map_or(0.0, |square| unit.spread(square.sqrt()))
}

/// The arithmetic mean, summed first to last; none of no values. NaN and infinities enter it.
pub fn mean(values: &[f64]) -> Option<f64> {
    let n = values.len() as f64;
    let sum = values.iter().sum::<f64>();
    match values {
        [] => None,
        _ if sum.is_infinite() => Some(values.iter().map(|x| x / n).sum()),
        _ => Some(sum / n),
    }
}

/// The median, the mean of the middle two of an even number; NaN are left out; none of no values.
pub fn median(values: &[f64]) -> Option<f64> {
    let mut sorted: Vec<f64> = values.iter().copied().filter(|x| !x.is_nan()).collect();
    sorted.sort_unstable_by(f64::total_cmp);
    let (below, above) = (*sorted.get(sorted.len().wrapping_sub(1) / 2)?, sorted[sorted.len() / 2]);
    let sum = below + above;
    Some(if below == above {
        below
    } else if sum.is_finite() {
        sum / 2.0
    } else {
        below / 2.0 + above / 2.0
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Independent, nearly normal with sd 1.
    fn noise(n: u32) -> Vec<f64> {
        let mut state = 1u64;
        let mut uniform = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 11) as f64 / (1u64 << 53) as f64
        };
        (0..n).map(|_| (0..12).map(|_| uniform()).sum::<f64>() - 6.0).collect()
    }

    #[test]
    fn a_trend_and_a_few_spikes_do_not_enter() {
        let mut losses: Vec<f64> =
            noise(4000).iter().enumerate().map(|(i, e)| 0.1 * e + 3.0 - 0.02 * i as f64).collect();
        losses[50] = 1e6;
        losses[100] = f64::NAN;
        let s = noise_sd(&losses);
        assert!((0.09..0.11).contains(&s), "{s}");
    }

    #[test]
    fn too_little_to_see_noise() {
        let nothing: [&[f64]; 6] =
            [&[], &[1.0], &[1.0, 2.0], &[2.0; 9], &[f64::NAN; 5], &[1.0, 2.0, f64::INFINITY, 2.0, 1.0]];
        for losses in nothing {
            assert_eq!(noise_sd(losses), 0.0, "{losses:?}");
        }
        assert!((noise_sd(&[1.0, 2.0, 3.0, 4.0]) - 3e-9).abs() < 1e-20);
    }

    #[test]
    fn means_and_medians() {
        assert_eq!((mean(&[]), median(&[]), median(&[f64::NAN])), (None, None, None));
        assert_eq!((mean(&[1.0, 2.0, 6.0]), median(&[6.0, 1.0, 2.0])), (Some(3.0), Some(2.0)));
        assert_eq!(median(&[4.0, f64::NAN, 1.0, 2.0, f64::INFINITY]), Some(3.0));
        assert_eq!((mean(&[f64::MAX; 4]), median(&[f64::MAX; 4])), (Some(f64::MAX), Some(f64::MAX)));
        assert_eq!(median(&[f64::MAX / 2.0, f64::MAX]), Some(f64::MAX * 0.75));
        assert_eq!(median(&[5e-324; 2]), Some(5e-324));
    }
}

//! Noise that is a function of its arguments: the same seed, batch and stream give the same number on every machine,
//! so candidates that replay batches see the same noise (common random numbers).

/// Step of the SplitMix64 generator (Steele, Lea, Flood 2014).
const STEP: u64 = 0x9E37_79B9_7F4A_7C15;

/// Its output function: every bit of the result depends on every bit of `z`.
const fn mix(mut z: u64) -> u64 {
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

/// Close to a standard normal number: the sum of four uniform ones, scaled to variance 1; |n| < 2 sqrt 3. `stream`
/// tells apart the numbers of one batch. Numbers of different arguments are independent.
pub fn normal(seed: u64, batch: u64, stream: u64) -> f64 {
    // Hashed, because the generators of two batches that start whole steps apart would share draws.
    let mut state = mix(mix(seed.wrapping_mul(STEP) ^ stream).wrapping_add(batch.wrapping_mul(STEP)));
    let mut sum = 0.0;
    for _ in 0..4 {
        state = state.wrapping_add(STEP);
        sum += (mix(state) >> 11) as f64 / (1u64 << 53) as f64;
    }
    sum * SQRT_3 - 2.0 * SQRT_3
}

const SQRT_3: f64 = 1.732_050_807_568_877_2;

#[cfg(test)]
mod tests {
    use super::normal;

    #[test]
    fn mean_variance_and_independence() {
        let n = 40_000;
        for (seed, stream) in [(0, 0), (0, 99), (7, 3)] {
            let drawn: Vec<f64> = (0..n).map(|batch| normal(seed, batch, stream)).collect();
            let mean = drawn.iter().sum::<f64>() / n as f64;
            let variance = drawn.iter().map(|x| x * x).sum::<f64>() / n as f64;
            let next = drawn.windows(2).map(|w| w[0] * w[1]).sum::<f64>() / n as f64;
            let other = (0..n).map(|b| normal(seed, b, stream) * normal(seed + 1, b, stream)).sum::<f64>();
            assert!(mean.abs() < 0.02 && (variance - 1.0).abs() < 0.03, "{mean} {variance}");
            assert!(next.abs() < 0.02 && other.abs() / (n as f64) < 0.02, "{next} {other}");
        }
    }
}

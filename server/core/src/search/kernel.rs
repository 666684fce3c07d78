//! The covariance function: Matern with smoothness 5/2 (Rasmussen & Williams 2006, equation 4.17), two times
//! differentiable: smooth enough for a loss over log LR, less rigid than a Gaussian.

const SQRT_5: f64 = 2.236_067_977_499_79;

/// M(r) = (1 + sqrt5 r + 5 r^2 / 3) exp(-sqrt5 r) for r = |distance| / length >= 0: 1 at 0, falling to 0.
pub fn matern52(r: f64) -> f64 {
    let a = SQRT_5 * r;
    if a > 700.0 {
        return 0.0; // exp underflows; an infinite r must not give infinity times 0
    }
    (1.0 + a + a * a / 3.0) * libm::exp(-a)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reference_values() {
        let table = [
            (0.0, 1.0),
            (0.5, 0.828_649_142_418_125_5),
            (1.0, 0.523_994_108_831_820_3),
            (2.0, 0.138_660_219_138_504_26),
        ];
        for (r, expected) in table {
            assert!((matern52(r) - expected).abs() < 1e-15, "M({r})");
        }
        assert_eq!(matern52(f64::INFINITY), 0.0);
        assert!(matern52(300.0) > 0.0);
    }
}

//! What a second moment without a correction of its bias does to a branch.
//!
//! | symbol | meaning |
//! |---|---|
//! | `alpha` | decay of the optimizer's running mean of squared gradients; 0: it corrects the bias, or has no such mean |
//! | `L` | steps of a branch |
//! | `c_i` | LR of a branch's step i = 0 .. L - 1 at eta = 1 |
//! | `f` | the mean factor by which the steps of a branch are too large |
//!
//! RMSprop divides a gradient g_t by the root of v_t = alpha v_(t-1) + (1 - alpha) g_t^2, with v_0 = 0. Where the size
//! of the gradients stays, v_t is 1 - alpha^t times what it tends to, and step t is (1 - alpha^t)^(-1/2) times too
//! large. All steps of a branch are early ones, so its best LR is too low for the steps that follow, by about
//!
//! f(L, alpha) = sum_i c_i (1 - alpha^(i+1))^(-1/2) / sum_i c_i.
//!
//! f(L, 0) = 1; f(L, 0.99) is 3.4 for L = 24, 2.6 for L = 45, and tends to 1 as L grows.

use super::branch::{branch_line, branch_steps};
use crate::lr_pieces::lr_at;

/// f of a budget's branches.
pub(super) fn excess(total_steps: u64, alpha: f64) -> f64 {
    let line = branch_line(total_steps, 1.0);
    let (mut taken, mut meant) = (0.0, 0.0);
    for (i, c) in (0..branch_steps(total_steps)).filter_map(|i| lr_at(&line, i).map(|c| (i, c))) {
        // 1 - alpha^(i+1), without cancellation.
        let reached = -libm::expm1((i as f64 + 1.0) * libm::log(alpha));
        taken += c / reached.sqrt();
        meant += c;
    }
    taken / meant
}

#[cfg(test)]
mod tests {
    use super::*;

    /// (L, alpha, f), from exact fractions and `(1 - Decimal(alpha) ** t).sqrt()` in Python, 50 digits.
    const F: [(u64, f64, f64); 8] = [
        (24, 0.9, 1.303_378_019_495_057),
        (24, 0.99, 3.412_125_864_769_916_6),
        (24, 0.999, 10.578_736_353_175_524),
        (45, 0.99, 2.561_707_728_386_154_2),
        (45, 0.999, 7.796_225_982_890_074),
        (450, 0.99, 1.142_537_029_600_169_6),
        (1000, 0.99, 1.037_632_105_269_481_7),
        (1000, 0.999, 1.823_506_803_160_485_3),
    ];

    #[test]
    fn f_to_the_last_bits() {
        for (l, alpha, f) in F {
            let found = excess(100 * l, alpha);
            assert!((found / f - 1.0).abs() < 1e-14, "f({l}, {alpha}) = {found}, not {f}");
        }
    }

    #[test]
    fn a_corrected_bias_is_none() {
        assert!([1, 2400, 4500, 5_000_000].iter().all(|&total| excess(total, 0.0) == 1.0));
        assert!((excess(2400, 1e-300) - 1.0).abs() < 1e-15);
    }

    #[test]
    fn f_falls_with_the_length_and_rises_with_alpha() {
        let by_length: Vec<f64> = (24..=1000).map(|l| excess(100 * l, 0.99)).collect();
        assert!(by_length.windows(2).all(|f| f[0] > f[1] && f[1] > 1.0));
        let alphas = [0.0, 0.5, 0.9, 0.99, 0.999_999, 1.0 - f64::EPSILON / 2.0];
        let by_alpha = alphas.map(|alpha| excess(2400, alpha));
        assert!(by_alpha.windows(2).all(|f| f[0] < f[1] && f[1].is_finite()), "{by_alpha:?}");
    }
}

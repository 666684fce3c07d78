//! Limits of stop rules: finite numbers that rounding alone does not cross.

/// The nearest finite number: limits are sent to the trainer, which takes no infinity.
pub(super) fn finite(x: f64) -> f64 {
    x.clamp(f64::MIN, f64::MAX)
}

/// `level + margin`, where the margin is at least 1e-6 of the larger of `level` and `other`: the ema of equal losses
/// may round to just above them.
pub(super) fn above(level: f64, margin: f64, other: f64) -> f64 {
    finite(level + margin.max(1e-6 * level.abs().max(other.abs())))
}

/// The lower bound of the loss, unless one of `losses` has gone below it: then it is wrong and not used any more.
pub(super) fn kept_bound(bound: Option<f64>, losses: &[f64]) -> Option<f64> {
    bound.filter(|bound| losses.iter().all(|y| !(y.is_finite() && y < bound)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_are_finite_and_above() {
        assert_eq!(above(f64::MAX, f64::MAX, 0.0), f64::MAX);
        assert!(above(0.7, 0.0, 0.7) > 0.7 && above(-0.7, 0.0, 0.0) > -0.7);
        assert_eq!(above(1.0, 0.5, 2.0), 1.5);
    }

    #[test]
    fn a_loss_below_the_bound_disproves_it() {
        assert_eq!(kept_bound(Some(0.0), &[1.0, 0.0, f64::NAN, f64::NEG_INFINITY]), Some(0.0));
        assert_eq!(kept_bound(Some(0.0), &[1.0, -1e-9]), None);
        assert_eq!(kept_bound(None, &[1.0]), None);
    }
}

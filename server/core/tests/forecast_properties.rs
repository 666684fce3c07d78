//! What must hold of a forecast for any losses.

use autolrs_core::forecast::{Forecast, ForecastError, Forecaster, LossKind, LossWindow, noise::noise_sd};
use proptest::prelude::*;

const FORECASTERS: [Forecaster; 2] = [Forecaster::Exponential, Forecaster::Mixture];

fn kind() -> impl Strategy<Value = LossKind> {
    prop_oneof![Just(LossKind::Training), Just(LossKind::Validation)]
}

fn forecast(losses: &[f64], horizon: f64, lower_bound: Option<f64>, kind: LossKind) -> Forecast {
    Forecaster::Exponential.forecast(&LossWindow { losses, times: None, horizon, lower_bound, kind }).unwrap()
}

fn mixture(losses: &[f64], horizon: f64, lower_bound: Option<f64>) -> Forecast {
    let window = LossWindow { losses, times: None, horizon, lower_bound, kind: LossKind::Training };
    Forecaster::Mixture.forecast(&window).unwrap()
}

/// a exp(-rate i / n) + c, with noise and with spikes in the first half.
fn noisy_curve() -> impl Strategy<Value = Vec<f64>> {
    let noise = prop::collection::vec(-0.1..0.1f64, 20..120);
    (0.5..3.0f64, 0.2..20.0f64, -1.0..1.0f64, noise, 0usize..5).prop_map(|(a, rate, c, noise, spikes)| {
        let n = noise.len();
        let mut losses: Vec<f64> = noise
            .iter()
            .enumerate()
            .map(|(i, e)| a * libm::exp(-rate * i as f64 / n as f64) + c + e)
            .collect();
        for i in 0..spikes {
            losses[(i * 7 + 1) % (n / 2)] += 5.0;
        }
        losses
    })
}

#[test]
fn odd_losses_never_panic_and_never_give_nan() {
    let odd = [0.0, -0.0, 1.0, -1.0, 1e300, -1e300, f64::MAX, f64::MIN, 5e-324, -1e-310, 1e-12];
    for n in [1, 2, 3, 7, 8, 9, 16, 100] {
        for a in odd {
            for b in odd {
                let step: Vec<f64> = (0..n).map(|i| if i < n / 2 { a } else { b }).collect();
                let spike: Vec<f64> = (0..n).map(|i| if i == n / 3 { a } else { b }).collect();
                let line: Vec<f64> =
                    (0..n).map(|i| a * (i as f64 / n as f64) + b * (1.0 - i as f64 / n as f64)).collect();
                for losses in [step, spike, line] {
                    for lower_bound in [None, Some(0.0), Some(f64::MIN), Some(f64::NAN), Some(f64::INFINITY)]
                    {
                        for horizon in [0.0, 1000.0, f64::MAX] {
                            let window = LossWindow {
                                losses: &losses,
                                times: None,
                                horizon,
                                lower_bound,
                                kind: LossKind::Training,
                            };
                            for forecaster in FORECASTERS {
                                let f = forecaster.forecast(&window).unwrap();
                                let sane = f.mean.is_finite() && f.sd.is_finite() && f.sd >= 0.0;
                                assert!(sane, "{forecaster:?} {window:?} {f:?}");
                            }
                        }
                    }
                    assert!(noise_sd(&losses).is_finite());
                }
            }
        }
    }
}

#[test]
fn what_can_not_be_forecast_says_why() {
    let answer = |losses: &[f64], horizon: f64| {
        let window = LossWindow { losses, times: None, horizon, lower_bound: None, kind: LossKind::Training };
        FORECASTERS.map(|forecaster| forecaster.forecast(&window).unwrap_err())
    };
    assert_eq!(answer(&[], 5.0), [ForecastError::Empty; 2]);
    assert_eq!(answer(&[1.0, f64::INFINITY, f64::NAN], 5.0), [ForecastError::Diverged { index: 1 }; 2]);
    assert_eq!(answer(&[f64::NAN; 100], 5.0), [ForecastError::Diverged { index: 0 }; 2]);
    assert_eq!(answer(&[1.0; 9], -1.0), [ForecastError::Horizon { horizon: -1.0 }; 2]);
    assert_eq!(answer(&[1.0; 9], f64::INFINITY), [ForecastError::Horizon { horizon: f64::INFINITY }; 2]);
}

#[test]
fn too_few_or_equal_losses() {
    let few = forecast(&[3.0, 5.0, 1.0, 2.0], 100.0, Some(0.0), LossKind::Training);
    assert_eq!(few, Forecast { mean: 2.0, sd: 4.0 });
    let equal = forecast(&[2.5; 40], 100.0, None, LossKind::Training);
    assert_eq!(equal, Forecast { mean: 2.5, sd: 1e-9 });
}

#[test]
fn a_falling_line_ends_at_the_lower_bound() {
    let line: Vec<f64> = (0..100).map(|i| 2.0 - 0.01 * f64::from(i)).collect();
    assert!(forecast(&line, 1000.0, None, LossKind::Training).mean < -1.0);
    let bounded = forecast(&line, 1000.0, Some(0.0), LossKind::Training).mean;
    assert!((0.0..0.2).contains(&bounded), "{bounded}");
    assert_eq!(forecast(&line, 1e9, Some(0.5), LossKind::Training).mean, 0.5);
}

#[test]
fn a_lower_bound_that_the_losses_contradict_is_not_used() {
    let losses: Vec<f64> = (0..100).map(|i| libm::exp(-0.03 * f64::from(i)) - 5.0).collect();
    let wrong = forecast(&losses, 1000.0, Some(0.0), LossKind::Training);
    assert_eq!(wrong, forecast(&losses, 1000.0, None, LossKind::Training));
    assert!((wrong.mean + 5.0).abs() < 1e-5);
}

#[test]
fn spikes_of_a_training_loss_do_not_pull_the_forecast() {
    let clean: Vec<f64> = (0..100).map(|i| 1.5 * libm::exp(-0.04 * f64::from(i)) + 0.3).collect();
    let mut spiked = clean.clone();
    for (i, up) in [(4, 3.0), (5, 2.0), (17, 9.0), (30, 1.0), (44, 4.0)] {
        spiked[i] += up;
    }
    let mean = forecast(&spiked, 1000.0, Some(0.0), LossKind::Training).mean;
    assert!((mean - 0.3).abs() < 1e-4, "{mean}");
}

/// Independent, nearly normal with sd 1: the sum of twelve uniform numbers of a linear congruential generator.
fn noise(state: &mut u64) -> f64 {
    let mut uniform = || {
        *state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (*state >> 11) as f64 / (1u64 << 53) as f64
    };
    (0..12).map(|_| uniform()).sum::<f64>() - 6.0
}

#[test]
fn two_sd_of_the_mixture_hold_nine_of_ten_exponential_truths() {
    let (mut state, mut held, mut runs) = (7u64, 0, 0);
    for rate in [0.3, 0.6, 1.2, 2.5, 5.0, 10.0, 20.0] {
        for sd in [0.003, 0.01, 0.03, 0.1] {
            for _ in 0..15 {
                let losses: Vec<f64> = (0..100)
                    .map(|i| libm::exp(-rate * f64::from(i) / 100.0) + 0.3 + sd * noise(&mut state))
                    .collect();
                let f = mixture(&losses, 1000.0, Some(0.0));
                held += u32::from((f.mean - (libm::exp(-10.0 * rate) + 0.3)).abs() <= 2.0 * f.sd);
                runs += 1;
            }
        }
    }
    let share = f64::from(held) / f64::from(runs);
    assert!((0.90..0.995).contains(&share), "{share}: too rarely, or so often that the sd says nothing");
}

#[test]
fn what_rises_is_not_forecast_to_fall() {
    let up: Vec<f64> = (0..100).map(|i| 1.0 + 0.01 * f64::from(i)).collect();
    assert!(mixture(&up, 1000.0, Some(0.0)).mean >= 1.98);
    let blown: Vec<f64> = (0..40).map(|i| libm::pow(1.05, f64::from(i))).collect();
    let f = mixture(&blown, 400.0, None);
    assert!(f.mean > 6.0 && f.mean <= blown[39] + 3.0 * (blown[39] - blown[0]), "{f:?}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn a_mixture_does_not_see_the_unit(losses in noisy_curve(), c in 1e-6..1e6f64, d in -3.0..3.0f64) {
        let horizon = 10.0 * losses.len() as f64;
        let d = c * d;
        let mapped: Vec<f64> = losses.iter().map(|y| c * y + d).collect();
        let (f, g) = (mixture(&losses, horizon, None), mixture(&mapped, horizon, None));
        prop_assert!((c * f.mean + d - g.mean).abs() < 1e-6 * c, "{:?} {:?}", f, g);
        prop_assert!((c * f.sd - g.sd).abs() < 1e-6 * c, "{:?} {:?}", f, g);
        let lowest = losses.iter().copied().fold(f64::MAX, f64::min);
        prop_assert!(mixture(&losses, horizon, Some(lowest)).mean >= lowest);
    }

    #[test]
    fn a_mixture_of_steps_and_of_half_steps_agree(a in 0.5..3.0f64, rate in 0.5..15.0f64, c in 0.0..1.0f64, n in 25usize..120) {
        let curve = |steps: usize| -> Vec<f64> {
            (0..steps).map(|i| a * libm::exp(-rate * i as f64 / steps as f64) + c).collect()
        };
        let whole = mixture(&curve(n), 10.0 * n as f64, None);
        let half = mixture(&curve(2 * n), 20.0 * n as f64, None);
        // Where few steps say little, as far apart as they say themselves.
        prop_assert!((whole.mean - half.mean).abs() < whole.sd.max(1e-3), "{:?} {:?}", whole, half);
    }

    #[test]
    fn any_losses(losses in prop::collection::vec(prop::num::f64::ANY, 0..40), kind in kind(), bound in prop::num::f64::ANY) {
        let noise = noise_sd(&losses);
        prop_assert!(noise.is_finite() && noise >= 0.0);
        let window = LossWindow { losses: &losses, times: None, horizon: 400.0, lower_bound: Some(bound), kind };
        for forecaster in FORECASTERS {
            match forecaster.forecast(&window) {
                Ok(f) => prop_assert!(f.mean.is_finite() && f.sd.is_finite() && f.sd >= 0.0, "{:?}", f),
                Err(ForecastError::Diverged { index }) => prop_assert!(!losses[index].is_finite()),
                Err(error) => prop_assert_eq!((error, losses.len()), (ForecastError::Empty, 0)),
            }
        }
    }

    #[test]
    fn the_unit_of_the_loss_does_not_matter(losses in noisy_curve(), kind in kind(), c in 1e-6..1e6f64, d in -3.0..3.0f64) {
        let horizon = 10.0 * losses.len() as f64;
        let d = c * d;
        let mapped: Vec<f64> = losses.iter().map(|y| c * y + d).collect();
        let (f, g) = (forecast(&losses, horizon, None, kind), forecast(&mapped, horizon, None, kind));
        prop_assert!((c * f.mean + d - g.mean).abs() < 1e-3 * c, "{:?} {:?}", f, g);
        prop_assert!((c * f.sd - g.sd).abs() < 1e-3 * c, "{:?} {:?}", f, g);
        prop_assert!((c * noise_sd(&losses) - noise_sd(&mapped)).abs() < 1e-9 * c);
        // A power of two changes no bit of the arithmetic.
        let doubled: Vec<f64> = losses.iter().map(|y| 2.0 * y).collect();
        let g = forecast(&doubled, horizon, None, kind);
        prop_assert_eq!((2.0 * f.mean, 2.0 * f.sd), (g.mean, g.sd));
    }

    #[test]
    fn steps_and_half_steps_agree(a in 0.5..3.0f64, rate in 0.1..15.0f64, c in 0.0..1.0f64, n in 20usize..120) {
        let curve = |steps: usize| -> Vec<f64> {
            (0..steps).map(|i| a * libm::exp(-rate * i as f64 / steps as f64) + c).collect()
        };
        let whole = forecast(&curve(n), 10.0 * n as f64, None, LossKind::Training);
        let half = forecast(&curve(2 * n), 20.0 * n as f64, None, LossKind::Training);
        prop_assert!((whole.mean - half.mean).abs() < 1e-3, "{:?} {:?}", whole, half);
        prop_assert!((whole.mean - (a * libm::exp(-rate * 10.0) + c)).abs() < 1e-3, "{:?}", whole);
    }

    #[test]
    fn a_forecast_is_never_below_the_bound(losses in noisy_curve(), gap in 0.0..0.5f64, kind in kind()) {
        let bound = losses.iter().copied().fold(f64::MAX, f64::min) - gap;
        prop_assert!(forecast(&losses, 10.0 * losses.len() as f64, Some(bound), kind).mean >= bound);
    }
}

//! The published test vectors of the numerics: values that any implementation of the same formulas gives.

mod common;

use autolrs_core::{
    forecast::{Forecaster, LossKind, LossWindow},
    search::{
        Acquisition, Bounds, Gp, HyperParameters, Measured, Observation, Outcome,
        acquisition::{expected_improvement, ln_expected_improvement, lower_confidence_bound},
        fit_map, maximize, standardise,
    },
};
use common::{Desk, given::staged, whole::Whole};

const QUERIES: [f64; 4] = [0.1, 0.4, 0.55, 0.9];

fn observations() -> Vec<Observation> {
    let z = [0.0, 0.25, 0.5, 0.8, 1.0];
    let y = [2.0, 1.4, 1.1, 1.5, 4.0];
    let variance = [0.01, 0.02, 0.005, 0.01, 0.05];
    (0..5).map(|i| Observation { z: z[i], trial: i as u32, y: y[i], variance: variance[i] }).collect()
}

fn assert_close(actual: f64, expected: f64, tolerance: f64, what: &str) {
    assert!(
        (actual - expected).abs() <= tolerance * expected.abs(),
        "{what}: {actual} instead of {expected}"
    );
}

#[test]
fn gaussian_process_with_a_variance_per_observation() {
    let gp = Gp { hyper: HyperParameters { length: 0.3, signal: 1.0, noise: 0.0 } };
    let fitted = gp.fit(&observations()).unwrap();
    assert_close(fitted.log_marginal_likelihood(), -9.123_281_664_183_388, 1e-13, "likelihood");
    let mean =
        [1.770_571_598_586_976_3, 1.230_062_258_481_305_5, 1.014_556_777_266_755_2, 2.684_756_796_260_336_5];
    let sd =
        [0.234_652_199_209_013_26, 0.217_836_636_572_187, 0.154_430_432_892_690_32, 0.201_003_405_669_029_94];
    let ei = [
        1.469_139_271_143_885e-4,
        0.036_918_860_022_430_85,
        0.113_526_853_415_708_94,
        3.913_843_897_333_959e-17,
    ];
    let lcb =
        [1.310_653_288_137_310_3, 0.803_102_450_799_819, 0.711_873_128_797_082_2, 2.290_790_121_149_038];
    for (i, z) in QUERIES.into_iter().enumerate() {
        let belief = fitted.posterior(z);
        assert_close(belief.mean, mean[i], 1e-13, "mean");
        assert_close(belief.sd, sd[i], 1e-12, "sd");
        assert_close(expected_improvement(belief, 1.1), ei[i], 1e-10, "EI");
        assert_close(ln_expected_improvement(belief, 1.1), ei[i].ln(), 1e-10, "ln EI");
        assert_close(lower_confidence_bound(belief, 1.96), lcb[i], 1e-12, "LCB");
    }
}

#[test]
fn exponential_decay_ten_windows_ahead() {
    let losses: Vec<f64> = (0..100).map(|i| 1.5 * libm::exp(-0.01 * f64::from(i)) + 0.3).collect();
    for kind in [LossKind::Training, LossKind::Validation] {
        for lower_bound in [None, Some(0.0)] {
            let window = LossWindow { losses: &losses, times: None, horizon: 1000.0, lower_bound, kind };
            let forecast = Forecaster::Exponential.forecast(&window).unwrap();
            assert!((forecast.mean - 0.300_068).abs() < 1e-5, "{forecast:?}");
            assert!(forecast.sd > 0.0 && forecast.sd < 1e-4, "{forecast:?}");
        }
    }
}

#[test]
fn a_mixture_ten_windows_ahead() {
    let losses: Vec<f64> = (0..100).map(|i| 1.5 * libm::exp(-0.01 * f64::from(i)) + 0.3).collect();
    for lower_bound in [None, Some(0.0)] {
        let window = LossWindow {
            losses: &losses,
            times: None,
            horizon: 1000.0,
            lower_bound,
            kind: LossKind::Training,
        };
        let forecast = Forecaster::Mixture.forecast(&window).unwrap();
        assert!((forecast.mean - 0.300_068).abs() < 1e-5, "{forecast:?}");
        assert!(forecast.sd > 0.0 && forecast.sd < 2e-3, "{forecast:?}");
    }
}

/// A decision is the same bits on every machine, in every build; a change of these needs a new policy revision.
#[test]
fn decisions_to_the_bit() {
    let measured = |i: u32| Measured::Loss { mean: 0.3 + 0.1 * f64::from((i * 7) % 10), sd: 0.03 };
    let outcomes: Vec<Outcome> =
        (0..10).map(|i| Outcome { z: -4.0 + 0.37 * f64::from(i), trial: i, measured: measured(i) }).collect();
    let gp = fit_map(&standardise(&outcomes)).unwrap();
    let next = [Acquisition::Lcb { kappa: 1.5 }, Acquisition::LogEi]
        .map(|acquisition| maximize(&gp, acquisition, Bounds { lo: -4.0, hi: 0.0 }, &[]).to_bits());
    assert_eq!(next, [13_816_614_734_781_597_749, 13_816_916_475_463_230_309]);

    let losses: Vec<f64> =
        (0..100).map(|i| 2.0 / f64::from(i + 9) + 0.01 * f64::from((i * 37) % 11) + 0.4).collect();
    let window = LossWindow {
        losses: &losses,
        times: None,
        horizon: 1000.0,
        lower_bound: Some(0.0),
        kind: LossKind::Training,
    };
    let forecast = Forecaster::Exponential.forecast(&window).unwrap();
    assert_eq!(
        [forecast.mean, forecast.sd].map(f64::to_bits),
        [4_602_170_115_057_813_498, 4_570_887_297_559_098_689]
    );
}

/// The same of a whole job of `staged`: searches, rungs, trials that are gone on from.
#[test]
fn stages_to_the_bit() {
    let mut desk = Desk::new(staged(1200, 100));
    let mut trainer = Whole::open(&mut desk, None, false);
    while trainer.done.is_none() {
        trainer.run(1000);
        if let Some(report) = trainer.report(1000) {
            trainer.take(desk.report(report).unwrap());
        }
    }
    let view = desk.job.view();
    let commits: Vec<(u32, u64)> = view.commits.iter().map(|(stage, lr)| (*stage, lr.to_bits())).collect();
    let later = 4_609_289_199_407_364_356;
    assert_eq!(commits, [(0, 4_601_885_569_471_224_698), (1, later), (2, later), (3, later), (4, later)]);
    assert_eq!((view.spent.committed, view.spent.search), (855, 345));
}

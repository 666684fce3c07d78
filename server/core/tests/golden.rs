//! The numerics against other people's libraries. `tests/golden/generate.py` at the repository's top made the files
//! and each names the versions that it was made with.

use autolrs_core::{
    forecast::{Forecaster, LossKind, LossWindow, noise::noise_sd},
    search::{
        Gp, HyperParameters, Observation, Posterior,
        acquisition::{expected_improvement, ln_expected_improvement},
        fit_map,
    },
};
use serde::{Deserialize, de::DeserializeOwned};

#[derive(Deserialize)]
struct Golden<T> {
    cases: Vec<T>,
}

fn cases<T: DeserializeOwned>(json: &str) -> Vec<T> {
    serde_json::from_str::<Golden<T>>(json).unwrap().cases
}

fn assert_close(actual: f64, expected: f64, tolerance: f64, what: impl std::fmt::Debug) {
    assert!((actual - expected).abs() <= tolerance, "{what:?}: {actual} instead of {expected}");
}

#[derive(Deserialize)]
struct GpCase {
    z: Vec<f64>,
    y: Vec<f64>,
    variance: Vec<f64>,
    hyper: (f64, f64, f64),
    queries: Vec<f64>,
    mean: Vec<f64>,
    sd: Vec<f64>,
    ln_likelihood: f64,
    map_hyper: (f64, f64, f64),
}

#[test]
fn gaussian_process_against_scikit_learn() {
    let cases: Vec<GpCase> = cases(include_str!("golden/gp.json"));
    assert_eq!(cases.len(), 7);
    for case in cases {
        let n = case.z.len();
        let observations: Vec<Observation> = (0..n)
            .map(|i| Observation { z: case.z[i], trial: i as u32, y: case.y[i], variance: case.variance[i] })
            .collect();
        let (length, signal, noise) = case.hyper;
        let fitted = Gp { hyper: HyperParameters { length, signal, noise } }.fit(&observations).unwrap();
        assert_close(fitted.log_marginal_likelihood(), case.ln_likelihood, 1e-9, ("likelihood", n));
        for (i, z) in case.queries.iter().enumerate() {
            let belief = fitted.posterior(*z);
            assert_close(belief.mean, case.mean[i], 1e-9, ("mean", n, z));
            assert_close(belief.sd, case.sd[i], 1e-9, ("sd", n, z));
        }
        let hyper = *fit_map(&observations).unwrap().hyper();
        assert_close(hyper.length, case.map_hyper.0, 1e-12, ("length", n));
        assert_eq!((hyper.signal, hyper.noise), (case.map_hyper.1, case.map_hyper.2), "n = {n}");
    }
}

#[derive(Deserialize)]
struct AcquisitionCase {
    mean: f64,
    sd: f64,
    ei: f64,
    ln_ei: f64,
}

#[test]
fn expected_improvement_against_60_digits() {
    let cases: Vec<AcquisitionCase> = cases(include_str!("golden/acquisition.json"));
    assert_eq!(cases.len(), 60);
    for AcquisitionCase { mean, sd, ei, ln_ei } in cases {
        let belief = Posterior { mean, sd };
        assert_close(expected_improvement(belief, 0.0), ei, 1e-9 * ei, ("EI", mean, sd));
        assert_close(
            ln_expected_improvement(belief, 0.0),
            ln_ei,
            1e-10 * ln_ei.abs().max(1.0),
            ("ln EI", mean, sd),
        );
    }
}

#[derive(Deserialize)]
struct ExponentialCase {
    losses: Vec<f64>,
    times: Option<Vec<u64>>,
    kind: LossKind,
    lower_bound: Option<f64>,
    horizon: f64,
    mean: f64,
    sd: f64,
    noise_sd: f64,
}

#[derive(Deserialize)]
struct MixtureCase {
    losses: Vec<f64>,
    times: Option<Vec<u64>>,
    lower_bound: Option<f64>,
    horizon: f64,
    mean: f64,
    sd: f64,
}

/// `tests/golden/mixture.py` made the file.
#[test]
fn mixture_against_numpy() {
    let cases: Vec<MixtureCase> = cases(include_str!("golden/mixture.json"));
    assert_eq!(cases.len(), 95);
    for (i, case) in cases.iter().enumerate() {
        let &MixtureCase { ref losses, ref times, lower_bound, horizon, .. } = case;
        let times = times.as_deref();
        let window = LossWindow { losses, times, horizon, lower_bound, kind: LossKind::Training };
        let forecast = Forecaster::Mixture.forecast(&window).unwrap();
        assert_close(forecast.mean, case.mean, 1e-7, ("mean", i));
        assert_close(forecast.sd, case.sd, 1e-7, ("sd", i));
    }
}

#[test]
fn exponential_against_scipy() {
    let cases: Vec<ExponentialCase> = cases(include_str!("golden/exponential.json"));
    assert_eq!(cases.len(), 92);
    for (i, case) in cases.iter().enumerate() {
        let &ExponentialCase { ref losses, ref times, kind, lower_bound, horizon, .. } = case;
        let times = times.as_deref();
        let window = LossWindow { losses, times, horizon, lower_bound, kind };
        let forecast = Forecaster::Exponential.forecast(&window).unwrap();
        let what = (i, losses.len(), kind, lower_bound);
        assert_close(forecast.mean, case.mean, 1e-5, ("mean", what));
        assert_close(forecast.sd, case.sd, 1e-5, ("sd", what));
        assert_close(noise_sd(losses), case.noise_sd, 1e-9 * case.noise_sd, ("noise", what));
    }
}

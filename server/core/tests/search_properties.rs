//! What must hold of the search for any losses.

use autolrs_core::search::{
    Acquisition, Bounds, Gp, HyperParameters, Measured, Observation, Outcome, Posterior,
    acquisition::{expected_improvement, ln_expected_improvement},
    fit_map, maximize, standardise,
};
use proptest::prelude::*;

const BOUNDS: Bounds = Bounds { lo: -5.0, hi: 0.0 };

fn acquisition() -> impl Strategy<Value = Acquisition> {
    prop_oneof![
        prop::sample::select(vec![0.0, 1.0, 1000.0, 1e300]).prop_map(|kappa| Acquisition::Lcb { kappa }),
        Just(Acquisition::LogEi),
    ]
}

fn outcomes(number: impl Strategy<Value = f64> + Clone) -> impl Strategy<Value = Vec<Outcome>> {
    let measured = prop_oneof![
        4 => (number.clone(), number).prop_map(|(mean, sd)| Measured::Loss { mean, sd }),
        1 => Just(Measured::Diverged),
    ];
    prop::collection::vec((-5.0..0.0f64, measured), 1..11).prop_map(|trials| {
        let outcome = |(i, (z, measured))| Outcome { z, trial: i as u32, measured };
        trials.into_iter().enumerate().map(outcome).collect()
    })
}

fn observations() -> impl Strategy<Value = Vec<Observation>> {
    prop::collection::vec((-5.0..0.0f64, 0.0..3.0f64, 1e-4..1.0f64), 2..12).prop_map(|points| {
        let observation = |(i, (z, y, variance))| Observation { z, trial: i as u32, y, variance };
        points.into_iter().enumerate().map(observation).collect()
    })
}

fn next(outcomes: &[Outcome], acquisition: Acquisition) -> f64 {
    let tried: Vec<f64> = outcomes.iter().map(|o| o.z).collect();
    maximize(&fit_map(&standardise(outcomes)).unwrap(), acquisition, BOUNDS, &tried)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn any_losses_give_a_candidate_in_bounds(outcomes in outcomes(prop::num::f64::ANY), rule in acquisition()) {
        let z = next(&outcomes, rule);
        prop_assert!((BOUNDS.lo..=BOUNDS.hi).contains(&z), "{}", z);
    }

    #[test]
    fn the_order_of_the_trials_does_not_matter(
        (forth, back) in outcomes(0.0..9.0f64).prop_flat_map(|o| (Just(o.clone()), Just(o).prop_shuffle())),
        rule in acquisition(),
    ) {
        prop_assert_eq!(next(&forth, rule), next(&back, rule));
    }

    #[test]
    fn the_unit_of_the_loss_does_not_matter(outcomes in outcomes(0.0..9.0f64), c in 1e-3..1e3f64, d in -10.0..10.0f64) {
        let scaled: Vec<Outcome> = outcomes.iter().map(|o| match o.measured {
            Measured::Loss { mean, sd } => {
                Outcome { measured: Measured::Loss { mean: c * mean + d, sd: c * sd }, ..*o }
            }
            Measured::Diverged => *o,
        }).collect();
        for (a, b) in standardise(&outcomes).iter().zip(standardise(&scaled)) {
            prop_assert!((a.y - b.y).abs() < 1e-6 && (a.variance - b.variance).abs() < 1e-6, "{:?} {:?}", a, b);
        }
    }

    #[test]
    fn data_only_takes_uncertainty_away(
        observations in observations(),
        (length, signal, noise) in (0.15..5.0f64, 0.3..3.0f64, 0.0..0.1f64),
        z in -6.0..1.0f64,
    ) {
        let gp = Gp { hyper: HyperParameters { length, signal, noise } };
        let mut sd = signal.sqrt();
        for n in 1..=observations.len() {
            let less = gp.fit(&observations[..n]).unwrap().posterior(z).sd;
            prop_assert!((0.0..=sd + 1e-9).contains(&less), "{} after {}", less, sd);
            sd = less;
        }
    }

    #[test]
    fn an_improvement_is_never_negative(mean in -1e3..1e3f64, sd in prop::num::f64::POSITIVE, best in 0.0..3.0f64) {
        let belief = Posterior { mean, sd: sd.min(1e9) };
        prop_assert!(expected_improvement(belief, best) >= (best - mean).max(0.0) * (1.0 - 1e-12));
        prop_assert!(!ln_expected_improvement(belief, best).is_nan());
    }
}

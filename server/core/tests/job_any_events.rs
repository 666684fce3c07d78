//! Any list of events, sensible or not: the job never panics, keeps its budget, and the same list gives the same job.

mod common;

use autolrs_core::{
    forecast::Forecaster,
    lr_pieces::Piece,
    spec::{
        ClrOptions, ConstantOptions, CosineOptions, Objective, OneCycleOptions, PaperOptions, PolicySpec,
        ReplayOptions, ScanOptions, SgdrOptions, StagedOptions, StepOptions,
    },
};
use common::{
    Desk, open_scan, spec,
    steps::{Because, Step, carry_out},
};
use proptest::prelude::*;

fn because() -> impl Strategy<Value = Because> {
    prop_oneof![Just(Because::Rule), Just(Because::Interrupt), Just(Because::NoAnswer)]
}

fn step() -> impl Strategy<Value = Step> {
    let loss = prop_oneof![
        8 => 0.1..5.0f64,
        1 => Just(f64::NAN),
        1 => Just(f64::INFINITY),
        1 => Just(1e300),
        1 => Just(-1e300),
        1 => Just(5e-324),
    ];
    let raw = (
        -6i64..6,
        -1i64..2,
        0u64..60,
        prop::collection::vec(loss.clone(), 0..40),
        any::<bool>(),
        prop::option::of((because(), 0u64..40)),
        any::<bool>(),
    );
    prop_oneof![
        8 => loss.clone().prop_map(Step::Train),
        4 => loss.prop_map(Step::ToRung),
        3 => raw.prop_map(|(seq, session, offset, losses, finished, because, at_rung)| Step::Raw {
            seq, session, offset, losses, finished, because, at_rung
        }),
        1 => (any::<bool>(), any::<bool>(), any::<bool>(), any::<bool>()).prop_map(
            |(takeover, restart, active, validate)| Step::Open { takeover, restart, active, validate }
        ),
        2 => (-20i64..3, 0u64..30, any::<bool>(), prop::bool::weighted(0.9), any::<bool>())
            .prop_map(|(seq, offset, slots, uid, validate)| Step::Resume { seq, offset, slots, uid, validate }),
        1 => prop::option::of(0u64..2000).prop_map(Step::Finish),
        1 => any::<bool>().prop_map(Step::Cancel),
        2 => (prop::option::of(prop_oneof![1e-6..2.0f64, Just(5e-324), Just(0.0), Just(f64::NAN)]),
              prop::option::of(-400i64..400)).prop_map(|(lr, total)| Step::Update(lr, total)),
        1 => Just(Step::Restart),
    ]
}

fn policy() -> impl Strategy<Value = PolicySpec> {
    let paper =
        PaperOptions { tau: Some(50), tau_max: Some(200), candidates: Some(4), ..PaperOptions::default() };
    prop_oneof![
        Just(PolicySpec::Scan(ScanOptions::default())),
        Just(PolicySpec::Paper(PaperOptions { forecaster: Some(Forecaster::Mixture), ..paper.clone() })),
        Just(PolicySpec::Paper(PaperOptions { objective: Some(Objective::Validation), ..paper.clone() })),
        Just(PolicySpec::Paper(paper)),
        Just(PolicySpec::Staged(StagedOptions { tau: Some(60), ..StagedOptions::default() })),
        Just(PolicySpec::Constant(ConstantOptions::default())),
        Just(PolicySpec::Cosine(CosineOptions { warmup_steps: Some(1), ..CosineOptions::default() })),
        Just(PolicySpec::Step(StepOptions { milestones: vec![3, 40, 41, 700], ..StepOptions::default() })),
        Just(PolicySpec::OneCycle(OneCycleOptions::default())),
        Just(PolicySpec::Clr(ClrOptions { step_size: Some(7), ..ClrOptions::default() })),
        Just(PolicySpec::Sgdr(SgdrOptions { t0: Some(5), ..SgdrOptions::default() })),
        Just(PolicySpec::Replay(ReplayOptions {
            pieces: vec![Piece::warmup(30, 0.3), Piece::cooldown(500, 0.3)]
        })),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    #[test]
    fn never_panics_and_replays_to_the_same_job(
        policy in policy(),
        total in prop_oneof![Just(900u64), Just(3000), 1u64..400],
        open in any::<bool>(),
        steps in prop::collection::vec(step(), 1..60),
    ) {
        let open = open && matches!(policy, PolicySpec::Scan(_));
        let spec = if open { open_scan() } else { spec(total, policy) };
        let mut desks = [Desk::new(spec.clone()), Desk::new(spec)];
        for (number, step) in steps.iter().enumerate() {
            for desk in &mut desks {
                carry_out(desk, step, number);
            }
            let stored = desks.each_ref().map(|desk| postcard::to_stdvec(&desk.job).unwrap());
            prop_assert_eq!(&stored[0], &stored[1]);
        }
    }
}

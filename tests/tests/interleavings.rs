//! Whatever the network, the server and the trainer go through, the LRs that were run are those of an undisturbed
//! run, or of the fallback that was adopted.

use autolrs_core::{
    directive::DoneReason,
    lr_pieces,
    spec::{
        CosineOptions, JobSpec, Objective, OpenBudget, PaperOptions, PolicySpec, ResolvedSpec, ScanOptions,
        StagedOptions, WsdOptions, resolve,
    },
};
use autolrs_tests::sim::{Fault, Mishap, Optimum, Step, World};
use proptest::prelude::*;

/// The jobs that are tried.
#[derive(Debug, Clone, Copy)]
enum Kind {
    Cosine,
    Wsd,
    Scan,
    /// A scan without a known budget.
    Open,
    Paper,
    /// `paper` that goes by the validation loss where there is one.
    ByValidation,
    Staged,
}

fn spec(kind: Kind, switch_every: u64) -> ResolvedSpec {
    let (total_steps, policy) = match kind {
        Kind::Cosine => {
            (400, PolicySpec::Cosine(CosineOptions { warmup_steps: Some(20), ..CosineOptions::default() }))
        }
        Kind::Wsd => (400, PolicySpec::Wsd(WsdOptions::default())),
        Kind::Scan | Kind::Open => (900, PolicySpec::Scan(ScanOptions::default())),
        Kind::Paper | Kind::ByValidation => {
            let objective = matches!(kind, Kind::ByValidation).then_some(Objective::Validation);
            let options =
                PaperOptions { tau: Some(40), tau_max: Some(80), objective, ..PaperOptions::default() };
            (
                600,
                PolicySpec::Paper(PaperOptions { candidates: Some(4), trial_fraction: Some(0.2), ..options }),
            )
        }
        Kind::Staged => {
            let options = StagedOptions { tau: Some(60), ..StagedOptions::default() };
            (900, PolicySpec::Staged(StagedOptions { trial_fraction: Some(0.4), ..options }))
        }
    };
    let open = matches!(kind, Kind::Open);
    let spec = JobSpec {
        total_steps: (!open).then_some(total_steps),
        open_budget: open.then(OpenBudget::default),
        lr_min: Some(1e-4),
        lr_max: Some(10.0),
        fallback_lr: Some(0.05),
        switch_every: Some(switch_every),
        max_overhead: matches!(kind, Kind::Staged).then_some(0.6),
        policy: Some(policy),
        ..JobSpec::default()
    };
    resolve(&spec).expect("a valid spec")
}

/// The largest budget that an operator sets.
const MOST: u64 = 1200;

fn bits(line: &[Step]) -> Vec<(u64, u64)> {
    line.iter().map(Step::bits).collect()
}

fn kinds() -> impl Strategy<Value = Kind> {
    prop_oneof![known_kinds(), Just(Kind::Open)]
}

fn known_kinds() -> impl Strategy<Value = Kind> {
    prop::sample::select(vec![
        Kind::Cosine,
        Kind::Wsd,
        Kind::Scan,
        Kind::Paper,
        Kind::ByValidation,
        Kind::Staged,
    ])
}

/// (switch_every, losses on a device).
fn losses() -> impl Strategy<Value = (u64, bool)> {
    prop_oneof![Just((1, false)), Just((8, false)), Just((8, true)), Just((3, true))]
}

fn fault() -> impl Strategy<Value = Fault> {
    prop_oneof![
        3 => Just(Fault::None),
        1 => Just(Fault::LoseReport),
        1 => Just(Fault::LoseAnswer),
        1 => Just(Fault::Repeat),
        1 => Just(Fault::Delay),
        1 => Just(Fault::RestartBefore),
        1 => Just(Fault::RestartAfter),
    ]
}

fn faults() -> impl Strategy<Value = Vec<Fault>> {
    prop::collection::vec(fault(), 0..120)
}

fn surface() -> impl Strategy<Value = Optimum> {
    (0.5..8.0f64, 0.0..0.6f64, 0.0..2.0f64).prop_map(|(curvature, noise, floor)| Optimum {
        curvature,
        noise,
        floor,
        breaks_at: None,
    })
}

fn breaking_surface() -> impl Strategy<Value = Optimum> {
    (surface(), prop::option::of(0u64..900)).prop_map(|(surface, breaks_at)| Optimum { breaks_at, ..surface })
}

fn mishap() -> impl Strategy<Value = Mishap> {
    prop_oneof![Just(Mishap::Checkpoint), Just(Mishap::Crash), (5u32..60).prop_map(Mishap::Outage),]
}

fn undisturbed(kind: Kind, (every, device): (u64, bool), surface: Optimum, validates: bool) -> World {
    let mut world = world(kind, (every, device), surface, validates);
    world.run();
    world
}

/// A job with an open budget is finished by an operator, always at the same place.
fn world(kind: Kind, (every, device): (u64, bool), surface: Optimum, validates: bool) -> World {
    let world = World::new(spec(kind, every), surface, device, validates);
    if matches!(kind, Kind::Open) { world.with_finish_after(700, 80) } else { world }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    /// Losing, repeating and delaying messages and restarting the server change nothing, to the bit.
    #[test]
    fn the_network_and_the_server_may_fail(
        kind in kinds(), losses in losses(), validates in any::<bool>(), surface in breaking_surface(), faults in faults(),
    ) {
        let expected = undisturbed(kind, losses, surface, validates);
        let mut world = world(kind, losses, surface, validates).with_faults(faults);
        world.run();
        prop_assert_eq!(&world.refusals, &[]);
        prop_assert_eq!(bits(&world.trainer.line), bits(&expected.trainer.line));
        prop_assert_eq!(world.done(), expected.done());
        prop_assert_eq!(world.server.job().ended(), Some(expected.done()));
        prop_assert_eq!(world.server.job().view().spent, expected.server.job().view().spent);
        prop_assert_eq!(world.trainer.slots(), expected.trainer.slots());
        prop_assert_eq!(world.server.kept_line(), expected.server.kept_line());
        prop_assert_eq!(world.server.validations(), expected.server.validations());
    }

    /// A trainer that is killed and goes on from its checkpoint runs the same line in the end. (Not where an operator
    /// finishes the job: his wish is older than what is run again.)
    #[test]
    fn the_trainer_may_be_killed(
        kind in known_kinds(), losses in losses(), validates in any::<bool>(), faults in faults(),
        mishaps in prop::collection::vec((0u64..200, prop_oneof![Just(Mishap::Checkpoint), Just(Mishap::Crash)]), 0..8),
    ) {
        let surface = Optimum::default();
        let expected = undisturbed(kind, losses, surface, validates);
        let mut world = world(kind, losses, surface, validates).with_faults(faults).with_mishaps(mishaps);
        world.run();
        prop_assert_eq!(&world.refusals, &[]);
        prop_assert_eq!(bits(&world.trainer.line), bits(&expected.trainer.line));
        prop_assert_eq!(world.done(), expected.done());
    }

    /// Outages longer than the trainer's patience: what was run before is the undisturbed line, what is run after is
    /// the fallback's, and the server takes it over.
    #[test]
    fn the_server_may_be_away_for_long(
        kind in kinds(), losses in losses(), validates in any::<bool>(), surface in breaking_surface(), faults in faults(),
        mishaps in prop::collection::vec((0u64..300, mishap()), 0..8),
    ) {
        let expected = undisturbed(kind, losses, surface, validates);
        let budget = spec(kind, losses.0).budget.limit();
        let mut world = world(kind, losses, surface, validates).with_faults(faults).with_mishaps(mishaps);
        world.run();
        let line = bits(&world.trainer.line);
        prop_assert!(line.len() as u64 <= budget, "{} steps of {budget}", line.len());
        prop_assert_eq!(&world.refusals, &[]);
        if world.crashes == 0 {
            let same = world.adopted_at.unwrap_or(line.len());
            prop_assert_eq!(&line[..same], &bits(&expected.trainer.line)[..same]);
            if world.adopted_at.is_none() {
                prop_assert_eq!(line.len(), expected.trainer.line.len());
            }
        }
        // A stretch that breaks once more after its last guard is finished without the server.
        let alone = world.trainer.line.iter().any(|step| step.seq == 0);
        if !alone {
            prop_assert!(world.machine.is_flushed());
            prop_assert!(world.server.job().ended().is_some());
            prop_assert_eq!(world.server.job().view().spent.total(), line.len() as u64);
        }
    }

    /// An operator's request has one effect, at one place, whatever the network does: the run is the one of a quiet
    /// network with the same request at the same place.
    #[test]
    fn an_operator_is_obeyed_once(
        kind in kinds(), losses in losses(), validates in any::<bool>(), surface in surface(), faults in faults(), when in 0u64..900,
        request in prop_oneof![
            (0u64..200).prop_map(Mishap::Finish), Just(Mishap::Cancel), (1u32..100).prop_map(Mishap::SetLr),
            (900u64..1200).prop_map(Mishap::SetBudget),
        ],
    ) {
        let spec = spec(kind, losses.0);
        let mut world = World::new(spec.clone(), surface, losses.1, validates).with_faults(faults).with_mishaps([(when, request)]);
        world.run();
        prop_assert_eq!(&world.refusals, &[]);
        let mut expected = World::new(spec, surface, losses.1, validates);
        if let Some((at, effect)) = world.effect_at {
            expected = expected.with_request_at(at, effect, request);
        }
        expected.run();
        prop_assert_eq!(world.effect_at, expected.effect_at);
        prop_assert_eq!(bits(&world.trainer.line), bits(&expected.trainer.line));
        // An update leaves a job with an open budget to whoever ends it.
        prop_assert_eq!(world.machine.done(), expected.machine.done());
        prop_assert_eq!(world.server.job().ended(), expected.machine.done());
    }

    /// Everything at once: no panic, no step beyond the budget, no refusal, and an end.
    #[test]
    fn anything_may_happen(
        kind in kinds(), losses in losses(), validates in any::<bool>(), surface in breaking_surface(), faults in faults(),
        mishaps in prop::collection::vec((0u64..200, prop_oneof![
            4 => mishap(), 1 => (0u64..200).prop_map(Mishap::Finish), 1 => Just(Mishap::Cancel),
            1 => (1u32..100).prop_map(Mishap::SetLr), 1 => (1u64..MOST).prop_map(Mishap::SetBudget),
        ]), 0..12),
    ) {
        let most = spec(kind, losses.0).budget.known().map_or(u64::MAX, |_| MOST);
        let mut world = world(kind, losses, surface, validates).with_faults(faults).with_mishaps(mishaps);
        world.run();
        prop_assert!(world.trainer.line.len() as u64 <= most, "{} steps", world.trainer.line.len());
        prop_assert_eq!(&world.refusals, &[]);
        prop_assert!(world.server.job().view().spent.total() <= world.server.job().spec().budget.limit());
        prop_assert_eq!(lr_pieces::steps(&world.server.kept_line()), world.server.job().view().spent.committed);
    }
}

#[test]
fn an_undisturbed_run_spends_its_budget() {
    for kind in [Kind::Cosine, Kind::Wsd, Kind::Scan, Kind::Paper, Kind::Staged] {
        let world = undisturbed(kind, (1, false), Optimum::default(), false);
        let spent = world.server.job().view().spent;
        assert_eq!(world.done(), DoneReason::Finished, "{kind:?}");
        assert_eq!(spent.total(), world.trainer.line.len() as u64, "{kind:?}");
        assert_eq!(spent.total(), world.server.job().spec().budget.limit(), "{kind:?}");
    }
}

#[test]
fn an_open_budget_is_spent_when_an_operator_says_so() {
    let world = undisturbed(Kind::Open, (1, false), Optimum::default(), false);
    let (view, line) = (world.server.job().view(), &world.trainer.line);
    assert_eq!((world.done(), view.spent.total()), (DoneReason::Finished, line.len() as u64));
    assert!((780..880).contains(&line.len()), "{}", line.len());
    let (stable, cooled) = (line[line.len() - 81].lr, line[line.len() - 1].lr);
    assert!((cooled * 81.0 / stable - 1.0).abs() < 1e-9, "{stable} to {cooled}");
}

/// A validation loss is asked for once at every place, and the training does not notice.
#[test]
fn validations_leave_the_training_alone() {
    for kind in [Kind::Cosine, Kind::Wsd, Kind::Scan, Kind::Open] {
        for losses in [(1, false), (8, true), (3, true)] {
            let without = undisturbed(kind, losses, Optimum::default(), false);
            let with = undisturbed(kind, losses, Optimum::default(), true);
            assert_eq!(bits(&with.trainer.line), bits(&without.trainer.line), "{kind:?} {losses:?}");
            assert!(without.validated.is_empty());
            let reported = with.server.validations().into_iter();
            let reported: Vec<_> =
                reported.flat_map(|(seq, all)| all.into_iter().map(move |(at, _)| (seq, at))).collect();
            assert_eq!(with.validated, reported, "{kind:?} {losses:?}");
            assert!(reported.len() > 3, "{kind:?}: {reported:?}");
        }
    }
}

//! Checks of what a server decides: whole jobs, determinism, divergence, guards, rungs, validation losses.

use super::{
    kit::{Kit, constant, paper, plain, refused, scan, search},
    reading,
    trainer::{Reached, Trainer, opening},
};
use crate::cli::conformance::{
    segment::run,
    verdict::{Broken, Verdict, expect, same, short},
};
use autolrs_proto::v1::{
    Capabilities, ClrPolicy, ConstantPolicy, CosinePolicy, ErrorReason, Failure, GetStageRequest, JobSpec,
    JobState, LrPiece, Objective, OneCyclePolicy, OpenSessionRequest, PaperPolicy, Phase, ReplayPolicy,
    Report, SgdrPolicy, StagedPolicy, StepPolicy, WsdPolicy, done::Reason, job_spec::Policy, lr_piece::Shape,
    slot_op::Kind, trial::Outcome,
};
use tonic::Code;

/// The largest share of the budget that a search may use, where the spec does not say.
const SCAN: f64 = 0.10;
const STAGED: f64 = 0.20;
const PAPER: f64 = 0.55;
const NONE: f64 = 0.0;

macro_rules! whole_jobs {
    ($($name:ident: $spec:expr, $share:expr;)*) => { $(
        pub(super) async fn $name(kit: &Kit) -> Verdict {
            whole_job(kit, $spec, $share).await
        }
    )* };
}

whole_jobs! {
    whole_scan: scan(), SCAN;
    whole_staged: staged(), STAGED;
    whole_paper: paper(), PAPER;
    whole_constant: constant(80), NONE;
    whole_cosine: plain(80, Policy::Cosine(CosinePolicy { warmup_steps: Some(10), ..CosinePolicy::default() })), NONE;
    whole_wsd: plain(80, Policy::Wsd(WsdPolicy { warmup_steps: Some(10), ..WsdPolicy::default() })), NONE;
    whole_step: plain(80, Policy::Step(StepPolicy::default())), NONE;
    whole_one_cycle: plain(80, Policy::OneCycle(OneCyclePolicy::default())), NONE;
    whole_clr: plain(80, Policy::Clr(ClrPolicy::default())), NONE;
    whole_sgdr: plain(80, Policy::Sgdr(SgdrPolicy::default())), NONE;
    whole_replay: plain(80, Policy::Replay(ReplayPolicy { pieces: replayed() })), NONE;
}

fn staged() -> JobSpec {
    let options = StagedPolicy { tau: Some(100), trial_fraction: Some(0.2), ..StagedPolicy::default() };
    search(1500, Policy::Staged(options))
}

fn replayed() -> Vec<LrPiece> {
    let piece = |shape: Shape, steps, start, end, index| LrPiece {
        steps,
        start,
        end,
        shape: shape.into(),
        index,
        of: steps + index,
        ..LrPiece::default()
    };
    vec![piece(Shape::Cosine, 50, 0.1, 0.02, 10), piece(Shape::Constant, 40, 0.02, 0.02, 0)]
}

/// A job to its end: every directive is judged by the ledger on the way.
async fn whole_job(kit: &Kit, spec: JobSpec, share: f64) -> Verdict {
    let budget = spec.total_steps.unwrap_or(0);
    let mut trainer = Trainer::start(kit, spec).await?;
    let done = trainer.finish().await?;
    same("the end of the job:", &Reason::Finished, &done.reason())?;
    let job = kit.get(&trainer.job).await?;
    same("its state:", &JobState::Finished, &job.state())?;
    let (steps, ran) = (job.steps.unwrap_or_default(), trainer.line.len() as u64);
    same("steps that count, as the trainer ran them:", &ran, &(steps.committed + steps.search + steps.lost))?;
    same("committed steps, as the trainer kept them:", &(trainer.kept.len() as u64), &steps.committed)?;
    same("the budget, spent to the step:", &budget, &ran)?;
    let most = (share * budget as f64).floor() as u64;
    // Those of a trial that is kept are committed.
    let searched = steps.search;
    expect(searched <= most, format!("at most {most} search steps of {budget}"), searched)?;
    expect(share == NONE || searched > 0, "a search, for which there is room", "none")?;
    same("repeated steps:", &0, &steps.repeated)?;
    let holder = kit.open(opening(&trainer.job)).await;
    refused("OpenSession after it", holder, Code::FailedPrecondition, ErrorReason::JobFinished)?;
    reading::exported_as_run(kit, &trainer).await
}

pub(super) async fn deterministic(kit: &Kit) -> Verdict {
    for spec in [scan(), paper(), staged()] {
        let spec = JobSpec { seed: Some(7), ..spec };
        let (mut one, mut two) = (Trainer::start(kit, spec.clone()).await?, Trainer::start(kit, spec).await?);
        same("the first directive:", &one.directive, &two.directive)?;
        while one.advance().await? {
            two.advance().await?;
            same("a directive, to the bit:", &one.directive, &two.directive)?;
        }
        same("the LR and loss of every step:", &one.line, &two.line)?;
    }
    Ok(())
}

pub(super) async fn diverged(kit: &Kit) -> Verdict {
    let mut trainer = Trainer::start(kit, scan()).await?;
    trainer.surface.breaks_at = 1.0;
    let (mut broken, mut stage) = (Vec::new(), 0);
    while run(&trainer.directive).is_some_and(|run| run.phase() == Phase::Trial) {
        let number = run(&trainer.directive).and_then(|run| run.trial);
        stage = run(&trainer.directive).map_or(0, |run| run.stage);
        trainer.advance().await?;
        if trainer.line.last().is_some_and(|step| !step.loss.is_finite()) {
            let restores = trainer.directive.slot_ops.iter().any(|op| op.kind() == Kind::Restore);
            expect(restores, "a restore after a trial that diverged", short(&trainer.directive.slot_ops))?;
            broken.extend(number);
        }
    }
    expect(!broken.is_empty(), "a trial above LR 1 in a search from 1e-4 to 10", "none")?;
    let request = GetStageRequest { job: trainer.job.clone(), stage };
    let shown = kit.jobs().get_stage(request).await?.into_inner().stage.unwrap_or_default();
    for trial in &shown.trials {
        let wanted = if broken.contains(&trial.trial) { Outcome::Diverged } else { Outcome::Completed };
        let what = format!("the outcome of trial {}", trial.trial);
        same(&what, &wanted, &trial.outcome())?;
        expect(
            trial.score.is_none() == (wanted == Outcome::Diverged),
            "a score unless it diverged",
            short(trial),
        )?;
    }
    let lr = shown.lr.unwrap_or(f64::NAN);
    let lowest = shown.trials.iter().filter(|trial| broken.contains(&trial.trial)).map(|trial| trial.lr);
    let lowest = lowest.fold(f64::INFINITY, f64::min);
    expect(lr < lowest, format!("an LR below {lowest:e}, whose trial diverged"), lr)?;
    let done = trainer.finish().await?;
    same("the end of the job:", &Reason::Finished, &done.reason())
}

pub(super) async fn nan_from_the_start(kit: &Kit) -> Verdict {
    let mut trainer = Trainer::start(kit, scan()).await?;
    trainer.surface.breaks_at = 0.0;
    let done = trainer.finish().await?;
    same("the end of the job:", &Reason::Failed, &done.reason())?;
    same("why:", &Failure::LossNotFiniteAtStart, &done.failure())?;
    let job = kit.get(&trainer.job).await?;
    same("its state:", &(JobState::Failed, Failure::LossNotFiniteAtStart), &(job.state(), job.failure()))
}

pub(super) async fn guarded(kit: &Kit) -> Verdict {
    let mut trainer = Trainer::start(kit, scan()).await?;
    trainer.until(Phase::Stable).await?;
    trainer.advance().await?;
    let expected = "a second directive of PHASE_STABLE";
    let stable = run(&trainer.directive).is_some_and(|run| run.phase() == Phase::Stable);
    if !stable {
        return Err(Broken::Skipped(format!("the stable phase is too short: no {expected}")));
    }
    let on_stop = trainer.directive.fallback_on_stop.is_some();
    expect(on_stop, "a fallback_on_stop in a guarded stretch", "none")?;
    trainer.surface.breaks_at = 0.0;
    let Reached::End(report) = trainer.reach().await? else { return Err(Broken::new(expected, "a rung")) };
    let broken = trainer.line.last().map_or(f64::NAN, |step| step.lr);
    // The ledger demands the restore.
    trainer.hand_in(report).await?;
    trainer.surface.breaks_at = f64::INFINITY;
    let lr = trainer.segment()?.lrs[0];
    expect(lr < broken, format!("an LR below {broken:e}, at which the stretch broke"), lr)?;
    let lost = kit.get(&trainer.job).await?.steps.unwrap_or_default().lost;
    expect(lost > 0, "lost steps", lost)?;
    trainer.finish().await.map(drop)
}

pub(super) async fn rungs(kit: &Kit) -> Verdict {
    let mut trainer = Trainer::start(kit, staged()).await?;
    let mut seen = 0;
    while run(&trainer.directive).is_some_and(|run| run.phase() == Phase::Trial) {
        trainer.begin()?;
        let (report, at_rung) = trainer.run_on(u64::MAX)?;
        if !at_rung {
            trainer.hand_in(report).await?;
            continue;
        }
        seen += 1;
        let answer = kit.advance(report.clone()).await?;
        let again = kit.advance(report.clone()).await?;
        same("the word at a rung, asked again:", &answer.go_on, &again.go_on)?;
        same("the directive at a rung, asked again:", &answer.directive, &again.directive)?;
        match (answer.go_on, answer.directive.is_some()) {
            (Some(at), false) => same("how far it has gone on:", &(report.train_losses.len() as u64), &at)?,
            (None, true) => {
                trainer.ledger.cut = true;
                trainer.take(answer)?;
                continue;
            }
            other => return Err(Broken::new("either go_on or a directive", format!("{other:?}"))),
        }
        trainer.advance().await?;
    }
    if seen == 0 {
        return Err(Broken::Skipped("no trial of staged had a rung".into()));
    }
    let (mut part, _) = trainer.run_on(1)?;
    part.at_rung = true;
    let elsewhere = kit.advance(part).await;
    refused("at_rung where none is", elsewhere, Code::InvalidArgument, ErrorReason::InvalidField).map(drop)
}

pub(super) async fn validated(kit: &Kit) -> Verdict {
    let options = PaperPolicy {
        tau: Some(40),
        tau_max: Some(80),
        candidates: Some(3),
        objective: Some(Objective::Validation.into()),
        ..PaperPolicy::default()
    };
    let mut trainer = Trainer::start(kit, search(400, Policy::Paper(options))).await?;
    let asked = run(&trainer.directive).map_or(0, |run| run.validate_at.len());
    expect(asked > 0, "validate_at in a search by the validation loss", "none")?;
    let Reached::End(report) = trainer.reach().await? else { return Err(Broken::new("an end", "a rung")) };
    let without = Report { validations: Vec::new(), ..report.clone() };
    let answer = kit.advance(without).await;
    refused("an end without its validations", answer, Code::InvalidArgument, ErrorReason::InvalidField)?;
    let steps = kit.get(&trainer.job).await?.steps.unwrap_or_default();
    expect(steps.search <= report.train_losses.len() as u64, "no step counted twice", steps.search)?;
    let (resume, takeover) = (Some(trainer.resume(0)), true);
    let capabilities = Some(Capabilities { replay: true, validate: false });
    let unable = OpenSessionRequest { resume, takeover, capabilities, ..opening(&trainer.job) };
    let unable = kit.open(unable).await;
    let what = "a session that can't validate";
    refused(what, unable, Code::InvalidArgument, ErrorReason::InvalidField)?;
    trainer.hand_in(report).await?;
    trainer.finish().await?;
    let newest = kit.get(&trainer.job).await?.validation_loss;
    expect(newest.is_some_and(f64::is_finite), "Job.validation_loss", short(&newest))
}

pub(super) async fn incapable(kit: &Kit) -> Verdict {
    // The ledger refuses a replay or a validate_at that was not offered.
    let capabilities = Capabilities { replay: false, validate: false };
    for spec in [scan(), paper(), plain(60, Policy::Constant(ConstantPolicy::default()))] {
        Trainer::start_with(kit, spec, capabilities).await?.finish().await?;
    }
    Ok(())
}

pub(super) async fn infinite(kit: &Kit) -> Verdict {
    for loss in [f64::INFINITY, f64::NEG_INFINITY, f64::NAN] {
        let mut trainer = Trainer::start(kit, scan()).await?;
        trainer.advance().await?;
        trainer.begin()?;
        trainer.run_on(2)?;
        let Some(last) = trainer.losses.last_mut() else { return Err(Broken::new("a loss", "none")) };
        *last = loss;
        let report = Report {
            finished: true,
            stopped_because: Some(non_finite(&trainer, 1)?),
            // A stop at offset 1 takes effect after two steps.
            ..trainer.report(0)
        };
        trainer.ledger.cut = true;
        trainer.hand_in(report).await.map_err(|broken| broken.at(format!("after a loss of {loss}")))?;
    }
    Ok(())
}

fn non_finite(trainer: &Trainer<'_>, offset: u64) -> Verdict<autolrs_proto::v1::StoppedBecause> {
    use autolrs_proto::v1::{StoppedBecause, stop_if::Rule, stopped_because};
    let rules = run(&trainer.directive).map(|run| run.stop_if.as_slice()).unwrap_or_default();
    let rule = rules.iter().position(|stop| matches!(stop.rule, Some(Rule::NonFinite(_))));
    let rule = rule.ok_or_else(|| Broken::new("non_finite among stop_if", short(&rules)))? as u32;
    let cause = stopped_because::Cause::StopRule(stopped_because::StopRule { rule, offset });
    Ok(StoppedBecause { cause: Some(cause) })
}

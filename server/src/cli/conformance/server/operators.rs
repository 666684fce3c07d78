//! Checks of what operators ask for.

use super::{
    kit::{Kit, constant, refused, scan},
    trainer::{Trainer, opening},
};
use crate::cli::conformance::{
    segment::run,
    verdict::{Broken, Verdict, expect, same, short},
};
use autolrs_proto::v1::{
    CancelJobRequest, ErrorReason, FinishJobRequest, Job, JobState, Phase, Report, StoppedBecause,
    UpdateJobRequest, done::Reason, slot_op::Kind, stopped_because::Cause,
};
use tonic::{Code, Status};

/// Reports the steps done so far: the number of the interrupt that the answer asks for.
async fn heed(trainer: &mut Trainer<'_>, steps: u64) -> Verdict<u64> {
    let (report, _) = trainer.run_on(steps)?;
    let report = Report { finished: false, at_rung: false, stopped_because: None, ..report };
    let ack = trainer.kit.advance(report).await?;
    ack.interrupt.ok_or_else(|| Broken::new("an interrupt in the answer to a report", short(&ack)))
}

/// Ends the directive where it is, as the interrupt asks.
async fn obey(trainer: &mut Trainer<'_>, number: u64) -> Verdict {
    let stopped_because = Some(StoppedBecause { cause: Some(Cause::Interrupt(number)) });
    let report = Report { finished: true, stopped_because, ..trainer.report(0) };
    trainer.hand_in(report).await
}

async fn finish(kit: &Kit, name: &str, id: &str, cooldown_steps: Option<u64>) -> Result<Job, Status> {
    let request = FinishJobRequest { name: name.into(), request_id: id.into(), cooldown_steps };
    Ok(kit.jobs().finish_job(request).await?.into_inner().job.unwrap_or_default())
}

pub(super) async fn finished(kit: &Kit) -> Verdict {
    let mut trainer = Trainer::start(kit, scan()).await?;
    trainer.until(Phase::Stable).await?;
    for _ in 0..2 {
        finish(kit, &trainer.job, "f1", Some(20)).await?;
    }
    let number = heed(&mut trainer, 3).await?;
    trainer.ledger.budget = None;
    obey(&mut trainer, number).await?;
    let cooling = run(&trainer.directive).map(|run| run.phase());
    same("what follows FinishJob in a stable stretch:", &Some(Phase::Cooldown), &cooling)?;
    same("steps of the cooldown:", &20, &trainer.segment()?.steps())?;
    finish(kit, &trainer.job, "f2", Some(1)).await?;
    same("the end of the job:", &Reason::Finished, &trainer.finish().await?.reason())?;
    let cooled = trainer.line.iter().filter(|step| step.phase == Phase::Cooldown).count();
    same("steps of the cooldown that were run, whatever is asked for in it:", &20, &cooled)?;
    let again = finish(kit, &trainer.job, "f3", None).await;
    refused("FinishJob after the end", again, Code::FailedPrecondition, ErrorReason::JobFinished).map(drop)
}

pub(super) async fn finished_in_search(kit: &Kit) -> Verdict {
    let mut trainer = Trainer::start(kit, scan()).await?;
    trainer.advance().await?;
    finish(kit, &trainer.job, "f1", None).await?;
    let number = heed(&mut trainer, 2).await?;
    trainer.ledger.budget = None;
    obey(&mut trainer, number).await?;
    let restores = trainer.directive.slot_ops.iter().any(|op| op.kind() == Kind::Restore);
    expect(restores, "a restore when a search is ended", short(&trainer.directive.slot_ops))?;
    same("the end of the job:", &Reason::Finished, &trainer.finish().await?.reason())?;
    let kept = kit.get(&trainer.job).await?.steps.unwrap_or_default().committed;
    same("committed steps, without a cooldown:", &0, &kept)
}

pub(super) async fn cancelled(kit: &Kit) -> Verdict {
    let mut trainer = Trainer::start(kit, scan()).await?;
    trainer.advance().await?;
    let delete = kit.delete(&trainer.job, "").await;
    let (code, reason) = (Code::FailedPrecondition, ErrorReason::JobNotEnded);
    refused("DeleteJob of a job that has not ended", delete, code, reason)?;
    let request = CancelJobRequest { name: trainer.job.clone(), request_id: "c1".into() };
    for _ in 0..2 {
        kit.jobs().cancel_job(request.clone()).await?;
    }
    let number = heed(&mut trainer, 2).await?;
    obey(&mut trainer, number).await?;
    let restores = trainer.directive.slot_ops.iter().any(|op| op.kind() == Kind::Restore);
    expect(restores, "a restore when a search is cancelled", short(&trainer.directive.slot_ops))?;
    same("the end of the job:", &Reason::Cancelled, &trainer.finish().await?.reason())?;
    same("its state:", &JobState::Cancelled, &kit.get(&trainer.job).await?.state())?;
    let again = kit.jobs().cancel_job(request).await?.into_inner().job.unwrap_or_default();
    same("the state after one more CancelJob:", &JobState::Cancelled, &again.state())?;
    let open = kit.open(opening(&trainer.job)).await;
    refused("OpenSession after it", open, Code::FailedPrecondition, ErrorReason::JobFinished)?;
    kit.delete(&trainer.job, &trainer.uid).await?;
    let report = kit.advance(trainer.report(0)).await;
    refused("a report of a job that is deleted", report, Code::NotFound, ErrorReason::JobNotFound).map(drop)
}

pub(super) async fn cancelled_untouched(kit: &Kit) -> Verdict {
    let job = kit.create(constant(10)).await?;
    let cancelled = kit.cancel(&job.name).await?;
    same(
        "the state of a job that is cancelled before a trainer came:",
        &JobState::Cancelled,
        &cancelled.state(),
    )?;
    kit.delete(&job.name, "").await.map_err(Into::into)
}

async fn update(
    kit: &Kit,
    name: &str,
    id: &str,
    lr_override: Option<f64>,
    total_steps: Option<u64>,
) -> Result<Job, Status> {
    let (name, request_id) = (name.into(), id.into());
    let request =
        UpdateJobRequest { name, request_id, lr_override, total_steps, ..UpdateJobRequest::default() };
    Ok(kit.jobs().update_job(request).await?.into_inner().job.unwrap_or_default())
}

pub(super) async fn updated(kit: &Kit) -> Verdict {
    let mut trainer = Trainer::start(kit, scan()).await?;
    let precondition = Code::FailedPrecondition;
    let searching = update(kit, &trainer.job, "u0", Some(0.1), None).await;
    refused("lr_override in a search", searching, precondition, ErrorReason::UpdateInSearch)?;
    let low = update(kit, &trainer.job, "u0", Some(-0.1), None).await;
    refused("lr_override below 0", low, Code::InvalidArgument, ErrorReason::InvalidField)?;
    trainer.until(Phase::Stable).await?;
    for _ in 0..2 {
        update(kit, &trainer.job, "u1", Some(0.003), Some(1600)).await?;
    }
    let number = heed(&mut trainer, 3).await?;
    trainer.ledger.budget = Some(1600);
    obey(&mut trainer, number).await?;
    let lr = trainer.segment()?.lrs[0];
    same("the LR after lr_override:", &0.003, &lr)?;
    let job = kit.get(&trainer.job).await?;
    same("the budget after total_steps:", &Some(1600), &job.total_steps)?;
    trainer.until(Phase::Cooldown).await?;
    let late = update(kit, &trainer.job, "u2", None, Some(1700)).await;
    refused("total_steps in a cooldown", late, precondition, ErrorReason::BudgetFixed)?;
    trainer.finish().await?;
    same("steps that were run:", &1600, &trainer.line.len())?;
    let over = update(kit, &trainer.job, "u3", Some(0.1), None).await;
    refused("lr_override after the end", over, precondition, ErrorReason::JobFinished)?;
    super::reading::exported_as_run(kit, &trainer).await
}

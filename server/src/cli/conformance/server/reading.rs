//! Checks of what is shown: stages and schedules.

use super::{
    kit::{Kit, paper, refused},
    trainer::Trainer,
};
use crate::{
    cli::conformance::verdict::{Broken, Verdict, expect, same, short},
    rpc::decode_piece,
};
use autolrs_proto::v1::{
    ErrorReason, ExportScheduleRequest, GetStageRequest, ListStagesRequest, Stage, Stretch,
};
use tonic::Code;

/// Whether the exported schedule is the line that the trainer kept, to the last bits.
pub(super) async fn exported_as_run(kit: &Kit, trainer: &Trainer<'_>) -> Verdict {
    let (lrs, _) = export(kit, &trainer.job).await?;
    same("steps of the exported schedule:", &trainer.kept.len(), &lrs.len())?;
    for (step, (ran, exported)) in trainer.kept.iter().zip(&lrs).enumerate() {
        let near = (ran - exported).abs() <= 1e-14 * ran.abs();
        expect(near, format!("LR {ran} at step {step} of the exported schedule"), exported)?;
    }
    Ok(())
}

/// The LR of every step, read part by part, and the stretches.
async fn export(kit: &Kit, job: &str) -> Verdict<(Vec<f64>, Vec<Stretch>)> {
    const MOST_PARTS: usize = 10_000;
    let mut request = ExportScheduleRequest { job: job.into(), start_step: 0, losses: true };
    let (mut lrs, mut stretches) = (Vec::new(), Vec::new());
    for _ in 0..MOST_PARTS {
        let part = kit.jobs().export_schedule(request.clone()).await?.into_inner();
        let schedule = part.schedule.unwrap_or_default();
        for piece in &schedule.pieces {
            let piece = decode_piece(piece).filter(autolrs_core::lr_pieces::Piece::is_valid);
            let piece = piece.ok_or_else(|| Broken::new("LR pieces in range", short(&schedule.pieces)))?;
            lrs.extend((0..piece.steps).map(|i| piece.lr(i)));
        }
        stretches.extend(part.stretches);
        match part.next_step {
            Some(next) => {
                same("where the next part starts:", &(lrs.len() as u64), &next)?;
                request.start_step = next;
            }
            None => {
                same("Schedule.steps, the sum of the pieces':", &(lrs.len() as u64), &schedule.steps)?;
                return Ok((lrs, stretches));
            }
        }
    }
    Err(Broken::new("a last part", format!("none among {MOST_PARTS}")))
}

pub(super) async fn stages(kit: &Kit) -> Verdict {
    let mut trainer = Trainer::start(kit, paper()).await?;
    trainer.finish().await?;
    let (mut stages, mut token): (Vec<Stage>, String) = (Vec::new(), String::new());
    loop {
        let request = ListStagesRequest { job: trainer.job.clone(), page_size: 1, page_token: token };
        let page = kit.jobs().list_stages(request).await?.into_inner();
        expect(page.stages.len() <= 1, "at most one stage on a page of one", page.stages.len())?;
        stages.extend(page.stages);
        token = page.next_page_token;
        if token.is_empty() {
            break;
        }
    }
    let numbers: Vec<u32> = stages.iter().map(|stage| stage.stage).collect();
    let wanted: Vec<u32> = (0..stages.len() as u32).collect();
    same("the stages in the order of their numbers:", &wanted, &numbers)?;
    for stage in &stages {
        let request = GetStageRequest { job: trainer.job.clone(), stage: stage.stage };
        let alone = kit.jobs().get_stage(request).await?.into_inner().stage.unwrap_or_default();
        same("GetStage, as ListStages:", stage, &alone)?;
        expect(stage.lr.is_some(), "an LR for every stage of a job that has ended", short(stage))?;
        expect(stage.trials.is_empty() || !stage.why.is_empty(), "a sentence that says why", short(stage))?;
    }
    let trials: usize = stages.iter().map(|stage| stage.trials.len()).sum();
    expect(trials > 0, "stages with trials", "none")?;
    let shown: u64 = stages.iter().flat_map(|stage| &stage.trials).map(|trial| trial.steps).sum();
    let steps = kit.get(&trainer.job).await?.steps.unwrap_or_default();
    same("steps of all trials, as Job.steps.search:", &steps.search, &shown)?;
    let request = GetStageRequest { job: trainer.job.clone(), stage: 9999 };
    let none = kit.jobs().get_stage(request).await;
    refused("a stage that is not there", none, Code::NotFound, ErrorReason::StageNotFound).map(drop)
}

pub(super) async fn stretches(kit: &Kit) -> Verdict {
    let mut trainer = Trainer::start(kit, paper()).await?;
    trainer.finish().await?;
    let (_, stretches) = export(kit, &trainer.job).await?;
    let kept: u64 = stretches.iter().filter(|stretch| !stretch.lost).map(|stretch| stretch.steps).sum();
    same("steps of the stretches that are kept:", &(trainer.kept.len() as u64), &kept)?;
    let ascending = stretches.is_sorted_by_key(|stretch| stretch.start_step);
    expect(ascending, "stretches in the order of their first steps", short(&stretches))?;
    let few = stretches.iter().all(|stretch| stretch.losses.len() <= 128 && !stretch.losses.is_empty());
    expect(few, "1 to 128 losses in every stretch", short(&stretches))?;
    let none = ExportScheduleRequest { job: trainer.job.clone(), ..ExportScheduleRequest::default() };
    let none = kit.jobs().export_schedule(none).await?.into_inner().stretches;
    expect(none.is_empty(), "no stretches unless losses were asked for", short(&none))
}

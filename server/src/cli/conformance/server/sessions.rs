//! Checks of sessions: who speaks for a job, and from where.

use super::{
    kit::{Kit, bad_fields, constant, metadata, paper, refused, scan},
    trainer::{HOST, PID, Reached, Trainer, opening},
};
use crate::cli::conformance::{
    segment::run,
    verdict::{Broken, Verdict, expect, same},
};
use autolrs_proto::v1::{ErrorReason, JobState, OpenSessionRequest, Phase, Report, Resume, done::Reason};
use tonic::Code;

pub(super) async fn nonce(kit: &Kit) -> Verdict {
    let job = kit.create(scan()).await?;
    let first = OpenSessionRequest { nonce: "first".into(), ..opening(&job.name) };
    let opened = kit.open(first.clone()).await?;
    same("a copy of the request:", &opened, &kit.open(first.clone()).await?)?;
    let second = OpenSessionRequest { nonce: "second".into(), takeover: true, ..first.clone() };
    let newer = kit.open(second).await?;
    same("the session after a takeover:", &(opened.session + 1), &newer.session)?;
    let late = kit.open(first).await;
    refused("a copy that arrives late", late, Code::FailedPrecondition, ErrorReason::Fenced)?;
    let shown = kit.get(&job.name).await?.session;
    same("the newest session, as before:", &newer.session, &shown)?;
    let long = OpenSessionRequest { nonce: "x".repeat(129), takeover: true, ..opening(&job.name) };
    let status = refused(
        "a nonce of 129 bytes",
        kit.open(long).await,
        Code::InvalidArgument,
        ErrorReason::InvalidField,
    )?;
    same("the fields of its BadRequest:", &vec!["nonce".to_owned()], &bad_fields(&status))
}

pub(super) async fn active(kit: &Kit) -> Verdict {
    let trainer = Trainer::start(kit, scan()).await?;
    let other = kit.open(opening(&trainer.job)).await;
    let (code, reason) = (Code::FailedPrecondition, ErrorReason::SessionActive);
    let status = refused("OpenSession beside a trainer that was just heard", other, code, reason)?;
    same("its host:", &HOST.to_owned(), &metadata(&status, "host"))?;
    same("its pid:", &PID.to_string(), &metadata(&status, "pid"))?;
    let holder = kit.get(&trainer.job).await?.holder.unwrap_or_default();
    same("Job.holder:", &(HOST.to_owned(), PID), &(holder.host, holder.pid))
}

pub(super) async fn fenced(kit: &Kit) -> Verdict {
    let (mut old, mut twin) = (Trainer::start(kit, scan()).await?, Trainer::start(kit, scan()).await?);
    old.advance().await?;
    twin.advance().await?;
    let Reached::End(report) = old.reach().await? else { return Err(Broken::new("a second trial", "none")) };
    let mut new = old.clone();
    // The checkpoint of the new trainer is from the directive's start.
    let opened = new.reopen(0, true).await?;
    same("the session after a takeover:", &(old.session + 1), &opened.session)?;
    let spoken = kit.advance(report).await;
    let status =
        refused("a report of the old session", spoken, Code::FailedPrecondition, ErrorReason::Fenced)?;
    same("the newest session in the metadata:", &new.session.to_string(), &metadata(&status, "newest"))?;
    let job = kit.get(&old.job).await?;
    let first = old.line.iter().filter(|step| step.seq == old.line[0].seq).count() as u64;
    same(
        "steps of the job, which the old session did not change:",
        &first,
        &job.steps.unwrap_or_default().search,
    )?;
    // What the new one decides is what the twin decides, whom nobody disturbed.
    let Reached::End(of_twin) = twin.reach().await? else {
        return Err(Broken::new("a second trial", "none"));
    };
    let report = Report { job: new.job.clone(), session: new.session, ..of_twin.clone() };
    new.hand_in(Report { seq: new.directive.seq, ..report }).await?;
    twin.hand_in(of_twin).await?;
    same("the directive after it, as without a takeover:", &twin.directive.action, &new.directive.action)
}

pub(super) async fn resumed(kit: &Kit) -> Verdict {
    let (mut trainer, mut twin) = (Trainer::start(kit, scan()).await?, Trainer::start(kit, scan()).await?);
    trainer.advance().await?;
    twin.advance().await?;
    let (half, _) = trainer.run_on(trainer.segment()?.steps() / 2)?;
    let held = half.train_losses.len() as u64;
    expect(held > 0, "trials of at least two steps", trainer.segment()?.steps())?;
    same("losses that are held:", &held, &kit.advance(half.clone()).await?.received_through)?;
    let before = trainer.directive.clone();
    let opened = trainer.reopen(held - 1, false).await?;
    let directive = opened.directive.unwrap_or_default();
    same("the seq of the directive when a trainer resumes in it:", &before.seq, &directive.seq)?;
    same("its action:", &before.action, &directive.action)?;
    same(
        "its fallback's seq:",
        &before.fallback.map(|f| f.seq),
        &directive.fallback.as_ref().map(|f| f.seq),
    )?;
    same("received_through, cut to the checkpoint's offset:", &(held - 1), &opened.received_through)?;
    same("the uid:", &trainer.uid, &opened.uid)?;
    // The losses after the checkpoint are sent once more, with the rest.
    let (rest, _) = trainer.run_on(u64::MAX)?;
    trainer.hand_in(Report { session: trainer.session, ..rest }).await?;
    twin.advance().await?;
    same("the directive after it, as without a restart:", &twin.directive.action, &trainer.directive.action)?;
    let repeated = kit.get(&trainer.job).await?.steps.unwrap_or_default().repeated;
    same("repeated steps:", &1, &repeated)
}

pub(super) async fn rewound(kit: &Kit) -> Verdict {
    let mut trainer = Trainer::start(kit, scan()).await?;
    trainer.advance().await?;
    let mut checkpoint = trainer.clone();
    let mut line = Vec::new();
    for _ in 0..3 {
        trainer.advance().await?;
        line.push(trainer.directive.action.clone());
    }
    let opened = checkpoint.reopen(0, true).await?;
    let directive = opened.directive.unwrap_or_default();
    same("the seq of an older checkpoint:", &checkpoint.directive.seq, &directive.seq)?;
    same("its directive:", &checkpoint.directive.action, &directive.action)?;
    let newest = trainer.directive.seq;
    checkpoint.directive = directive;
    for action in line {
        checkpoint.advance().await?;
        same("the directives after it, with the same losses:", &action, &checkpoint.directive.action)?;
        let seq = checkpoint.directive.seq;
        expect(seq > newest, format!("a seq above {newest}: none is used again"), seq)?;
    }
    let (job, ran) = (kit.get(&trainer.job).await?, checkpoint.line.len() as u64);
    let steps = job.steps.unwrap_or_default();
    same("steps that count:", &ran, &(steps.committed + steps.search + steps.lost))?;
    expect(steps.repeated > 0, "repeated steps", steps.repeated)?;
    let done = checkpoint.finish().await?;
    same("the end of the job:", &Reason::Finished, &done.reason())
}

pub(super) async fn mismatched(kit: &Kit) -> Verdict {
    let mut trainer = Trainer::start(kit, constant(40)).await?;
    let (half, _) = trainer.run_on(20)?;
    kit.advance(half).await?;
    let ask = |resume: Option<Resume>| OpenSessionRequest { resume, takeover: true, ..opening(&trainer.job) };
    let precondition = Code::FailedPrecondition;
    let none = kit.open(ask(None)).await;
    let status = refused("no checkpoint", none, precondition, ErrorReason::ResumeRequired)?;
    same("total_steps_done:", &"20".to_owned(), &metadata(&status, "total_steps_done"))?;
    let foreign = Resume { uid: "0123456789abcdef".into(), ..trainer.resume(20) };
    let foreign = kit.open(ask(Some(foreign))).await;
    refused("a checkpoint of another uid", foreign, precondition, ErrorReason::CheckpointMismatch)?;
    let ahead = Resume { seq: trainer.directive.seq + 1000, ..trainer.resume(0) };
    let ahead = kit.open(ask(Some(ahead))).await;
    refused("a checkpoint from a future", ahead, precondition, ErrorReason::CheckpointMismatch)?;
    let beyond = kit.open(ask(Some(trainer.resume(10_000)))).await;
    let status = refused("an offset past the end", beyond, Code::InvalidArgument, ErrorReason::InvalidField)?;
    same("the fields of its BadRequest:", &vec!["resume.offset".to_owned()], &bad_fields(&status))?;
    let job = kit.get(&trainer.job).await?;
    same("the session, which no refusal changed:", &trainer.session, &job.session)?;
    trainer.run_on(u64::MAX)?;
    let mut report = trainer.report(0);
    report.finished = true;
    trainer.hand_in(report).await
}

pub(super) async fn too_old(kit: &Kit) -> Verdict {
    // The second trial of a search is the start of no stage.
    const DIRECTIVES: usize = 80;
    let mut trainer = Trainer::start(kit, long_paper()).await?;
    trainer.advance().await?;
    let checkpoint = trainer.resume(0);
    for _ in 0..DIRECTIVES {
        let went_on = trainer.advance().await?;
        expect(went_on, "a job of more directives", "its end")?;
    }
    let open = OpenSessionRequest { resume: Some(checkpoint), takeover: true, ..opening(&trainer.job) };
    let answer = match kit.open(open).await {
        Ok(opened) if opened.directive.is_some() => {
            return Err(Broken::Skipped(format!(
                "the server still keeps a checkpoint {DIRECTIVES} directives back"
            )));
        }
        answer => answer,
    };
    let status = refused(
        "a checkpoint that is no longer kept",
        answer,
        Code::FailedPrecondition,
        ErrorReason::CheckpointTooOld,
    )?;
    let oldest = metadata(&status, "oldest_seq").parse::<u64>().unwrap_or(0);
    let newest = trainer.directive.seq;
    expect((1..=newest).contains(&oldest), format!("oldest_seq from 1 to {newest}"), oldest)?;
    let resume = Some(Resume { seq: oldest, ..trainer.resume(0) });
    let open = OpenSessionRequest { resume, takeover: true, ..opening(&trainer.job) };
    let directive = kit.open(open).await?.directive.unwrap_or_default();
    // Slots that are held now may not be those of then: the search may be closed instead.
    expect(directive.seq >= oldest, "a session from the oldest checkpoint that is kept", directive.seq)
}

fn long_paper() -> autolrs_proto::v1::JobSpec {
    use autolrs_proto::v1::{PaperPolicy, job_spec::Policy};
    let options =
        PaperPolicy { tau: Some(20), tau_max: Some(20), candidates: Some(4), ..PaperPolicy::default() };
    super::kit::search(2000, Policy::Paper(options))
}

pub(super) async fn restarted(kit: &Kit) -> Verdict {
    let mut trainer = Trainer::start(kit, paper()).await?;
    trainer.finish().await?;
    let (name, code) = (&trainer.job, Code::FailedPrecondition);
    let finished = kit.open(opening(name)).await;
    let status = refused("OpenSession of a job that has ended", finished, code, ErrorReason::JobFinished)?;
    same("its state:", &"FINISHED".to_owned(), &metadata(&status, "state"))?;
    let spec = Some(kit.labelled(constant(30)));
    let alone = OpenSessionRequest { spec: spec.clone(), ..opening(name) };
    let alone = kit.open(alone).await;
    refused("a spec without restart", alone, Code::InvalidArgument, ErrorReason::InvalidField)?;
    let opened = kit.open(OpenSessionRequest { spec, restart: true, ..opening(name) }).await?;
    let directive = opened.directive.unwrap_or_default();
    let newest = trainer.directive.seq;
    expect(directive.seq > newest, format!("a seq above {newest}: none is used again"), directive.seq)?;
    expect(
        run(&directive).is_some_and(|run| run.phase() != Phase::Trial),
        "the new spec's first directive",
        "another",
    )?;
    let job = kit.get(name).await?;
    let done = job.steps.unwrap_or_default();
    same("steps after a restart:", &0, &(done.committed + done.search + done.lost + done.repeated))?;
    same("the policy of the new spec:", &"constant".to_owned(), &job.policy)?;
    expect(job.state() != JobState::Finished, "a job that goes on", job.state().as_str_name())
}

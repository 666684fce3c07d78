//! Checks of reports: exactly-once effect over at-least-once delivery.

use super::{
    kit::{Kit, bad_fields, constant, paper, refused, scan},
    trainer::{Reached, Trainer},
};
use crate::cli::conformance::{
    segment::run,
    verdict::{Broken, Verdict, expect, same},
};
use autolrs_proto::v1::{
    Ack, ErrorReason, Report, StoppedBecause, TrainRequest,
    stopped_because::{Cause, StopRule},
};
use std::time::Duration;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Code;

/// Longest wait for an answer on a stream.
const SOON: Duration = Duration::from_secs(10);

async fn end(trainer: &mut Trainer<'_>) -> Verdict<Report> {
    match trainer.reach().await? {
        Reached::End(report) => Ok(report),
        _ => Err(Broken::new("a directive without rungs", "another")),
    }
}

/// The same of a directive that can be told in parts.
async fn long_end(trainer: &mut Trainer<'_>) -> Verdict<Report> {
    let report = end(trainer).await?;
    let n = report.train_losses.len();
    expect(n >= 6, "branches of scan of at least 6 steps", n).map(|()| report)
}

/// The part of a report's losses, which ends nothing.
fn part(report: &Report, from: usize, to: usize) -> Report {
    let train_losses = report.train_losses[from..to].to_vec();
    Report {
        first_offset: from as u64,
        train_losses,
        finished: false,
        at_rung: false,
        stopped_because: None,
        ..report.clone()
    }
}

pub(super) async fn exactly_once(kit: &Kit) -> Verdict {
    let (mut trainer, mut twin) = (Trainer::start(kit, scan()).await?, Trainer::start(kit, scan()).await?);
    let mut stale: Option<Report> = None;
    for _ in 0..6 {
        let report = long_end(&mut trainer).await?;
        let n = report.train_losses.len();
        let (third, half) = (n / 3, n / 2);
        // In order, repeated, a late one, overlapping ones, and one whose losses are others than those that are held.
        let lies = Report { train_losses: vec![1e3; half], ..part(&report, 0, half) };
        let said = [
            (part(&report, 0, half), half),
            (part(&report, 0, half), half),
            (part(&report, 0, third), half),
            (part(&report, third, n - 1), n - 1),
            (part(&report, third, half), n - 1),
            (lies, n - 1),
        ];
        for (part, held) in said {
            let ack = kit.advance(part).await?;
            same("losses that are held:", &(held as u64), &ack.received_through)?;
            same("the directive that an answer is about:", &report.seq, &ack.seq)?;
            expect(ack.directive.is_none(), "no directive before the end", "one")?;
        }
        if let Some(stale) = stale.replace(report.clone()) {
            let ack = kit.advance(stale.clone()).await?;
            same("what an answer to an old end is about:", &stale.seq, &ack.seq)?;
        }
        trainer.hand_in(report).await?;
        twin.advance().await?;
        same("the next directive, as without all this:", &twin.directive.action, &trainer.directive.action)?;
    }
    let (job, same_as) = (kit.get(&trainer.job).await?, kit.get(&twin.job).await?);
    same("the steps, as without all this:", &same_as.steps, &job.steps)
}

pub(super) async fn gap(kit: &Kit) -> Verdict {
    let mut trainer = Trainer::start(kit, scan()).await?;
    let report = long_end(&mut trainer).await?;
    let n = report.train_losses.len();
    kit.advance(part(&report, 0, 2)).await?;
    for beyond in [part(&report, 4, n), Report { finished: true, ..part(&report, 4, n) }] {
        let ack = kit.advance(beyond).await?;
        same("where to go on, after a report from beyond that:", &2, &ack.received_through)?;
        same("the directive that the answer is about:", &report.seq, &ack.seq)?;
        expect(ack.directive.is_none(), "no directive for an end with a gap before it", "one")?;
    }
    trainer.hand_in(Report { finished: true, ..part(&report, 2, n) }).await
}

pub(super) async fn end_again(kit: &Kit) -> Verdict {
    let mut trainer = Trainer::start(kit, scan()).await?;
    let report = end(&mut trainer).await?;
    let first = kit.advance(report.clone()).await?;
    for _ in 0..2 {
        let again = kit.advance(report.clone()).await?;
        same("the answer to an end that is told again:", &first.directive, &again.directive)?;
    }
    let heartbeat = Report { train_losses: Vec::new(), finished: false, ..report };
    let ack = kit.advance(heartbeat).await?;
    same("the session in an answer:", &trainer.session, &ack.session)?;
    trainer.take(first)
}

pub(super) async fn durable(kit: &Kit) -> Verdict {
    let mut trainer = Trainer::start(kit, scan()).await?;
    let (part, _) = trainer.run_on(3)?;
    let ack = kit.advance(part).await?;
    let open = trainer.directive.seq;
    expect(ack.durable_seq < open, format!("durable_seq below {open}, which is under way"), ack.durable_seq)?;
    // `take` looks at the durable_seq of every answer to an end.
    for _ in 0..3 {
        trainer.advance().await?;
    }
    Ok(())
}

pub(super) async fn wrong_ends(kit: &Kit) -> Verdict {
    let mut trainer = Trainer::start(kit, scan()).await?;
    let report = long_end(&mut trainer).await?;
    let n = report.train_losses.len();
    let because = |cause| Some(StoppedBecause { cause: Some(cause) });
    let invalid = Code::InvalidArgument;
    let stopped_because = because(Cause::StopRule(StopRule { rule: 0, offset: 1 }));
    let lie = Report { finished: true, stopped_because, ..part(&report, 0, 2) };
    refused(
        "a stop that the losses do not show",
        kit.advance(lie).await,
        invalid,
        ErrorReason::StopMismatch,
    )?;
    let early = Report { finished: true, ..part(&report, 0, n - 1) };
    let status =
        refused("an end before the last step", kit.advance(early).await, invalid, ErrorReason::InvalidField)?;
    same("the fields of its BadRequest:", &vec!["report.finished".to_owned()], &bad_fields(&status))?;
    let long = Report { train_losses: vec![1.0; n + 1], finished: false, ..report.clone() };
    refused("more losses than steps", kit.advance(long).await, invalid, ErrorReason::InvalidField)?;
    let interrupt =
        Report { finished: true, stopped_because: because(Cause::Interrupt(99)), ..part(&report, 0, 2) };
    refused(
        "an interrupt that nobody asked for",
        kit.advance(interrupt).await,
        invalid,
        ErrorReason::StopMismatch,
    )?;
    // A loss that is no number ends the directive: to leave that out is the same lie.
    let mut silent = report.clone();
    silent.train_losses[0] = f64::NAN;
    match kit.advance(silent).await {
        Err(status) if status.code() == invalid => {}
        other => {
            return Err(Broken::new("a NaN that is passed over in silence: refused", format!("{other:?}")));
        }
    }
    let shown = kit.get(&trainer.job).await?.steps.unwrap_or_default();
    same("steps after nothing but refusals:", &0, &(shown.committed + shown.search + shown.lost))?;
    trainer.hand_in(report).await
}

pub(super) async fn unknown_directive(kit: &Kit) -> Verdict {
    let trainer = Trainer::start(kit, scan()).await?;
    let (code, reason) = (Code::FailedPrecondition, ErrorReason::UnknownDirective);
    let seq = Report { seq: 10_000, ..trainer.report(0) };
    refused("a report of a directive that was never given", kit.advance(seq).await, code, reason)?;
    let session = Report { session: trainer.session + 1, ..trainer.report(0) };
    refused("a report of a session that was never given", kit.advance(session).await, code, reason).map(drop)
}

pub(super) async fn stream_is_unary(kit: &Kit) -> Verdict {
    let (mut unary, mut streamed) =
        (Trainer::start(kit, paper()).await?, Trainer::start(kit, paper()).await?);
    let (send, receive) = tokio::sync::mpsc::channel(1);
    let mut answers = kit.trainers().train(ReceiverStream::new(receive)).await?.into_inner();
    for _ in 0..6 {
        let report = end(&mut streamed).await?;
        let ack: Ack = kit.advance(end(&mut unary).await?).await?;
        let request = TrainRequest { report: Some(report.clone()) };
        send.send(request).await.map_err(|_| Broken::new("a stream that is open", "it has ended"))?;
        // Between the answers the server may say something of its own accord.
        let answer = loop {
            let message = tokio::time::timeout(SOON, answers.message()).await;
            let message =
                message.map_err(|_| Broken::new("an answer on the stream", "none within 10 s"))??;
            let message = message.ok_or_else(|| Broken::new("an answer on the stream", "its end"))?;
            let ack = message.ack.unwrap_or_default();
            if ack.seq == report.seq && ack.directive.is_some() {
                break ack;
            }
        };
        same(
            "Ack.received_through of Train, as of Advance:",
            &ack.received_through,
            &answer.received_through,
        )?;
        same("Ack.durable_seq:", &ack.durable_seq, &answer.durable_seq)?;
        same("Ack.directive:", &ack.directive, &answer.directive)?;
        unary.take(ack)?;
        streamed.take(answer)?;
    }
    let bad = Report { seq: 10_000, ..streamed.report(0) };
    drop(send.send(TrainRequest { report: Some(bad) }).await);
    let end = loop {
        let message = tokio::time::timeout(SOON, answers.message()).await;
        match message.map_err(|_| Broken::new("the end of the stream", "none within 10 s"))? {
            Ok(Some(_)) => {}
            Ok(None) => break Ok(()),
            Err(status) => break Err(status),
        }
    };
    let what = "a stream after a report that is refused";
    refused(what, end, Code::FailedPrecondition, ErrorReason::UnknownDirective).map(drop)
}

pub(super) async fn fallback_adopted(kit: &Kit) -> Verdict {
    let mut trainer = Trainer::start(kit, scan()).await?;
    trainer.advance().await?;
    // The end is told, and the answer lost: the trainer goes on with the fallback that it holds.
    let report = end(&mut trainer).await?;
    let fallback = trainer.directive.fallback.clone();
    let fallback = *fallback.ok_or_else(|| Broken::new("a fallback", "none"))?;
    let unheard = kit.advance(report).await?.directive.unwrap_or_default();
    trainer.enter(autolrs_proto::v1::Directive { session: trainer.session, ..fallback })?;
    let (first, _) = trainer.run_on(5)?;
    // The first report may do no more than tell that the fallback is run: the answer says where to send from.
    let told = kit.advance(first.clone()).await?;
    same("what the answer to a fallback's losses is about:", &trainer.directive.seq, &told.seq)?;
    let from = usize::try_from(told.received_through).unwrap_or(usize::MAX).min(5);
    let ack = kit.advance(part(&first, from, 5)).await?;
    same("losses of the fallback that are held:", &5, &ack.received_through)?;
    let (rest, _) = trainer.run_on(u64::MAX)?;
    let ack = kit.advance(rest).await?;
    let next = ack.directive.ok_or_else(|| Broken::new("what follows the fallback", "nothing"))?;
    expect(next.seq > unheard.seq, "a seq that was never used", next.seq)?;
    trainer.enter(next)?;
    trainer.finish().await?;
    let job = kit.get(&trainer.job).await?;
    let steps = job.steps.unwrap_or_default();
    same("steps that count:", &(trainer.line.len() as u64), &(steps.committed + steps.search + steps.lost))?;
    same("committed steps:", &(trainer.kept.len() as u64), &steps.committed)
}

pub(super) async fn wide_switch_points(kit: &Kit) -> Verdict {
    let spec = autolrs_proto::v1::JobSpec { switch_every: Some(8), ..constant(64) };
    let mut trainer = Trainer::start(kit, spec).await?;
    same("switch_every as resolved:", &8, &trainer.ledger.switch_every)?;
    trainer.run_on(3)?;
    trainer.surface.breaks_at = 0.0;
    let report = end(&mut trainer).await?;
    trainer.surface.breaks_at = f64::INFINITY;
    // NaN at offset 3: the trainer goes on to the first multiple of 8 at or after 11.
    same("where a stop at offset 3 takes effect:", &16, &report.train_losses.len())?;
    let early = Report { train_losses: report.train_losses[..8].to_vec(), ..report.clone() };
    match kit.advance(early).await {
        Err(status) if status.code() == Code::InvalidArgument => {}
        other => return Err(Broken::new("an end before that: refused", format!("{other:?}"))),
    }
    trainer.hand_in(report).await?;
    let restores = run(&trainer.directive).is_some();
    expect(restores, "a directive that goes on from a slot", "the end")
}

//! Resumes from older checkpoints: to every directive that is kept, at every kind of offset.

mod common;

use autolrs_core::{
    directive::{Directive, Slot, SlotOp},
    job::{KEPT_CHECKPOINTS, Refusal, Report},
};
use common::{
    Desk,
    given::{broken, constant, go_on, losses, paper, scan, staged, started, whole},
    resume,
};

const SLOTS: [Slot; 5] = [Slot::Start, Slot::Safe, Slot::SafePrev, Slot::Stage, Slot::Best];

/// Runs to the end; every directive.
fn run_out(desk: &mut Desk, first: Directive) -> Vec<Directive> {
    let mut all = vec![first];
    while let Some(run) = all[all.len() - 1].run() {
        let last = &all[all.len() - 1];
        let session = desk.job.session();
        let report = Report { session, finished: true, ..losses(last.seq, 0, run.steps() as usize) };
        all.push(desk.report(report).unwrap().directive.unwrap());
    }
    all
}

/// What a directive asks for, without its numbers.
fn asked(directive: &Directive) -> (&autolrs_core::directive::Action, &[SlotOp], u64) {
    (&directive.action, &directive.slot_ops, directive.committed_step_at_start)
}

#[test]
fn every_kept_directive_can_be_gone_back_to_and_leads_to_the_same_end() {
    for spec in [constant(1000), scan(2000), paper(400, 50), staged(800, 60)] {
        let (mut desk, first) = started(spec.clone());
        let all = run_out(&mut desk, first);
        let last = desk.job.view();
        for (i, directive) in all.iter().enumerate() {
            for offset in [0, 1, directive.run().map_or(0, |run| run.steps())] {
                let mut desk = desk.clone();
                let seq = directive.seq;
                let offset = offset.min(directive.run().map_or(0, |run| run.steps()));
                if !desk.checkpoints.contains_key(&seq) {
                    let refused = desk.open(resume(seq, offset, &SLOTS));
                    assert!(matches!(refused, Err(Refusal::CheckpointTooOld { .. })), "{refused:?}");
                    continue;
                }
                let opened = desk.open(resume(seq, offset, &SLOTS)).unwrap();
                assert_eq!((&opened.directive, opened.received_through), (directive, 0));
                assert_eq!(opened.slot_ops, []);
                let again = run_out(&mut desk, opened.directive);
                assert_eq!(
                    again.iter().map(asked).collect::<Vec<_>>(),
                    all[i..].iter().map(asked).collect::<Vec<_>>()
                );
                assert_eq!(desk.job.view().spent, last.spent);
                assert_eq!(desk.job.view().commits, last.commits);
            }
        }
    }
}

#[test]
fn an_abandoned_timeline_can_be_gone_forward_to() {
    let (mut desk, first) = started(constant(2000));
    let all = run_out(&mut desk, first);
    desk.open(resume(all[2].seq, 0, &SLOTS)).unwrap();
    let done = desk.job.view().spent.total();
    assert_eq!(done, 200);
    let repeated = desk.job.view().repeated;
    desk.open(resume(all[9].seq, 0, &SLOTS)).unwrap();
    assert_eq!(desk.job.view().spent.total(), 900);
    assert_eq!(desk.job.view().repeated, repeated, "nothing is run again");
    let end = all.last().unwrap();
    assert_eq!(desk.open(resume(end.seq, 0, &SLOTS)).unwrap().directive, *end);
    assert!(desk.job.ended().is_some());
}

#[test]
fn commits_go_back_too() {
    let (mut desk, first) = started(constant(2000));
    let second = go_on(&mut desk, &first);
    let before = desk.job.view().commits;
    let retry = desk.report(broken(&second, 60)).unwrap().directive.unwrap();
    let after = desk.job.view().commits;
    assert_eq!((before.len(), after.len()), (1, 1));
    assert!(after[0].1 < before[0].1);
    desk.open(resume(second.seq, 0, &SLOTS)).unwrap();
    assert_eq!(desk.job.view().commits, before);
    desk.open(resume(retry.seq, 0, &SLOTS)).unwrap();
    assert_eq!(desk.job.view().commits, after);
}

#[test]
fn too_old_names_the_next_directive_that_is_kept() {
    let (mut desk, mut directive) = started(constant(20_000_000_000));
    let mut all = vec![directive.seq];
    for _ in 0..2 * KEPT_CHECKPOINTS {
        directive = go_on(&mut desk, &directive);
        all.push(directive.seq);
    }
    let oldest = all[all.len() - KEPT_CHECKPOINTS];
    for seq in [all[1], all[20]] {
        assert_eq!(desk.open(resume(seq, 0, &SLOTS)), Err(Refusal::CheckpointTooOld { seq, oldest }));
    }
    for seq in [0, directive.seq + 1, directive.seq + 1000] {
        let refused = desk.open(resume(seq, 0, &SLOTS));
        assert!(matches!(refused, Err(Refusal::CheckpointMismatch(_))), "{refused:?}");
    }
    assert_eq!(desk.checkpoints.len(), KEPT_CHECKPOINTS + 1, "and the first of the stage");
    assert!(desk.open(resume(all[0], 0, &SLOTS)).is_ok());
    assert!(desk.open(resume(oldest, 0, &SLOTS)).is_ok());
}

#[test]
fn from_the_directive_that_too_old_names_all_are_kept() {
    let (mut desk, mut directive) = started(paper(1_000_000, 10));
    let mut all = vec![directive.seq];
    for _ in 0..3 * KEPT_CHECKPOINTS {
        let report = Report { session: 1, ..whole(&directive) };
        directive = desk.report(report).unwrap().directive.unwrap();
        all.push(directive.seq);
    }
    let refused = desk.open(resume(all[1], 0, &SLOTS));
    let Err(Refusal::CheckpointTooOld { oldest, .. }) = refused else { panic!("{refused:?}") };
    let usable: Vec<u64> = all.into_iter().filter(|seq| *seq >= oldest).collect();
    assert_eq!(usable.len(), KEPT_CHECKPOINTS);
    for seq in usable {
        assert!(desk.clone().open(resume(seq, 0, &SLOTS)).is_ok(), "directive {seq}");
    }
}

#[test]
fn a_fallback_adopted_again_after_a_rewind_is_kept_and_dropped_once() {
    let (mut desk, first) = started(paper(1_000_000, 10));
    let fallback = first.fallback.as_ref().unwrap().seq;
    for session in 1..=5 {
        let report = Report { session, ..whole(&first) };
        desk.report(report).unwrap();
        desk.report(Report { session, ..losses(fallback, 0, 1) }).unwrap();
        assert_eq!(desk.job.heartbeat().seq, fallback);
        desk.open(resume(first.seq, 0, &SLOTS)).unwrap();
    }
    let mut directive = first;
    for _ in 0..3 * KEPT_CHECKPOINTS {
        let report = Report { session: 6, ..whole(&directive) };
        directive = desk.report(report).unwrap().directive.unwrap();
    }
}

#[test]
fn a_refilled_slot_holds_the_steps_of_the_checkpoint_at_hand() {
    // In the middle of a directive.
    let (mut desk, first) = started(constant(1000));
    let second = go_on(&mut desk, &first);
    desk.open(resume(second.seq, 50, &[])).unwrap();
    let mut report = broken(&second, 80);
    report.session = 2;
    let retry = desk.report(report).unwrap().directive.unwrap();
    assert_eq!(retry.committed_step_at_start, 150);
    let spent = desk.job.view().spent;
    assert_eq!((spent.committed, spent.lost, spent.total()), (150, 31, 181));
    // At the start of one that restores: the checkpoint holds the state after the restore.
    let SlotOp::Restore(restored) = retry.slot_ops[0] else { panic!("{:?}", retry.slot_ops) };
    desk.open(resume(retry.seq, 0, &[])).unwrap();
    assert_eq!(desk.job.view().spent, spent);
    let mut report = broken(&retry, 10);
    report.session = 3;
    let next = desk.report(report).unwrap().directive.unwrap();
    assert!(matches!(next.slot_ops[0], SlotOp::Restore(_)), "{restored:?}");
    assert_eq!(next.committed_step_at_start, 150, "every slot holds what the trainer had");
    let spent = desk.job.view().spent;
    assert_eq!((spent.committed, spent.lost), (150, 31 + 11));
}

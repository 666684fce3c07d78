//! Schedules: core to wire, in parts that fit a message.

use super::{directive, job, report};
use crate::actor::ScheduleView;
use autolrs_core::{
    job::{Stretch, Validation},
    lr_pieces,
};
use autolrs_proto::v1 as pb;

/// Most pieces in one answer: 64 bytes each at most.
const MAX_PIECES: usize = 16_384;
/// Most stretches in one answer, besides those that start together: 4 KiB each at most.
const MAX_STRETCHES: usize = 384;
/// Most validation losses of a stretch.
const MAX_VALIDATIONS: usize = 128;

/// The part of a schedule that begins with `start_step`.
pub(in crate::rpc) fn encode(view: &ScheduleView, start_step: u64) -> pb::ExportScheduleResponse {
    encode_part(view, start_step, MAX_PIECES, MAX_STRETCHES)
}

fn encode_part(
    view: &ScheduleView,
    start_step: u64,
    most_pieces: usize,
    most_stretches: usize,
) -> pb::ExportScheduleResponse {
    let (_, mut pieces) = lr_pieces::cut(&view.pieces, start_step);
    let more = pieces.len() > most_pieces;
    pieces.truncate(most_pieces);
    let pieces_end = more.then(|| start_step + lr_pieces::steps(&pieces));
    let next_step = [pieces_end, stretches_end(&view.stretches, start_step, most_stretches)];
    let next_step = next_step.into_iter().flatten().min();
    if let Some(next) = next_step {
        pieces = lr_pieces::cut(&pieces, next - start_step).0;
    }
    let pb::Job { name, uid, policy, state, commits, .. } = job::encode(&view.job);
    let steps = lr_pieces::steps(&view.pieces);
    let pieces = pieces.iter().map(directive::piece).collect();
    let schedule = pb::Schedule { job: name, uid, policy, state, steps, pieces, commits };
    let here = |s: &&Stretch| s.start_step >= start_step && next_step.is_none_or(|next| s.start_step < next);
    let stretches = view.stretches.iter().filter(here).map(stretch).collect();
    pb::ExportScheduleResponse { schedule: Some(schedule), next_step, stretches }
}

/// Where the part must end so that its stretches are at most `most`, or those that start together.
fn stretches_end(stretches: &[Stretch], start_step: u64, most: usize) -> Option<u64> {
    let starts: Vec<u64> = stretches.iter().map(|s| s.start_step).filter(|&s| s >= start_step).collect();
    let next = *starts.get(most)?;
    if next > start_step { Some(next) } else { starts.into_iter().find(|&start| start > next) }
}

fn stretch(stretch: &Stretch) -> pb::Stretch {
    pb::Stretch {
        stage: stretch.stage,
        phase: directive::phase(stretch.phase).into(),
        start_step: stretch.start_step,
        steps: stretch.steps,
        lost: stretch.lost,
        lr: stretch.lr,
        losses: stretch.losses.clone(),
        validations: spread(&stretch.validations, MAX_VALIDATIONS)
            .into_iter()
            .map(report::validation)
            .collect(),
    }
}

/// At most `most` of all, spread evenly, the last among them.
fn spread(all: &[Validation], most: usize) -> Vec<Validation> {
    let n = all.len().min(most);
    (1..=n).map(|i| all[i * all.len() / n - 1]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::actor::JobView;
    use autolrs_core::{
        directive::Phase,
        job::Job,
        lr_pieces::Piece,
        spec::{JobSpec, resolve},
    };

    fn view() -> ScheduleView {
        let asked = JobSpec {
            total_steps: Some(1000),
            lr_min: Some(0.001),
            lr_max: Some(1.0),
            fallback_lr: Some(0.1),
            ..JobSpec::default()
        };
        let job = Job::create(resolve(&asked).unwrap(), 7);
        let job = JobView {
            name: "a".into(),
            uid: 7,
            asked,
            policy: "scan",
            policy_revision: 1,
            total_steps: Some(1000),
            revision: 1,
            created: 0,
            heard: None,
            detached: false,
            view: job.view(),
        };
        ScheduleView {
            job,
            pieces: vec![Piece::warmup(3, 0.3), Piece::constant(4, 0.3), Piece::cooldown(5, 0.3)],
            stretches: [(0, 3, false), (3, 4, false), (7, 2, true), (7, 1, true), (7, 5, false)]
                .map(stretch)
                .into(),
        }
    }

    fn stretch((start_step, steps, lost): (u64, u64, bool)) -> Stretch {
        let (phase, losses, validations) = (Phase::Stable, vec![1.0; 3], Vec::new());
        Stretch { stage: 0, phase, start_step, steps, lost, lr: 0.1, losses, validations }
    }

    #[test]
    fn parts_follow_each_other_from_any_step() {
        let part = |from, most| {
            let part = encode_part(&view(), from, most, 9);
            let schedule = part.schedule.unwrap();
            assert_eq!((schedule.job.as_str(), schedule.steps), ("a", 12));
            (schedule.pieces.iter().map(|p| (p.index, p.steps)).collect::<Vec<_>>(), part.next_step)
        };
        assert_eq!(part(0, 9), (vec![(0, 3), (0, 4), (0, 5)], None));
        assert_eq!(part(0, 2), (vec![(0, 3), (0, 4)], Some(7)));
        assert_eq!(part(7, 2), (vec![(0, 5)], None));
        assert_eq!(part(2, 1), (vec![(2, 1)], Some(3)));
        assert_eq!(part(99, 1), (vec![], None));
    }

    #[test]
    fn every_stretch_is_in_one_part() {
        for (most_pieces, most_stretches) in [(9, 9), (9, 1), (9, 2), (9, 4), (1, 9), (1, 1)] {
            let (mut from, mut stretches, mut steps) = (Some(0), Vec::new(), 0);
            while let Some(start) = from {
                let part = encode_part(&view(), start, most_pieces, most_stretches);
                stretches.extend(part.stretches.iter().map(|s| (s.start_step, s.steps, s.lost)));
                steps += part.schedule.unwrap().pieces.iter().map(|piece| piece.steps).sum::<u64>();
                assert!(part.next_step.is_none_or(|next| next > start));
                from = part.next_step;
            }
            assert_eq!(stretches, [(0, 3, false), (3, 4, false), (7, 2, true), (7, 1, true), (7, 5, false)]);
            assert_eq!(steps, 12);
        }
    }

    #[test]
    fn many_validations_are_thinned_evenly() {
        let all: Vec<Validation> = (0..10).map(|offset| Validation { offset, loss: 0.0 }).collect();
        let offsets = |most| spread(&all, most).iter().map(|v| v.offset).collect::<Vec<_>>();
        assert_eq!(offsets(3), [2, 5, 9]);
        assert_eq!(offsets(99), (0..10).collect::<Vec<_>>());
        assert_eq!(spread(&[], 3), []);
    }
}

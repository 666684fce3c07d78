//! Schedules: core to wire, in parts that fit a message.

use super::{directive, job};
use crate::actor::ScheduleView;
use autolrs_core::lr_pieces;
use autolrs_proto::v1 as pb;

/// Most pieces in one answer: 64 bytes each at most.
const MAX_PIECES: usize = 16_384;

/// The part of a schedule that begins with `start_step`.
pub(in crate::rpc) fn encode(view: &ScheduleView, start_step: u64) -> pb::ExportScheduleResponse {
    encode_part(view, start_step, MAX_PIECES)
}

fn encode_part(view: &ScheduleView, start_step: u64, most: usize) -> pb::ExportScheduleResponse {
    let (_, mut pieces) = lr_pieces::cut(&view.pieces, start_step);
    let more = pieces.len() > most;
    pieces.truncate(most);
    let next_step = more.then(|| start_step + lr_pieces::steps(&pieces));
    let pb::Job { name, uid, policy, state, commits, .. } = job::encode(&view.job);
    let steps = lr_pieces::steps(&view.pieces);
    let pieces = pieces.iter().map(directive::piece).collect();
    let schedule = pb::Schedule { job: name, uid, policy, state, steps, pieces, commits };
    pb::ExportScheduleResponse { schedule: Some(schedule), next_step }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::actor::JobView;
    use autolrs_core::{
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
        }
    }

    #[test]
    fn parts_follow_each_other_from_any_step() {
        let part = |from, most| {
            let part = encode_part(&view(), from, most);
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
}

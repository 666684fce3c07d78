//! Schedules as files; both forms are described at `Schedule` in the proto.

use crate::rpc::decode_piece;
use autolrs_core::schedule::{self, About, Commit};
use autolrs_proto::v1::Schedule;
use std::io::{self, Write};

/// Pieces of curves.
///
/// # Errors
/// What `out` says; that no step was kept yet; or that the server is newer and sends curves that this release does not
/// know.
pub fn json(out: &mut impl Write, schedule: &Schedule) -> io::Result<()> {
    out.write_all(file(schedule)?.to_json().as_bytes())
}

/// One line per step.
///
/// # Errors
/// As [`json`].
pub fn csv(out: &mut impl Write, schedule: &Schedule) -> io::Result<()> {
    file(schedule)?.csv_lines().try_for_each(|line| writeln!(out, "{line}"))
}

fn file(schedule: &Schedule) -> io::Result<schedule::Schedule> {
    if schedule.pieces.is_empty() {
        return Err(io::Error::other(format!("job {} has kept no step yet", schedule.job)));
    }
    let about = About {
        job: schedule.job.clone(),
        uid: schedule.uid.clone(),
        policy: schedule.policy.clone(),
        state: super::state_name(schedule.state()),
        commits: schedule.commits.iter().map(|c| Commit { stage: c.stage, lr: c.lr }).collect(),
    };
    let pieces = schedule.pieces.iter().map(decode_piece).collect::<Option<Vec<_>>>();
    pieces.and_then(|pieces| schedule::Schedule::new(about, pieces).ok()).ok_or_else(|| {
        io::Error::other("the schedule has a curve that this release of autolrs does not know")
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use autolrs_proto::v1::{self as pb, JobState, LrPiece, lr_piece::Shape};

    fn schedule() -> Schedule {
        let linear = LrPiece {
            steps: 2,
            start: 0.1,
            end: 0.3,
            shape: Shape::Linear.into(),
            index: 1,
            of: 3,
            ..LrPiece::default()
        };
        let power = LrPiece {
            steps: 1,
            start: 0.5,
            shape: Shape::Power.into(),
            of: 1,
            exponent: -0.5,
            origin: 4.0,
            ..LrPiece::default()
        };
        Schedule {
            job: "a".into(),
            state: JobState::Finished.into(),
            steps: 3,
            pieces: vec![linear, power],
            commits: vec![pb::Commit { stage: 0, lr: 0.3 }],
            ..Schedule::default()
        }
    }

    fn written(
        form: fn(&mut Vec<u8>, &Schedule) -> io::Result<()>,
        schedule: &Schedule,
    ) -> io::Result<String> {
        let mut out = Vec::new();
        form(&mut out, schedule)?;
        Ok(String::from_utf8(out).unwrap())
    }

    #[test]
    fn a_file_of_pieces_holds_all_that_a_replay_needs() {
        let file = schedule::Schedule::parse(&written(json, &schedule()).unwrap()).unwrap();
        assert_eq!((file.about().job.as_str(), file.about().state.as_str()), ("a", "finished"));
        assert_eq!(file.about().commits, [Commit { stage: 0, lr: 0.3 }]);
        assert_eq!(file.iter().collect::<Vec<_>>(), [0.1 + (0.3 - 0.1) * 0.5, 0.3, 0.5]);
    }

    #[test]
    fn a_table_has_the_lr_of_every_step() {
        let text = written(csv, &schedule()).unwrap();
        assert_eq!(text.lines().collect::<Vec<_>>(), ["step,lr", "0,2e-1", "1,3e-1", "2,5e-1"]);
    }

    #[test]
    fn what_is_no_schedule_is_an_error() {
        let said = |pieces| written(csv, &Schedule { pieces, ..schedule() }).unwrap_err().to_string();
        assert_eq!(said(Vec::new()), "job a has kept no step yet");
        assert!(said(vec![LrPiece { steps: 1, of: 1, ..LrPiece::default() }]).contains("does not know"));
    }
}

//! Schedules as files; both forms are described at `Schedule` in the proto. Numbers are read back to the bit.

use autolrs_core::lr_pieces;
use autolrs_proto::v1::{LrPiece, Schedule, lr_piece::Shape};
use serde_json::{Value, json};
use std::io::{self, Write};

/// Pieces of curves.
///
/// # Errors
/// What `out` says.
pub fn json(out: &mut impl Write, schedule: &Schedule) -> io::Result<()> {
    let commits = schedule.commits.iter().map(|c| json!({ "stage": c.stage, "lr": c.lr }));
    let value = json!({
        "format": "autolrs.schedule.v1",
        "job": schedule.job,
        "uid": schedule.uid,
        "policy": schedule.policy,
        "state": super::state_name(schedule.state()),
        "steps": schedule.steps,
        "pieces": schedule.pieces.iter().map(piece).collect::<Vec<_>>(),
        "commits": commits.collect::<Vec<_>>(),
    });
    out.write_all(super::json::print(&value).as_bytes())
}

fn piece(piece: &LrPiece) -> Value {
    let shape = piece.shape().as_str_name().trim_start_matches("SHAPE_").to_ascii_lowercase();
    let LrPiece { steps, start, end, index, of, .. } = *piece;
    let mut value =
        json!({ "steps": steps, "shape": shape, "start": start, "end": end, "index": index, "of": of });
    if piece.shape() == Shape::Power {
        value["exponent"] = piece.exponent.into();
        value["origin"] = piece.origin.into();
    }
    value
}

/// One line per step.
///
/// # Errors
/// What `out` says, or that the server is newer and sends curves that this release does not know.
pub fn csv(out: &mut impl Write, schedule: &Schedule) -> io::Result<()> {
    let unknown = || io::Error::other("the schedule has a curve that this release of autolrs does not know");
    let mut step = 0u64;
    writeln!(out, "step,lr")?;
    for piece in &schedule.pieces {
        let piece = decode(piece).filter(lr_pieces::Piece::is_valid).ok_or_else(unknown)?;
        for i in 0..piece.steps {
            writeln!(out, "{step},{:e}", piece.lr(i))?;
            step += 1;
        }
    }
    Ok(())
}

fn decode(piece: &LrPiece) -> Option<lr_pieces::Piece> {
    let shape = match piece.shape() {
        Shape::Unspecified => return None,
        Shape::Constant => lr_pieces::Shape::Constant,
        Shape::Linear => lr_pieces::Shape::Linear,
        Shape::Cosine => lr_pieces::Shape::Cosine,
        Shape::Power => lr_pieces::Shape::Power { exponent: piece.exponent, origin: piece.origin },
    };
    let LrPiece { steps, start, end, index, of, .. } = *piece;
    Some(lr_pieces::Piece { steps, start, end, shape, index, of })
}

#[cfg(test)]
mod tests {
    use super::*;
    use autolrs_proto::v1::{Commit, JobState};

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
            commits: vec![Commit { stage: 0, lr: 0.3 }],
            ..Schedule::default()
        }
    }

    #[test]
    fn a_file_of_pieces_holds_all_that_a_replay_needs() {
        let mut out = Vec::new();
        json(&mut out, &schedule()).unwrap();
        let file: Value = serde_json::from_slice(&out).unwrap();
        assert_eq!(
            (file["format"].as_str(), file["state"].as_str()),
            (Some("autolrs.schedule.v1"), Some("finished"))
        );
        let first = json!({ "steps": 2, "shape": "linear", "start": 0.1, "end": 0.3, "index": 1, "of": 3 });
        assert_eq!(file["pieces"][0], first);
        assert_eq!(
            (&file["pieces"][1]["exponent"], &file["pieces"][1]["origin"]),
            (&json!(-0.5), &json!(4.0))
        );
    }

    #[test]
    fn a_table_has_the_lr_of_every_step() {
        let mut out = Vec::new();
        csv(&mut out, &schedule()).unwrap();
        let lines: Vec<String> = String::from_utf8(out).unwrap().lines().map(str::to_owned).collect();
        assert_eq!((lines[0].as_str(), lines.len()), ("step,lr", 4));
        let lrs: Vec<f64> =
            lines[1..].iter().map(|l| l.split_once(',').unwrap().1.parse().unwrap()).collect();
        assert_eq!(lrs, [0.1 + (0.3 - 0.1) * 0.5, 0.3, 0.5]);
        let unknown = LrPiece { steps: 1, of: 1, ..LrPiece::default() };
        assert!(csv(&mut Vec::new(), &Schedule { pieces: vec![unknown], ..schedule() }).is_err());
    }
}

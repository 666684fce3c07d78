//! The JSON form. Numbers are written and read back to the bit.

use super::{About, BadSchedule, Commit, FORMAT, Schedule};
use crate::lr_pieces::{self, Piece, Shape};
use serde::{Deserialize, Serialize, de::DeserializeOwned};

/// The file. A field that this release does not know tells of the schedule's origin, and is left alone.
#[derive(Serialize, Deserialize)]
struct File {
    format: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    job: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    uid: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    policy: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    state: String,
    steps: Option<u64>,
    pieces: Vec<Entry>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    commits: Vec<Commit>,
}

/// What is looked at first.
#[derive(Deserialize)]
struct Head {
    format: Option<String>,
}

/// A piece. Fields that this release does not know would change the LR: they are refused.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    steps: u64,
    shape: Curve,
    start: f64,
    end: f64,
    /// Default 0.
    #[serde(default)]
    index: u64,
    /// Default `index + steps`: the piece's last step is the curve's.
    of: Option<u64>,
    /// These two with `power` alone.
    #[serde(skip_serializing_if = "Option::is_none")]
    exponent: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    origin: Option<f64>,
}

#[derive(Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Curve {
    Constant,
    Linear,
    Cosine,
    Power,
}

impl Schedule {
    /// Reads the JSON form. Of a file made by hand, `format` and `pieces` are enough.
    ///
    /// # Errors
    /// The first field that is wrong.
    pub fn from_json(text: &str) -> Result<Self, BadSchedule> {
        let format = read::<Head>(text)?.format;
        if format.as_deref() != Some(FORMAT) {
            let found = format.map_or("absent".into(), |format| format!("{format:?}"));
            return Err(BadSchedule::new("format", format!("must be {FORMAT:?}, is {found}")));
        }
        let File { job, uid, policy, state, steps, pieces, commits, .. } = read(text)?;
        let schedule = Self::new(About { job, uid, policy, state, commits }, decode(pieces)?)?;
        match steps {
            Some(steps) if steps != schedule.steps() => {
                let sum = schedule.steps();
                Err(BadSchedule::new("steps", format!("must be the sum over the pieces, {sum}, is {steps}")))
            }
            _ => Ok(schedule),
        }
    }

    /// The JSON form.
    pub fn to_json(&self) -> String {
        let About { job, uid, policy, state, commits } = self.about.clone();
        let file = File {
            format: FORMAT.into(),
            job,
            uid,
            policy,
            state,
            steps: Some(self.steps()),
            pieces: self.pieces.iter().map(encode).collect(),
            commits,
        };
        // Writing these types to memory can't fail; if it did, reading would say that the file is no JSON.
        serde_json::to_string_pretty(&file).unwrap_or_default() + "\n"
    }
}

/// The pieces of a line, as in a file, on one line of text.
pub fn pieces_to_json(pieces: &[Piece]) -> String {
    serde_json::to_string(&pieces.iter().map(encode).collect::<Vec<_>>()).unwrap_or_default()
}

/// What [`pieces_to_json`] wrote. The numbers are not checked.
///
/// # Errors
/// The first field that is wrong.
pub fn pieces_from_json(text: &str) -> Result<Vec<Piece>, BadSchedule> {
    decode(read(text)?)
}

fn read<T: DeserializeOwned>(text: &str) -> Result<T, BadSchedule> {
    let mut json = serde_json::Deserializer::from_str(text);
    let value = serde_path_to_error::deserialize(&mut json).map_err(|error| {
        let path = error.path().to_string();
        // How it calls the whole file.
        let field = if [".", "?", ""].contains(&path.as_str()) { "file" } else { &path };
        BadSchedule::new(field, error.inner().to_string())
    })?;
    json.end().map_err(|error| BadSchedule::new("file", error.to_string()))?;
    Ok(value)
}

fn decode(entries: Vec<Entry>) -> Result<Vec<Piece>, BadSchedule> {
    let named =
        |i: usize, (field, what): (&str, &str)| BadSchedule::new(format!("pieces[{i}].{field}"), what);
    let pieces = entries.iter().enumerate().map(|(i, entry)| piece(entry).map_err(|fault| named(i, fault)));
    pieces.collect()
}

fn piece(entry: &Entry) -> Result<Piece, (&'static str, &'static str)> {
    let shape = match (entry.shape, entry.exponent, entry.origin) {
        (Curve::Power, Some(exponent), Some(origin)) => Shape::Power { exponent, origin },
        (Curve::Power, None, _) => return Err(("exponent", "must be set with power")),
        (Curve::Power, _, None) => return Err(("origin", "must be set with power")),
        (_, Some(_), _) => return Err(("exponent", "must be set with power alone")),
        (_, _, Some(_)) => return Err(("origin", "must be set with power alone")),
        (Curve::Constant, ..) => Shape::Constant,
        (Curve::Linear, ..) => Shape::Linear,
        (Curve::Cosine, ..) => Shape::Cosine,
    };
    let Entry { steps, start, end, index, of, .. } = *entry;
    let of = of.unwrap_or(index.saturating_add(steps));
    Ok(Piece { steps, start, end, shape, index, of })
}

fn encode(piece: &Piece) -> Entry {
    let (shape, exponent, origin) = match piece.shape {
        Shape::Constant => (Curve::Constant, None, None),
        Shape::Linear => (Curve::Linear, None, None),
        Shape::Cosine => (Curve::Cosine, None, None),
        Shape::Power { exponent, origin } => (Curve::Power, Some(exponent), Some(origin)),
    };
    let lr_pieces::Piece { steps, start, end, index, of, .. } = *piece;
    Entry { steps, shape, start, end, index, of: Some(of), exponent, origin }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn file(pieces: &str) -> String {
        format!(r#"{{ "format": "autolrs.schedule.v1", "pieces": [{pieces}] }}"#)
    }

    fn fault(text: &str) -> String {
        Schedule::from_json(text).unwrap_err().to_string()
    }

    #[test]
    fn the_file_that_the_proto_shows() {
        let text = r#"{
          "format": "autolrs.schedule.v1", "job": "resnet50", "uid": "0f3c5a7e9b1d2c4e", "policy": "scan",
          "state": "finished", "steps": 2009, "of_a_later_release": [],
          "pieces": [
            { "steps": 2000, "shape": "linear", "start": 1.1e-05, "end": 0.022, "index": 0, "of": 2000 },
            { "steps": 9, "shape": "power", "start": 0.1, "end": 0.0, "index": 0, "of": 9,
              "exponent": -0.5, "origin": 4.0 }
          ],
          "commits": [ { "stage": 0, "lr": 0.022 } ] }"#;
        let schedule = Schedule::from_json(text).unwrap();
        assert_eq!((schedule.about().job.as_str(), schedule.steps()), ("resnet50", 2009));
        assert_eq!(schedule.about().commits, [Commit { stage: 0, lr: 0.022 }]);
        assert_eq!(schedule.pieces()[0], Piece::new(2000, 1.1e-05, 0.022, Shape::Linear));
        assert_eq!(schedule.lr_at(2005), 0.1 * (9.0f64 / 4.0).powf(-0.5));
    }

    #[test]
    fn what_is_wrong_is_named() {
        assert!(fault("{").starts_with("file: EOF"), "{}", fault("{"));
        assert_eq!(fault(&(file("") + "x")), "file: trailing characters at line 1 column 50");
        assert!(fault(r#"{ "": b }"#).starts_with("file: expected value"), "a key without a name");
        assert_eq!(fault("{}"), r#"format: must be "autolrs.schedule.v1", is absent"#);
        let newer = r#"{ "format": "autolrs.schedule.v2", "pieces": 7 }"#;
        assert_eq!(fault(newer), r#"format: must be "autolrs.schedule.v1", is "autolrs.schedule.v2""#);
        assert_eq!(fault(&file("")), "pieces: must have 1 to 1000000000000 steps, have 0");
        let good = r#"{ "steps": 1, "shape": "constant", "start": 1, "end": 1 }"#;
        let second = |piece: &str| fault(&file(&format!("{good}, {piece}")));
        for (piece, said) in [
            (r#"{ "steps": 2.5 }"#, "pieces[1].steps: invalid type: floating point `2.5`, expected u64"),
            (
                r#"{ "shape": "cubic" }"#,
                "pieces[1].shape: unknown variant `cubic`, expected one of `constant`",
            ),
            (r#"{ "steps": 1, "shape": "linear" }"#, "pieces[1]: missing field `start`"),
            (r#"{ "stops": 1 }"#, "pieces[1].stops: unknown field `stops`, expected one of `steps`"),
            (
                r#"{ "steps": 0, "shape": "linear", "start": 1, "end": 0 }"#,
                "pieces[1].steps: must be at least 1, is 0",
            ),
            (
                r#"{ "steps": 3, "shape": "linear", "start": 1, "end": 0, "index": 2, "of": 4 }"#,
                "pieces[1].of: must be at least index + steps = 2 + 3, is 4",
            ),
            (
                r#"{ "steps": 3, "shape": "linear", "start": -1, "end": 0 }"#,
                "pieces[1].start: must be finite and at least 0, is -1",
            ),
            (
                r#"{ "steps": 3, "shape": "power", "start": 1, "end": 0, "origin": 1 }"#,
                "pieces[1].exponent: must be set with power",
            ),
            (
                r#"{ "steps": 3, "shape": "cosine", "start": 1, "end": 0, "origin": 1 }"#,
                "pieces[1].origin: must be set with power alone",
            ),
        ] {
            assert!(second(piece).starts_with(said), "{}", second(piece));
        }
        let wrong_sum = file(good).replace(r#""pieces""#, r#""steps": 2, "pieces""#);
        assert_eq!(fault(&wrong_sum), "steps: must be the sum over the pieces, 1, is 2");
    }

    fn number() -> impl Strategy<Value = f64> {
        any::<f64>().prop_map(|x| if x.is_finite() { x.abs() } else { 5e-324 })
    }

    fn any_piece() -> impl Strategy<Value = Piece> {
        let power = (any::<f64>(), number())
            .prop_filter("finite", |(e, o)| e.is_finite() && *o > 0.0)
            .prop_map(|(exponent, origin)| Shape::Power { exponent, origin });
        let shape = prop_oneof![Just(Shape::Constant), Just(Shape::Linear), Just(Shape::Cosine), power];
        (1u64..99, number(), number(), shape, 0u64..9, 0u64..9)
            .prop_map(|(steps, start, end, shape, index, rest)| Piece {
                steps,
                start,
                end,
                shape,
                index,
                of: index + steps + rest,
            })
            .prop_filter("gives LRs", Piece::is_valid)
    }

    proptest! {
        #[test]
        fn every_number_comes_back_to_the_bit(pieces in prop::collection::vec(any_piece(), 1..6), lr in number()) {
            let commits = vec![Commit { stage: 3, lr }];
            let about = About { job: "a\"\n".into(), commits, ..About::default() };
            let schedule = Schedule::new(about, pieces).unwrap();
            let again = Schedule::from_json(&schedule.to_json()).unwrap();
            prop_assert_eq!(again.to_json(), schedule.to_json());
            prop_assert_eq!(&again, &schedule);
            let lrs = |of: &Schedule| of.iter().map(f64::to_bits).collect::<Vec<_>>();
            prop_assert_eq!(lrs(&again), lrs(&schedule));
            let line = pieces_from_json(&pieces_to_json(schedule.pieces())).unwrap();
            prop_assert_eq!(&line, schedule.pieces());
        }
    }
}

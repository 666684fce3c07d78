//! Files of recorded losses.
//!
//! CSV: a line of names, `lr,step,loss`, then one line per loss, in any order; `nan` and `inf` are losses.
//!
//! JSON: `{"curves": [{"lr": 0.1, "every": 10, "losses": [2.3, 2.1, null]}]}`; `every` is the steps from one loss to the
//! next (1 unless it is set); null is a loss that was not finite.

use autolrs_core::simulate::surface::Curve;
use serde::Deserialize;
use std::collections::BTreeMap;

/// The curves of a CSV file, or what is wrong with it.
pub fn csv(text: &str) -> Result<Vec<Curve>, String> {
    let mut lines = text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty());
    let head: Vec<&str> = lines.next().map(|(_, line)| cells(line)).unwrap_or_default();
    if head != ["lr", "step", "loss"] {
        return Err("the first line must be lr,step,loss".into());
    }
    // Keys of positive numbers are in the order of the numbers.
    let mut curves: BTreeMap<u64, Curve> = BTreeMap::new();
    for (i, line) in lines {
        let wrong = |what: &str| format!("line {}: {what}, is {line:?}", i + 1);
        let &[lr, step, loss] = &cells(line)[..] else { return Err(wrong("must be lr,step,loss")) };
        let lr: f64 = lr.parse().map_err(|_| wrong("lr must be a number"))?;
        let step: u64 = step.parse().map_err(|_| wrong("step must be a whole number from 0"))?;
        let loss: f64 = loss.parse().map_err(|_| wrong("loss must be a number, nan or inf"))?;
        let curve = curves.entry(lr.to_bits()).or_insert_with(|| Curve { lr, points: Vec::new() });
        curve.points.push((step, loss));
    }
    let mut curves: Vec<Curve> = curves.into_values().collect();
    curves.iter_mut().for_each(|curve| curve.points.sort_by_key(|point| point.0));
    Ok(curves)
}

fn cells(line: &str) -> Vec<&str> {
    line.split(',').map(str::trim).collect()
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    curves: Vec<Recorded>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Recorded {
    lr: f64,
    #[serde(default = "one")]
    every: u64,
    losses: Vec<Option<f64>>,
}

const fn one() -> u64 {
    1
}

/// The curves of a JSON file, or what is wrong with it.
pub fn json(text: &str) -> Result<Vec<Curve>, String> {
    let file: File = serde_json::from_str(text).map_err(|error| error.to_string())?;
    let curve = |recorded: Recorded| {
        let steps = (0u64..).map(|i| i.saturating_mul(recorded.every));
        let losses = recorded.losses.iter().map(|loss| loss.unwrap_or(f64::NAN));
        Curve { lr: recorded.lr, points: steps.zip(losses).collect() }
    };
    Ok(file.curves.into_iter().map(curve).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_forms_give_the_same_curves() {
        let table = "lr, step, loss\n1,0,3\n0.1,10,2\n0.1,0,2.5\n\n1,10,inf\n";
        let object = r#"{"curves": [{"lr": 0.1, "every": 10, "losses": [2.5, 2]}, {"lr": 1, "every": 10, "losses": [3, null]}]}"#;
        let (a, b) = (csv(table).unwrap(), json(object).unwrap());
        assert_eq!((a.len(), &a[0]), (2, &b[0]));
        assert_eq!((a[1].points[0], a[1].points[1].0), ((0, 3.0), 10));
        assert!(!a[1].points[1].1.is_finite() && !b[1].points[1].1.is_finite());
        assert_eq!(
            json(r#"{"curves": [{"lr": 1, "losses": [3, 2]}]}"#).unwrap()[0].points,
            [(0, 3.0), (1, 2.0)]
        );
    }

    #[test]
    fn mistakes_name_the_line() {
        assert!(csv("").unwrap_err().contains("lr,step,loss"));
        for (line, part) in
            [("x,1,2", "lr must"), ("1,-1,2", "step must"), ("1,1,", "loss must"), ("1,1", "lr,step")]
        {
            let said = csv(&format!("lr,step,loss\n{line}")).unwrap_err();
            assert!(said.contains("line 2") && said.contains(part), "{said}");
        }
        assert!(json(r#"{"curves": [{"lr": 1, "loss": [1]}]}"#).unwrap_err().contains("loss"));
    }
}

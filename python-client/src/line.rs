//! `autolrs._core.Line`: the file of a schedule.

use autolrs_client::{About, BadSchedule, Schedule, pieces_from_json};
use pyo3::prelude::*;

/// The LR of every step.
#[pyclass(frozen, module = "autolrs._core")]
pub(crate) struct Line(pub(crate) Schedule);

#[pymethods]
impl Line {
    /// Reads a file of either form.
    #[staticmethod]
    fn parse(py: Python<'_>, text: &str) -> PyResult<Self> {
        Schedule::parse(text).map(Self).map_err(|error| raised(py, &error))
    }

    /// The first steps of each part, one part after the other. A part is what `Session.line` gave.
    #[staticmethod]
    #[pyo3(signature = (parts, *, job, uid, policy, state))]
    fn joined(
        py: Python<'_>,
        parts: Vec<(String, u64)>,
        job: String,
        uid: String,
        policy: String,
        state: String,
    ) -> PyResult<Self> {
        let join = || {
            let parts = parts.iter().map(|(text, steps)| Ok((pieces_from_json(text)?, *steps)));
            let parts = parts.collect::<Result<Vec<_>, BadSchedule>>()?;
            Schedule::joined(About { job, uid, policy, state, commits: Vec::new() }, &parts)
        };
        join().map(Self).map_err(|error| raised(py, &error))
    }

    /// The LR of a step; past the end that of the last.
    fn lr(&self, step: u64) -> f64 {
        self.0.lr_at(step)
    }

    /// The JSON form.
    fn to_json(&self) -> String {
        self.0.to_json()
    }

    /// The table.
    fn to_csv(&self) -> String {
        self.0.csv_lines().map(|line| line + "\n").collect()
    }

    #[getter]
    fn steps(&self) -> u64 {
        self.0.steps()
    }

    #[getter]
    fn job(&self) -> &str {
        &self.0.about().job
    }

    #[getter]
    fn policy(&self) -> &str {
        &self.0.about().policy
    }

    #[getter]
    fn state(&self) -> &str {
        &self.0.about().state
    }
}

fn raised(py: Python<'_>, error: &BadSchedule) -> PyErr {
    let class = py.import("autolrs._exceptions").and_then(|module| module.getattr("InvalidSchedule"));
    let made = class.and_then(|class| class.call1((&error.field, &error.description)));
    made.map_or_else(|failure| failure, PyErr::from_value)
}

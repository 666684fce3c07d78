//! `autolrs._core.Session`.

use crate::{errors::raised, fork, spec};
use autolrs_client::{
    DoneReason, Error, Failure, OnOutage, Phase, SessionConfig, Slot, SlotOp, Status, Token,
    blocking::{Opening, Session as Native},
    pieces_to_json,
};
use pyo3::{
    exceptions::{PyTypeError, PyValueError},
    prelude::*,
    types::{PyBytes, PyDict},
};
use std::{
    path::PathBuf,
    time::{Duration, Instant},
};

/// Ctrl-C is looked for this often while waiting.
const SIGNALS_EVERY: Duration = Duration::from_millis(100);

/// One trainer's side of a job.
#[pyclass(frozen, module = "autolrs._core")]
pub(crate) struct Session {
    native: Native,
    /// See [`fork::generation`].
    generation: u32,
}

#[pymethods]
impl Session {
    #[new]
    #[pyo3(signature = (*, server, token, job, spec, resume, takeover, restart, on_outage, connect_timeout,
                        decision_timeout, replay, validate, switch_every, ca=None, traceparent=None))]
    #[expect(clippy::too_many_arguments, reason = "all are keywords in Python")]
    fn new(
        py: Python<'_>,
        server: String,
        token: Option<String>,
        job: String,
        spec: &Bound<'_, PyDict>,
        resume: Option<Vec<u8>>,
        takeover: bool,
        restart: bool,
        on_outage: &str,
        connect_timeout: f64,
        decision_timeout: f64,
        replay: bool,
        validate: bool,
        switch_every: u64,
        ca: Option<PathBuf>,
        traceparent: Option<String>,
    ) -> PyResult<Self> {
        let spec = spec::read(spec, switch_every).map_err(|error| raised(py, &error))?;
        // The certificates that the environment names.
        let environment = SessionConfig::new(job, spec);
        let config = SessionConfig {
            server,
            token: token.map(Token::from),
            ca: ca.or_else(|| environment.ca.clone()),
            traceparent,
            resume,
            takeover,
            restart,
            replay,
            validate,
            on_outage: outage(on_outage)?,
            connect_timeout: seconds("connect_timeout", connect_timeout)?,
            decision_timeout: seconds("decision_timeout", decision_timeout)?,
            ..environment
        };
        let mut opening = Native::begin_open(config).map_err(|error| raised(py, &error))?;
        loop {
            let wait = move || Opening::wait(opening, SIGNALS_EVERY);
            match py.detach(wait).map_err(|error| raised(py, &error))? {
                Ok(native) => return Ok(Self { native, generation: fork::generation() }),
                Err(still) => opening = still,
            }
            py.check_signals()?;
        }
    }

    /// A step was run and this was its loss.
    fn record(&self, py: Python<'_>, loss: f64) -> PyResult<u8> {
        self.check_process(py)?;
        Ok(code(self.native.record(loss)))
    }

    /// A step was run; its loss follows.
    fn tick(&self, py: Python<'_>) -> PyResult<u8> {
        self.check_process(py)?;
        Ok(code(self.native.tick()))
    }

    /// Losses of steps that were run, in order.
    fn losses(&self, py: Python<'_>, values: Vec<f64>) -> PyResult<()> {
        self.check_process(py)?;
        self.native.losses(&values);
        Ok(())
    }

    /// What has to be done before the next step.
    fn status(&self) -> u8 {
        code(self.native.status())
    }

    /// Waits for the next directive.
    fn next(&self, py: Python<'_>) -> PyResult<()> {
        while !py.detach(|| self.native.next_within(SIGNALS_EVERY)).map_err(|error| raised(py, &error))? {
            py.check_signals()?;
        }
        Ok(())
    }

    /// A validation loss of the state at hand: the one that is asked for, or any other.
    fn validation(&self, py: Python<'_>, loss: f64) -> PyResult<()> {
        self.check_process(py)?;
        self.native.validation(loss);
        Ok(())
    }

    /// What to do with slots before the next step, as (operation, slot).
    fn take_slot_ops(&self) -> Vec<(&'static str, &'static str)> {
        self.native.take_slot_ops().into_iter().map(operation).collect()
    }

    /// The session's state for the trainer's checkpoint.
    fn export_state<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyBytes>> {
        let bytes = self.native.state().map_err(|error| raised(py, &error))?;
        Ok(PyBytes::new(py, &bytes))
    }

    /// The same without the steps whose losses are still to be delivered.
    fn export_delivered<'py>(&self, py: Python<'py>) -> Bound<'py, PyBytes> {
        PyBytes::new(py, &self.native.state_delivered())
    }

    /// The slot whose content belongs into the checkpoint in place of the live state.
    fn export_slot(&self) -> Option<&'static str> {
        self.native.state_slot().map(slot)
    }

    /// Asks the server to end the job in order.
    #[pyo3(signature = (cooldown_steps))]
    fn finish(&self, py: Python<'_>, cooldown_steps: Option<u64>) -> PyResult<()> {
        self.check_process(py)?;
        py.detach(|| self.native.finish(cooldown_steps)).map_err(|error| raised(py, &error))
    }

    /// Waits until the server has everything.
    fn flush(&self, py: Python<'_>, timeout: f64) -> PyResult<bool> {
        let until = Instant::now() + seconds("timeout", timeout)?;
        loop {
            let left = until.saturating_duration_since(Instant::now());
            if py.detach(|| self.native.flush(left.min(SIGNALS_EVERY))).map_err(|error| raised(py, &error))? {
                return Ok(true);
            }
            if left <= SIGNALS_EVERY {
                return Ok(false);
            }
            py.check_signals()?;
        }
    }

    /// Flushes for at most `timeout` seconds and ends the session.
    fn close(&self, py: Python<'_>, timeout: f64) -> PyResult<()> {
        self.flush(py, timeout)?;
        py.detach(|| self.native.close(Duration::ZERO)).map_err(|error| raised(py, &error))
    }

    /// Sentences for the user since the last call.
    fn warnings(&self) -> Vec<String> {
        self.native.take_notices()
    }

    fn __reduce__(&self) -> PyResult<()> {
        Err(PyTypeError::new_err(
            "a session can't be pickled or sent to another process: it holds the connection of this one",
        ))
    }

    /// The LRs of the directive's steps that were not run yet, as text for `Line.joined`.
    #[getter]
    fn line(&self) -> String {
        pieces_to_json(&self.native.line())
    }

    /// The job's uid, 16 hexadecimal digits; empty without a server.
    #[getter]
    fn uid(&self) -> String {
        match self.native.uid() {
            0 => String::new(),
            uid => format!("{uid:016x}"),
        }
    }

    #[getter]
    fn seq(&self) -> u64 {
        self.native.snapshot().seq
    }

    #[getter]
    fn phase(&self) -> &'static str {
        self.native.snapshot().phase.map_or("done", Phase::name)
    }

    #[getter]
    fn stage(&self) -> u32 {
        self.native.snapshot().stage
    }

    #[getter]
    fn trial(&self) -> Option<u32> {
        self.native.snapshot().trial
    }

    #[getter]
    fn steps(&self) -> u64 {
        self.native.snapshot().steps
    }

    #[getter]
    fn offset(&self) -> u64 {
        self.native.snapshot().offset
    }

    #[getter]
    fn wanted(&self) -> u64 {
        self.native.wanted()
    }

    #[getter]
    fn delivered(&self) -> u64 {
        self.native.delivered()
    }

    /// The LRs of the next steps, up to where something else than the LR can change.
    #[getter]
    fn next_lrs(&self) -> Vec<f64> {
        self.native.next_lrs()
    }

    #[getter]
    fn replay(&self) -> bool {
        self.native.snapshot().replay
    }

    #[getter]
    fn lr(&self) -> f64 {
        self.native.lr()
    }

    #[getter]
    fn done(&self) -> bool {
        self.native.done().is_some()
    }

    #[getter]
    fn done_reason(&self) -> Option<&'static str> {
        self.native.done().map(|reason| match reason {
            DoneReason::Finished => "finished",
            DoneReason::Cancelled => "cancelled",
            DoneReason::Failed(Failure::LossNotFiniteAtStart) => {
                "failed: the first loss was not finite, look for the fault in the model or the data"
            }
            DoneReason::Failed(Failure::Unstable) => {
                "failed: the loss broke again after every retry, lower the range of learning rates"
            }
            DoneReason::Failed(Failure::AllCandidatesDiverged) => {
                "failed: every candidate diverged, lower the range of learning rates"
            }
        })
    }

    #[getter]
    fn committed_step(&self) -> u64 {
        self.native.snapshot().committed_step
    }

    #[getter]
    fn total_step(&self) -> u64 {
        self.native.snapshot().total_step
    }

    #[getter]
    fn detached(&self) -> bool {
        self.native.snapshot().detached
    }
}

impl Session {
    /// Refuses in a forked child: the lock of the session may be held there for ever.
    fn check_process(&self, py: Python<'_>) -> PyResult<()> {
        if self.generation == fork::generation() { Ok(()) } else { Err(raised(py, &Error::Forked)) }
    }
}

fn outage(text: &str) -> PyResult<OnOutage> {
    match text {
        "auto" => Ok(OnOutage::Auto),
        "fallback" => Ok(OnOutage::Fallback),
        "raise" => Ok(OnOutage::Raise),
        other => {
            Err(PyValueError::new_err(format!("on_outage must be auto, fallback or raise, not {other:?}")))
        }
    }
}

fn seconds(name: &str, value: f64) -> PyResult<Duration> {
    Duration::try_from_secs_f64(value.min(1e9)).map_err(|_| {
        PyValueError::new_err(format!("{name} must be a number of seconds that is not negative, is {value}"))
    })
}

const fn code(status: Status) -> u8 {
    match status {
        Status::GoOn => 0,
        Status::LrChanged => 1,
        Status::Ended => 2,
        Status::WantLosses => 3,
        Status::Validate => 4,
    }
}

const fn slot(slot: Slot) -> &'static str {
    match slot {
        Slot::Start => "START",
        Slot::Safe => "SAFE",
        Slot::SafePrev => "SAFE_PREV",
        Slot::Stage => "STAGE",
        Slot::Best => "BEST",
    }
}

const fn operation(op: SlotOp) -> (&'static str, &'static str) {
    match op {
        SlotOp::Save(of) => ("save", slot(of)),
        SlotOp::Restore(of) => ("restore", slot(of)),
        SlotOp::Drop(of) => ("drop", slot(of)),
    }
}

//! Errors as the classes of `autolrs._exceptions`.

use autolrs_client::Error;
use pyo3::{prelude::*, types::PyDict};

/// The Python exception of an error.
pub(crate) fn raised(py: Python<'_>, error: &Error) -> PyErr {
    made(py, error).unwrap_or_else(|failure| failure)
}

fn made(py: Python<'_>, error: &Error) -> PyResult<PyErr> {
    let details = PyDict::new(py);
    let class = match error {
        Error::ServerUnavailable { .. } | Error::Tls { .. } => "ServerUnavailable",
        Error::Unauthenticated(_) => "Unauthenticated",
        Error::PermissionDenied(_) => "PermissionDenied",
        Error::LimitReached(_) | Error::QuotaExceeded(_) => "ResourceExhausted",
        Error::InvalidSpec { violations } => {
            details.set_item("violations", violations)?;
            "InvalidSpec"
        }
        Error::JobDiffers { fields, .. } => {
            details.set_item("fields", fields)?;
            "JobExists"
        }
        Error::JobNotFound(_) => "JobNotFound",
        Error::JobFinished(_) => "JobFinished",
        Error::ResumeRequired(_) => "JobInProgress",
        Error::SessionActive { host, pid, same_host } => {
            details.set_item("host", host)?;
            details.set_item("pid", pid)?;
            details.set_item("same_host", same_host)?;
            "SessionActive"
        }
        Error::CheckpointTooOld { oldest_seq, .. } => {
            details.set_item("oldest_seq", oldest_seq)?;
            "CheckpointTooOld"
        }
        Error::CheckpointMismatch(_) | Error::BadCheckpoint(_) => "CheckpointMismatch",
        Error::Fenced(_) => "Fenced",
        _ => "Error",
    };
    let class = py.import("autolrs._exceptions")?.getattr(class)?;
    let message = match ways_out(error) {
        Some(ways_out) => format!("{error}. In Python: {ways_out}"),
        None => error.to_string(),
    };
    Ok(PyErr::from_value(class.call((message,), Some(&details))?))
}

/// What to write instead.
fn ways_out(error: &Error) -> Option<&'static str> {
    match error {
        Error::JobDiffers { .. } | Error::JobFinished(_) => {
            Some("restart=True, another job=\"...\", or job=None for a name made of script and time")
        }
        Error::ResumeRequired(_) => {
            Some("resume=checkpoint[\"schedule\"], restart=True, another job=\"...\", or job=None")
        }
        Error::SessionActive { .. } => Some("takeover=True, or another job=\"...\""),
        _ => None,
    }
}

//! The server's errors as ours: the one place that reads `google.rpc` details.

use super::holder;
use crate::{endpoint, error::Error, session::Refused};
use autolrs_proto::{ERROR_DOMAIN, reason_of, v1::ErrorReason};
use std::{collections::HashMap, time::Duration};
use tonic::{Code, Status};
use tonic_types::StatusExt;

/// What to do when a secure connection is closed before the answer.
const CERTIFICATE_PERHAPS: &str = ". If it asks for clients' certificates, give one of an authority that it trusts, with its \
                                   key (AUTOLRS_CERT and AUTOLRS_KEY)";

/// Why a call failed.
pub(super) struct Failure {
    pub(super) reason: Option<ErrorReason>,
    pub(super) error: Error,
    /// How long the server asks to be left alone.
    pub(super) retry_delay: Option<Duration>,
    code: Code,
}

impl Failure {
    /// Reads a status. `server` and `job` are for the messages.
    pub(super) fn new(status: &Status, server: &str, job: &str) -> Self {
        let info = status.get_details_error_info().filter(|info| info.domain == ERROR_DOMAIN);
        let reason = info.as_ref().and_then(|info| reason_of(&info.reason));
        let metadata = info.map(|info| info.metadata).unwrap_or_default();
        let error = match reason {
            Some(reason) => by_reason(reason, status, server, job, &metadata),
            None => match endpoint::tls_problem(status) {
                Some(detail) => Error::Tls { server: server.to_owned(), detail },
                None => by_code(status, server, job),
            },
        };
        let retry_delay = status.get_details_retry_info().and_then(|info| info.retry_delay);
        Self { reason, error, retry_delay, code: status.code() }
    }

    /// What the session machine must be told; none: trying again may help.
    pub(super) fn refused(&self) -> Option<Refused> {
        let detail = self.error.to_string();
        match self.reason {
            Some(ErrorReason::StopMismatch) => Some(Refused::StopMismatch(detail)),
            Some(ErrorReason::Fenced) => Some(Refused::Fenced(detail)),
            Some(ErrorReason::JobNotFound) => Some(Refused::JobNotFound),
            _ if matches!(self.code, Code::InvalidArgument | Code::FailedPrecondition | Code::OutOfRange) => {
                Some(Refused::Other(detail))
            }
            _ => None,
        }
    }
}

fn by_reason(
    reason: ErrorReason,
    status: &Status,
    server: &str,
    job: &str,
    metadata: &HashMap<String, String>,
) -> Error {
    let message = status.message().to_owned();
    let of = |key: &str| metadata.get(key).cloned().unwrap_or_default();
    match reason {
        ErrorReason::InvalidField => Error::InvalidSpec { violations: violations(status) },
        ErrorReason::JobNotFound => Error::JobNotFound(job.to_owned()),
        ErrorReason::JobDiffers => Error::JobDiffers {
            job: job.to_owned(),
            fields: of("fields").split(',').filter(|field| !field.is_empty()).map(str::to_owned).collect(),
        },
        ErrorReason::Fenced => Error::Fenced(message),
        ErrorReason::SessionActive => {
            let host = of("host");
            let same_host = host == holder::this_process().host;
            Error::SessionActive { same_host, host, pid: of("pid").parse().unwrap_or(0) }
        }
        ErrorReason::ResumeRequired => Error::ResumeRequired(message),
        ErrorReason::JobFinished => Error::JobFinished(of("state")),
        ErrorReason::CheckpointTooOld => {
            Error::CheckpointTooOld { detail: message, oldest_seq: of("oldest_seq").parse().ok() }
        }
        ErrorReason::CheckpointMismatch => Error::CheckpointMismatch(message),
        ErrorReason::LimitReached => Error::LimitReached(message),
        ErrorReason::QuotaExceeded => Error::QuotaExceeded(message),
        ErrorReason::StoreUnavailable | ErrorReason::Draining => unavailable(server, message),
        ErrorReason::JobDamaged => Error::JobDamaged(message),
        ErrorReason::TokenMissing | ErrorReason::TokenUnknown | ErrorReason::TokenExpired => {
            Error::Unauthenticated(message)
        }
        ErrorReason::RoleTooLow | ErrorReason::WrongTenant => Error::PermissionDenied(message),
        ErrorReason::StopMismatch
        | ErrorReason::UnknownDirective
        | ErrorReason::StageNotFound
        | ErrorReason::JobNotEnded
        | ErrorReason::UpdateInSearch
        | ErrorReason::BudgetFixed
        | ErrorReason::MessageTooLarge
        | ErrorReason::Unspecified => Error::Refused(message),
    }
}

fn by_code(status: &Status, server: &str, job: &str) -> Error {
    let message = status.message().to_owned();
    match status.code() {
        Code::Unauthenticated => Error::Unauthenticated(message),
        Code::PermissionDenied => Error::PermissionDenied(message),
        Code::ResourceExhausted => Error::LimitReached(message),
        Code::NotFound => Error::JobNotFound(job.to_owned()),
        Code::InvalidArgument if !violations(status).is_empty() => {
            Error::InvalidSpec { violations: violations(status) }
        }
        Code::InvalidArgument | Code::FailedPrecondition | Code::AlreadyExists | Code::OutOfRange => {
            Error::Refused(message)
        }
        Code::Unimplemented => Error::Refused(format!(
            "it does not know this call, it may be older than this client ({message})"
        )),
        // The certificate that a server asks for is missed after the greeting: all that is left of it is this.
        Code::Cancelled | Code::Unknown if server.starts_with("https") => {
            unavailable(server, format!("{message}: the connection was closed{CERTIFICATE_PERHAPS}"))
        }
        // The transport reports its own failures as UNAVAILABLE, UNKNOWN, INTERNAL or CANCELLED.
        _ => unavailable(server, message),
    }
}

fn unavailable(server: &str, detail: String) -> Error {
    Error::ServerUnavailable { server: server.to_owned(), detail }
}

/// Fields of the spec are named as the trainer's user wrote them, without the request around them.
fn violations(status: &Status) -> Vec<(String, String)> {
    let found = status.get_details_bad_request().map(|bad| bad.field_violations).unwrap_or_default();
    let named = |field: String| field.strip_prefix("spec.").map(str::to_owned).unwrap_or(field);
    found.into_iter().map(|violation| (named(violation.field), violation.description)).collect()
}

//! Errors to gRPC, in one place: a new error does not compile until it has a code and a reason.

use crate::{
    error::{Error, MORE, Unproven, Violation},
    limit::Limit,
};
use autolrs_core::{directive::DoneReason, job::Refusal};
use autolrs_proto::{ERROR_DOMAIN, reason_name, v1::ErrorReason};
use std::{collections::HashMap, time::Duration};
use tonic::{Code, Status};
use tonic_types::{ErrorDetails, FieldViolation, StatusExt};

/// When a client should try again after a limit was reached.
const RETRY_LIMIT: Duration = Duration::from_secs(1);
/// When a client should try again while the store is away: it is opened again every 10 s.
const RETRY_STORE: Duration = Duration::from_secs(5);
/// Most characters of a name or a value that goes into a status: it travels in headers, which are small.
const MAX_TEXT: usize = 256;
/// Most bytes of the fields that are told to be wrong, for the same reason.
const MAX_FIELDS: usize = 2048;

/// What a status says besides its sentence.
struct Refused {
    code: Code,
    /// None: not a refusal but a failure that the vocabulary has no word for.
    reason: Option<ErrorReason>,
    metadata: HashMap<String, String>,
    retry: Option<Duration>,
}

impl Refused {
    fn new(code: Code, reason: ErrorReason) -> Self {
        Self { code, reason: Some(reason), metadata: HashMap::new(), retry: None }
    }

    fn failed(code: Code) -> Self {
        Self { code, reason: None, metadata: HashMap::new(), retry: None }
    }

    fn with(mut self, key: &str, value: impl ToString) -> Self {
        self.metadata.insert(key.into(), clip(&value.to_string()));
        self
    }

    fn limit(self, limit: Limit) -> Self {
        self.with("limit", limit.what()).with("setting", limit.setting())
    }

    fn retry(mut self, after: Duration) -> Self {
        self.retry = Some(after);
        self
    }
}

/// A status of the transport with its reason: it says of a message only that it is too large.
pub(crate) fn explained(told: Status) -> Status {
    if told.code() != Code::OutOfRange || !told.details().is_empty() {
        return told;
    }
    status(&Error::MessageTooLarge { detail: told.message().to_owned() })
}

/// The status of an error.
pub fn status(error: &Error) -> Status {
    let refused = describe(error);
    let mut details = ErrorDetails::new();
    if let Some(reason) = refused.reason {
        details.set_error_info(reason_name(reason), ERROR_DOMAIN, refused.metadata);
    }
    if let Error::Invalid { violations, .. } = error {
        details.set_bad_request(fields(violations));
    } else if let Error::Refused { refusal: Refusal::InvalidField { field, description }, .. } = error {
        details.add_bad_request_violation(*field, description);
    }
    if let Some(after) = refused.retry {
        details.set_retry_info(Some(after));
    }
    Status::with_error_details(refused.code, clip(&error.to_string()), details)
}

/// What is wrong, as far as it fits.
fn fields(violations: &[Violation]) -> Vec<FieldViolation> {
    let mut bytes = 0;
    let all = violations.iter().map(|v| FieldViolation::new(clip(&v.field), clip(&v.description)));
    let mut fields: Vec<_> = all
        .take_while(|field| {
            bytes += field.field.len() + field.description.len();
            bytes <= MAX_FIELDS
        })
        .collect();
    if fields.len() < violations.len() {
        fields.push(FieldViolation::new("", MORE));
    }
    fields
}

fn describe(error: &Error) -> Refused {
    use ErrorReason as R;
    match error {
        Error::Invalid { job, .. } => Refused::new(Code::InvalidArgument, R::InvalidField).with("job", job),
        Error::Refused { job, refusal, silent_seconds } => refuse(refusal, *silent_seconds).with("job", job),
        Error::JobNotFound { job } => Refused::new(Code::NotFound, R::JobNotFound).with("job", job),
        Error::StageNotFound { job, stage } => {
            Refused::new(Code::NotFound, R::StageNotFound).with("job", job).with("stage", stage)
        }
        Error::JobDiffers { job, fields } => {
            Refused::new(Code::AlreadyExists, R::JobDiffers).with("job", job).with("fields", fields.join(","))
        }
        Error::JobNotEnded { job } => Refused::new(Code::FailedPrecondition, R::JobNotEnded).with("job", job),
        Error::LimitReached { limit } => {
            Refused::new(Code::ResourceExhausted, R::LimitReached).limit(*limit).retry(RETRY_LIMIT)
        }
        Error::QuotaExceeded { limit } => {
            Refused::new(Code::ResourceExhausted, R::QuotaExceeded).limit(*limit)
        }
        Error::MessageTooLarge { .. } => {
            Refused::new(Code::OutOfRange, R::MessageTooLarge).limit(Limit::Message)
        }
        Error::StoreUnavailable { .. } => {
            Refused::new(Code::Unavailable, R::StoreUnavailable).retry(RETRY_STORE)
        }
        Error::JobDamaged { job, detail } => {
            Refused::new(Code::Internal, R::JobDamaged).with("job", job).with("detail", detail)
        }
        Error::Unauthenticated(why) => Refused::new(
            Code::Unauthenticated,
            match why {
                Unproven::NoToken => R::TokenMissing,
                Unproven::Unknown => R::TokenUnknown,
                Unproven::Expired => R::TokenExpired,
            },
        ),
        Error::RoleTooLow { rpc, needed, has } => Refused::new(Code::PermissionDenied, R::RoleTooLow)
            .with("method", rpc)
            .with("needed", needed)
            .with("role", has),
        Error::NoTenant { rpc } => Refused::new(Code::PermissionDenied, R::WrongTenant)
            .with("method", rpc)
            .with("needed", "the jobs'"),
        Error::NotTheServers { rpc } => {
            Refused::new(Code::PermissionDenied, R::WrongTenant).with("method", rpc).with("needed", "*")
        }
        Error::Draining => Refused::new(Code::Unavailable, R::Draining),
        Error::TimedOut => Refused::failed(Code::DeadlineExceeded),
        Error::Defect { .. } => Refused::failed(Code::Internal),
    }
}

fn refuse(refusal: &Refusal, silent_seconds: u64) -> Refused {
    use ErrorReason as R;
    let precondition = |reason| Refused::new(Code::FailedPrecondition, reason);
    match refusal {
        Refusal::InvalidField { .. } => Refused::new(Code::InvalidArgument, R::InvalidField),
        Refusal::StopMismatch { seq, expected, .. } => {
            Refused::new(Code::InvalidArgument, R::StopMismatch).with("seq", seq).with("expected", expected)
        }
        Refusal::Fenced { session, newest } => {
            precondition(R::Fenced).with("session", session).with("newest", newest)
        }
        Refusal::SessionActive { holder } => precondition(R::SessionActive)
            .with("host", &holder.host)
            .with("pid", holder.pid)
            .with("heard_seconds_ago", silent_seconds),
        Refusal::ResumeRequired { total_steps_done } => {
            precondition(R::ResumeRequired).with("total_steps_done", total_steps_done)
        }
        Refusal::Ended(reason) => precondition(R::JobFinished).with("state", ended(*reason)),
        Refusal::UpdateInSearch => precondition(R::UpdateInSearch),
        Refusal::BudgetFixed(why) => precondition(R::BudgetFixed).with("detail", why),
        Refusal::CheckpointTooOld { seq, oldest } => {
            precondition(R::CheckpointTooOld).with("seq", seq).with("oldest_seq", oldest)
        }
        Refusal::CheckpointMismatch(detail) => precondition(R::CheckpointMismatch).with("detail", detail),
        Refusal::UnknownDirective { seq, .. } => precondition(R::UnknownDirective).with("seq", seq),
    }
}

fn ended(reason: DoneReason) -> &'static str {
    match reason {
        DoneReason::Finished => "FINISHED",
        DoneReason::Cancelled => "CANCELLED",
        DoneReason::Failed(_) => "FAILED",
    }
}

/// At most [`MAX_TEXT`] bytes: a character that is not ASCII takes up to 12 in a header.
fn clip(text: &str) -> String {
    if text.len() <= MAX_TEXT {
        return text.to_owned();
    }
    let end = (0..=MAX_TEXT).rev().find(|&end| text.is_char_boundary(end)).unwrap_or_default();
    format!("{}…", &text[..end])
}

#[cfg(test)]
mod tests;

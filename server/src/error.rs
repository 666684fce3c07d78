//! Why a call was refused: the closed list. [`crate::rpc::status`] turns it into gRPC, in one match.

use crate::{auth::roles::Role, limit::Limit};
use autolrs_core::job::Refusal;

/// What is wrong with one field of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation {
    /// Path of the field in the request, as in the proto: `spec.lr_min`.
    pub field: String,
    /// What it must be instead, with the value found.
    pub description: String,
}

/// Stands in place of the violations that are not told, with no field.
pub(crate) const MORE: &str = "more is wrong";

/// Why nobody knows who a caller is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Unproven {
    /// It brings no token.
    #[error("the request has no token, and this server asks for one")]
    NoToken,
    /// The server has no such token, or its secret is another.
    #[error("the token is none of this server's: it is mistyped, revoked, or of another server")]
    Unknown,
    /// It is too old.
    #[error("the token has expired")]
    Expired,
}

/// Why a call was refused. A refused call has changed nothing.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum Error {
    /// Fields are absent or out of range: all of them.
    #[error("{}", list(violations))]
    Invalid {
        /// The job that was named, as it was named.
        job: String,
        /// At least one.
        violations: Vec<Violation>,
    },
    /// The job refused the event.
    #[error("{refusal}")]
    Refused {
        /// Its name.
        job: String,
        /// Why.
        refusal: Refusal,
        /// Seconds since its trainer was heard; 0 if it never was.
        silent_seconds: u64,
    },
    /// There is no such job.
    #[error("there is no job {job:?}")]
    JobNotFound {
        /// The name.
        job: String,
    },
    /// The job has no such stage yet.
    #[error("job {job:?} has no stage {stage} yet")]
    StageNotFound {
        /// The job.
        job: String,
        /// The stage that was asked for.
        stage: u32,
    },
    /// The job exists with another spec.
    #[error("job {job:?} exists with another spec ({}): choose another name, or open with restart", fields.join(", "))]
    JobDiffers {
        /// The job.
        job: String,
        /// Fields that differ, as in the proto.
        fields: Vec<&'static str>,
    },
    /// The job has a trainer and has not ended.
    #[error("job {job:?} has not ended: cancel it before it is deleted")]
    JobNotEnded {
        /// The job.
        job: String,
    },
    /// A limit of the server is reached, for now.
    #[error("the server's limit of {} is reached; try again", limit.what())]
    LimitReached {
        /// Which.
        limit: Limit,
    },
    /// A limit is reached, and waiting does not help.
    #[error("the limit of {} is reached: delete some, or ask whoever runs the server for more ({})", limit.what(), limit.setting())]
    QuotaExceeded {
        /// Which.
        limit: Limit,
    },
    /// A message is larger than the server takes.
    #[error("{detail}")]
    MessageTooLarge {
        /// How large, and the limit.
        detail: String,
    },
    /// The store can't be read or written.
    #[error("the store is not available: {detail}; nothing was lost, try again")]
    StoreUnavailable {
        /// What it says.
        detail: String,
    },
    /// The record of the job can't be read.
    #[error("the record of job {job:?} is damaged: {detail}; other jobs go on")]
    JobDamaged {
        /// The job.
        job: String,
        /// What is wrong with it.
        detail: String,
    },
    /// Nobody knows who asks.
    #[error("{0}")]
    Unauthenticated(Unproven),
    /// The caller may not do this.
    #[error("{rpc} needs a token with the role {needed}; this one has the role {has}")]
    RoleTooLow {
        /// What was asked for.
        rpc: &'static str,
        /// The least role that may do it.
        needed: Role,
        /// The caller's.
        has: Role,
    },
    /// The caller has no jobs.
    #[error("{rpc} is about a tenant's jobs, and this token is of the tenant *, which has none")]
    NoTenant {
        /// What was asked for.
        rpc: &'static str,
    },
    /// The caller may not ask about all tenants.
    #[error("{rpc} is about the whole server: it needs a token of the tenant *")]
    NotTheServers {
        /// What was asked for.
        rpc: &'static str,
    },
    /// The server is about to end.
    #[error("the server is draining before its end; reconnect")]
    Draining,
    /// The request took longer than it may.
    #[error("the request took longer than the server's request_timeout; repeat it: it has one effect")]
    TimedOut,
    /// A defect of the server, told in its log.
    #[error("a defect of the server: {detail}; the stored job is as it was")]
    Defect {
        /// What happened.
        detail: String,
    },
}

fn list(violations: &[Violation]) -> String {
    let sentence = |v: &Violation| format!("{} {}", v.field, v.description).trim_start().to_owned();
    violations.iter().map(sentence).collect::<Vec<_>>().join("; ")
}

//! Between the protocol's messages and the core's types.

mod directive;
mod report;
mod spec;

pub(crate) use report::{ack, opened, report, resume};
pub(crate) use spec::job_spec;

/// A message of the server that this client can't read: a newer protocol, or a defect.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the server's answer has no usable `{0}`: it may be newer than this client")]
pub(crate) struct Unreadable(pub(crate) &'static str);

//! Client of the AutoLRS service: it carries a training through the directives of its job.
//!
//! [`session`] holds the pure machine: no I/O, no clock, no task. Around it a thin shell speaks to the server:
//! [`Session`] for async programs, [`blocking::Session`] for others. Training never waits longer than the decision
//! time-out, and goes on with the fallback that every directive carries when the server is away.

pub mod blocking;
mod config;
mod error;
pub mod session;
mod trainable;
mod transport;
mod wire;

pub use autolrs_core::{
    directive::{DoneReason, Failure, Phase, Slot, SlotOp},
    forecast::Forecaster,
    spec::{
        Budget, ClrOptions, ConstantOptions, CosineOptions, JobSpec, LossBound, OneCycleOptions, OpenBudget,
        PaperOptions, PolicySpec, ScanOptions, SgdrOptions, StepOptions, WsdOptions,
    },
};
pub use config::{
    DEFAULT_CONNECT_TIMEOUT, DEFAULT_DECISION_TIMEOUT, DEFAULT_SERVER, ENV_SERVER, ENV_TOKEN, OnOutage,
    SessionConfig,
};
pub use error::Error;
pub use session::{MAX_LOSSES_PER_REPORT, Status};
pub use trainable::{BatchNumbers, InMemory, Slots, Trainable};
pub use transport::{Handle, Session, Snapshot};

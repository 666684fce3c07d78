//! Client of the AutoLRS service: it carries a training through the directives of its job.
//!
//! # Open a session and train
//!
//! A job has a name and a spec; opening a session makes the job if it does not exist. The server is the one that
//! [`ENV_SERVER`] names, or the one of this machine. Every step then gets its learning rate (LR) from the session and
//! gives its loss back:
//!
//! ```
//! use autolrs_client::{DoneReason, InMemory, JobSpec, SessionConfig, blocking::Session};
//!
//! let spec = JobSpec {
//!     total_steps: Some(3000),       // the whole budget, the search included
//!     lr_min: Some(1e-4),            // the LRs that are tried
//!     lr_max: Some(1.0),
//!     fallback_lr: Some(0.05),       // when there is no better knowledge
//!     ..JobSpec::default()
//! };
//! let config = SessionConfig { replay: true, ..SessionConfig::new("bowl", spec) };
//! # let config = SessionConfig { on_outage: autolrs_client::OnOutage::Fallback, server: "http://127.0.0.1:1".into(),
//! #     token: None, connect_timeout: std::time::Duration::ZERO, ..config };
//! let session = Session::open(config)?;
//!
//! // A state that can be cloned, and a function that runs a step on batch `number` and returns its loss.
//! let mut training = InMemory::new(2.0, |weight: &mut f64, number, lr| {
//!     let noise = 1e-3 * (number % 7) as f64;
//!     let loss = *weight * *weight;
//!     *weight -= lr * (2.0 * *weight + noise);
//!     loss
//! });
//! assert_eq!(session.train(&mut training)?, DoneReason::Finished);
//! session.close(std::time::Duration::from_secs(10))?;
//! assert!(training.state.abs() < 0.1);
//! # Ok::<(), autolrs_client::Error>(())
//! ```
//!
//! State that can't be cloned, such as tensors on a device, implements [`Trainable`]: run a step, and save, restore or
//! drop a copy of the state in a [`Slot`]. [`Slots`] keeps copies, [`BatchNumbers`] says which batch is next. Searches
//! try LRs that diverge: a loss that is NaN or infinite is an answer.
//!
//! # The loop by hand
//!
//! [`blocking::Session`] shows it: slot operations in order, then steps until [`Status::Ended`], then `next`, until
//! nothing is left to do. Losses that arrive later than their steps, from a device, are given with [`Handle::tick`]
//! and [`Handle::losses`].
//!
//! # Checkpoints
//!
//! The trainer's own checkpoint takes three things at one moment: [`Handle::state`], the state (or, during a search,
//! the content of the slot that [`Handle::state_slot`] names), and the place in the stream of batches;
//! [`InMemory::checkpoint`] gives the latter two. The run goes on from it with [`SessionConfig::resume`]:
//!
//! ```
//! # use autolrs_client::{Error, InMemory, JobSpec, OnOutage, SessionConfig, blocking::Session};
//! # let spec = JobSpec {
//! #     total_steps: Some(4), lr_min: Some(1e-3), lr_max: Some(1.0), fallback_lr: Some(0.1), ..JobSpec::default()
//! # };
//! # let config = SessionConfig { on_outage: OnOutage::Fallback, server: "http://127.0.0.1:1".into(), token: None,
//! #     connect_timeout: std::time::Duration::ZERO, ..SessionConfig::new("bowl", spec) };
//! # fn step(weight: &mut f64, _: u64, lr: f64) -> f64 { *weight -= lr; *weight }
//! # let session = Session::open(config.clone())?;
//! # let mut training = InMemory::new(2.0, step);
//! # session.record(autolrs_client::Trainable::step(&mut training, session.lr())?);
//! // In Trainable::after_step, now and then:
//! let (state, position) = training.checkpoint(session.state_slot())?;
//! let bytes = session.state()?;
//!
//! // In a new process:
//! let session = Session::open(SessionConfig { resume: Some(bytes), ..config })?;
//! let mut training = InMemory::resume(state, position, step);
//! session.train(&mut training)?;
//! assert_eq!(session.snapshot().total_step, 4);
//! # Ok::<(), Error>(())
//! ```
//!
//! # When the server is away
//!
//! Training goes on. Only at the end of a directive is an answer needed; if none comes within
//! [`SessionConfig::decision_timeout`], the fallback that came with the directive is in force, and the server takes
//! over again when it is back. [`OnOutage`] chooses otherwise, [`Handle::take_notices`] has sentences for the user, and
//! a `tracing` subscriber sees a span per session and directive, and an event for each outage, fallback and reconnect.
//! (The examples of this documentation run without a server, so they see nothing but the fallback.)
//!
//! # A schedule once more
//!
//! A schedule that was exported is replayed by the service, under its guards, with [`PolicySpec::Replay`]; or without any
//! server:
//!
//! ```
//! use autolrs_client::{JobSpec, PolicySpec, ReplayOptions, Schedule};
//!
//! let text = r#"{ "format": "autolrs.schedule.v1",
//!                 "pieces": [ { "steps": 2, "shape": "linear", "start": 0.05, "end": 0.1 },
//!                             { "steps": 3, "shape": "constant", "start": 0.1, "end": 0.1 } ] }"#;
//! let schedule = Schedule::from_json(text)?; // `autolrs jobs export NAME > schedule.json`
//! for lr in schedule.iter() {
//!     // train a step at `lr`
//! #   assert!((0.05..=0.1).contains(&lr));
//! }
//! assert_eq!((schedule.steps(), schedule.lr_at(0), schedule.lr_at(4)), (5, 0.05, 0.1));
//!
//! let replay = PolicySpec::Replay(ReplayOptions { pieces: schedule.pieces().to_vec() });
//! let spec = JobSpec { policy: Some(replay), fallback_lr: Some(0.1), ..JobSpec::default() };
//! # assert_eq!(spec.total_steps, None);
//! # Ok::<(), autolrs_client::BadSchedule>(())
//! ```
//!
//! # Which session
//!
//! Both have the commands of [`Handle`] and speak to the server on a thread of their own, so that long steps delay
//! nothing. A training loop computes, so [`blocking::Session`] is the natural one; it may be shared between threads.
//! [`Session`] is for programs that live in a tokio runtime: waiting for the next directive leaves the executor to
//! other tasks, but a step does not. Dropping either ends it at once; `close` first waits until the server has
//! everything.
//!
//! # Inside
//!
//! [`session`] holds the pure machine: no I/O, no clock, no task.

#![warn(
    rustdoc::broken_intra_doc_links,
    rustdoc::private_intra_doc_links,
    rustdoc::invalid_codeblock_attributes
)]

pub mod blocking;
mod config;
mod endpoint;
mod error;
pub mod session;
mod trainable;
mod transport;
mod wire;

pub use autolrs_core::{
    directive::{DoneReason, Failure, Phase, Slot, SlotOp},
    forecast::Forecaster,
    lr_pieces::{Piece, Shape},
    schedule::{About, BadSchedule, Commit, Schedule, pieces_from_json, pieces_to_json},
    spec::{
        Budget, ClrOptions, ConstantOptions, CosineOptions, JobSpec, LossBound, Objective, OneCycleOptions,
        OpenBudget, PaperOptions, PolicySpec, ReplayOptions, ScanOptions, SgdrOptions, StagedOptions,
        StepOptions, WsdOptions,
    },
};
pub use config::{
    DEFAULT_CONNECT_TIMEOUT, DEFAULT_DECISION_TIMEOUT, DEFAULT_SERVER, ENV_CA, ENV_CERT, ENV_KEY, ENV_SERVER,
    ENV_TOKEN, ENV_TRACEPARENT, OnOutage, SessionConfig,
};
pub use endpoint::{EndpointConfig, Token, tls_problem};
pub use error::Error;
pub use session::{MAX_LOSSES_PER_REPORT, Status};
pub use trainable::{BatchNumbers, InMemory, Slots, Trainable};
pub use transport::{Handle, Session, Snapshot};

/// The examples of the crate's page are compiled.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;

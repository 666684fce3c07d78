//! The tokio shell around the session machine: one background thread owns the connection, and the trainer's thread and
//! this one share the machine behind a lock that is never held while anything is waited for.

mod background;
mod driver;
mod finish;
mod handle;
mod holder;
mod link;
mod open;
mod session;
mod shared;
mod status;
#[cfg(test)]
mod tests;
mod trace;
mod trace_context;

pub use handle::{Handle, Snapshot};
pub use session::Session;

pub(crate) use background::{begin, runtime};
pub(crate) use finish::finish;
pub(crate) use shared::Shared;

use crate::{config::SessionConfig, error::Error};
use link::Link;
use std::{sync::Arc, time::Duration};
use tower::{
    retry::backoff::{ExponentialBackoff, ExponentialBackoffMaker, MakeBackoff},
    util::rng::HasherRng,
};
use trace::Trace;
use trace_context::TraceContext;
use tracing::{Instrument, Span};

const SHORTEST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);
const JITTER: f64 = 0.5;

/// Pauses between attempts: they double, up to a limit, with jitter so that trainers don't come back all at once.
#[expect(
    clippy::unwrap_used,
    reason = "the constants keep the rules: shortest <= longest, longest > 0, jitter finite"
)]
fn backoff() -> ExponentialBackoff {
    let rng = HasherRng::default();
    ExponentialBackoffMaker::new(SHORTEST_PAUSE, LONGEST_PAUSE, JITTER, rng).unwrap().make_backoff()
}

/// Opens a session: the shared state, and the task that must run beside the trainer (none without a server).
async fn start(
    config: &SessionConfig,
    span: Span,
) -> Result<(Arc<Shared>, Option<impl Future<Output = ()> + use<>>), Error> {
    let context = TraceContext::new(config.traceparent.as_deref(), span.clone());
    let connect = |config: &SessionConfig| {
        Link::new(config.into(), &config.job).map(|link| link.within(context.clone()))
    };
    let (machine, link) = open::open(config, connect).instrument(span.clone()).await?;
    let trace = Trace::new(span, &machine);
    let shared = Arc::new(Shared::new(machine, config, context, trace));
    let task = link.map(|link| driver::drive(shared.clone(), link));
    Ok((shared, task))
}

//! The trainer's own request to end its job in order.

use super::{Shared, link::Link, trace_context::TraceContext};
use crate::{endpoint::EndpointConfig, error::Error};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Training stands still for no longer than this.
const ANSWER_WITHIN: Duration = Duration::from_secs(5);

/// Asks once, on a connection of its own: the background task's may be busy with a report.
pub(crate) async fn finish(shared: &Shared, cooldown_steps: Option<u64>) -> Result<(), Error> {
    shared.check_process()?;
    if !shared.may_finish()? {
        return Ok(());
    }
    let mut link = shared.caller().link()?;
    link.finish_job(request_id(), cooldown_steps, ANSWER_WITHIN).await?;
    shared.wake();
    Ok(())
}

/// Two requests of one trainer differ; that of another process differs by its number.
fn request_id() -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    format!("trainer-{}-{}", std::process::id(), now.as_nanos())
}

/// Whom to ask, and as whom.
pub(crate) struct Caller {
    pub(crate) endpoint: EndpointConfig,
    pub(crate) job: String,
    pub(crate) trace: TraceContext,
}

impl Caller {
    fn link(&self) -> Result<Link, Error> {
        let link = Link::new(self.endpoint.clone(), &self.job)?;
        Ok(link.within(self.trace.clone()))
    }
}

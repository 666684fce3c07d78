//! The thread that speaks to the server. A step keeps the trainer's thread (in an async program its executor's) busy
//! for as long as it takes, and neither a report nor a heartbeat may wait for that.

use super::{Handle, start, trace};
use crate::{config::SessionConfig, error::Error};
use std::thread::JoinHandle;
use tokio::runtime::Runtime;

/// Opens a session on a thread of its own, which runs until the session is closed. `tell` gets the outcome, and says
/// whether somebody still wanted it.
pub(crate) fn begin(
    config: SessionConfig,
    tell: impl FnOnce(Result<Handle, Error>) -> bool + Send + 'static,
) -> Result<JoinHandle<()>, Error> {
    let runtime = runtime()?;
    let span = trace::session_span(&config.job);
    let run = move || {
        runtime.block_on(async {
            match start(&config, span).await {
                Ok((shared, task)) => {
                    let wanted = tell(Ok(Handle(shared)));
                    if let Some(task) = task.filter(|_| wanted) {
                        task.await;
                    }
                }
                Err(error) => drop(tell(Err(error))),
            }
        });
        // A look-up of the server's name that hangs must not keep the thread.
        runtime.shutdown_background();
    };
    trace::spawn("autolrs", run).map_err(no_thread)
}

/// A runtime for the thread that makes it.
pub(crate) fn runtime() -> Result<Runtime, Error> {
    tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(no_thread)
}

fn no_thread(error: std::io::Error) -> Error {
    Error::NoThread(error.to_string())
}

//! The async session.

use super::{Handle, start};
use crate::{config::SessionConfig, error::Error, session::Machine};
use std::{ops::Deref, time::Duration};
use tokio::task::JoinHandle;

/// One trainer's session of a job, for use inside a tokio runtime. Its commands are those of [`Handle`]; see
/// [`Machine`] for their order.
///
/// ```no_run
/// # async fn train(spec: autolrs_core::spec::JobSpec) -> Result<(), autolrs_client::Error> {
/// use autolrs_client::{Session, SessionConfig, Status};
/// let session = Session::open(SessionConfig::new("my-job", spec)).await?;
/// loop {
///     for op in session.take_slot_ops() { /* save, restore or drop the model's state */ }
///     if session.done().is_some() { break }
///     while session.record(/* the loss of a step at */ session.lr()) != Status::Ended {}
///     session.next().await?;
/// }
/// session.close(std::time::Duration::from_secs(10)).await;
/// # Ok(())
/// # }
/// ```
pub struct Session {
    handle: Handle,
    task: Option<JoinHandle<()>>,
}

impl Session {
    /// Makes the job if it does not exist, and opens a session of it.
    pub async fn open(config: SessionConfig) -> Result<Self, Error> {
        let (shared, task) = start(&config).await?;
        Ok(Self { handle: Handle(shared), task: task.map(tokio::spawn) })
    }

    /// After [`crate::Status::Ended`]: waits for the next directive. At most the decision time-out; then the fallback
    /// is in force, or with [`crate::OnOutage::Raise`] this fails and may be called again. Returns at once if no
    /// directive has ended.
    pub async fn next(&self) -> Result<(), Error> {
        while let Some(at_most) = self.handle.0.wait_for_next()? {
            self.handle.0.wake();
            self.handle
                .0
                .changed_within(at_most, |machine| !machine.waiting() || !machine.expects_answer())
                .await;
        }
        Ok(())
    }

    /// Waits until the server has everything. False: not within `at_most`.
    pub async fn flush(&self, at_most: Duration) -> bool {
        self.handle.0.wake();
        self.handle.0.changed_within(at_most, Machine::is_flushed).await
    }

    /// Flushes for at most `at_most` and ends the session. The job goes on if a trainer resumes it.
    pub async fn close(mut self, at_most: Duration) {
        self.flush(at_most).await;
        self.handle.0.close();
        if let Some(task) = self.task.take() {
            // A task that panicked has said so.
            let _ = task.await;
        }
    }
}

impl Deref for Session {
    type Target = Handle;

    fn deref(&self) -> &Handle {
        &self.handle
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        self.handle.0.close();
    }
}

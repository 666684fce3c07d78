//! The session for programs without a runtime: a thread of its own carries the background task.

use crate::{
    config::SessionConfig,
    error::Error,
    session::Machine,
    transport::{Handle, start},
};
use std::{
    ops::Deref,
    sync::{
        Mutex, PoisonError,
        mpsc::{self, Receiver, RecvTimeoutError},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

/// One trainer's session of a job. Its commands are those of [`Handle`]; see [`Machine`] for their order.
///
/// It belongs to the process that opened it: in a forked child whatever waits fails with [`Error::Forked`].
pub struct Session {
    handle: Handle,
    /// None once it is closed.
    thread: Mutex<Option<JoinHandle<()>>>,
}

/// A session that is being opened.
pub struct Opening {
    answer: Receiver<Result<Handle, Error>>,
    thread: JoinHandle<()>,
}

impl Opening {
    /// Waits at most this long for the session.
    pub fn wait(self, at_most: Duration) -> Result<Result<Session, Self>, Error> {
        match self.answer.recv_timeout(at_most) {
            Ok(opened) => Ok(Ok(Session { handle: opened?, thread: Mutex::new(Some(self.thread)) })),
            Err(RecvTimeoutError::Timeout) => Ok(Err(self)),
            Err(RecvTimeoutError::Disconnected) => Err(Error::NoThread("it has ended".into())),
        }
    }
}

impl Session {
    /// Makes the job if it does not exist, and opens a session of it.
    pub fn open(config: SessionConfig) -> Result<Self, Error> {
        let mut opening = Self::begin_open(config)?;
        loop {
            match opening.wait(Duration::from_secs(1))? {
                Ok(session) => return Ok(session),
                Err(still) => opening = still,
            }
        }
    }

    /// Begins to open a session in the background.
    pub fn begin_open(config: SessionConfig) -> Result<Opening, Error> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(|error| Error::NoThread(error.to_string()))?;
        let (tell, answer) = mpsc::channel();
        let run = move || {
            let opened = runtime.block_on(start(&config));
            let task = match opened {
                Ok((shared, task)) => tell.send(Ok(Handle(shared))).is_ok().then_some(task).flatten(),
                Err(error) => {
                    // Nobody waits any more: nothing is left to be told.
                    let _ = tell.send(Err(error));
                    None
                }
            };
            if let Some(task) = task {
                runtime.block_on(task);
            }
        };
        let thread = thread::Builder::new()
            .name("autolrs".into())
            .spawn(run)
            .map_err(|error| Error::NoThread(error.to_string()))?;
        Ok(Opening { answer, thread })
    }

    /// After [`crate::Status::Ended`]: waits for the next directive. At most the decision time-out; then the fallback
    /// is in force, or with [`crate::OnOutage::Raise`] this fails and may be called again.
    pub fn next(&self) -> Result<(), Error> {
        while !self.next_within(Duration::from_secs(3600))? {}
        Ok(())
    }

    /// As [`Session::next`], but waits at most `at_most` now. False: call it again. The decision time-out counts
    /// from the first call.
    pub fn next_within(&self, at_most: Duration) -> Result<bool, Error> {
        let shared = &self.handle.0;
        let Some(left) = shared.wait_for_next()? else { return Ok(true) };
        shared.wake();
        shared.wait_for_change(left.min(at_most), |machine| !machine.waiting() || !machine.expects_answer());
        Ok(shared.wait_for_next()?.is_none())
    }

    /// Waits until the server has everything. False: not within `at_most`.
    pub fn flush(&self, at_most: Duration) -> Result<bool, Error> {
        self.handle.0.check_process()?;
        self.handle.0.wake();
        Ok(self.handle.0.wait_for_change(at_most, Machine::is_flushed))
    }

    /// Flushes for at most `at_most` and ends the session. The job goes on if a trainer resumes it. A second call
    /// does nothing.
    pub fn close(&self, at_most: Duration) -> Result<(), Error> {
        self.handle.0.check_process()?;
        let thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        let Some(thread) = thread else { return Ok(()) };
        self.flush(at_most)?;
        self.handle.0.close();
        // A thread that panicked has said so.
        let _ = thread.join();
        Ok(())
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

//! The session for programs without a runtime.

use crate::{
    config::SessionConfig,
    error::Error,
    session::{Machine, Status},
    trainable::{self, Trainable},
    transport::{Handle, begin, finish, runtime},
};
use autolrs_core::directive::DoneReason;
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
///
/// ```
/// # use autolrs_client::{blocking::Session, *};
/// # let spec = JobSpec {
/// #     total_steps: Some(3), lr_min: Some(1e-3), lr_max: Some(1.0), fallback_lr: Some(0.1), ..JobSpec::default()
/// # };
/// # let alone = SessionConfig { on_outage: OnOutage::Fallback, connect_timeout: std::time::Duration::ZERO,
/// #     server: "http://127.0.0.1:1".into(), token: None, ..SessionConfig::new("digits", spec) };
/// let session = Session::open(alone)?;
/// loop {
///     for op in session.take_slot_ops() { /* save, restore or drop a copy of the model's state */ }
///     if session.done().is_some() { break }
///     while session.record(/* the loss of a step at */ session.lr()) != Status::Ended {}
///     session.next()?;
/// }
/// session.close(std::time::Duration::from_secs(10))?;
/// # Ok::<(), Error>(())
/// ```
pub struct Session {
    handle: Handle,
    /// None once it is closed.
    thread: Mutex<Option<JoinHandle<()>>>,
}

/// A session that is being opened.
///
/// ```
/// # use autolrs_client::{blocking::Session, *};
/// # let spec = JobSpec {
/// #     total_steps: Some(3), lr_min: Some(1e-3), lr_max: Some(1.0), fallback_lr: Some(0.1), ..JobSpec::default()
/// # };
/// # let alone = SessionConfig { on_outage: OnOutage::Fallback, connect_timeout: std::time::Duration::ZERO,
/// #     server: "http://127.0.0.1:1".into(), token: None, ..SessionConfig::new("digits", spec) };
/// let mut opening = Session::begin_open(alone)?;
/// let session = loop {
///     match opening.wait(std::time::Duration::from_millis(100))? {
///         Ok(session) => break session,
///         Err(still) => opening = still,   // a place to look for Ctrl-C
///     }
/// };
/// assert_eq!(session.lr(), 0.1);
/// # Ok::<(), Error>(())
/// ```
pub struct Opening {
    answer: Receiver<Result<Handle, Error>>,
    thread: JoinHandle<()>,
}

impl Opening {
    /// Waits at most this long for the session.
    ///
    /// ```
    /// # use autolrs_client::{blocking::Session, *};
    /// # let spec = JobSpec {
    /// #     total_steps: Some(3), lr_min: Some(1e-3), lr_max: Some(1.0), fallback_lr: Some(0.1), ..JobSpec::default()
    /// # };
    /// # let alone = SessionConfig { on_outage: OnOutage::Fallback, connect_timeout: std::time::Duration::ZERO,
    /// #     server: "http://127.0.0.1:1".into(), token: None, ..SessionConfig::new("digits", spec) };
    /// let opening = Session::begin_open(alone)?;
    /// assert!(opening.wait(std::time::Duration::from_secs(60))?.is_ok());
    /// # Ok::<(), Error>(())
    /// ```
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
    ///
    /// ```
    /// # use autolrs_client::{blocking::Session, *};
    /// # let spec = JobSpec {
    /// #     total_steps: Some(3), lr_min: Some(1e-3), lr_max: Some(1.0), fallback_lr: Some(0.1), ..JobSpec::default()
    /// # };
    /// # let alone = SessionConfig { on_outage: OnOutage::Fallback, connect_timeout: std::time::Duration::ZERO,
    /// #     server: "http://127.0.0.1:1".into(), token: None, ..SessionConfig::new("digits", spec) };
    /// let session = Session::open(alone)?;
    /// assert!(session.snapshot().detached, "this example has no server");
    /// # Ok::<(), Error>(())
    /// ```
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
    ///
    /// ```
    /// # use autolrs_client::{blocking::Session, *};
    /// # let spec = JobSpec {
    /// #     total_steps: Some(3), lr_min: Some(1e-3), lr_max: Some(1.0), fallback_lr: Some(0.1), ..JobSpec::default()
    /// # };
    /// # let alone = SessionConfig { on_outage: OnOutage::Fallback, connect_timeout: std::time::Duration::ZERO,
    /// #     server: "http://127.0.0.1:1".into(), token: None, ..SessionConfig::new("digits", spec) };
    /// let opening: blocking::Opening = Session::begin_open(alone)?;
    /// # Ok::<(), Error>(())
    /// ```
    pub fn begin_open(config: SessionConfig) -> Result<Opening, Error> {
        let (tell, answer) = mpsc::channel();
        let thread = begin(config, move |opened| tell.send(opened).is_ok())?;
        Ok(Opening { answer, thread })
    }

    /// After [`crate::Status::Ended`]: waits for the next directive. At most the decision time-out; then the fallback
    /// is in force, or with [`crate::OnOutage::Raise`] this fails and may be called again.
    ///
    /// ```
    /// # use autolrs_client::{blocking::Session, *};
    /// # let spec = JobSpec {
    /// #     total_steps: Some(3), lr_min: Some(1e-3), lr_max: Some(1.0), fallback_lr: Some(0.1), ..JobSpec::default()
    /// # };
    /// # let alone = SessionConfig { on_outage: OnOutage::Fallback, connect_timeout: std::time::Duration::ZERO,
    /// #     server: "http://127.0.0.1:1".into(), token: None, ..SessionConfig::new("digits", spec) };
    /// # let session = Session::open(alone)?;
    /// while session.record(0.5) != Status::Ended {}
    /// session.next()?;
    /// assert_eq!(session.done(), Some(DoneReason::Finished));
    /// # Ok::<(), Error>(())
    /// ```
    pub fn next(&self) -> Result<(), Error> {
        while !self.next_within(Duration::from_secs(3600))? {}
        Ok(())
    }

    /// As [`Session::next`], but waits at most `at_most` now. False: call it again. The decision time-out counts
    /// from the first call.
    ///
    /// ```
    /// # use autolrs_client::{blocking::Session, *};
    /// # let spec = JobSpec {
    /// #     total_steps: Some(3), lr_min: Some(1e-3), lr_max: Some(1.0), fallback_lr: Some(0.1), ..JobSpec::default()
    /// # };
    /// # let alone = SessionConfig { on_outage: OnOutage::Fallback, connect_timeout: std::time::Duration::ZERO,
    /// #     server: "http://127.0.0.1:1".into(), token: None, ..SessionConfig::new("digits", spec) };
    /// # let session = Session::open(alone)?;
    /// while session.record(0.5) != Status::Ended {}
    /// while !session.next_within(std::time::Duration::from_millis(100))? {
    ///     println!("waiting");
    /// }
    /// # Ok::<(), Error>(())
    /// ```
    pub fn next_within(&self, at_most: Duration) -> Result<bool, Error> {
        let shared = &self.handle.0;
        let Some(left) = shared.wait_for_next()? else { return Ok(true) };
        shared.wake();
        shared.wait_for_change(left.min(at_most), |machine| !machine.waiting() || !machine.expects_answer());
        Ok(shared.wait_for_next()?.is_none())
    }

    /// Trains to the end of the job: does slot operations, takes each step's learning rate, waits for the next
    /// directive or goes on with the fallback. Why it ended.
    ///
    /// # Errors
    /// Those of the trainable, and of [`Session::next`]; after one of the latter it may be called again.
    ///
    /// ```
    /// # use autolrs_client::{blocking::Session, *};
    /// # let spec = JobSpec {
    /// #     total_steps: Some(3), lr_min: Some(1e-3), lr_max: Some(1.0), fallback_lr: Some(0.1), ..JobSpec::default()
    /// # };
    /// # let alone = SessionConfig { on_outage: OnOutage::Fallback, connect_timeout: std::time::Duration::ZERO,
    /// #     server: "http://127.0.0.1:1".into(), token: None, ..SessionConfig::new("digits", spec) };
    /// let mut training = InMemory::new(1.0, |weight: &mut f64, _, lr| {
    ///     let loss = *weight * *weight;
    ///     *weight -= lr * 2.0 * *weight;
    ///     loss
    /// });
    /// let session = Session::open(alone)?;
    /// assert_eq!(session.train(&mut training)?, DoneReason::Finished);
    /// # Ok::<(), Error>(())
    /// ```
    pub fn train<T: Trainable>(&self, trainable: &mut T) -> Result<DoneReason, T::Error> {
        trainable::begin(self, trainable)?;
        loop {
            let within = self.span().entered();
            trainable::enter(self, trainable)?;
            if let Some(reason) = self.done() {
                return Ok(reason);
            }
            while self.status() != Status::Ended {
                trainable::step(self, trainable)?;
            }
            drop(within);
            self.next()?;
        }
    }

    /// Ends the job early and in order: the cooldown begins at the next switch point, and the session is done after
    /// it. In a search: the state before it is restored, then a warm-up and the cooldown.
    ///
    /// - `cooldown_steps`: none: in a search 0, else 2/3 of the committed steps, or what is left of the budget.
    ///
    /// Asks the server once and waits for its word alone, 5 s at the most. Does nothing if the job is cooling down or
    /// done.
    ///
    /// # Errors
    /// [`Error::ServerUnavailable`], [`Error::Fenced`] and others: nothing has changed, training goes on and may ask
    /// again.
    ///
    /// ```
    /// # use autolrs_client::{blocking::Session, *};
    /// # let spec = JobSpec {
    /// #     total_steps: Some(3), lr_min: Some(1e-3), lr_max: Some(1.0), fallback_lr: Some(0.1), ..JobSpec::default()
    /// # };
    /// # let alone = SessionConfig { on_outage: OnOutage::Fallback, connect_timeout: std::time::Duration::ZERO,
    /// #     server: "http://127.0.0.1:1".into(), token: None, ..SessionConfig::new("digits", spec) };
    /// # let session = Session::open(alone)?;
    /// match session.finish(Some(100)) {
    ///     Ok(()) => println!("it cools down from the next switch point on"),
    ///     Err(error) => println!("training goes on: {error}"),
    /// }
    /// # Ok::<(), Error>(())
    /// ```
    pub fn finish(&self, cooldown_steps: Option<u64>) -> Result<(), Error> {
        self.handle.0.check_process()?;
        let runtime = runtime()?;
        let ask = || {
            let answer = runtime.block_on(finish(&self.handle.0, cooldown_steps));
            runtime.shutdown_background();
            answer
        };
        thread::scope(|scope| scope.spawn(ask).join()).map_err(|_| Error::NoThread("it has ended".into()))?
    }

    /// Waits until the server has everything. False: not within `at_most`.
    ///
    /// ```
    /// # use autolrs_client::{blocking::Session, *};
    /// # let spec = JobSpec {
    /// #     total_steps: Some(3), lr_min: Some(1e-3), lr_max: Some(1.0), fallback_lr: Some(0.1), ..JobSpec::default()
    /// # };
    /// # let alone = SessionConfig { on_outage: OnOutage::Fallback, connect_timeout: std::time::Duration::ZERO,
    /// #     server: "http://127.0.0.1:1".into(), token: None, ..SessionConfig::new("digits", spec) };
    /// # let session = Session::open(alone)?;
    /// session.record(0.5);
    /// if !session.flush(std::time::Duration::from_secs(2))? {
    ///     eprintln!("the server has not heard of the last step yet");
    /// }
    /// # Ok::<(), Error>(())
    /// ```
    pub fn flush(&self, at_most: Duration) -> Result<bool, Error> {
        self.handle.0.check_process()?;
        self.handle.0.wake();
        Ok(self.handle.0.wait_for_change(at_most, Machine::is_flushed))
    }

    /// Flushes for at most `at_most` and ends the session. The job goes on if a trainer resumes it. A second call
    /// does nothing.
    ///
    /// ```
    /// # use autolrs_client::{blocking::Session, *};
    /// # let spec = JobSpec {
    /// #     total_steps: Some(3), lr_min: Some(1e-3), lr_max: Some(1.0), fallback_lr: Some(0.1), ..JobSpec::default()
    /// # };
    /// # let alone = SessionConfig { on_outage: OnOutage::Fallback, connect_timeout: std::time::Duration::ZERO,
    /// #     server: "http://127.0.0.1:1".into(), token: None, ..SessionConfig::new("digits", spec) };
    /// # let session = Session::open(alone)?;
    /// session.close(std::time::Duration::from_secs(2))?;
    /// session.close(std::time::Duration::from_secs(2))?;
    /// # Ok::<(), Error>(())
    /// ```
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

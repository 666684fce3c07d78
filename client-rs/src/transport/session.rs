//! The async session.

use super::{Handle, background};
use crate::{
    config::SessionConfig,
    error::Error,
    session::{Machine, Status},
    trainable::{self, Trainable},
};
use autolrs_core::directive::DoneReason;
use std::{ops::Deref, time::Duration};
use tokio::sync::oneshot;

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
    pub(super) handle: Handle,
}

impl Session {
    /// Makes the job if it does not exist, and opens a session of it.
    ///
    /// ```
    /// # use autolrs_client::{*};
    /// # let spec = JobSpec {
    /// #     total_steps: Some(3), lr_min: Some(1e-3), lr_max: Some(1.0), fallback_lr: Some(0.1), ..JobSpec::default()
    /// # };
    /// # let alone = SessionConfig { on_outage: OnOutage::Fallback, connect_timeout: std::time::Duration::ZERO,
    /// #     server: "http://127.0.0.1:1".into(), token: None, ..SessionConfig::new("digits", spec) };
    /// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
    /// let session = Session::open(alone).await?;
    /// assert!(session.snapshot().detached, "this example has no server");
    /// # Ok::<(), Error>(()) }).unwrap();
    /// ```
    pub async fn open(config: SessionConfig) -> Result<Self, Error> {
        let (tell, answer) = oneshot::channel();
        background::begin(config, |opened| tell.send(opened).is_ok())?;
        let handle = answer.await.map_err(|_| Error::NoThread("it has ended".into()))??;
        Ok(Self { handle })
    }

    /// After [`crate::Status::Ended`]: waits for the next directive. At most the decision time-out; then the fallback
    /// is in force, or with [`crate::OnOutage::Raise`] this fails and may be called again. Returns at once if no
    /// directive has ended.
    ///
    /// ```
    /// # use autolrs_client::{*};
    /// # let spec = JobSpec {
    /// #     total_steps: Some(3), lr_min: Some(1e-3), lr_max: Some(1.0), fallback_lr: Some(0.1), ..JobSpec::default()
    /// # };
    /// # let alone = SessionConfig { on_outage: OnOutage::Fallback, connect_timeout: std::time::Duration::ZERO,
    /// #     server: "http://127.0.0.1:1".into(), token: None, ..SessionConfig::new("digits", spec) };
    /// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
    /// # let session = Session::open(alone).await?;
    /// while session.record(0.5) != Status::Ended {}
    /// session.next().await?;
    /// assert_eq!(session.done(), Some(DoneReason::Finished));
    /// # Ok::<(), Error>(()) }).unwrap();
    /// ```
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

    /// Trains to the end of the job: does slot operations, takes each step's learning rate, waits for the next
    /// directive or goes on with the fallback. Why it ended.
    ///
    /// A step keeps the executor's thread busy as long as it takes; other tasks get their turn after each.
    ///
    /// # Errors
    /// Those of the trainable, and of [`Session::next`]; after one of the latter it may be called again.
    ///
    /// ```
    /// # use autolrs_client::{*};
    /// # let spec = JobSpec {
    /// #     total_steps: Some(3), lr_min: Some(1e-3), lr_max: Some(1.0), fallback_lr: Some(0.1), ..JobSpec::default()
    /// # };
    /// # let alone = SessionConfig { on_outage: OnOutage::Fallback, connect_timeout: std::time::Duration::ZERO,
    /// #     server: "http://127.0.0.1:1".into(), token: None, ..SessionConfig::new("digits", spec) };
    /// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
    /// let mut training = InMemory::new(1.0, |weight: &mut f64, _, lr| {
    ///     let loss = *weight * *weight;
    ///     *weight -= lr * 2.0 * *weight;
    ///     loss
    /// });
    /// let session = Session::open(alone).await?;
    /// assert_eq!(session.train(&mut training).await?, DoneReason::Finished);
    /// # Ok::<(), Error>(()) }).unwrap();
    /// ```
    pub async fn train<T: Trainable>(&self, trainable: &mut T) -> Result<DoneReason, T::Error> {
        trainable::begin(self, trainable)?;
        loop {
            let span = self.span();
            span.in_scope(|| trainable::enter(self, trainable))?;
            if let Some(reason) = self.done() {
                return Ok(reason);
            }
            while self.status() != Status::Ended {
                span.in_scope(|| trainable::step(self, trainable))?;
                tokio::task::yield_now().await;
            }
            self.next().await?;
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
    /// # use autolrs_client::{*};
    /// # let spec = JobSpec {
    /// #     total_steps: Some(3), lr_min: Some(1e-3), lr_max: Some(1.0), fallback_lr: Some(0.1), ..JobSpec::default()
    /// # };
    /// # let alone = SessionConfig { on_outage: OnOutage::Fallback, connect_timeout: std::time::Duration::ZERO,
    /// #     server: "http://127.0.0.1:1".into(), token: None, ..SessionConfig::new("digits", spec) };
    /// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
    /// # let session = Session::open(alone).await?;
    /// match session.finish(Some(100)).await {
    ///     Ok(()) => println!("it cools down from the next switch point on"),
    ///     Err(error) => println!("training goes on: {error}"),
    /// }
    /// # Ok::<(), Error>(()) }).unwrap();
    /// ```
    pub async fn finish(&self, cooldown_steps: Option<u64>) -> Result<(), Error> {
        super::finish(&self.handle.0, cooldown_steps).await
    }

    /// Waits until the server has everything. False: not within `at_most`.
    ///
    /// ```
    /// # use autolrs_client::{*};
    /// # let spec = JobSpec {
    /// #     total_steps: Some(3), lr_min: Some(1e-3), lr_max: Some(1.0), fallback_lr: Some(0.1), ..JobSpec::default()
    /// # };
    /// # let alone = SessionConfig { on_outage: OnOutage::Fallback, connect_timeout: std::time::Duration::ZERO,
    /// #     server: "http://127.0.0.1:1".into(), token: None, ..SessionConfig::new("digits", spec) };
    /// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
    /// # let session = Session::open(alone).await?;
    /// session.record(0.5);
    /// if !session.flush(std::time::Duration::from_secs(2)).await {
    ///     eprintln!("the server has not heard of the last step yet");
    /// }
    /// # Ok::<(), Error>(()) }).unwrap();
    /// ```
    pub async fn flush(&self, at_most: Duration) -> bool {
        self.handle.0.wake();
        self.handle.0.changed_within(at_most, Machine::is_flushed).await
    }

    /// Flushes for at most `at_most` and ends the session. The job goes on if a trainer resumes it.
    ///
    /// ```
    /// # use autolrs_client::{*};
    /// # let spec = JobSpec {
    /// #     total_steps: Some(3), lr_min: Some(1e-3), lr_max: Some(1.0), fallback_lr: Some(0.1), ..JobSpec::default()
    /// # };
    /// # let alone = SessionConfig { on_outage: OnOutage::Fallback, connect_timeout: std::time::Duration::ZERO,
    /// #     server: "http://127.0.0.1:1".into(), token: None, ..SessionConfig::new("digits", spec) };
    /// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
    /// # let session = Session::open(alone).await?;
    /// session.close(std::time::Duration::from_secs(2)).await;
    /// # Ok::<(), Error>(()) }).unwrap();
    /// ```
    pub async fn close(self, at_most: Duration) {
        self.flush(at_most).await;
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

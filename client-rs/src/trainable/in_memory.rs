//! A trainable for state that can be cloned.

use super::{BatchNumbers, Slots, Trainable};
use crate::error::Error;
use autolrs_core::directive::Slot;

/// A trainable made of a state that can be cloned and a function that runs a step on it. Slots are clones in memory.
///
/// The function gets the state, the number of the batch, and the learning rate; it returns the batch's loss before the
/// step. Trials take the same numbers again, so the same number must give the same batch: open the session with
/// [`crate::SessionConfig::replay`] if it does, without if the function ignores the number.
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
/// session.train(&mut training)?;
/// assert!(training.state < 1.0);
/// # Ok::<(), Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct InMemory<S, F, V = fn(&S) -> f64> {
    /// The live state.
    pub state: S,
    step: F,
    validation_loss: Option<V>,
    slots: Slots<S>,
    batches: BatchNumbers,
}

impl<S: Clone, F: FnMut(&mut S, u64, f64) -> f64> InMemory<S, F> {
    /// A training before its first step.
    ///
    /// ```
    /// # use autolrs_client::*;
    /// let mut training = InMemory::new(1.0, |weight: &mut f64, number, lr| {
    ///     let loss = *weight * number as f64;
    ///     *weight -= lr;
    ///     loss
    /// });
    /// assert_eq!(training.step(0.5), Ok(0.0));
    /// assert_eq!(training.step(0.5), Ok(0.5));
    /// ```
    pub fn new(state: S, step: F) -> Self {
        Self::resume(state, 0, step)
    }

    /// A training that goes on from what [`InMemory::checkpoint`] gave.
    ///
    /// ```
    /// # use autolrs_client::*;
    /// let mut training = InMemory::resume(1.0, 40, |_: &mut f64, number, _| number as f64);
    /// assert_eq!(training.step(0.1), Ok(40.0));
    /// ```
    pub fn resume(state: S, position: u64, step: F) -> Self {
        let batches = BatchNumbers::starting_at(position);
        Self { state, step, validation_loss: None, slots: Slots::default(), batches }
    }
}

impl<S: Clone, F: FnMut(&mut S, u64, f64) -> f64, V> InMemory<S, F, V> {
    /// The same with a function that measures the validation loss of the state, for sessions that are opened with
    /// [`crate::SessionConfig::validate`].
    ///
    /// ```
    /// # use autolrs_client::*;
    /// let training = InMemory::new(2.0, |weight: &mut f64, _, lr| { *weight -= lr; *weight });
    /// let mut training = training.validated_by(|weight| weight * weight);
    /// assert_eq!(training.validate(), Ok(4.0));
    /// ```
    pub fn validated_by<W: FnMut(&S) -> f64>(self, validation_loss: W) -> InMemory<S, F, W> {
        let Self { state, step, slots, batches, .. } = self;
        InMemory { state, step, validation_loss: Some(validation_loss), slots, batches }
    }

    /// The state and the place in the stream of batches for the trainer's checkpoint, which belongs beside
    /// [`crate::Handle::state`]; `slot` is [`crate::Handle::state_slot`] at the same moment.
    ///
    /// # Errors
    /// [`Error::SlotMissing`] if the slot holds nothing.
    ///
    /// ```
    /// # use autolrs_client::*;
    /// let mut training = InMemory::new(1.0, |weight: &mut f64, _, lr| { *weight -= lr; *weight });
    /// training.save_slot(Slot::Start)?;
    /// training.step(0.25)?;
    /// assert_eq!(training.checkpoint(None)?, (0.75, 1));
    /// assert_eq!(training.checkpoint(Some(Slot::Start))?, (1.0, 0));
    /// # Ok::<(), Error>(())
    /// ```
    pub fn checkpoint(&self, slot: Option<Slot>) -> Result<(S, u64), Error> {
        let state = slot.map_or(Ok(&self.state), |slot| self.slots.get(slot))?;
        Ok((state.clone(), self.batches.position(slot)?))
    }
}

impl<S: Clone, F: FnMut(&mut S, u64, f64) -> f64, V: FnMut(&S) -> f64> Trainable for InMemory<S, F, V> {
    type Error = Error;

    fn step(&mut self, lr: f64) -> Result<f64, Error> {
        Ok((self.step)(&mut self.state, self.batches.take(), lr))
    }

    fn validate(&mut self) -> Result<f64, Error> {
        self.validation_loss.as_mut().map(|measure| measure(&self.state)).ok_or(Error::CannotValidate)
    }

    fn save_slot(&mut self, slot: Slot) -> Result<(), Error> {
        self.slots.save(slot, self.state.clone());
        self.batches.save_slot(slot);
        Ok(())
    }

    fn restore_slot(&mut self, slot: Slot) -> Result<(), Error> {
        self.state.clone_from(self.slots.get(slot)?);
        Ok(())
    }

    fn drop_slot(&mut self, slot: Slot) -> Result<(), Error> {
        self.slots.drop(slot)?;
        self.batches.drop_slot(slot)
    }

    fn rewind(&mut self, slot: Slot) -> Result<(), Error> {
        self.batches.rewind(slot)
    }

    fn forward(&mut self) -> Result<(), Error> {
        self.batches.forward();
        Ok(())
    }
}

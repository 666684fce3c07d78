//! A trainable for state that can be cloned.

use super::{BatchNumbers, Slots, Trainable};
use crate::error::Error;
use autolrs_core::directive::Slot;

/// A trainable made of a state that can be cloned and a function that runs a step on it. Slots are clones in memory.
///
/// The function gets the state, the number of the batch, and the learning rate; it returns the batch's loss before the
/// step. Trials take the same numbers again, so the same number must give the same batch: open the session with
/// [`crate::SessionConfig::replay`] if it does, without if the function ignores the number.
#[derive(Debug, Clone)]
pub struct InMemory<S, F> {
    /// The live state.
    pub state: S,
    step: F,
    slots: Slots<S>,
    batches: BatchNumbers,
}

impl<S: Clone, F: FnMut(&mut S, u64, f64) -> f64> InMemory<S, F> {
    /// A training before its first step.
    pub fn new(state: S, step: F) -> Self {
        Self::resume(state, 0, step)
    }

    /// A training that goes on from what [`InMemory::checkpoint`] gave.
    pub fn resume(state: S, position: u64, step: F) -> Self {
        Self { state, step, slots: Slots::default(), batches: BatchNumbers::starting_at(position) }
    }

    /// The state and the place in the stream of batches for the trainer's checkpoint, which belongs beside
    /// [`crate::Handle::state`]; `slot` is [`crate::Handle::state_slot`] at the same moment.
    ///
    /// # Errors
    /// [`Error::SlotMissing`] if the slot holds nothing.
    pub fn checkpoint(&self, slot: Option<Slot>) -> Result<(S, u64), Error> {
        let state = slot.map_or(Ok(&self.state), |slot| self.slots.get(slot))?;
        Ok((state.clone(), self.batches.position(slot)?))
    }
}

impl<S: Clone, F: FnMut(&mut S, u64, f64) -> f64> Trainable for InMemory<S, F> {
    type Error = Error;

    fn step(&mut self, lr: f64) -> Result<f64, Error> {
        Ok((self.step)(&mut self.state, self.batches.take(), lr))
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

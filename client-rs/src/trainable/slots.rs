//! Slots in the trainer's memory.

use crate::error::Error;
use autolrs_core::directive::Slot;
use std::collections::BTreeMap;

/// Copies of a trainer's state, by slot. A job asks for two at a time, seldom three.
#[derive(Debug, Clone)]
pub struct Slots<S>(BTreeMap<Slot, S>);

impl<S> Default for Slots<S> {
    fn default() -> Self {
        Self(BTreeMap::new())
    }
}

impl<S> Slots<S> {
    /// Puts a copy of the state into the slot, replacing what it holds.
    pub fn save(&mut self, slot: Slot, state: S) {
        self.0.insert(slot, state);
    }

    /// What the slot holds.
    ///
    /// # Errors
    /// [`Error::SlotMissing`] if that is nothing.
    pub fn get(&self, slot: Slot) -> Result<&S, Error> {
        self.0.get(&slot).ok_or(Error::SlotMissing(slot))
    }

    /// Frees the slot and returns what it held.
    ///
    /// # Errors
    /// [`Error::SlotMissing`] if that is nothing.
    pub fn drop(&mut self, slot: Slot) -> Result<S, Error> {
        self.0.remove(&slot).ok_or(Error::SlotMissing(slot))
    }
}

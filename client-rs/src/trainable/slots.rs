//! Slots in the trainer's memory.

use crate::error::Error;
use autolrs_core::directive::Slot;
use std::collections::BTreeMap;

/// Copies of a trainer's state, by slot. A job asks for two at a time, seldom three.
///
/// ```
/// # use autolrs_client::*;
/// let mut slots = Slots::default();
/// slots.save(Slot::Start, vec![1.0, 2.0]);
/// assert_eq!(slots.get(Slot::Start)?, &[1.0, 2.0]);
/// # Ok::<(), Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct Slots<S>(BTreeMap<Slot, S>);

impl<S> Default for Slots<S> {
    fn default() -> Self {
        Self(BTreeMap::new())
    }
}

impl<S> Slots<S> {
    /// Puts a copy of the state into the slot, replacing what it holds.
    ///
    /// ```
    /// # use autolrs_client::*;
    /// let mut slots = Slots::default();
    /// slots.save(Slot::Safe, "old");
    /// slots.save(Slot::Safe, "new");
    /// assert_eq!(slots.get(Slot::Safe), Ok(&"new"));
    /// ```
    pub fn save(&mut self, slot: Slot, state: S) {
        self.0.insert(slot, state);
    }

    /// What the slot holds.
    ///
    /// # Errors
    /// [`Error::SlotMissing`] if that is nothing.
    ///
    /// ```
    /// # use autolrs_client::*;
    /// let slots: Slots<f64> = Slots::default();
    /// assert_eq!(slots.get(Slot::Best), Err(Error::SlotMissing(Slot::Best)));
    /// ```
    pub fn get(&self, slot: Slot) -> Result<&S, Error> {
        self.0.get(&slot).ok_or(Error::SlotMissing(slot))
    }

    /// Frees the slot and returns what it held.
    ///
    /// # Errors
    /// [`Error::SlotMissing`] if that is nothing.
    ///
    /// ```
    /// # use autolrs_client::*;
    /// let mut slots = Slots::default();
    /// slots.save(Slot::Stage, 0.5);
    /// assert_eq!(slots.drop(Slot::Stage), Ok(0.5));
    /// assert!(slots.drop(Slot::Stage).is_err());
    /// ```
    pub fn drop(&mut self, slot: Slot) -> Result<S, Error> {
        self.0.remove(&slot).ok_or(Error::SlotMissing(slot))
    }
}

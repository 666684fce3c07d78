//! Batches by their number.

use super::Slots;
use crate::error::Error;
use autolrs_core::directive::Slot;

/// Which batch is next, for a stream in which the same number gives the same batch: it follows the slots, so that
/// batches can be replayed and the stream then goes on where it was furthest.
///
/// ```
/// # use autolrs_client::*;
/// let mut batches = BatchNumbers::default();
/// batches.save_slot(Slot::Start);
/// assert_eq!([batches.take(), batches.take()], [0, 1]);
/// batches.rewind(Slot::Start)?;      // a second trial, on the same batches
/// assert_eq!(batches.take(), 0);
/// batches.forward();                 // and committed training on new ones
/// assert_eq!(batches.take(), 2);
/// # Ok::<(), Error>(())
/// ```
#[derive(Debug, Clone, Default)]
pub struct BatchNumbers {
    next: u64,
    unused: u64,
    at_save: Slots<u64>,
}

impl BatchNumbers {
    /// A stream that goes on at this number: 0, or [`BatchNumbers::position`] from a checkpoint.
    ///
    /// ```
    /// # use autolrs_client::*;
    /// assert_eq!(BatchNumbers::starting_at(40).take(), 40);
    /// ```
    pub fn starting_at(position: u64) -> Self {
        Self { next: position, unused: position, at_save: Slots::default() }
    }

    /// The number of the next batch; the one after it is next then.
    ///
    /// ```
    /// # use autolrs_client::*;
    /// let mut batches = BatchNumbers::default();
    /// assert_eq!([batches.take(), batches.take()], [0, 1]);
    /// ```
    pub fn take(&mut self) -> u64 {
        let number = self.next;
        self.next += 1;
        self.unused = self.unused.max(self.next);
        number
    }

    /// Where a training that goes on from a checkpoint must start: with the content of `slot` in the checkpoint the
    /// batch that was next at its save, with the live state the next one.
    ///
    /// # Errors
    /// [`Error::SlotMissing`] if the slot was not saved.
    ///
    /// ```
    /// # use autolrs_client::*;
    /// let mut batches = BatchNumbers::default();
    /// batches.save_slot(Slot::Start);
    /// batches.take();
    /// assert_eq!(batches.position(None), Ok(1));
    /// assert_eq!(batches.position(Some(Slot::Start)), Ok(0));
    /// ```
    pub fn position(&self, slot: Option<Slot>) -> Result<u64, Error> {
        slot.map_or(Ok(self.next), |slot| self.at_save.get(slot).copied())
    }

    /// The slot is saved: the next batch is the first that follows.
    ///
    /// ```
    /// # use autolrs_client::*;
    /// let mut batches = BatchNumbers::starting_at(5);
    /// batches.save_slot(Slot::Safe);
    /// assert_eq!(batches.position(Some(Slot::Safe)), Ok(5));
    /// ```
    pub fn save_slot(&mut self, slot: Slot) {
        self.at_save.save(slot, self.next);
    }

    /// The slot is freed.
    ///
    /// # Errors
    /// [`Error::SlotMissing`] if it was not saved.
    ///
    /// ```
    /// # use autolrs_client::*;
    /// let mut batches = BatchNumbers::default();
    /// assert_eq!(batches.drop_slot(Slot::Safe), Err(Error::SlotMissing(Slot::Safe)));
    /// ```
    pub fn drop_slot(&mut self, slot: Slot) -> Result<(), Error> {
        self.at_save.drop(slot).map(drop)
    }

    /// The batches that followed the save of the slot, once more.
    ///
    /// # Errors
    /// [`Error::SlotMissing`] if it was not saved.
    ///
    /// ```
    /// # use autolrs_client::*;
    /// let mut batches = BatchNumbers::default();
    /// batches.save_slot(Slot::Start);
    /// batches.take();
    /// batches.rewind(Slot::Start)?;
    /// assert_eq!(batches.take(), 0);
    /// # Ok::<(), Error>(())
    /// ```
    pub fn rewind(&mut self, slot: Slot) -> Result<(), Error> {
        self.next = *self.at_save.get(slot)?;
        Ok(())
    }

    /// Batches that were never used.
    ///
    /// ```
    /// # use autolrs_client::*;
    /// let mut batches = BatchNumbers::default();
    /// batches.save_slot(Slot::Start);
    /// batches.take();
    /// batches.rewind(Slot::Start)?;
    /// batches.forward();
    /// assert_eq!(batches.take(), 1);
    /// # Ok::<(), Error>(())
    /// ```
    pub fn forward(&mut self) {
        self.next = self.unused;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_followed_a_save_comes_again_and_then_what_was_never_used() {
        let mut batches = BatchNumbers::starting_at(7);
        batches.save_slot(Slot::Start);
        assert_eq!([batches.take(), batches.take()], [7, 8]);
        batches.save_slot(Slot::Best);
        batches.rewind(Slot::Start).unwrap();
        assert_eq!(batches.take(), 7);
        assert_eq!((batches.position(None), batches.position(Some(Slot::Start))), (Ok(8), Ok(7)));
        batches.forward();
        assert_eq!(batches.take(), 9);
        batches.rewind(Slot::Best).unwrap();
        assert_eq!(batches.take(), 9);
        batches.drop_slot(Slot::Best).unwrap();
        assert_eq!(batches.rewind(Slot::Best), Err(Error::SlotMissing(Slot::Best)));
    }
}

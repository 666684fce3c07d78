//! A training loop that is driven: what it must give, and the driver.

mod batches;
mod drive;
mod in_memory;
mod slots;

pub use batches::BatchNumbers;
pub use in_memory::InMemory;
pub use slots::Slots;

pub(crate) use drive::{begin, enter, step};

use crate::{error::Error, transport::Handle};
use autolrs_core::directive::Slot;

/// What a training loop must give so that a session can drive it ([`crate::Session::train`],
/// [`crate::blocking::Session::train`]).
///
/// The *state* that slots keep is all that a step changes: weights, buffers, what the optimizer remembers, and the
/// generator of random numbers if dropout or the like draws from it. The stream of batches is not part of it: it goes
/// on when a slot is restored, unless [`Trainable::rewind`] is called.
///
/// State that can be cloned needs no implementation of this trait: see [`InMemory`].
///
/// ```
/// # use autolrs_client::{blocking::Session, *};
/// # let spec = JobSpec {
/// #     total_steps: Some(3), lr_min: Some(1e-3), lr_max: Some(1.0), fallback_lr: Some(0.1), ..JobSpec::default()
/// # };
/// # let alone = SessionConfig { on_outage: OnOutage::Fallback, connect_timeout: std::time::Duration::ZERO,
/// #     server: "http://127.0.0.1:1".into(), token: None, ..SessionConfig::new("digits", spec) };
/// /// A weight on a bowl, and copies of it.
/// #[derive(Default)]
/// struct Bowl { weight: f64, slots: Slots<f64> }
///
/// impl Trainable for Bowl {
///     type Error = Error;
///
///     fn step(&mut self, lr: f64) -> Result<f64, Error> {
///         let loss = (self.weight - 1.0).powi(2);
///         self.weight -= lr * 2.0 * (self.weight - 1.0);
///         Ok(loss)
///     }
///
///     fn save_slot(&mut self, slot: Slot) -> Result<(), Error> {
///         self.slots.save(slot, self.weight);
///         Ok(())
///     }
///
///     fn restore_slot(&mut self, slot: Slot) -> Result<(), Error> {
///         self.weight = *self.slots.get(slot)?;
///         Ok(())
///     }
///
///     fn drop_slot(&mut self, slot: Slot) -> Result<(), Error> {
///         self.slots.drop(slot).map(drop)
///     }
/// }
///
/// let mut bowl = Bowl::default();
/// assert_eq!(Session::open(alone)?.train(&mut bowl)?, DoneReason::Finished);
/// assert!(bowl.weight > 0.4);
/// # Ok::<(), Error>(())
/// ```
pub trait Trainable {
    /// Why the training can't go on. The driver's own errors become one, so `Box<dyn std::error::Error>` or [`Error`]
    /// itself will do.
    type Error: From<Error>;

    /// Runs one optimizer step at this learning rate on the next batch, and returns that batch's training loss before
    /// the step. A loss that is NaN or infinite is an answer, not an error: searches try LRs that diverge.
    fn step(&mut self, lr: f64) -> Result<f64, Self::Error>;

    /// Measures the validation loss of the state and leaves it as it is, its generator of random numbers too. Called
    /// only in a session that was opened with [`crate::SessionConfig::validate`]; the default, which can't, then ends the
    /// training.
    fn validate(&mut self) -> Result<f64, Self::Error> {
        Err(Error::CannotValidate.into())
    }

    /// Copies the state into the slot, replacing what it holds.
    fn save_slot(&mut self, slot: Slot) -> Result<(), Self::Error>;

    /// Copies the slot into the state, to the bit.
    fn restore_slot(&mut self, slot: Slot) -> Result<(), Self::Error>;

    /// Frees the slot.
    fn drop_slot(&mut self, slot: Slot) -> Result<(), Self::Error>;

    /// From here on steps take the batches that followed the save of this slot, once more: trials on the same batches
    /// are compared far more precisely. Called only in a session that was opened with
    /// [`crate::SessionConfig::replay`]; the default, which can't, then ends the training.
    fn rewind(&mut self, slot: Slot) -> Result<(), Self::Error> {
        Err(Error::CannotReplay(slot).into())
    }

    /// From here on steps take batches that were never used: the stream goes on where it was furthest. Nothing needs
    /// to be done if [`Trainable::rewind`] can't.
    fn forward(&mut self) -> Result<(), Self::Error> {
        Ok(())
    }

    /// A step was recorded. The place to write a checkpoint now and then ([`Handle::state`]), to show progress
    /// ([`Handle::snapshot`]), and to tell the user what has come up ([`Handle::take_notices`]). After the last step
    /// of a directive [`Handle::status`] is [`crate::Status::Ended`].
    fn after_step(&mut self, session: &Handle) -> Result<(), Self::Error> {
        let _ = session;
        Ok(())
    }
}

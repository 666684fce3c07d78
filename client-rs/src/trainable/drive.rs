//! The driver's parts, which both sessions put together: slots first, then batches, then steps.

use super::Trainable;
use crate::{session::Status, transport::Handle};
use autolrs_core::directive::SlotOp;

/// Before anything else: a state that was loaded from a checkpoint goes into its slot as well.
pub(crate) fn begin<T: Trainable>(session: &Handle, trainable: &mut T) -> Result<(), T::Error> {
    match session.take_resumed_slot() {
        Some(slot) => trainable.save_slot(slot),
        None => Ok(()),
    }
}

/// A directive is in force: does its slot operations, and takes the place in the stream of batches that goes with them.
pub(crate) fn enter<T: Trainable>(session: &Handle, trainable: &mut T) -> Result<(), T::Error> {
    let mut restored = None;
    for op in session.take_slot_ops() {
        match op {
            SlotOp::Save(slot) => trainable.save_slot(slot)?,
            SlotOp::Restore(slot) => {
                trainable.restore_slot(slot)?;
                restored = Some(slot);
            }
            SlotOp::Drop(slot) => trainable.drop_slot(slot)?,
        }
    }
    match restored {
        Some(slot) if session.snapshot().replay => trainable.rewind(slot),
        Some(_) => trainable.forward(),
        None => Ok(()),
    }
}

/// Runs one step, or measures the validation loss that is due before the next.
pub(crate) fn step<T: Trainable>(session: &Handle, trainable: &mut T) -> Result<(), T::Error> {
    if session.status() == Status::Validate {
        session.validation(trainable.validate()?);
        return Ok(());
    }
    let loss = trainable.step(session.lr())?;
    session.record(loss);
    trainable.after_step(session)
}

//! What the tests of policies train: the simulator's surfaces, also in other units of loss.

pub(in crate::policy) use crate::simulate::{
    noise::normal,
    surface::{Quadratic, Surface},
};

/// A surface whose loss is `scale` times that of another one, plus `offset`.
#[derive(Debug, Clone)]
pub(in crate::policy) struct InUnit<S> {
    surface: S,
    scale: f64,
    offset: f64,
}

/// The same surface in another unit of loss.
pub(in crate::policy) fn in_unit<S: Surface>(surface: S, scale: f64, offset: f64) -> InUnit<S> {
    InUnit { surface, scale, offset }
}

impl<S: Surface> Surface for InUnit<S> {
    fn step(&mut self, lr: f64, batch: u64) -> f64 {
        self.scale * self.surface.step(lr, batch) + self.offset
    }

    fn true_loss(&self) -> f64 {
        self.scale * self.surface.true_loss() + self.offset
    }
}

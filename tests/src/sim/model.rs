//! A trainer whose state is a few numbers: a wrong restore, a wrong LR or a wrong batch shows in every loss after it.

use autolrs_core::directive::{Slot, SlotOp};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// The loss surface: a quadratic bowl with noise of the batches and of the trainer's own generator.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Optimum {
    /// Largest curvature: LRs above 2 / curvature diverge.
    pub curvature: f64,
    /// Scale of the noise in the gradients.
    pub noise: f64,
    /// Lowest loss.
    pub floor: f64,
    /// Total steps after which the data breaks for good: every later loss is NaN.
    pub breaks_at: Option<u64>,
}

impl Default for Optimum {
    fn default() -> Self {
        Self { curvature: 4.0, noise: 0.3, floor: 0.2, breaks_at: None }
    }
}

/// What a slot keeps.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Model {
    weights: Vec<f64>,
    velocity: Vec<f64>,
    generator: u64,
}

/// A step that was run.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub struct Step {
    /// Its directive.
    pub seq: u64,
    /// Its LR.
    pub lr: f64,
    /// Its loss.
    pub loss: f64,
}

impl Step {
    /// What two runs are compared by: the same bits.
    pub fn bits(&self) -> (u64, u64) {
        (self.lr.to_bits(), if self.loss.is_nan() { u64::MAX } else { self.loss.to_bits() })
    }
}

/// A slot, and where the stream of batches stood when it was saved.
#[derive(Debug, Clone)]
struct Saved {
    model: Model,
    position: u64,
}

/// What the trainer writes into its own checkpoint beside the session's bytes.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct File {
    /// The session's bytes.
    pub session: Vec<u8>,
    slot: Option<Slot>,
    model: Model,
    /// Where the stream stood at the checkpoint, and when the slot was saved.
    positions: (u64, u64),
    line: Vec<Step>,
}

/// The trainer.
#[derive(Debug, Clone)]
pub struct SimTrainer {
    surface: Optimum,
    model: Model,
    slots: BTreeMap<Slot, Saved>,
    /// The next batch.
    position: u64,
    /// The first batch that was never used.
    fresh: u64,
    /// Every step that stands, in order: those after a checkpoint that was loaded are forgotten.
    pub line: Vec<Step>,
}

impl SimTrainer {
    /// A trainer before its first step.
    pub fn new(surface: Optimum) -> Self {
        let weights = (1..=4).map(|i| 1.0 + 0.25 * f64::from(i)).collect();
        let model = Model { weights, velocity: vec![0.0; 4], generator: 1 };
        Self { surface, model, slots: BTreeMap::new(), position: 0, fresh: 0, line: Vec::new() }
    }

    /// Does slot operations, then takes its place in the stream of batches.
    ///
    /// # Panics
    /// If a slot that is restored or dropped holds nothing.
    pub fn carry_out(&mut self, ops: &[SlotOp], replay: bool) {
        let mut restored = None;
        for op in ops {
            match op {
                SlotOp::Save(slot) => {
                    let saved = Saved { model: self.model.clone(), position: self.fresh };
                    self.slots.insert(*slot, saved);
                }
                SlotOp::Restore(slot) => {
                    let saved = self.slots.get(slot).expect("a slot that is restored was saved");
                    self.model = saved.model.clone();
                    restored = Some(saved.position);
                }
                SlotOp::Drop(slot) => {
                    drop(self.slots.remove(slot).expect("a slot that is dropped was saved"));
                }
            }
        }
        if !ops.is_empty() {
            self.position = restored.filter(|_| replay).unwrap_or(self.fresh);
        }
    }

    /// One step of momentum SGD; its loss, before the update.
    pub fn step(&mut self, seq: u64, lr: f64) -> f64 {
        let Optimum { curvature, noise, floor, breaks_at } = self.surface;
        let batch = self.position;
        self.position += 1;
        self.fresh = self.fresh.max(self.position);
        let mut loss = floor;
        for (i, (weight, velocity)) in self.model.weights.iter_mut().zip(&mut self.model.velocity).enumerate()
        {
            let bend = curvature / (1 << (2 * i)) as f64;
            loss += 0.5 * bend * *weight * *weight;
            let drawn =
                unit(batch * 8 + i as u64) + 0.3 * unit(self.model.generator.wrapping_add(4 + i as u64));
            *velocity = 0.5 * *velocity + bend * *weight + noise * drawn;
            *weight -= 0.5 * lr * *velocity;
        }
        self.model.generator = mixed(self.model.generator);
        let broken = breaks_at.is_some_and(|at| self.line.len() as u64 >= at);
        let loss = if broken { f64::NAN } else { loss };
        self.line.push(Step { seq, lr, loss });
        loss
    }

    /// A validation loss of the model at hand. It draws from the trainer's generator, and puts it back.
    pub fn validate(&mut self) -> f64 {
        let generator = self.model.generator;
        self.model.generator = mixed(generator);
        let drawn = 0.1 * unit(self.model.generator);
        self.model.generator = generator;
        self.surface.floor + drawn + self.model.weights.iter().map(|weight| weight * weight).sum::<f64>()
    }

    /// What goes into the trainer's checkpoint; `slot` is the session's export slot.
    pub fn file(&self, session: Vec<u8>, slot: Option<Slot>) -> File {
        let saved = slot.map(|slot| self.slots[&slot].clone());
        let at_save = saved.as_ref().map_or(self.fresh, |saved| saved.position);
        let model = saved.map_or_else(|| self.model.clone(), |saved| saved.model);
        File { session, slot, model, positions: (self.fresh, at_save), line: self.line.clone() }
    }

    /// A new process that has loaded a checkpoint; `total_step` is the resumed session's.
    pub fn load(file: &File, surface: Optimum, total_step: u64) -> Self {
        let again = total_step < file.line.len() as u64;
        let position = if again { file.positions.1 } else { file.positions.0 };
        let saved = Saved { model: file.model.clone(), position: file.positions.1 };
        let mut line = file.line.clone();
        line.truncate(usize::try_from(total_step).expect("small"));
        Self {
            surface,
            model: file.model.clone(),
            slots: file.slot.map(|slot| (slot, saved)).into_iter().collect(),
            position,
            fresh: position,
            line,
        }
    }

    /// The state that a slot would keep.
    pub fn model(&self) -> &Model {
        &self.model
    }

    /// The slots that hold something.
    pub fn slots(&self) -> Vec<Slot> {
        self.slots.keys().copied().collect()
    }
}

/// SplitMix64 (Steele, Lea, Flood 2014).
fn mixed(x: u64) -> u64 {
    let x = x.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

/// A number in [-1, 1) that belongs to `x`.
fn unit(x: u64) -> f64 {
    (mixed(x) >> 11) as f64 / (1u64 << 52) as f64 - 1.0
}

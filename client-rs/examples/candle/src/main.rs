//! Trains a small convolutional network in candle on real images of handwritten digits, once with the learning rate
//! that the server searches and once for each of some constant ones, from the same initial weights and with the same
//! number of steps. `make example-candle` starts a server and runs it.
//!
//! Argument: steps of each training (default 900).

#[path = "../../digits/data.rs"]
mod data;
mod network;

use autolrs_client::{
    BatchNumbers, ConstantOptions, Handle, JobSpec, PolicySpec, ScanOptions, SessionConfig, Slot, Slots,
    Trainable, blocking,
};
use data::{Digits, Image, PIXELS, batch};
use network::{Network, State};
use std::{error::Error, time::Duration};

use candle_core::{Device, Tensor};

/// The rates people would try.
const CONSTANT: [f64; 4] = [0.001, 0.01, 0.1, 1.0];

type Result<T> = std::result::Result<T, Box<dyn Error>>;

/// The training loop: what a step needs, and the slots with copies of what it changes.
struct Trainer<'a> {
    digits: &'a Digits,
    network: Network,
    batches: BatchNumbers,
    slots: Slots<State>,
}

impl Trainable for Trainer<'_> {
    type Error = Box<dyn Error>;

    fn step(&mut self, lr: f64) -> Result<f64> {
        let images = batch(&self.digits.train, self.batches.take());
        let (pixels, digits) = tensors(&images)?;
        Ok(self.network.step(&pixels, &digits, lr)?)
    }

    fn save_slot(&mut self, slot: Slot) -> Result<()> {
        self.slots.save(slot, self.network.state()?);
        self.batches.save_slot(slot);
        Ok(())
    }

    fn restore_slot(&mut self, slot: Slot) -> Result<()> {
        Ok(self.network.restore(self.slots.get(slot)?)?)
    }

    fn drop_slot(&mut self, slot: Slot) -> Result<()> {
        self.slots.drop(slot)?;
        Ok(self.batches.drop_slot(slot)?)
    }

    fn rewind(&mut self, slot: Slot) -> Result<()> {
        Ok(self.batches.rewind(slot)?)
    }

    fn forward(&mut self) -> Result<()> {
        self.batches.forward();
        Ok(())
    }

    fn after_step(&mut self, session: &Handle) -> Result<()> {
        session.take_notices().iter().for_each(|notice| println!("note: {notice}"));
        Ok(())
    }
}

/// The pixels as (images, 1, 8, 8), and the digits.
fn tensors(images: &[&Image]) -> candle_core::Result<(Tensor, Tensor)> {
    let side = PIXELS.isqrt();
    let pixels: Vec<f32> = images.iter().flat_map(|image| image.pixels.map(|pixel| pixel as f32)).collect();
    let digits: Vec<u32> = images.iter().map(|image| image.digit as u32).collect();
    let count = images.len();
    let pixels = Tensor::from_vec(pixels, (count, 1, side, side), &Device::Cpu)?;
    Ok((pixels, Tensor::from_vec(digits, count, &Device::Cpu)?))
}

/// Trains once and prints one line of what came of it.
fn train(job: &str, steps: u64, policy: PolicySpec, digits: &Digits) -> Result<()> {
    let spec = JobSpec {
        total_steps: Some(steps),
        lr_min: Some(1e-4),
        lr_max: Some(10.0),
        fallback_lr: Some(0.01),
        policy: Some(policy),
        ..JobSpec::default()
    };
    let config = SessionConfig { replay: true, restart: true, ..SessionConfig::new(job, spec) };
    let session = blocking::Session::open(config)?;
    let network = Network::new()?;
    let mut trainer = Trainer { digits, network, batches: BatchNumbers::default(), slots: Slots::default() };
    session.train(&mut trainer)?;
    session.close(Duration::from_secs(10))?;
    let now = session.snapshot();
    let (pixels, shown) = tensors(&digits.test.iter().collect::<Vec<_>>())?;
    println!(
        "{job:<16} {:>5} steps, {:>4} kept: test accuracy {:.1} %",
        now.total_step,
        now.committed_step,
        100.0 * trainer.network.accuracy(&pixels, &shown)?
    );
    Ok(())
}

fn main() -> Result<()> {
    let steps = std::env::args().nth(1).map_or(Ok(900), |steps| steps.parse())?;
    let digits = Digits::load();
    train("scan", steps, PolicySpec::Scan(ScanOptions::default()), &digits)?;
    for lr in CONSTANT {
        let policy = PolicySpec::Constant(ConstantOptions { lr: Some(lr), ..ConstantOptions::default() });
        train(&format!("constant-{lr}"), steps, policy, &digits)?;
    }
    Ok(())
}

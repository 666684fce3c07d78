//! A network with one hidden layer, trained by SGD with momentum.

use crate::data::{BATCH, Image, PIXELS, mixed};

const HIDDEN: usize = 32;
const CLASSES: usize = 10;
const MOMENTUM: f64 = 0.9;

/// Weights of a layer (rows of inputs, the last of them the bias) with their momentum.
#[derive(Clone)]
struct Layer {
    inputs: usize,
    outputs: usize,
    weights: Vec<f64>,
    velocity: Vec<f64>,
}

impl Layer {
    /// Glorot and Bengio (2010), uniform.
    fn new(inputs: usize, outputs: usize, seed: u64) -> Self {
        let bound = (6.0 / (inputs + outputs) as f64).sqrt();
        let draw = |i: usize| (mixed(seed + i as u64) >> 11) as f64 / (1u64 << 52) as f64 - 1.0;
        let weights: Vec<f64> =
            (0..inputs * outputs).map(|i| bound * draw(i)).chain(vec![0.0; outputs]).collect();
        Self { inputs, outputs, velocity: vec![0.0; weights.len()], weights }
    }

    fn forward(&self, input: &[f64]) -> Vec<f64> {
        let mut out = self.weights[self.inputs * self.outputs..].to_vec();
        for (x, row) in input.iter().zip(self.weights.chunks(self.outputs)) {
            out.iter_mut().zip(row).for_each(|(o, w)| *o += x * w);
        }
        out
    }

    /// Adds to the gradient of the weights; returns that of the input.
    fn backward(&self, input: &[f64], out: &[f64], gradient: &mut [f64]) -> Vec<f64> {
        let bias = gradient[self.inputs * self.outputs..].iter_mut();
        bias.zip(out).for_each(|(g, o)| *g += o);
        let rows = self.weights.chunks(self.outputs).zip(gradient.chunks_mut(self.outputs));
        let one = |(x, (weights, gradient)): (&f64, (&[f64], &mut [f64]))| {
            gradient.iter_mut().zip(out).for_each(|(g, o)| *g += x * o);
            weights.iter().zip(out).map(|(w, o)| w * o).sum()
        };
        input.iter().zip(rows).map(one).collect()
    }

    fn update(&mut self, gradient: &[f64], lr: f64) {
        for ((weight, velocity), gradient) in self.weights.iter_mut().zip(&mut self.velocity).zip(gradient) {
            *velocity = MOMENTUM * *velocity + gradient / BATCH as f64;
            *weight -= lr * *velocity;
        }
    }
}

/// The network with all that a slot must keep.
#[derive(Clone)]
pub(crate) struct Network {
    hidden: Layer,
    output: Layer,
}

impl Network {
    pub(crate) fn new() -> Self {
        Self { hidden: Layer::new(PIXELS, HIDDEN, 1), output: Layer::new(HIDDEN, CLASSES, 1 << 20) }
    }

    /// One optimizer step. The loss: cross-entropy in nats, mean of the batch, before the step.
    pub(crate) fn step(&mut self, batch: &[&Image], lr: f64) -> f64 {
        let mut hidden_gradient = vec![0.0; self.hidden.weights.len()];
        let mut output_gradient = vec![0.0; self.output.weights.len()];
        let mut loss = 0.0;
        for image in batch {
            let (active, mut out) = self.forward(&image.pixels);
            loss -= out[image.digit].ln();
            out[image.digit] -= 1.0;
            let mut below = self.output.backward(&active, &out, &mut output_gradient);
            below.iter_mut().zip(&active).filter(|(_, a)| **a <= 0.0).for_each(|(g, _)| *g = 0.0);
            self.hidden.backward(&image.pixels, &below, &mut hidden_gradient);
        }
        self.hidden.update(&hidden_gradient, lr);
        self.output.update(&output_gradient, lr);
        loss / batch.len() as f64
    }

    /// The hidden layer's activations and the probabilities of the digits.
    fn forward(&self, pixels: &[f64]) -> (Vec<f64>, Vec<f64>) {
        let active: Vec<f64> = self.hidden.forward(pixels).into_iter().map(|x| x.max(0.0)).collect();
        let out = self.output.forward(&active);
        let highest = out.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let powers: Vec<f64> = out.iter().map(|x| (x - highest).exp()).collect();
        let sum: f64 = powers.iter().sum();
        (active, powers.into_iter().map(|power| power / sum).collect())
    }

    /// Share of the images that are recognised.
    pub(crate) fn accuracy(&self, images: &[Image]) -> f64 {
        let right = |image: &&Image| {
            let probabilities = self.forward(&image.pixels).1;
            let best = (0..CLASSES).max_by(|a, b| probabilities[*a].total_cmp(&probabilities[*b]));
            best == Some(image.digit)
        };
        images.iter().filter(right).count() as f64 / images.len() as f64
    }
}

//! Two convolutions and a linear layer, trained by SGD with momentum. (candle's own SGD has none, and its AdamW lets
//! nobody copy its moments.)

use crate::data::mixed;
use candle_core::{DType, Device, Module, Result, Tensor, Var};
use candle_nn::{Conv2d, Conv2dConfig, Linear, VarBuilder, VarMap, conv2d, linear, loss::cross_entropy};

const MOMENTUM: f64 = 0.9;
const CHANNELS: (usize, usize) = (8, 16);
const CLASSES: usize = 10;

/// The network with its optimizer.
pub(crate) struct Network {
    first: Conv2d,
    second: Conv2d,
    last: Linear,
    /// The weights, with the velocity of each.
    weights: Vec<(Var, Tensor)>,
}

/// All that a step changes: weights and velocities.
pub(crate) type State = Vec<(Tensor, Tensor)>;

impl Network {
    /// The same initial weights every time.
    pub(crate) fn new() -> Result<Self> {
        let vars = VarMap::new();
        let builder = VarBuilder::from_varmap(&vars, DType::F32, &Device::Cpu);
        let same = Conv2dConfig { padding: 1, ..Conv2dConfig::default() };
        let first = conv2d(1, CHANNELS.0, 3, same, builder.pp("first"))?;
        let second = conv2d(CHANNELS.0, CHANNELS.1, 3, same, builder.pp("second"))?;
        let last = linear(CHANNELS.1 * 4, CLASSES, builder.pp("last"))?;
        let layers =
            [(first.weight(), first.bias()), (second.weight(), second.bias()), (last.weight(), last.bias())];
        let tensors = layers.into_iter().flat_map(|(weight, bias)| [Some(weight), bias]).flatten();
        let all = vars.all_vars();
        let mut weights = Vec::new();
        for (number, tensor) in tensors.enumerate() {
            // A layer's tensor and its variable share their storage.
            let var = all.iter().find(|var| var.as_tensor().id() == tensor.id());
            let var = var.ok_or_else(|| candle_core::Error::Msg("a weight is no variable".into()))?.clone();
            var.set(&drawn(&var, number as u64)?)?;
            let velocity = var.zeros_like()?;
            weights.push((var, velocity));
        }
        Ok(Self { first, second, last, weights })
    }

    /// One optimizer step. The loss: cross-entropy in nats, mean of the batch, before the step.
    pub(crate) fn step(&mut self, pixels: &Tensor, digits: &Tensor, lr: f64) -> Result<f64> {
        let loss = cross_entropy(&self.logits(pixels)?, digits)?;
        let gradients = loss.backward()?;
        for (weight, velocity) in &mut self.weights {
            if let Some(gradient) = gradients.get(weight) {
                *velocity = ((&*velocity * MOMENTUM)? + gradient)?.detach();
                weight.set(&(weight.as_tensor() - (&*velocity * lr)?)?)?;
            }
        }
        loss.to_scalar::<f32>().map(f64::from)
    }

    /// Share of the images that are recognised.
    pub(crate) fn accuracy(&self, pixels: &Tensor, digits: &Tensor) -> Result<f64> {
        let right = self.logits(pixels)?.argmax(1)?.eq(digits)?;
        Ok(f64::from(right.to_dtype(DType::F32)?.mean_all()?.to_scalar::<f32>()?))
    }

    /// A copy of the state.
    pub(crate) fn state(&self) -> Result<State> {
        // A weight is changed in place, a velocity is replaced.
        self.weights.iter().map(|(weight, velocity)| Ok((weight.copy()?, velocity.clone()))).collect()
    }

    /// Puts a copy of the state back.
    pub(crate) fn restore(&mut self, state: &State) -> Result<()> {
        for ((weight, velocity), (saved, saved_velocity)) in self.weights.iter_mut().zip(state) {
            weight.set(saved)?;
            velocity.clone_from(saved_velocity);
        }
        Ok(())
    }

    fn logits(&self, pixels: &Tensor) -> Result<Tensor> {
        let first = self.first.forward(pixels)?.relu()?.max_pool2d(2)?;
        let second = self.second.forward(&first)?.relu()?.max_pool2d(2)?;
        self.last.forward(&second.flatten_from(1)?)
    }
}

/// Uniform within 1 / sqrt(inputs of a unit); a bias is 0.
fn drawn(var: &Var, number: u64) -> Result<Tensor> {
    let inputs: usize = var.dims().iter().skip(1).product();
    if var.rank() == 1 {
        return var.zeros_like();
    }
    let bound = 1.0 / (inputs as f64).sqrt();
    let draw = |i: u64| bound * ((mixed((number << 32) + i) >> 11) as f64 / (1u64 << 52) as f64 - 1.0);
    let values: Vec<f32> = (0..var.elem_count() as u64).map(|i| draw(i) as f32).collect();
    Tensor::from_vec(values, var.shape(), &Device::Cpu)
}

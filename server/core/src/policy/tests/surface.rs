//! Loss surfaces to train on.

/// What is trained: a model and its data. A clone is a checkpoint.
pub(in crate::policy) trait Surface: Clone {
    /// Trains one step with batch number `batch`; the loss is the one before the step.
    fn step(&mut self, lr: f64, batch: u64) -> f64;
    /// The validation loss.
    fn validation(&self) -> f64;
}

/// A noisy quadratic: loss = floor + sum of h x^2 / 2 over directions of curvature h, each gradient with noise. It
/// breaks at LRs above 2 / the largest h, and its noise floor rises with the LR.
#[derive(Debug, Clone)]
pub(in crate::policy) struct Quadratic {
    x: Vec<f64>,
    /// Curvatures are geometrically spaced from 1/1000 of the largest.
    largest: f64,
    gradient_noise: f64,
    /// Standard deviation of the reported loss.
    loss_noise: f64,
    floor: f64,
    /// The reported loss is scale times the loss, plus offset.
    unit: (f64, f64),
}

impl Quadratic {
    pub(in crate::policy) fn new(largest: f64) -> Self {
        Self {
            x: vec![1.0, 1.5, 3.0, 8.0],
            largest,
            gradient_noise: 0.02,
            loss_noise: 0.02,
            floor: 0.3,
            unit: (1.0, 0.0),
        }
    }

    /// With this share of the way from scratch left.
    pub(in crate::policy) fn started_at(mut self, share: f64) -> Self {
        self.x.iter_mut().for_each(|x| *x *= share);
        self
    }

    /// In another unit of loss.
    pub(in crate::policy) fn in_unit(self, scale: f64, offset: f64) -> Self {
        Self { unit: (scale, offset), ..self }
    }

    pub(in crate::policy) fn noisy(self, gradient_noise: f64, loss_noise: f64) -> Self {
        Self { gradient_noise, loss_noise, ..self }
    }

    fn curvature(&self, i: usize) -> f64 {
        [1.0, 0.1, 0.01, 0.001][i % 4] * self.largest
    }
}

impl Surface for Quadratic {
    fn step(&mut self, lr: f64, batch: u64) -> f64 {
        let mut loss = self.floor + self.loss_noise * normal(batch, 99);
        for i in 0..self.x.len() {
            let h = self.curvature(i);
            loss += h * self.x[i] * self.x[i] / 2.0;
            self.x[i] -= lr * (h * self.x[i] + self.gradient_noise * h.sqrt() * normal(batch, i as u64));
        }
        self.unit.0 * loss + self.unit.1
    }

    /// The loss without its noise.
    fn validation(&self) -> f64 {
        let losses = self.x.iter().enumerate().map(|(i, x)| self.curvature(i) * x * x / 2.0);
        self.unit.0 * losses.fold(self.floor, |sum, loss| sum + loss) + self.unit.1
    }
}

/// Close to a standard normal number, a function of its arguments.
pub(in crate::policy) fn normal(batch: u64, stream: u64) -> f64 {
    let mut state = batch.wrapping_mul(0x9E37_79B9_7F4A_7C15) ^ stream.wrapping_mul(0xD1B5_4A32_D192_ED03);
    let uniform = || {
        // splitmix64
        state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = state;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        ((z ^ (z >> 31)) >> 11) as f64 / (1u64 << 53) as f64
    };
    std::iter::repeat_with(uniform).take(4).sum::<f64>() * 3f64.sqrt() - 2.0 * 3f64.sqrt()
}

//! Loss surfaces: what a simulated trainer trains.
//!
//! Each file states its equations, its optimum and where it diverges. LRs are in the surface's own unit, in which it
//! diverges above 1 (the quadratic: above 2 / its largest curvature); [`Synthetic`] puts that limit elsewhere.

pub mod curves;
pub mod drift;
pub mod edge;
pub mod power_law;
pub mod quadratic;

pub use curves::{Curve, CurveError, Curves};
pub use drift::Drift;
pub use edge::Edge;
pub use power_law::PowerLaw;
pub use quadratic::Quadratic;

/// A model and its data. A clone is a checkpoint.
pub trait Surface: Clone {
    /// Trains one step with batch number `batch`. The loss is the one before the step, in loss units; NaN or infinite
    /// when the training has diverged.
    fn step(&mut self, lr: f64, batch: u64) -> f64;
    /// The loss of the present state without the noise of a batch, in loss units.
    fn true_loss(&self) -> f64;
}

/// What is needed to make a [`Synthetic`] surface.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Settings {
    /// The LR above which the surface diverges, > 0.
    pub breaks_at: f64,
    /// Steps of the training; the time scale of surfaces that change during it.
    pub steps: u64,
    /// Seed of the noise.
    pub seed: u64,
}

macro_rules! synthetic {
    ($settings:ident; $($(#[$doc:meta])* $name:ident: $text:literal, $make:expr;)*) => {
        /// The name of a surface that is given by equations.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum SurfaceName { $($(#[$doc])* $name,)* }

        impl SurfaceName {
            /// All of them.
            pub const ALL: &'static [Self] = &[$(Self::$name,)*];

            /// As it is written.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$name => $text,)* }
            }
        }

        #[derive(Debug, Clone)]
        enum Equations { $($name($name),)* }

        impl Equations {
            fn new(name: SurfaceName, $settings: Settings) -> Self {
                match name { $(SurfaceName::$name => Self::$name($make),)* }
            }
        }

        impl Surface for Equations {
            fn step(&mut self, lr: f64, batch: u64) -> f64 {
                match self { $(Self::$name(surface) => surface.step(lr, batch),)* }
            }

            fn true_loss(&self) -> f64 {
                match self { $(Self::$name(surface) => surface.true_loss(),)* }
            }
        }
    };
}

synthetic! {
    settings;
    /// [`Quadratic`].
    Quadratic: "quadratic", Quadratic::new(2.0).noisy(0.3, 0.05).seeded(settings.seed);
    /// [`Drift`].
    Drift: "drift", Drift::new(settings.steps, settings.seed);
    /// [`PowerLaw`].
    PowerLaw: "power_law", PowerLaw::new(settings.steps, settings.seed);
    /// [`Edge`].
    Edge: "edge", Edge::new(settings.steps, settings.seed);
}

/// One of the surfaces that are given by equations, in a unit of LR of its user's choice.
#[derive(Debug, Clone)]
pub struct Synthetic {
    equations: Equations,
    breaks_at: f64,
}

impl Synthetic {
    /// The surface of this name.
    pub fn new(name: SurfaceName, settings: Settings) -> Self {
        Self { equations: Equations::new(name, settings), breaks_at: settings.breaks_at }
    }
}

impl Surface for Synthetic {
    fn step(&mut self, lr: f64, batch: u64) -> f64 {
        self.equations.step(lr / self.breaks_at, batch)
    }

    fn true_loss(&self) -> f64 {
        self.equations.true_loss()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The true loss at the end of a line of LRs, for `runs` seeds.
    pub(super) fn final_losses<S: Surface>(make: impl Fn(u64) -> S, lrs: &[f64], runs: u64) -> Vec<f64> {
        let end = |seed| {
            let mut surface = make(seed);
            for (batch, lr) in (0..).zip(lrs) {
                surface.step(*lr, batch);
            }
            surface.true_loss()
        };
        (1..=runs).map(end).collect()
    }

    /// Far above all losses before the first step.
    pub(super) fn has_diverged(loss: f64) -> bool {
        loss.is_nan() || loss > 1e6
    }

    /// The mean and its standard error.
    pub(super) fn mean(values: &[f64]) -> (f64, f64) {
        let n = values.len() as f64;
        let mean = values.iter().sum::<f64>() / n;
        let variance = values.iter().map(|v| (v - mean) * (v - mean)).sum::<f64>() / (n - 1.0);
        (mean, libm::sqrt(variance / n))
    }

    #[test]
    fn every_surface_breaks_where_it_is_told_to() {
        for &name in SurfaceName::ALL {
            for breaks_at in [1e-3, 0.7] {
                let settings = |seed| Settings { breaks_at, steps: 3000, seed };
                let end = |lr: f64| {
                    final_losses(|seed| Synthetic::new(name, settings(seed)), &vec![lr; 3000], 1)[0]
                };
                assert!(end(0.3 * breaks_at) < end(1e-4 * breaks_at), "{name:?}");
                assert!(has_diverged(end(1.05 * breaks_at)), "{name:?}");
            }
        }
    }

    #[test]
    fn a_loss_is_the_true_one_with_noise_and_a_clone_is_a_checkpoint() {
        for &name in SurfaceName::ALL {
            let mut surface = Synthetic::new(name, Settings { breaks_at: 1.0, steps: 3000, seed: 4 });
            let mut off = Vec::new();
            for batch in 0..1000 {
                let saved = surface.clone();
                let truth = surface.true_loss();
                let loss = surface.step(0.1, batch);
                assert_eq!(saved.clone().step(0.1, batch).to_bits(), loss.to_bits());
                assert_ne!(saved.clone().step(0.1, batch + 1).to_bits(), loss.to_bits());
                off.push(loss - truth);
            }
            let (mean, error) = mean(&off);
            assert!(mean.abs() < 4.0 * error && error > 0.0, "{name:?}: {mean} +- {error}");
        }
    }
}

//! A mixture of experts in the place of a block's MLP: a router gives each token probabilities of all experts, and the token goes
//! through those of the few likeliest ones.

use candle_core::Tensor;

use super::architecture::Experts as ExpertsShape;
use super::config::Config;
use super::loader::Loader;
use crate::Result;
use crate::ops::experts::{ExpertChoice, ExpertMlps, ExpertsSaved};
use crate::ops::linear::{Linear, Products};
use crate::ops::weight::Weight;

#[derive(Debug, Clone)]
pub(super) struct MixtureOfExperts {
    gate: Linear, // (E, H)
    experts: ExpertMlps,
}

impl MixtureOfExperts {
    pub fn load(loader: &Loader, config: &Config, experts: &ExpertsShape) -> Result<Self> {
        let ExpertsShape { count, per_token, intermediate_size, normalised, .. } = *experts;
        let expert = |index: usize| loader.part(&format!("experts.{index}")).gated_mlp(config, intermediate_size);
        Ok(Self {
            gate: loader.exact().linear(&[("gate", count)], config.hidden_size, false)?,
            experts: ExpertMlps::new(ExpertChoice { per_token, normalised }, (0..count).map(expert))?,
        })
    }

    pub fn weights(&self) -> Vec<&Weight> {
        [&self.gate.weight].into_iter().chain(self.experts.weights()).collect()
    }

    /// \[`onto (Q, H)` +\] the experts' weighted sum for `x (Q, H)` → `(Q, H)`.
    pub fn forward(&self, x: &Tensor, onto: Option<&Tensor>, products: Products) -> Result<(Tensor, ExpertsSaved)> {
        self.experts.forward(x, &self.gate.forward(x, products)?, onto, products)
    }

    /// Gradient of `x`, given that of the output. `dy (Q, H)` → `(Q, H)`.
    pub fn vjp(&self, saved: &ExpertsSaved, dy: &Tensor) -> Result<Tensor> {
        let (dx, d_logits) = self.experts.vjp(saved, dy)?;
        Ok((dx + self.gate.vjp(&d_logits)?)?)
    }
}

#[cfg(test)]
#[path = "experts_tests.rs"]
mod tests;

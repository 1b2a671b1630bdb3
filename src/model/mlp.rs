//! The MLP of a block: down(act(gate(x)) · up(x)), or a mixture of such MLPs.

use candle_core::Tensor;

use super::architecture::Activation;
use super::config::Config;
use super::experts::{ExpertsSaved, MixtureOfExperts};
use super::loader::Loader;
use crate::Result;
use crate::ops::gated;
use crate::ops::linear::{Linear, Products};
use crate::ops::weight::Weight;

/// What stands between the norms of a block's second branch.
#[derive(Debug, Clone)]
pub(super) enum Mlp {
    Dense(DenseMlp),
    Experts(MixtureOfExperts),
}

/// Field names are the checkpoint's, fused projections joined by their parts' order.
#[derive(Debug, Clone)]
pub(super) struct DenseMlp {
    gate_up_proj: Linear, // (2I, H)
    down_proj: Linear,    // (H, I)
    activation: Activation,
}

/// What [`Mlp::vjp`] needs of the forward pass.
#[derive(Debug, Clone)]
pub(super) enum MlpSaved {
    Dense(Tensor), // gate and up: (Q, 2I)
    Experts(ExpertsSaved),
}

#[cfg(test)]
impl MlpSaved {
    /// What it holds on the device.
    pub fn tensors(&self) -> Vec<&Tensor> {
        match self {
            Self::Dense(gate_up) => vec![gate_up],
            Self::Experts(saved) => saved.gate_up.iter().flatten().collect(),
        }
    }
}

impl Mlp {
    pub fn load(loader: &Loader, config: &Config, block: usize) -> Result<Self> {
        match config.architecture.experts_of(block) {
            Some(experts) => MixtureOfExperts::load(loader, config, experts).map(Self::Experts),
            None => DenseMlp::load(loader, config, config.intermediate_size).map(Self::Dense),
        }
    }

    pub fn weights(&self) -> Vec<&Weight> {
        match self {
            Self::Dense(mlp) => mlp.weights().to_vec(),
            Self::Experts(experts) => experts.weights(),
        }
    }

    /// \[`onto (Q, H)` +\] mlp(`x (Q, H)`) → `(Q, H)`.
    pub fn forward(&self, x: &Tensor, onto: Option<&Tensor>, products: Products) -> Result<(Tensor, MlpSaved)> {
        match self {
            Self::Dense(mlp) => mlp.forward(x, onto, products).map(|(y, gate_up)| (y, MlpSaved::Dense(gate_up))),
            Self::Experts(experts) => experts.forward(x, onto, products).map(|(y, saved)| (y, MlpSaved::Experts(saved))),
        }
    }

    /// Gradient of `x`, given that of the output. `dy (Q, H)` → `(Q, H)`.
    pub fn vjp(&self, saved: &MlpSaved, dy: &Tensor) -> Result<Tensor> {
        match (self, saved) {
            (Self::Dense(mlp), MlpSaved::Dense(gate_up)) => mlp.vjp(gate_up, dy),
            (Self::Experts(experts), MlpSaved::Experts(saved)) => experts.vjp(saved, dy),
            _ => Err(candle_core::Error::msg("the MLP's forward pass was another block's").into()),
        }
    }
}

impl DenseMlp {
    /// Reads an MLP whose inner width is `inner`.
    pub fn load(loader: &Loader, config: &Config, inner: usize) -> Result<Self> {
        let (h, bias) = (config.hidden_size, config.architecture.mlp_bias);
        Ok(Self {
            gate_up_proj: loader.linear(&[("gate_proj", inner), ("up_proj", inner)], h, bias)?,
            down_proj: loader.linear(&[("down_proj", h)], inner, bias)?,
            activation: config.architecture.activation,
        })
    }

    pub fn weights(&self) -> [&Weight; 2] {
        [&self.gate_up_proj.weight, &self.down_proj.weight]
    }

    /// \[`onto (Q, H)` +\] mlp(`x (Q, H)`) → `(Q, H)` and gate and up, `(Q, 2I)`.
    pub fn forward(&self, x: &Tensor, onto: Option<&Tensor>, products: Products) -> Result<(Tensor, Tensor)> {
        let gate_up = self.gate_up_proj.forward(x, products)?; // (Q, 2I)
        let inner = gated::forward(&gate_up, self.activation)?; // (Q, I)
        let y = match onto {
            Some(onto) => self.down_proj.forward_onto(onto, &inner, products)?,
            None => self.down_proj.forward(&inner, products)?,
        };
        Ok((y, gate_up))
    }

    /// Gradient of `x`, given that of the output. `gate_up (Q, 2I)`, `dy (Q, H)` → `(Q, H)`.
    pub fn vjp(&self, gate_up: &Tensor, dy: &Tensor) -> Result<Tensor> {
        let d_gate_up = gated::vjp(gate_up, &self.down_proj.vjp(dy)?, self.activation)?;
        self.gate_up_proj.vjp(&d_gate_up)
    }

    /// Gradients of `x` and of each row's `factors (Q, 1)`, where the output was multiplied by them. `dy (Q, H)` → `(Q, H)`,
    /// `(Q, 1)`
    pub fn vjp_scaled(&self, gate_up: &Tensor, factors: &Tensor, dy: &Tensor) -> Result<(Tensor, Tensor)> {
        let inner = gated::forward(gate_up, self.activation)?; // (Q, I)
        let d_inner = self.down_proj.vjp(dy)?;
        // dy·(W·inner) is (dy·W)·inner: the output itself is not needed.
        let d_factors = (&inner * &d_inner)?.sum_keepdim(1)?;
        let d_gate_up = gated::vjp(gate_up, &d_inner.broadcast_mul(factors)?, self.activation)?;
        Ok((self.gate_up_proj.vjp(&d_gate_up)?, d_factors))
    }
}

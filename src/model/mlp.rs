//! The MLP of a block: down(act(gate(x)) · up(x)), or a mixture of such MLPs.

use candle_core::Tensor;

use super::config::Config;
use super::experts::MixtureOfExperts;
use super::loader::Loader;
use crate::Result;
use crate::ops::experts::ExpertsSaved;
use crate::ops::gated_mlp::GatedMlp;
use crate::ops::linear::Products;
use crate::ops::weight::Weight;

/// What stands between the norms of a block's second branch.
#[derive(Debug, Clone)]
pub(super) enum Mlp {
    Dense(GatedMlp),
    Experts(MixtureOfExperts),
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
            Self::Experts(saved) => saved.gate_up(),
        }
    }
}

impl Mlp {
    pub fn load(loader: &Loader, config: &Config, block: usize) -> Result<Self> {
        match config.architecture.experts_of(block) {
            Some(experts) => MixtureOfExperts::load(loader, config, experts).map(Self::Experts),
            None => loader.gated_mlp(config, config.intermediate_size).map(Self::Dense),
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

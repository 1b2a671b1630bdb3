//! The MLP of a block: down(silu(gate(x)) · up(x)), added to the residual.

use candle_core::Tensor;

use super::config::Config;
use super::loader::Loader;
use crate::Result;
use crate::ops::gated::{self, Activation};
use crate::ops::linear::Linear;
use crate::ops::weight::Weight;

/// Field names are the checkpoint's, fused projections joined by their parts' order.
#[derive(Debug, Clone)]
pub(super) struct Mlp {
    gate_up_proj: Linear, // (2I, H)
    down_proj: Linear,    // (H, I)
}

/// What [`Mlp::vjp`] needs of the forward pass.
#[derive(Debug, Clone)]
pub(super) struct MlpSaved {
    pub gate_up: Tensor, // (Q, 2I)
}

impl Mlp {
    pub fn load(loader: &Loader, config: &Config) -> Result<Self> {
        let (h, inner, bias) = (config.hidden_size, config.intermediate_size, config.architecture.mlp_bias);
        Ok(Self {
            gate_up_proj: loader.linear(&[("gate_proj", inner), ("up_proj", inner)], h, bias)?,
            down_proj: loader.linear(&[("down_proj", h)], inner, bias)?,
        })
    }

    pub fn weights(&self) -> [&Weight; 2] {
        [&self.gate_up_proj.weight, &self.down_proj.weight]
    }

    /// `residual (Q, H)` + mlp(`x (Q, H)`) → `(Q, H)`.
    pub fn forward(&self, x: &Tensor, residual: &Tensor) -> Result<(Tensor, MlpSaved)> {
        let gate_up = self.gate_up_proj.forward(x)?; // (Q, 2I)
        let y = self.down_proj.forward_onto(residual, &gated::forward(&gate_up, Activation::Silu)?)?;
        Ok((y, MlpSaved { gate_up }))
    }

    /// Gradient of `x`, given that of the output; that of the residual is `dy` itself. `dy (Q, H)` → `(Q, H)`.
    pub fn vjp(&self, saved: &MlpSaved, dy: &Tensor) -> Result<Tensor> {
        let d_gate_up = gated::vjp(&saved.gate_up, &self.down_proj.vjp(dy)?, Activation::Silu)?;
        self.gate_up_proj.vjp(&d_gate_up)
    }
}

//! A gated MLP: down(act(gate(x)) · up(x)), with gate and up as one projection.

use candle_core::Tensor;

use super::gated::{self, Activation};
use super::linear::{Linear, Products};
use super::weight::Weight;
use crate::Result;

/// Field names are the checkpoint's, fused projections joined by their parts' order.
#[derive(Debug, Clone)]
pub struct GatedMlp {
    /// Gate and up. `(2I, H)`
    pub gate_up_proj: Linear,
    /// Down. `(H, I)`
    pub down_proj: Linear,
    /// What the gate goes through.
    pub activation: Activation,
}

impl GatedMlp {
    /// Returns the matrices of the layer.
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

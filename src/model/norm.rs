//! RMSNorm with its weight, before a sub-layer, before the head, or over each head's queries and keys. What its vjp needs
//! of the forward pass is its input, which the block keeps as a residual anyway.

use candle_core::Tensor;

use super::loader::Loader;
use crate::Result;
use crate::ops::norm;

#[derive(Debug, Clone)]
pub(super) struct Norm {
    weight: Tensor, // (H), or (D) over heads
    eps: f64,
}

impl Norm {
    pub fn load(loader: &Loader, name: &str, width: usize, eps: f64) -> Result<Self> {
        Ok(Self { weight: loader.vector(&format!("{name}.weight"), width)?, eps })
    }

    /// `x (T, H)` → `(T, H)`.
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        norm::forward(x, &self.weight, self.eps)
    }

    /// Gradient of `x`, given that of the output. `dy (T, H)` → `(T, H)`.
    pub fn vjp(&self, x: &Tensor, dy: &Tensor) -> Result<Tensor> {
        norm::vjp(x, &self.weight, self.eps, dy)
    }

    /// `residual (T, H)` + [`Norm::vjp`].
    pub fn vjp_onto(&self, residual: &Tensor, x: &Tensor, dy: &Tensor) -> Result<Tensor> {
        norm::vjp_onto(residual, x, &self.weight, self.eps, dy)
    }

    /// Each head by itself. `x (T, heads·D)` → the same shape.
    pub fn forward_heads(&self, x: &Tensor) -> Result<Tensor> {
        Ok(self.forward(&self.heads(x)?)?.reshape(x.shape())?)
    }

    /// The vjp of [`Norm::forward_heads`].
    pub fn vjp_heads(&self, x: &Tensor, dy: &Tensor) -> Result<Tensor> {
        Ok(self.vjp(&self.heads(x)?, &self.heads(dy)?)?.reshape(dy.shape())?)
    }

    /// `(T, heads·D)` → `(T·heads, D)`.
    fn heads(&self, x: &Tensor) -> Result<Tensor> {
        Ok(x.reshape(((), self.weight.dim(0)?))?)
    }
}

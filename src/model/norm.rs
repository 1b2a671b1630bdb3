//! RMSNorm with its weight, before a sub-layer, before the head, or over each head's queries and keys. What its vjp needs
//! of the forward pass is its input, which the block keeps as a residual anyway.

use std::ops::Deref;

use candle_core::Tensor;

use super::loader::Loader;
use crate::Result;
use crate::ops::norm::RmsNorm;

#[derive(Debug, Clone)]
pub(super) struct Norm(RmsNorm); // of width H, or D or heads·D over heads

impl Deref for Norm {
    type Target = RmsNorm;

    fn deref(&self) -> &RmsNorm {
        &self.0
    }
}

impl Norm {
    pub fn load(loader: &Loader, name: &str, width: usize) -> Result<Self> {
        let offset = if loader.config.architecture.norms.one_plus_weight { 1.0 } else { 0.0 };
        Ok(Self(RmsNorm { weight: loader.vector(&format!("{name}.weight"), width)?, eps: loader.config.rms_norm_eps, offset }))
    }

    /// Each head by itself, or all together where the weight is as wide. `x (T, heads·D)` → the same shape.
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

//! RMSNorm: y = x / √(mean(x²) + eps) · (offset + w), statistics in f32. Not LayerNorm: no mean, no bias.
//!
//! Where x² is beyond f32, y is not a number. 1/∞ would make it 0, and a model would go on with rows of zeros, whose logits
//! are finite and mean nothing.

use candle_core::{D, DType, Tensor};

use super::cpu::slices::is_host_f32;
pub use super::rms_norm::RmsNorm;
use super::{cpu, cuda};
use crate::Result;

impl RmsNorm {
    /// Normalises each row. `x (T, H)` → `(T, H)` in x's dtype.
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        match cuda::launcher(x.device()) {
            Some(launcher) => cuda::norm::forward(launcher, self, x),
            None if is_host_f32(x) => cpu::norm::forward(self, x),
            None => self.forward_composed(x),
        }
    }

    pub(super) fn forward_composed(&self, x: &Tensor) -> Result<Tensor> {
        let wide = x.to_dtype(DType::F32)?;
        let normed = wide.broadcast_mul(&inverse_rms(&wide, self.eps)?)?;
        match self.offset == 0.0 {
            true => Ok(normed.to_dtype(x.dtype())?.broadcast_mul(&self.weight)?),
            false => Ok(normed.broadcast_mul(&self.factors()?)?.to_dtype(x.dtype())?),
        }
    }

    /// Gradient of x. `x (T, H)`, `dy (T, H)` → `(T, H)`:
    /// with r the inverse root and g = (offset + w)·dy, dx = r·g − x·r³/H · Σ x·g.
    pub fn vjp(&self, x: &Tensor, dy: &Tensor) -> Result<Tensor> {
        match cuda::launcher(x.device()) {
            Some(launcher) => cuda::norm::vjp(launcher, self, x, dy, None),
            None if is_host_f32(x) => cpu::norm::vjp(self, x, dy, None),
            None => self.vjp_composed(x, dy),
        }
    }

    /// `residual (T, H)` + [`RmsNorm::vjp`]: the gradient that arrives by the branch around the norm is added in the same
    /// pass.
    pub(crate) fn vjp_onto(&self, residual: &Tensor, x: &Tensor, dy: &Tensor) -> Result<Tensor> {
        match cuda::launcher(x.device()) {
            Some(launcher) => cuda::norm::vjp(launcher, self, x, dy, Some(residual)),
            None if is_host_f32(x) => cpu::norm::vjp(self, x, dy, Some(residual)),
            None => Ok((residual + self.vjp_composed(x, dy)?)?),
        }
    }

    pub(super) fn vjp_composed(&self, x: &Tensor, dy: &Tensor) -> Result<Tensor> {
        let (_, hidden) = x.dims2()?;
        let wide = x.to_dtype(DType::F32)?;
        let scale = inverse_rms(&wide, self.eps)?;
        let g = dy.to_dtype(DType::F32)?.broadcast_mul(&self.factors()?)?;
        let projection = (&wide * &g)?.sum_keepdim(D::Minus1)?;
        let back = ((scale.powf(3.0)? * projection)? / hidden as f64)?;
        let dx = (g.broadcast_mul(&scale)? - wide.broadcast_mul(&back)?)?;
        Ok(dx.to_dtype(x.dtype())?)
    }

    /// offset + w in f32. `(H,)`
    fn factors(&self) -> Result<Tensor> {
        let weight = self.weight.to_dtype(DType::F32)?;
        match self.offset == 0.0 {
            true => Ok(weight),
            false => Ok((weight + f64::from(self.offset))?),
        }
    }
}

/// 1 / √(mean(x²) + eps) of each row; not a number where x² is beyond f32. `x (T, H)` → `(T, 1)`
fn inverse_rms(x: &Tensor, eps: f64) -> Result<Tensor> {
    let hidden = x.dim(D::Minus1)?;
    let squares = x.sqr()?.sum_keepdim(D::Minus1)?;
    let r = ((&squares / hidden as f64)? + eps)?.sqrt()?.recip()?;
    // ∞ · 0 is no number, and any other square times 0 is 0.
    Ok((r + (&squares * 0.0)?)?)
}

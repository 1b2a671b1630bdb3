//! RMSNorm: y = x / √(mean(x²) + eps) · w, statistics in f32. Not LayerNorm: no mean, no bias.

use candle_core::{D, DType, Tensor};

use super::cpu::slices::is_host_f32;
use super::{cpu, cuda};
use crate::Result;

/// Normalises each row. `x (T, H)`, `weight (H)` → `(T, H)` in x's dtype.
pub fn forward(x: &Tensor, weight: &Tensor, eps: f64) -> Result<Tensor> {
    match cuda::launcher(x.device()) {
        Some(launcher) => cuda::norm::forward(launcher, x, weight, eps as f32),
        None if is_host_f32(x) => cpu::norm::forward(x, weight, eps as f32),
        None => forward_composed(x, weight, eps),
    }
}

pub(super) fn forward_composed(x: &Tensor, weight: &Tensor, eps: f64) -> Result<Tensor> {
    let wide = x.to_dtype(DType::F32)?;
    let scale = inverse_rms(&wide, eps)?;
    let normed = wide.broadcast_mul(&scale)?.to_dtype(x.dtype())?;
    Ok(normed.broadcast_mul(weight)?)
}

/// Gradient of x. `x (T, H)`, `dy (T, H)` → `(T, H)`:
/// with r the inverse root and g = w·dy, dx = r·g − x·r³/H · Σ x·g.
pub fn vjp(x: &Tensor, weight: &Tensor, eps: f64, dy: &Tensor) -> Result<Tensor> {
    match cuda::launcher(x.device()) {
        Some(launcher) => cuda::norm::vjp(launcher, x, weight, eps as f32, dy, None),
        None if is_host_f32(x) => cpu::norm::vjp(x, weight, eps as f32, dy, None),
        None => vjp_composed(x, weight, eps, dy),
    }
}

/// `residual (T, H)` + [`vjp`]: the gradient that arrives by the branch around the norm is added in the same pass.
pub fn vjp_onto(residual: &Tensor, x: &Tensor, weight: &Tensor, eps: f64, dy: &Tensor) -> Result<Tensor> {
    match cuda::launcher(x.device()) {
        Some(launcher) => cuda::norm::vjp(launcher, x, weight, eps as f32, dy, Some(residual)),
        None if is_host_f32(x) => cpu::norm::vjp(x, weight, eps as f32, dy, Some(residual)),
        None => Ok((residual + vjp_composed(x, weight, eps, dy)?)?),
    }
}

pub(super) fn vjp_composed(x: &Tensor, weight: &Tensor, eps: f64, dy: &Tensor) -> Result<Tensor> {
    let (_, hidden) = x.dims2()?;
    let wide = x.to_dtype(DType::F32)?;
    let scale = inverse_rms(&wide, eps)?;
    let g = dy.to_dtype(DType::F32)?.broadcast_mul(&weight.to_dtype(DType::F32)?)?;
    let projection = (&wide * &g)?.sum_keepdim(D::Minus1)?;
    let back = ((scale.powf(3.0)? * projection)? / hidden as f64)?;
    let dx = (g.broadcast_mul(&scale)? - wide.broadcast_mul(&back)?)?;
    Ok(dx.to_dtype(x.dtype())?)
}

/// 1 / √(mean(x²) + eps) of each row. `x (T, H)` → `(T, 1)`
fn inverse_rms(x: &Tensor, eps: f64) -> Result<Tensor> {
    let hidden = x.dim(D::Minus1)?;
    Ok((((x.sqr()?.sum_keepdim(D::Minus1)? / hidden as f64)? + eps)?.sqrt()?).recip()?)
}

//! RMSNorm: y = x / √(mean(x²) + eps) · w, statistics in f32. Not LayerNorm: no mean, no bias.

use candle_core::{D, DType, Tensor};

use super::host::{self, HostSlice};
use super::kernels::{self, Argument, Call, Launcher, Module};
use crate::Result;

/// Normalises each row. `x (T, H)`, `weight (H)` → `(T, H)` in x's dtype.
pub fn forward(x: &Tensor, weight: &Tensor, eps: f64) -> Result<Tensor> {
    match kernels::launcher(x.device()) {
        Some(launcher) => forward_kernel(launcher, x, weight, eps as f32),
        None if host::is_host_f32(x) => forward_host(x, weight, eps as f32),
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
    match kernels::launcher(x.device()) {
        Some(launcher) => vjp_kernel(launcher, x, weight, eps as f32, dy, None),
        None if host::is_host_f32(x) => vjp_host(x, weight, eps as f32, dy, None),
        None => vjp_composed(x, weight, eps, dy),
    }
}

/// `residual (T, H)` + [`vjp`]: the gradient that arrives by the branch around the norm is added in the same pass.
pub fn vjp_onto(residual: &Tensor, x: &Tensor, weight: &Tensor, eps: f64, dy: &Tensor) -> Result<Tensor> {
    match kernels::launcher(x.device()) {
        Some(launcher) => vjp_kernel(launcher, x, weight, eps as f32, dy, Some(residual)),
        None if host::is_host_f32(x) => vjp_host(x, weight, eps as f32, dy, Some(residual)),
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

fn inverse_rms(x: &Tensor, eps: f64) -> Result<Tensor> {
    let hidden = x.dim(D::Minus1)?;
    Ok((((x.sqr()?.sum_keepdim(D::Minus1)? / hidden as f64)? + eps)?.sqrt()?).recip()?)
}

fn forward_kernel(launcher: &dyn Launcher, x: &Tensor, weight: &Tensor, eps: f32) -> Result<Tensor> {
    let ((rows, width), x) = (x.dims2()?, x.contiguous()?);
    let arguments = vec![
        Argument::read(&x),
        Argument::read(weight),
        Argument::output((rows, width)),
        Argument::size(width)?,
        Argument::F32(eps),
    ];
    Call::by_row(Module::Norm, "rms_norm", &x, [rows, width]).with(arguments).launch_for_one(launcher)
}

fn vjp_kernel(
    launcher: &dyn Launcher,
    x: &Tensor,
    weight: &Tensor,
    eps: f32,
    dy: &Tensor,
    residual: Option<&Tensor>,
) -> Result<Tensor> {
    let ((rows, width), x, dy) = (x.dims2()?, x.contiguous()?, dy.contiguous()?);
    let onto = residual.unwrap_or(&dy).contiguous()?;
    let arguments = vec![
        Argument::read(&x),
        Argument::read(weight),
        Argument::read(&dy),
        Argument::read(&onto),
        Argument::output((rows, width)),
        Argument::size(width)?,
        Argument::F32(eps),
        Argument::U32(u32::from(residual.is_some())),
    ];
    Call::by_row(Module::Norm, "rms_norm_vjp", &x, [rows, width]).with(arguments).launch_for_one(launcher)
}

fn forward_host(x: &Tensor, weight: &Tensor, eps: f32) -> Result<Tensor> {
    let (rows, hidden) = x.dims2()?;
    let x = x.contiguous()?;
    let (x, w) = (HostSlice::new(&x)?, HostSlice::new(weight)?);
    let (x, w) = (&*x, &*w);
    let y = host::rows(rows, hidden, |row, y| {
        let x = &x[row * hidden..][..hidden];
        host::vectorised(
            #[inline(always)]
            || {
                let r = inverse_rms_row(x, eps);
                for ((y, x), w) in y.iter_mut().zip(x).zip(w) {
                    *y = x * r * w;
                }
            },
        )
    });
    host::tensor(y, (rows, hidden))
}

fn vjp_host(x: &Tensor, weight: &Tensor, eps: f32, dy: &Tensor, residual: Option<&Tensor>) -> Result<Tensor> {
    let (rows, hidden) = x.dims2()?;
    let (x, dy) = (x.contiguous()?, dy.contiguous()?);
    let (x, w, dy) = (HostSlice::new(&x)?, HostSlice::new(weight)?, HostSlice::new(&dy)?);
    let (x, w, dy) = (&*x, &*w, &*dy);
    let residual = residual.map(Tensor::contiguous).transpose()?;
    let residual = residual.as_ref().map(HostSlice::new).transpose()?;
    let residual = residual.as_deref();
    let dx = host::rows(rows, hidden, |row, dx| {
        let [x, dy] = [x, dy].map(|x| &x[row * hidden..][..hidden]);
        if let Some(residual) = residual {
            dx.copy_from_slice(&residual[row * hidden..][..hidden]);
        }
        host::vectorised(
            #[inline(always)]
            || {
                let r = inverse_rms_row(x, eps);
                let back = r * r * r / hidden as f32 * host::dot3(x, w, dy);
                for (((dx, x), w), dy) in dx.iter_mut().zip(x).zip(w).zip(dy) {
                    *dx += r * w * dy - back * x;
                }
            },
        )
    });
    host::tensor(dx, (rows, hidden))
}

#[inline(always)]
fn inverse_rms_row(x: &[f32], eps: f32) -> f32 {
    1.0 / (host::dot(x, x) / x.len() as f32 + eps).sqrt()
}

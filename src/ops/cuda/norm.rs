//! RMSNorm's launches: kernels/norm.cu.

use candle_core::Tensor;

use super::call::{Argument, Call, Launcher, Module};
use crate::Result;
use crate::ops::rms_norm::RmsNorm;

/// `x (T, H)` → `(T, H)`.
pub fn forward(launcher: &dyn Launcher, norm: &RmsNorm, x: &Tensor) -> Result<Tensor> {
    let ((rows, width), x) = (x.dims2()?, x.contiguous()?);
    let arguments = vec![
        Argument::read(&x),
        Argument::read(&norm.weight),
        Argument::output((rows, width)),
        Argument::size(width)?,
        Argument::F32(norm.eps as f32),
        Argument::F32(norm.offset),
    ];
    Call::by_row(Module::Norm, "rms_norm", &x, [rows, width]).with(arguments).launch_for_one(launcher)
}

/// \[residual +\] the gradient of x. `x`, `dy` and `residual (T, H)` → `(T, H)`.
pub fn vjp(launcher: &dyn Launcher, norm: &RmsNorm, x: &Tensor, dy: &Tensor, residual: Option<&Tensor>) -> Result<Tensor> {
    let ((rows, width), x, dy) = (x.dims2()?, x.contiguous()?, dy.contiguous()?);
    let onto = residual.unwrap_or(&dy).contiguous()?;
    let arguments = vec![
        Argument::read(&x),
        Argument::read(&norm.weight),
        Argument::read(&dy),
        Argument::read(&onto),
        Argument::output((rows, width)),
        Argument::size(width)?,
        Argument::F32(norm.eps as f32),
        Argument::F32(norm.offset),
        Argument::U32(u32::from(residual.is_some())),
    ];
    Call::by_row(Module::Norm, "rms_norm_vjp", &x, [rows, width]).with(arguments).launch_for_one(launcher)
}

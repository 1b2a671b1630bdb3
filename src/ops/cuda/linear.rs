//! The matrix product of 16-bit and f32 tensors whose sums stay in f32.

use candle_core::{DType, Tensor};

use super::call::Launcher;
use crate::Result;

/// x·Wᵀ \[+ `onto (T, O)`, of `dtype`\] with its sums in f32, rounded once, to `dtype`: x's own, or f32. candle's product is
/// rounded to x's type before anything is added to it. `x (T, I)`, `weight (O, I)` → `(T, O)`
///
/// # Errors
/// The tensors do not fit each other, or the driver fails.
pub fn product(launcher: &dyn Launcher, x: &Tensor, weight: &Tensor, onto: Option<&Tensor>, dtype: DType) -> Result<Tensor> {
    let ((rows, inner), (outputs, width)) = (x.dims2()?, weight.dims2()?);
    let fits = inner == width && weight.dtype() == x.dtype() && [x.dtype(), DType::F32].contains(&dtype);
    let onto_fits = onto.is_none_or(|onto| onto.dims() == [rows, outputs] && onto.dtype() == dtype);
    let is_dense = weight.is_contiguous() && [rows, inner, outputs].into_iter().all(|size| i32::try_from(size).is_ok());
    if !(fits && onto_fits && is_dense) {
        return Err(candle_core::Error::msg("a product got tensors that do not fit each other").into());
    }
    if rows == 0 {
        return Ok(Tensor::zeros((0, outputs), dtype, x.device())?);
    }
    launcher.multiply(&x.contiguous()?, weight, onto.map(Tensor::contiguous).transpose()?.as_ref(), dtype)
}

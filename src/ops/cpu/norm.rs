//! RMSNorm of f32 rows, one pass over memory.

use std::borrow::Cow;

use candle_core::Tensor;

use super::slices::{self, HostSlice};
use super::vector::{dot, dot3, vectorised};
use crate::Result;
use crate::ops::rms_norm::RmsNorm;

/// `x (T, H)` → `(T, H)`.
pub fn forward(norm: &RmsNorm, x: &Tensor) -> Result<Tensor> {
    let (rows, hidden) = x.dims2()?;
    let x = x.contiguous()?;
    let (x, w) = (HostSlice::new(&x)?, HostSlice::new(&norm.weight)?);
    let (x, w, eps) = (&*x, &*factors(&w, norm.offset), norm.eps as f32);
    let y = slices::rows(rows, hidden, |row, y| {
        let x = &x[row * hidden..][..hidden];
        vectorised(
            #[inline(always)]
            || {
                let r = inverse_rms_row(x, eps);
                for ((y, x), w) in y.iter_mut().zip(x).zip(w) {
                    *y = x * r * w;
                }
            },
        )
    });
    slices::tensor(y, (rows, hidden))
}

/// \[residual +\] the gradient of x. `x`, `dy` and `residual (T, H)` → `(T, H)`.
pub fn vjp(norm: &RmsNorm, x: &Tensor, dy: &Tensor, residual: Option<&Tensor>) -> Result<Tensor> {
    let (rows, hidden) = x.dims2()?;
    let (x, dy) = (x.contiguous()?, dy.contiguous()?);
    let (x, w, dy) = (HostSlice::new(&x)?, HostSlice::new(&norm.weight)?, HostSlice::new(&dy)?);
    let (x, w, dy, eps) = (&*x, &*factors(&w, norm.offset), &*dy, norm.eps as f32);
    let residual = residual.map(Tensor::contiguous).transpose()?;
    let residual = residual.as_ref().map(HostSlice::new).transpose()?;
    let residual = residual.as_deref();
    let dx = slices::rows(rows, hidden, |row, dx| {
        let [x, dy] = [x, dy].map(|x| &x[row * hidden..][..hidden]);
        if let Some(residual) = residual {
            dx.copy_from_slice(&residual[row * hidden..][..hidden]);
        }
        vectorised(
            #[inline(always)]
            || {
                let r = inverse_rms_row(x, eps);
                let back = r * r * r / hidden as f32 * dot3(x, w, dy);
                for (((dx, x), w), dy) in dx.iter_mut().zip(x).zip(w).zip(dy) {
                    *dx += r * w * dy - back * x;
                }
            },
        )
    });
    slices::tensor(dx, (rows, hidden))
}

/// offset + w, element by element.
fn factors(weight: &[f32], offset: f32) -> Cow<'_, [f32]> {
    match offset == 0.0 {
        true => Cow::Borrowed(weight),
        false => weight.iter().map(|w| offset + w).collect(),
    }
}

/// 1 / √(mean(x²) + eps); not a number where the squares are beyond f32.
#[inline(always)]
fn inverse_rms_row(x: &[f32], eps: f32) -> f32 {
    let r = 1.0 / (dot(x, x) / x.len() as f32 + eps).sqrt();
    if r > 0.0 { r } else { f32::NAN }
}

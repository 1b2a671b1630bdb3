//! Soft-capping of f32 numbers, cap·tanh(x / cap).

use candle_core::Tensor;

use super::slices::{self, HostSlice};
use super::vector::{tanh, vectorised};
use crate::Result;

/// cap·tanh(x / cap), element by element. `(…, W)` → the same shape.
pub fn forward(x: &Tensor, cap: f32) -> Result<Tensor> {
    let x = x.contiguous()?;
    let width = x.dims().last().copied().unwrap_or(1);
    let count = x.elem_count() / width.max(1);
    let elements = HostSlice::new(&x)?;
    let elements = &*elements;
    let y = slices::rows(count, width, |row, y| {
        y.copy_from_slice(&elements[row * width..][..width]);
        in_place(y, 1.0 / cap, cap);
    });
    slices::tensor(y, x.shape())
}

/// Replaces each x by cap·tanh(x·factor).
pub fn in_place(x: &mut [f32], factor: f32, cap: f32) {
    vectorised(
        #[inline(always)]
        || x.iter_mut().for_each(|x| *x = cap * tanh(*x * factor)),
    );
}

/// The derivative of cap·tanh(x / cap), given its value `y`, with `inverse` = 1 / cap: 1 − tanh².
#[inline(always)]
pub fn slope(y: f32, inverse: f32) -> f32 {
    let tanh = y * inverse;
    tanh.mul_add(-tanh, 1.0)
}

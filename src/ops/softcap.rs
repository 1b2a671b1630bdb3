//! Soft-capping, cap·tanh(x / cap), of scores and logits in f32, composed of candle's ops but where the CPU has a body.

use candle_core::Tensor;

use super::cpu;
use super::cpu::slices::is_host_f32;
use crate::Result;

/// cap·tanh(x / cap), element by element.
pub(super) fn forward(x: &Tensor, cap: f64) -> Result<Tensor> {
    match is_host_f32(x) {
        true => cpu::softcap::forward(x, cap as f32),
        false => Ok(((x / cap)?.tanh()? * cap)?),
    }
}

/// The derivative 1 − tanh²(x / cap), given [`forward`]'s result `y`.
pub(super) fn slope(y: &Tensor, cap: f64) -> Result<Tensor> {
    Ok((y / cap)?.sqr()?.affine(-1.0, 1.0)?)
}

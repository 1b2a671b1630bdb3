//! Softmax over the last dimension and its logarithm, composed of candle's ops.

use candle_core::{D, Tensor};

use crate::Result;

/// exp(x − max x) / Σ exp(x − max x). `(…, N)` → the same.
pub fn softmax(x: &Tensor) -> Result<Tensor> {
    let powers = x.broadcast_sub(&x.max_keepdim(D::Minus1)?)?.exp()?;
    Ok(powers.broadcast_div(&powers.sum_keepdim(D::Minus1)?)?)
}

/// x − max x − log Σ exp(x − max x). `(…, N)` → the same.
pub fn log_softmax(x: &Tensor) -> Result<Tensor> {
    let shifted = x.broadcast_sub(&x.max_keepdim(D::Minus1)?)?;
    Ok(shifted.broadcast_sub(&shifted.exp()?.sum_keepdim(D::Minus1)?.log()?)?)
}

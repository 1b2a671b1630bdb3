//! SwiGLU: y = silu(gate) · up, gate and up side by side in one matrix, as their fused projection gives them.

use candle_core::{D, DType, Tensor};

use super::cpu::slices::is_host_f32;
use super::{cpu, cuda};
use crate::Result;

/// silu(gate) · up. `gate_up (T, 2I)`, gate first → `(T, I)`.
pub fn forward(gate_up: &Tensor) -> Result<Tensor> {
    match cuda::launcher(gate_up.device()) {
        Some(launcher) => cuda::swiglu::forward(launcher, gate_up),
        None if is_host_f32(gate_up) => cpu::swiglu::forward(gate_up),
        None => forward_composed(gate_up),
    }
}

pub(super) fn forward_composed(gate_up: &Tensor) -> Result<Tensor> {
    let (gate, up) = halves(gate_up)?;
    Ok((gate.silu()? * up)?)
}

/// Gradient of gate and up. `gate_up (T, 2I)`, `dy (T, I)` → `(T, 2I)`:
/// with s = σ(gate), d gate = dy·up·s·(1 + gate·(1 − s)), d up = dy·gate·s.
pub fn vjp(gate_up: &Tensor, dy: &Tensor) -> Result<Tensor> {
    match cuda::launcher(gate_up.device()) {
        Some(launcher) => cuda::swiglu::vjp(launcher, gate_up, dy),
        None if is_host_f32(gate_up) => cpu::swiglu::vjp(gate_up, dy),
        None => vjp_composed(gate_up, dy),
    }
}

pub(super) fn vjp_composed(gate_up: &Tensor, dy: &Tensor) -> Result<Tensor> {
    let (gate, up) = halves(&gate_up.to_dtype(DType::F32)?)?;
    let dy = dy.to_dtype(DType::F32)?;
    let s = (gate.neg()?.exp()? + 1.0)?.recip()?;
    let slope = ((&gate * s.affine(-1.0, 1.0)?)? + 1.0)?;
    let d_gate = (((&dy * up)? * &s)? * slope)?;
    let d_up = ((dy * gate)? * s)?;
    Ok(Tensor::cat(&[d_gate, d_up], D::Minus1)?.to_dtype(gate_up.dtype())?)
}

/// Gate and up. `(T, 2I)` → twice `(T, I)`
fn halves(gate_up: &Tensor) -> Result<(Tensor, Tensor)> {
    let (_, double) = gate_up.dims2()?;
    let width = double / 2;
    Ok((gate_up.narrow(1, 0, width)?, gate_up.narrow(1, width, width)?))
}

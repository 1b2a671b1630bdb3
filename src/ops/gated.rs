//! The gated activation of an MLP: y = act(gate) · up, gate and up side by side in one matrix, as their fused projection
//! gives them. With silu it is SwiGLU, with gelu GeGLU.

use candle_core::{D, DType, Tensor};

pub use super::activation::Activation;
use super::cpu::slices::is_host_f32;
use super::{cpu, cuda};
use crate::Result;

/// act(gate) · up. `gate_up (T, 2I)`, gate first → `(T, I)`.
pub fn forward(gate_up: &Tensor, activation: Activation) -> Result<Tensor> {
    match cuda::launcher(gate_up.device()) {
        Some(launcher) => cuda::gated::forward(launcher, gate_up, activation),
        None if is_host_f32(gate_up) => cpu::gated::forward(gate_up, activation),
        None => forward_composed(gate_up, activation),
    }
}

pub(super) fn forward_composed(gate_up: &Tensor, activation: Activation) -> Result<Tensor> {
    let (gate, up) = halves(gate_up)?;
    let activated = match activation {
        Activation::Silu => gate.silu()?,
        Activation::GeluTanh => gate.to_dtype(DType::F32)?.gelu()?.to_dtype(gate.dtype())?,
    };
    Ok((activated * up)?)
}

/// Gradient of gate and up. `gate_up (T, 2I)`, `dy (T, I)` → `(T, 2I)`: d gate = dy·up·act′(gate), d up = dy·act(gate).
/// With s = σ(u), both activations are gate·s and have the derivative s·(1 + gate·(1 − s)·u′): silu with u = gate, and gelu,
/// since 1 + tanh(z) = 2·σ(2z), with u = √(8/π)·(gate + 0.044715·gate³).
pub fn vjp(gate_up: &Tensor, dy: &Tensor, activation: Activation) -> Result<Tensor> {
    match cuda::launcher(gate_up.device()) {
        Some(launcher) => cuda::gated::vjp(launcher, gate_up, dy, activation),
        None if is_host_f32(gate_up) => cpu::gated::vjp(gate_up, dy, activation),
        None => vjp_composed(gate_up, dy, activation),
    }
}

pub(super) fn vjp_composed(gate_up: &Tensor, dy: &Tensor, activation: Activation) -> Result<Tensor> {
    let (gate, up) = halves(&gate_up.to_dtype(DType::F32)?)?;
    let dy = dy.to_dtype(DType::F32)?;
    let u = match activation {
        Activation::Silu => gate.clone(),
        Activation::GeluTanh => ((&gate * GELU_FACTOR)? * (gate.sqr()? * GELU_CUBE)?.affine(1.0, 1.0)?)?,
    };
    let s = (u.neg()?.exp()? + 1.0)?.recip()?;
    let rise = (&gate * s.affine(-1.0, 1.0)?)?;
    let slope = match activation {
        Activation::Silu => (rise + 1.0)?,
        Activation::GeluTanh => ((rise * gate.sqr()?.affine(3.0 * GELU_FACTOR * GELU_CUBE, GELU_FACTOR)?)? + 1.0)?,
    };
    let d_gate = (((&dy * up)? * &s)? * slope)?;
    let d_up = ((dy * gate)? * s)?;
    Ok(Tensor::cat(&[d_gate, d_up], D::Minus1)?.to_dtype(gate_up.dtype())?)
}

/// √(8/π)
const GELU_FACTOR: f64 = 1.595_769_121_605_730_7;
const GELU_CUBE: f64 = 0.044_715;

/// Gate and up. `(T, 2I)` → twice `(T, I)`
fn halves(gate_up: &Tensor) -> Result<(Tensor, Tensor)> {
    let (_, double) = gate_up.dims2()?;
    let width = double / 2;
    Ok((gate_up.narrow(1, 0, width)?, gate_up.narrow(1, width, width)?))
}

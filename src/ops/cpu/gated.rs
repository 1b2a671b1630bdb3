//! The gated activation of f32 rows, one pass over memory.

use candle_core::Tensor;

use super::slices::{self, HostSlice};
use super::vector::{exp, sigmoid, vectorised};
use crate::Result;
use crate::ops::activation::Activation;

/// `gate_up (T, 2I)` → `(T, I)`.
pub fn forward(gate_up: &Tensor, activation: Activation) -> Result<Tensor> {
    match activation {
        Activation::Silu => map_rows(gate_up, silu),
        Activation::GeluTanh => map_rows(gate_up, gelu),
    }
}

/// The gradient of gate and up. `gate_up (T, 2I)`, `dy (T, I)` → `(T, 2I)`.
pub fn vjp(gate_up: &Tensor, dy: &Tensor, activation: Activation) -> Result<Tensor> {
    match activation {
        Activation::Silu => vjp_rows(gate_up, dy, silu_vjp),
        Activation::GeluTanh => vjp_rows(gate_up, dy, gelu_vjp),
    }
}

/// act(gate)·up, given act.
fn map_rows(gate_up: &Tensor, act: impl Fn(f32) -> f32 + Sync) -> Result<Tensor> {
    let (rows, double) = gate_up.dims2()?;
    let width = double / 2;
    let gate_up = gate_up.contiguous()?;
    let gate_up = HostSlice::new(&gate_up)?;
    let gate_up = &*gate_up;
    let y = slices::rows(rows, width, |row, y| {
        vectorised(
            #[inline(always)]
            || {
                let (gate, up) = gate_up[row * double..][..double].split_at(width);
                for ((y, g), u) in y.iter_mut().zip(gate).zip(up) {
                    *y = act(*g) * u;
                }
            },
        )
    });
    slices::tensor(y, (rows, width))
}

/// The gradients of gate and up, given what makes them of gate, up and dy.
fn vjp_rows(gate_up: &Tensor, dy: &Tensor, act_vjp: impl Fn(f32, f32, f32) -> (f32, f32) + Sync) -> Result<Tensor> {
    let (rows, double) = gate_up.dims2()?;
    let width = double / 2;
    let (gate_up, dy) = (gate_up.contiguous()?, dy.contiguous()?);
    let (gate_up, dy) = (HostSlice::new(&gate_up)?, HostSlice::new(&dy)?);
    let (gate_up, dy) = (&*gate_up, &*dy);
    let dx = slices::rows(rows, double, |row, dx| {
        let dy = &dy[row * width..][..width];
        vectorised(
            #[inline(always)]
            || {
                let (gate, up) = gate_up[row * double..][..double].split_at(width);
                let (d_gate, d_up) = dx.split_at_mut(width);
                for ((((dg, du), g), u), dy) in d_gate.iter_mut().zip(d_up).zip(gate).zip(up).zip(dy) {
                    (*dg, *du) = act_vjp(*g, *u, *dy);
                }
            },
        )
    });
    slices::tensor(dx, (rows, double))
}

#[inline(always)]
fn silu(gate: f32) -> f32 {
    gate * sigmoid(gate)
}

#[inline(always)]
fn silu_vjp(gate: f32, up: f32, dy: f32) -> (f32, f32) {
    let s = sigmoid(gate);
    (dy * up * s * (1.0 + gate * (1.0 - s)), dy * gate * s)
}

/// √(8/π)
const GELU_FACTOR: f32 = 1.595_769_2;
const GELU_CUBE: f32 = 0.044_715;

#[inline(always)]
fn gelu(gate: f32) -> f32 {
    gate * sigmoid(GELU_FACTOR * gate * (gate * gate).mul_add(GELU_CUBE, 1.0))
}

#[inline(always)]
fn gelu_vjp(gate: f32, up: f32, dy: f32) -> (f32, f32) {
    let square = gate * gate;
    let e = exp(-GELU_FACTOR * gate * square.mul_add(GELU_CUBE, 1.0));
    let s = 1.0 / (1.0 + e); // and 1 − s is e·s, without a difference of numbers that are nearly the same
    let slope = square.mul_add(3.0 * GELU_FACTOR * GELU_CUBE, GELU_FACTOR);
    (dy * up * s * (1.0 + gate * (e * s) * slope), dy * gate * s)
}

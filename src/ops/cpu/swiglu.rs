//! SwiGLU of f32 rows, one pass over memory.

use candle_core::Tensor;

use super::slices::{self, HostSlice};
use super::vector::{sigmoid, vectorised};
use crate::Result;

/// `gate_up (T, 2I)` → `(T, I)`.
pub fn forward(gate_up: &Tensor) -> Result<Tensor> {
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
                    *y = g * sigmoid(*g) * u;
                }
            },
        )
    });
    slices::tensor(y, (rows, width))
}

/// The gradient of gate and up. `gate_up (T, 2I)`, `dy (T, I)` → `(T, 2I)`.
pub fn vjp(gate_up: &Tensor, dy: &Tensor) -> Result<Tensor> {
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
                    let s = sigmoid(*g);
                    *dg = dy * u * s * (1.0 + g * (1.0 - s));
                    *du = dy * g * s;
                }
            },
        )
    });
    slices::tensor(dx, (rows, double))
}

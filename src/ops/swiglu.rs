//! SwiGLU: y = silu(gate) · up, gate and up side by side in one matrix, as their fused projection gives them.

use candle_core::{D, DType, Tensor};

use super::host::{self, HostSlice};
use super::kernels::{self, Argument, Call, Launcher, Module};
use crate::Result;

/// Bytes of a row that a block of the kernels takes: 256 threads, `Part` of kernels/common.cuh each.
const BLOCK_BYTES: usize = 256 * 16;

/// `gate_up (T, 2I)`, gate first → `(T, I)`.
pub fn forward(gate_up: &Tensor) -> Result<Tensor> {
    match kernels::launcher(gate_up.device()) {
        Some(launcher) => forward_kernel(launcher, gate_up),
        None if host::is_host_f32(gate_up) => forward_host(gate_up),
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
    match kernels::launcher(gate_up.device()) {
        Some(launcher) => vjp_kernel(launcher, gate_up, dy),
        None if host::is_host_f32(gate_up) => vjp_host(gate_up, dy),
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

fn halves(gate_up: &Tensor) -> Result<(Tensor, Tensor)> {
    let (_, double) = gate_up.dims2()?;
    let width = double / 2;
    Ok((gate_up.narrow(1, 0, width)?, gate_up.narrow(1, width, width)?))
}

fn forward_kernel(launcher: &dyn Launcher, gate_up: &Tensor) -> Result<Tensor> {
    let ((rows, double), gate_up) = (gate_up.dims2()?, gate_up.contiguous()?);
    let width = double / 2;
    let arguments = vec![Argument::read(&gate_up), Argument::output((rows, width)), Argument::size(width)?];
    call("swiglu", &gate_up, [rows, width]).with(arguments).launch_for_one(launcher)
}

fn vjp_kernel(launcher: &dyn Launcher, gate_up: &Tensor, dy: &Tensor) -> Result<Tensor> {
    let ((rows, double), gate_up, dy) = (gate_up.dims2()?, gate_up.contiguous()?, dy.contiguous()?);
    let width = double / 2;
    let arguments =
        vec![Argument::read(&gate_up), Argument::read(&dy), Argument::output((rows, double)), Argument::size(width)?];
    call("swiglu_vjp", &gate_up, [rows, width]).with(arguments).launch_for_one(launcher)
}

fn call<'a>(name: &str, gate_up: &Tensor, [rows, width]: [usize; 2]) -> Call<'a> {
    let block = BLOCK_BYTES / gate_up.dtype().size_in_bytes();
    let by_row = Call::by_row(Module::Swiglu, name, gate_up, [rows, block]);
    Call { grid: [rows, width.div_ceil(block)], shared_floats: 0, ..by_row }
}

fn forward_host(gate_up: &Tensor) -> Result<Tensor> {
    let (rows, double) = gate_up.dims2()?;
    let width = double / 2;
    let gate_up = gate_up.contiguous()?;
    let gate_up = HostSlice::new(&gate_up)?;
    let gate_up = &*gate_up;
    let y = host::rows(rows, width, |row, y| {
        host::vectorised(
            #[inline(always)]
            || {
                let (gate, up) = gate_up[row * double..][..double].split_at(width);
                for ((y, g), u) in y.iter_mut().zip(gate).zip(up) {
                    *y = g * host::sigmoid(*g) * u;
                }
            },
        )
    });
    host::tensor(y, (rows, width))
}

fn vjp_host(gate_up: &Tensor, dy: &Tensor) -> Result<Tensor> {
    let (rows, double) = gate_up.dims2()?;
    let width = double / 2;
    let (gate_up, dy) = (gate_up.contiguous()?, dy.contiguous()?);
    let (gate_up, dy) = (HostSlice::new(&gate_up)?, HostSlice::new(&dy)?);
    let (gate_up, dy) = (&*gate_up, &*dy);
    let dx = host::rows(rows, double, |row, dx| {
        let dy = &dy[row * width..][..width];
        host::vectorised(
            #[inline(always)]
            || {
                let (gate, up) = gate_up[row * double..][..double].split_at(width);
                let (d_gate, d_up) = dx.split_at_mut(width);
                for ((((dg, du), g), u), dy) in d_gate.iter_mut().zip(d_up).zip(gate).zip(up).zip(dy) {
                    let s = host::sigmoid(*g);
                    *dg = dy * u * s * (1.0 + g * (1.0 - s));
                    *du = dy * g * s;
                }
            },
        )
    });
    host::tensor(dx, (rows, double))
}

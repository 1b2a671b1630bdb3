//! The gated activations' launches: kernels/gated.cu.

use candle_core::Tensor;

use super::call::{Argument, Call, Launcher, Module};
use crate::Result;
use crate::ops::activation::Activation;

/// Bytes of a row that a block of the kernels takes: 256 threads, `Part` of kernels/common.cuh each.
const BLOCK_BYTES: usize = 256 * 16;

/// `gate_up (T, 2I)` → `(T, I)`.
pub fn forward(launcher: &dyn Launcher, gate_up: &Tensor, activation: Activation) -> Result<Tensor> {
    let name = match activation {
        Activation::Silu => "gated_silu",
        Activation::GeluTanh => "gated_gelu",
    };
    let ((rows, double), gate_up) = (gate_up.dims2()?, gate_up.contiguous()?);
    let width = double / 2;
    let arguments = vec![Argument::read(&gate_up), Argument::output((rows, width)), Argument::size(width)?];
    call(name, &gate_up, [rows, width]).with(arguments).launch_for_one(launcher)
}

/// The gradient of gate and up. `gate_up (T, 2I)`, `dy (T, I)` → `(T, 2I)`.
pub fn vjp(launcher: &dyn Launcher, gate_up: &Tensor, dy: &Tensor, activation: Activation) -> Result<Tensor> {
    let name = match activation {
        Activation::Silu => "gated_silu_vjp",
        Activation::GeluTanh => "gated_gelu_vjp",
    };
    let ((rows, double), gate_up, dy) = (gate_up.dims2()?, gate_up.contiguous()?, dy.contiguous()?);
    let width = double / 2;
    let arguments =
        vec![Argument::read(&gate_up), Argument::read(&dy), Argument::output((rows, double)), Argument::size(width)?];
    call(name, &gate_up, [rows, width]).with(arguments).launch_for_one(launcher)
}

fn call<'a>(name: &str, gate_up: &Tensor, [rows, width]: [usize; 2]) -> Call<'a> {
    let block = BLOCK_BYTES / gate_up.dtype().size_in_bytes();
    let by_row = Call::by_row(Module::Gated, name, gate_up, [rows, block]);
    Call { grid: [rows, width.div_ceil(block)], shared_floats: 0, ..by_row }
}

//! The gated activations' launches: kernels/gated.cu.

use candle_core::Tensor;

use super::call::{Argument, Call, Element, Launcher, Module};
use super::routing::DeviceRoutes;
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

/// Gradients of gate and up and of each choice's weight, where a linear map follows and its result is multiplied by the weight.
/// `gate_up (Q·k, 2I)` and `d_inner (Q·k, I)`, the gradient without the weight, are sorted by expert. → `(Q·k, 2I)`, sorted, and
/// `(Q, k)` f32
pub fn weighted_vjp(
    launcher: &dyn Launcher,
    (gate_up, d_inner): (&Tensor, &Tensor),
    routes: &DeviceRoutes,
    activation: Activation,
) -> Result<(Tensor, Tensor)> {
    let name = match activation {
        Activation::Silu => "gated_silu_weighted_vjp",
        Activation::GeluTanh => "gated_gelu_weighted_vjp",
    };
    let ((rows, width), (choices, double)) = (d_inner.dims2()?, gate_up.dims2()?);
    if [rows, choices] != [routes.choices(); 2] || double != 2 * width {
        return Err(candle_core::Error::msg("gate and up are not those of the experts' rows").into());
    }
    let arguments = vec![
        Argument::read(gate_up),
        Argument::read(d_inner),
        Argument::Read(&routes.order, Element::U32),
        Argument::Read(&routes.weights, Element::F32),
        Argument::output((rows, double)),
        Argument::Output(routes.weights.shape().clone(), Element::F32),
        Argument::size(width)?,
    ];
    let mut outputs = Call::by_row(Module::Gated, name, gate_up, [rows, width]).with(arguments).launch(launcher)?;
    match (outputs.pop(), outputs.pop()) {
        (Some(slopes), Some(d_gate_up)) => Ok((d_gate_up, slopes)),
        _ => Err(candle_core::Error::msg("a kernel has another number of outputs").into()),
    }
}

fn call<'a>(name: &str, gate_up: &Tensor, [rows, width]: [usize; 2]) -> Call<'a> {
    let block = BLOCK_BYTES / gate_up.dtype().size_in_bytes();
    let by_row = Call::by_row(Module::Gated, name, gate_up, [rows, block]);
    Call { grid: [rows, width.div_ceil(block)], shared_floats: 0, ..by_row }
}

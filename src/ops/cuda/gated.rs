//! The gated activations' launches: kernels/gated.cu.

use candle_core::Tensor;

use super::call::{Argument, Call, Element, Launcher, Module};
use super::routing::DeviceRoutes;
use crate::Result;
use crate::ops::activation::Activation;

/// `gate_up (T, 2I)` → `(T, I)`.
pub fn forward(launcher: &dyn Launcher, gate_up: &Tensor, activation: Activation) -> Result<Tensor> {
    let ((rows, double), gate_up) = (gate_up.dims2()?, gate_up.contiguous()?);
    let width = double / 2;
    let arguments = vec![Argument::read(&gate_up), Argument::output((rows, width)), Argument::size(width)?];
    let name = kernel(activation, "");
    Call::by_part(Module::Gated, &name, &gate_up, [rows, width]).with(arguments).launch_for_one(launcher)
}

/// The gradient of gate and up. `gate_up (T, 2I)`, `dy (T, I)` → `(T, 2I)`.
pub fn vjp(launcher: &dyn Launcher, gate_up: &Tensor, dy: &Tensor, activation: Activation) -> Result<Tensor> {
    let ((rows, double), gate_up, dy) = (gate_up.dims2()?, gate_up.contiguous()?, dy.contiguous()?);
    let width = double / 2;
    let arguments =
        vec![Argument::read(&gate_up), Argument::read(&dy), Argument::output((rows, double)), Argument::size(width)?];
    let name = kernel(activation, "_vjp");
    Call::by_part(Module::Gated, &name, &gate_up, [rows, width]).with(arguments).launch_for_one(launcher)
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
    let name = kernel(activation, "_weighted_vjp");
    let call = Call::by_row(Module::Gated, &name, gate_up, [rows, width]).with(arguments);
    let [d_gate_up, slopes] = call.launch_for(launcher)?;
    Ok((d_gate_up, slopes))
}

/// The name of a kernel of this activation.
fn kernel(activation: Activation, what: &str) -> String {
    match activation {
        Activation::Silu => format!("gated_silu{what}"),
        Activation::GeluTanh => format!("gated_gelu{what}"),
    }
}

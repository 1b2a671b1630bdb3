//! A mixture of experts without the host: six launches forward and five back, beside the router's own products, however many
//! experts there are. Sums are f32; what each expert gives a row is rounded once, and the sum of those once more.

use candle_core::Tensor;

use super::call::Launcher;
use super::gated;
use super::grouped::{GroupedRows, product, product_vjp};
use super::routing::{DeviceRoutes, route};
use crate::Result;
use crate::ops::expert_stack::{ExpertChoice, ExpertStack};

/// What `vjp` needs of `forward`.
#[derive(Debug, Clone)]
pub struct GroupedSaved {
    routes: DeviceRoutes,
    /// Gate and up of each choice, sorted by expert. `(Q·k, 2I)`
    pub gate_up: Tensor,
}

/// \[`onto (Q, H)` +\] the experts' weighted sum for `x (Q, H)`, by the router's `logits (Q, E)` → `(Q, H)`.
pub fn forward(
    (launcher, choice): (&dyn Launcher, ExpertChoice),
    stack: &ExpertStack,
    x: &Tensor,
    logits: &Tensor,
    onto: Option<&Tensor>,
) -> Result<(Tensor, GroupedSaved)> {
    let routes = route(launcher, logits, choice)?;
    let gate_up = product(launcher, (x, GroupedRows::OfPass), &stack.gate_up_proj, &routes)?; // (Q·k, 2I)
    let inner = gated::forward(launcher, &gate_up, stack.activation)?; // (Q·k, I)
    let out = product(launcher, (&inner, GroupedRows::Sorted), &stack.down_proj, &routes)?; // (Q·k, H)
    let y = routes.combine(launcher, &out, onto)?; // (Q, H)
    Ok((y, GroupedSaved { routes, gate_up }))
}

/// Gradients of `x` and of the logits, given that of the output. `dy (Q, H)` → `(Q, H)`, `(Q, E)`
pub fn vjp(
    (launcher, choice): (&dyn Launcher, ExpertChoice),
    stack: &ExpertStack,
    saved: &GroupedSaved,
    dy: &Tensor,
) -> Result<(Tensor, Tensor)> {
    let GroupedSaved { routes, gate_up } = saved;
    // Before the weights: the gradient of a weight, dy·(W·inner), is (dy·W)·inner.
    let d_inner = product_vjp(launcher, (dy, GroupedRows::OfPass), &stack.down_proj, routes)?; // (Q·k, I)
    let (d_gate_up, slopes) = gated::weighted_vjp(launcher, (gate_up, &d_inner), routes, stack.activation)?;
    let d_rows = product_vjp(launcher, (&d_gate_up, GroupedRows::Sorted), &stack.gate_up_proj, routes)?; // (Q·k, H)
    let d_logits = routes.vjp(launcher, &slopes, choice, dy.dtype())?;
    Ok((routes.add(launcher, &d_rows)?, d_logits))
}

#[cfg(test)]
#[path = "experts_tests.rs"]
mod tests;

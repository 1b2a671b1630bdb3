//! The launches around the products of a mixture of experts: kernels/routing.cu. The choice of experts never leaves the device.

use candle_core::{DType, Tensor};

use super::call::{Argument, Call, Element, Launcher, Module};
use crate::Result;
use crate::ops::expert_stack::ExpertChoice;

/// Threads of a block that sorts the choices of one expert.
const SORT_THREADS: usize = 256;

/// Which experts the `Q` rows of a pass go through, `k` of `E` each. A choice is a row and one of its experts, row·k + rank.
#[derive(Debug, Clone)]
pub struct DeviceRoutes {
    /// Probabilities of all experts. `(Q, E)` f32
    pub probabilities: Tensor,
    /// Expert of each choice. `(Q, k)` u32
    pub chosen: Tensor,
    /// Weight of each choice. `(Q, k)` f32
    pub weights: Tensor,
    /// The first of each expert's choices where they are sorted by expert, and the number of all. `(E + 1,)` u32
    pub starts: Tensor,
    /// Which choice each of the sorted ones is. `(Q·k,)` u32
    pub order: Tensor,
    /// Position of each choice among the sorted ones. `(Q·k,)` u32
    pub positions: Tensor,
}

/// The experts of each row, and the order in which their products are computed. `logits (Q, E)`
pub fn route(launcher: &dyn Launcher, logits: &Tensor, choice: ExpertChoice) -> Result<DeviceRoutes> {
    let ((rows, experts), logits, per_token) = (logits.dims2()?, logits.contiguous()?, choice.per_token);
    if per_token > experts {
        return Err(candle_core::Error::msg(format!("{per_token} experts a row of {experts}")).into());
    }
    let arguments = vec![
        Argument::read(&logits),
        Argument::Output((rows, experts).into(), Element::F32),
        Argument::Output((rows, per_token).into(), Element::U32),
        Argument::Output((rows, per_token).into(), Element::F32),
        Argument::size(experts)?,
        Argument::size(per_token)?,
        Argument::U32(u32::from(choice.normalised)),
    ];
    let by_row = Call::by_row(Module::Routing, "route", &logits, [rows, experts]);
    let call = Call { shared_floats: experts + per_token + by_row.threads / 32, ..by_row }.with(arguments);
    let [probabilities, chosen, weights] = call.launch_for(launcher)?;
    let choices = rows * per_token;
    let arguments = vec![
        Argument::Read(&chosen, Element::U32),
        Argument::Output((experts + 1).into(), Element::U32),
        Argument::Output(choices.into(), Element::U32),
        Argument::Output(choices.into(), Element::U32),
        Argument::size(choices)?,
    ];
    let by_expert = Call::by_row(Module::Routing, "sort_choices", &weights, [experts, SORT_THREADS]);
    let call = Call { shared_floats: 2 * SORT_THREADS, ..by_expert }.with(arguments);
    let [starts, order, positions] = call.launch_for(launcher)?;
    Ok(DeviceRoutes { probabilities, chosen, weights, starts, order, positions })
}

impl DeviceRoutes {
    /// Number of choices of all rows.
    pub fn choices(&self) -> usize {
        self.order.elem_count()
    }

    /// \[`onto (Q, H)` +\] the rows of x that belong to the choices of each row, times their weights. `x (Q·k, H)`, sorted
    /// → `(Q, H)`.
    pub fn combine(&self, launcher: &dyn Launcher, x: &Tensor, onto: Option<&Tensor>) -> Result<Tensor> {
        self.sum(launcher, x, SumWeights::Own, onto)
    }

    /// The rows of x that belong to the choices of each row, added. `x (Q·k, H)`, sorted → `(Q, H)`.
    pub fn add(&self, launcher: &dyn Launcher, x: &Tensor) -> Result<Tensor> {
        self.sum(launcher, x, SumWeights::One, None)
    }

    fn sum(&self, launcher: &dyn Launcher, x: &Tensor, weights: SumWeights, onto: Option<&Tensor>) -> Result<Tensor> {
        let ((rows, per_token), (choices, width)) = (self.chosen.dims2()?, x.dims2()?);
        if choices != self.choices() || onto.is_some_and(|onto| onto.dims() != [rows, width]) {
            return Err(candle_core::Error::msg("the rows of the experts are not those of the pass").into());
        }
        let (x, onto) = (x.contiguous()?, onto.map(Tensor::contiguous).transpose()?);
        let arguments = vec![
            Argument::read(&x),
            Argument::Read(&self.positions, Element::U32),
            Argument::Read(&self.weights, Element::F32),
            Argument::read(onto.as_ref().unwrap_or(&x)), // which has no fewer rows
            Argument::output((rows, width)),
            Argument::size(width)?,
            Argument::size(per_token)?,
            Argument::U32(u32::from(weights == SumWeights::Own)),
            Argument::U32(u32::from(onto.is_some())),
        ];
        Call::by_part(Module::Routing, "combine", &x, [rows, width]).with(arguments).launch_for_one(launcher)
    }

    /// Gradient of the logits, of `dtype`, given that of the weight of each choice, `slopes (Q, k)` f32. → `(Q, E)`
    pub fn vjp(&self, launcher: &dyn Launcher, slopes: &Tensor, choice: ExpertChoice, dtype: DType) -> Result<Tensor> {
        let (rows, experts) = self.probabilities.dims2()?;
        let arguments = vec![
            Argument::Read(&self.probabilities, Element::F32),
            Argument::Read(&self.chosen, Element::U32),
            Argument::Read(&self.weights, Element::F32),
            Argument::Read(slopes, Element::F32),
            Argument::output((rows, experts)),
            Argument::size(experts)?,
            Argument::size(choice.per_token)?,
            Argument::U32(u32::from(choice.normalised)),
        ];
        let by_row = Call::by_row(Module::Routing, "route_vjp", &self.probabilities, [rows, experts]).with(arguments);
        Call { dtype, shared_floats: 0, ..by_row }.launch_for_one(launcher)
    }
}

/// What the rows of x are multiplied by before they are added.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum SumWeights {
    One,
    Own,
}

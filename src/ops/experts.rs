//! A mixture of experts: each row goes through the MLPs of the few experts that its logits make the likeliest, whose outputs are
//! added, weighted by their probabilities. Only these are computed. On CUDA nothing is read on the host: rows are sorted by
//! expert there, and all experts' products are one launch. Elsewhere the choice is made on the host, and the rows of an expert
//! are taken out, go through its MLP together, and are added back, one expert after the other.

use candle_core::{DType, Device, Tensor};

use super::cuda;
pub use super::cuda::experts::GroupedSaved;
pub use super::expert_stack::{ExpertChoice, ExpertStack};
use super::gated_mlp::GatedMlp;
use super::linear::Products;
use super::weight::Weight;
use crate::Result;

/// The frozen MLPs of a mixture.
#[derive(Debug, Clone)]
pub struct ExpertMlps {
    mlps: Vec<GatedMlp>,
    /// The memory of the same weights, where they are tensors: `mlps` has views of it.
    stack: Option<ExpertStack>,
    choice: ExpertChoice,
}

/// What [`ExpertMlps::vjp`] needs of the forward pass.
#[derive(Debug, Clone)]
pub enum ExpertsSaved {
    /// What the experts save that are computed one after the other.
    Composed(ComposedSaved),
    /// What the experts save whose products are grouped.
    Grouped(GroupedSaved),
}

/// What the body that is composed of other ops saves.
#[derive(Debug, Clone)]
pub struct ComposedSaved {
    routes: Routes,
    /// Gate and up of each expert that has rows. `(rows, 2I)`
    gate_up: Vec<Option<Tensor>>,
}

/// Which experts the rows of a pass go through.
#[derive(Debug, Clone)]
struct Routes {
    /// Probabilities of all experts. `(Q, E)`
    probabilities: Vec<f32>,
    /// Experts of each row, with their weights. `(Q, k)`
    chosen: Vec<(usize, f32)>,
    /// Places in `chosen` that name each expert, ascending.
    places: Vec<Vec<usize>>,
}

impl ExpertsSaved {
    /// Gate and up of all rows, in one tensor or several.
    #[cfg(test)]
    pub fn gate_up(&self) -> Vec<&Tensor> {
        match self {
            Self::Composed(saved) => saved.gate_up.iter().flatten().collect(),
            Self::Grouped(saved) => vec![&saved.gate_up],
        }
    }
}

impl ExpertMlps {
    /// A mixture of experts. Tensors are moved into one for all experts as they come: no more than one expert's weights
    /// are held twice.
    ///
    /// # Errors
    /// An expert cannot be read, or has other shapes than the first.
    pub fn new(choice: ExpertChoice, experts: impl ExactSizeIterator<Item = Result<GatedMlp>>) -> Result<Self> {
        let count = experts.len();
        let (mut mlps, mut stack) = (Vec::with_capacity(count), None);
        for (index, mlp) in experts.enumerate() {
            let mlp = mlp?;
            if index == 0 {
                stack = room_for(count, &mlp)?;
            }
            mlps.push(match &stack {
                Some(stack) => moved(mlp, stack, index)?,
                None => mlp,
            });
        }
        Ok(Self { mlps, stack, choice })
    }

    /// Matrices of all experts.
    pub fn weights(&self) -> impl Iterator<Item = &Weight> {
        self.mlps.iter().flat_map(GatedMlp::weights)
    }

    /// \[`onto (Q, H)` +\] the experts' weighted sum for `x (Q, H)`, by the router's `logits (Q, E)` → `(Q, H)`.
    ///
    /// # Errors
    /// A tensor operation fails.
    pub fn forward(
        &self,
        x: &Tensor,
        logits: &Tensor,
        onto: Option<&Tensor>,
        products: Products,
    ) -> Result<(Tensor, ExpertsSaved)> {
        match (cuda::launcher(x.device()), &self.stack) {
            (Some(launcher), Some(stack)) if x.dim(0)? > 0 => {
                let (y, saved) = cuda::experts::forward((launcher, self.choice), stack, x, logits, onto)?;
                Ok((y, ExpertsSaved::Grouped(saved)))
            }
            _ => {
                let (y, saved) = self.forward_composed(x, logits, onto, products)?;
                Ok((y, ExpertsSaved::Composed(saved)))
            }
        }
    }

    /// Gradients of `x` and of the logits, given that of the output. `dy (Q, H)` → `(Q, H)`, `(Q, E)`
    ///
    /// # Errors
    /// The forward pass was another device's, or a tensor operation fails.
    pub fn vjp(&self, saved: &ExpertsSaved, dy: &Tensor) -> Result<(Tensor, Tensor)> {
        match (saved, cuda::launcher(dy.device()), &self.stack) {
            (ExpertsSaved::Composed(saved), ..) => self.vjp_composed(saved, dy),
            (ExpertsSaved::Grouped(saved), Some(launcher), Some(stack)) => {
                cuda::experts::vjp((launcher, self.choice), stack, saved, dy)
            }
            _ => Err(candle_core::Error::msg("the forward pass of the experts was another device's").into()),
        }
    }

    fn forward_composed(
        &self,
        x: &Tensor,
        logits: &Tensor,
        onto: Option<&Tensor>,
        products: Products,
    ) -> Result<(Tensor, ComposedSaved)> {
        let routes = self.route(&logits.to_dtype(DType::F32)?.flatten_all()?.to_vec1()?);
        let mut y = onto.map_or_else(|| x.zeros_like(), |onto| Ok(onto.clone()))?;
        let mut gate_up = vec![None; self.mlps.len()];
        for (index, expert) in self.mlps.iter().enumerate() {
            let Some((rows, weights)) = self.rows_of(&routes, index, x.device(), x.dtype())? else { continue };
            let (out, saved) = expert.forward(&x.index_select(&rows, 0)?, None, products)?;
            y = y.index_add(&rows, &out.broadcast_mul(&weights)?, 0)?;
            gate_up[index] = Some(saved);
        }
        Ok((y, ComposedSaved { routes, gate_up }))
    }

    fn vjp_composed(&self, saved: &ComposedSaved, dy: &Tensor) -> Result<(Tensor, Tensor)> {
        let routes = &saved.routes;
        let mut dx = dy.zeros_like()?;
        let mut d_weights = vec![0f32; routes.chosen.len()];
        for (index, (expert, gate_up)) in self.mlps.iter().zip(&saved.gate_up).enumerate() {
            let (Some((rows, weights)), Some(gate_up)) = (self.rows_of(routes, index, dy.device(), dy.dtype())?, gate_up)
            else {
                continue;
            };
            let (d_rows, d_weights_of_rows) = expert.vjp_scaled(gate_up, &weights, &dy.index_select(&rows, 0)?)?;
            dx = dx.index_add(&rows, &d_rows, 0)?;
            let slopes = d_weights_of_rows.to_dtype(DType::F32)?.flatten_all()?.to_vec1::<f32>()?;
            for (place, slope) in routes.places[index].iter().zip(slopes) {
                d_weights[*place] = slope;
            }
        }
        let d_logits = self.route_vjp(routes, &d_weights); // (Q, E)
        let shape = (d_logits.len() / self.mlps.len().max(1), self.mlps.len());
        Ok((dx, Tensor::from_vec(d_logits, shape, dy.device())?.to_dtype(dy.dtype())?))
    }

    /// The rows of an expert, u32, and their weights, `(rows, 1)`; `None` where there are none.
    fn rows_of(&self, routes: &Routes, expert: usize, device: &Device, dtype: DType) -> Result<Option<(Tensor, Tensor)>> {
        let places = &routes.places[expert];
        if places.is_empty() {
            return Ok(None);
        }
        let rows = Tensor::from_iter(places.iter().map(|place| (place / self.choice.per_token) as u32), device)?;
        let weights = Tensor::from_iter(places.iter().map(|place| routes.chosen[*place].1), device)?;
        Ok(Some((rows, weights.unsqueeze(1)?.to_dtype(dtype)?)))
    }

    /// The softmax of each row's `logits (Q, E)`, and its likeliest experts: of equal ones the first.
    fn route(&self, logits: &[f32]) -> Routes {
        let (count, ExpertChoice { per_token, normalised }) = (self.mlps.len(), self.choice);
        let mut routes = Routes { probabilities: Vec::new(), chosen: Vec::new(), places: vec![Vec::new(); count] };
        for logits in logits.chunks_exact(count) {
            let max = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
            let exponentials: Vec<f32> = logits.iter().map(|logit| (logit - max).exp()).collect();
            let sum: f32 = exponentials.iter().sum();
            let first = routes.probabilities.len();
            routes.probabilities.extend(exponentials.iter().map(|x| x / sum));
            let probabilities = &routes.probabilities[first..];
            let mut order: Vec<usize> = (0..count).collect();
            order.sort_by(|a, b| probabilities[*b].total_cmp(&probabilities[*a]));
            order.truncate(per_token);
            let sum: f32 = if normalised { order.iter().map(|expert| probabilities[*expert]).sum() } else { 1.0 };
            for expert in order {
                routes.places[expert].push(routes.chosen.len());
                routes.chosen.push((expert, probabilities[expert] / sum));
            }
        }
        routes
    }

    /// Gradient of the router's logits, given that of each chosen weight. `d_weights (Q, k)` → `(Q, E)`
    fn route_vjp(&self, routes: &Routes, d_weights: &[f32]) -> Vec<f32> {
        let (count, ExpertChoice { per_token, normalised }) = (self.mlps.len(), self.choice);
        let rows = routes.probabilities.chunks_exact(count);
        let chosen = routes.chosen.chunks_exact(per_token).zip(d_weights.chunks_exact(per_token));
        let mut d_logits = Vec::with_capacity(routes.probabilities.len());
        for (probabilities, (chosen, d_weights)) in rows.zip(chosen) {
            let mut d_probabilities = vec![0f32; count];
            let sum: f32 = chosen.iter().map(|(expert, _)| probabilities[*expert]).sum();
            let mean: f32 = chosen.iter().zip(d_weights).map(|((_, weight), slope)| weight * slope).sum();
            for ((expert, _), slope) in chosen.iter().zip(d_weights) {
                d_probabilities[*expert] = if normalised { (slope - mean) / sum } else { *slope };
            }
            let mean: f32 = probabilities.iter().zip(&d_probabilities).map(|(p, slope)| p * slope).sum();
            d_logits.extend(probabilities.iter().zip(&d_probabilities).map(|(p, slope)| p * (slope - mean)));
        }
        d_logits
    }
}

/// Memory for `count` experts like this one, where their weights are tensors. Experts with biases stay apart: no kernel adds them.
fn room_for(count: usize, like: &GatedMlp) -> Result<Option<ExpertStack>> {
    let [Weight::Tensor(gate_up), Weight::Tensor(down)] = like.weights() else { return Ok(None) };
    if like.gate_up_proj.bias.is_some() || like.down_proj.bias.is_some() {
        return Ok(None);
    }
    let room = |weight: &Tensor| -> Result<Tensor> {
        let (outputs, inputs) = weight.dims2()?;
        Ok(Tensor::zeros((count, outputs, inputs), weight.dtype(), weight.device())?)
    };
    Ok(Some(ExpertStack { gate_up_proj: room(gate_up)?, down_proj: room(down)?, activation: like.activation }))
}

/// The same expert, whose weights are now views of the stack.
fn moved(mut mlp: GatedMlp, stack: &ExpertStack, index: usize) -> Result<GatedMlp> {
    let projections = [(&mut mlp.gate_up_proj, &stack.gate_up_proj), (&mut mlp.down_proj, &stack.down_proj)];
    for (projection, stack) in projections {
        stack.slice_set(&projection.weight.tensor()?.unsqueeze(0)?.contiguous()?, 0, index)?;
        projection.weight = Weight::Tensor(stack.get(index)?);
    }
    Ok(mlp)
}

#[cfg(test)]
#[path = "experts_tests.rs"]
mod tests;

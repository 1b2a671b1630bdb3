//! When a vector steers: a condition looks at a prompt before anything is steered, and only a prompt whose score passes is steered
//! (conditional activation steering, CAST, arXiv 2409.05907). A condition is a direction c after one block, with a threshold; it is
//! stored as a vector file whose metadata have it. How one is found is `train::condition`'s business.

use std::sync::Arc;

use candle_core::{DType, Tensor};
use serde::Serialize;

use super::vector::SteeringVector;
pub use super::vector::{Condition, FiringSide, PromptReading};
use crate::model::Model;
use crate::model::layout::Layout;
use crate::model::plan::PassPlan;
use crate::{Error, Result};

/// What a condition says of a prompt.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Verdict {
    /// Score of the prompt, cos(h, tanh(P·h)).
    pub score: f64,
    /// Whether the prompt is steered.
    pub fired: bool,
}

/// A condition that is ready to be asked.
#[derive(Debug, Clone, PartialEq)]
pub struct When {
    layer: usize,
    vector: SteeringVector,
    condition: Condition,
}

impl When {
    /// The condition of a file; `threshold` is said in place of its own.
    ///
    /// # Errors
    /// The file holds a vector that steers, and no condition, or several layers.
    pub fn new(vector: SteeringVector, threshold: Option<(FiringSide, f64)>) -> Result<Self> {
        let Some(mut condition) = vector.metadata.condition else {
            let problem = "it is a vector that steers, and no condition";
            return Err(Error::Argument(problem.into()));
        };
        let layers: Vec<usize> = vector.layers.keys().copied().collect();
        let [layer] = layers[..] else {
            return Err(Error::Argument(format!("a condition has one layer, but the file has {layers:?}")));
        };
        if let Some((comparison, threshold)) = threshold {
            (condition.comparison, condition.threshold) = (comparison, threshold);
        }
        Ok(Self { layer, vector, condition })
    }

    /// Checks that the condition was made for a model of this size.
    ///
    /// # Errors
    /// The condition is for a model of another size; the message names both.
    pub fn check_model(&self, hidden_size: usize, num_hidden_layers: usize) -> Result<()> {
        self.vector.check_shape(hidden_size, num_hidden_layers)
    }

    /// The condition as a vector of its layer.
    pub fn vector(&self) -> &SteeringVector {
        &self.vector
    }

    /// The block whose output is looked at.
    pub fn layer(&self) -> usize {
        self.layer
    }

    /// What is compared with what.
    pub fn condition(&self) -> &Condition {
        &self.condition
    }

    /// Looks at a prompt, which nothing steers here.
    ///
    /// # Errors
    /// The prompt is empty, its residual is not finite, or a tensor operation fails.
    pub fn ask(&self, model: &Model, prompt: &[u32]) -> Result<Verdict> {
        let residuals = prompt_residuals(model, prompt, &[self.layer], self.condition.reading)?;
        Ok(self.verdict(&residuals[0]))
    }

    /// What it says of a prompt with this residual. `h (H)`
    fn verdict(&self, h: &[f64]) -> Verdict {
        let score = score(h, &self.vector.layers[&self.layer]);
        Verdict { score, fired: self.condition.passes(score) }
    }
}

/// A condition that is being asked about a prompt, some blocks at a time, so that other work can come between.
pub(crate) struct PendingVerdict<'m> {
    model: &'m Model,
    when: Arc<When>,
    plan: PassPlan,
    /// What enters block `next`. `(T, H)`
    x: Tensor,
    next: usize,
}

impl<'m> PendingVerdict<'m> {
    /// Begins to look at a prompt.
    ///
    /// # Errors
    /// The prompt is empty or has a token that the model has not.
    pub fn new(model: &'m Model, when: Arc<When>, prompt: &[u32]) -> Result<Self> {
        let (plan, x) = begin(model, prompt)?;
        Ok(Self { model, when, plan, x, next: 0 })
    }

    /// Goes on with about as much work as `rows` tokens are in all blocks, and at least one block. → what [`When::ask`] says, at
    /// the end
    ///
    /// # Errors
    /// The residual is not finite, or a tensor operation fails.
    pub fn advance(&mut self, rows: usize) -> Result<Option<Verdict>> {
        let (tokens, _) = self.x.dims2()?;
        let end = (self.next + self.model.blocks_of_rows(rows, tokens)).min(self.when.layer + 1);
        self.x = self.model.run(self.next..end, &self.x, &self.plan)?;
        self.next = end;
        if end <= self.when.layer {
            return Ok(None);
        }
        let residual = read(&self.x, self.when.condition.reading, self.when.layer)?;
        Ok(Some(self.when.verdict(&residual)))
    }
}

/// The untouched residual of a prompt after each of `layers`, which ascend: the mean over its tokens, or the last token's. Runs no
/// block above the last of them. → `(H)` for each layer
///
/// # Errors
/// The prompt is empty, a residual is not finite, or a tensor operation fails.
pub fn prompt_residuals(model: &Model, prompt: &[u32], layers: &[usize], reading: PromptReading) -> Result<Vec<Vec<f64>>> {
    let (plan, mut x) = begin(model, prompt)?; // (T, H)
    let mut next = 0;
    let mut found = Vec::with_capacity(layers.len());
    for layer in layers {
        x = model.run(next..layer + 1, &x, &plan)?;
        next = layer + 1;
        found.push(read(&x, reading, *layer)?);
    }
    Ok(found)
}

/// The plan of a prompt, and what enters the first block. → `(T, H)`
fn begin(model: &Model, prompt: &[u32]) -> Result<(PassPlan, Tensor)> {
    if prompt.is_empty() {
        return Err(Error::Argument("the prompt is empty".into()));
    }
    let mut layout = Layout::default();
    layout.push_sequence(prompt.len());
    Ok((model.plan(&layout)?, model.embed(prompt)?))
}

/// The mean residual of a prompt after `layer`, or the last token's. `x (T, H)` → `(H)`
fn read(x: &Tensor, reading: PromptReading, layer: usize) -> Result<Vec<f64>> {
    let read = match reading {
        PromptReading::Mean => x.clone(),
        PromptReading::Last => x.narrow(0, x.dim(0)? - 1, 1)?,
    };
    let rows = read.to_dtype(DType::F32)?.to_vec2::<f32>()?;
    let mut mean = vec![0.0; rows[0].len()];
    for row in &rows {
        mean.iter_mut().zip(row).for_each(|(sum, x)| *sum += f64::from(*x));
    }
    mean.iter_mut().for_each(|sum| *sum /= rows.len() as f64);
    if !mean.iter().all(|x| x.is_finite()) {
        return Err(Error::NotFinite(format!("the residual of a prompt after layer {layer} is not finite")));
    }
    Ok(mean)
}

/// cos(h, tanh(P·h)) with P = ccᵀ/cᵀc, element by element in f64; 0 where h has nothing along c. How long c is and which way it
/// points does not matter. `h (H)`, `c (H)`
pub fn score(h: &[f64], c: &[f32]) -> f64 {
    let c = || c.iter().copied().map(f64::from);
    let along = h.iter().zip(c()).map(|(h, c)| h * c).sum::<f64>() / c().map(|c| c * c).sum::<f64>().max(f64::MIN_POSITIVE);
    let projected: Vec<f64> = c().map(|c| (along * c).tanh()).collect();
    let product = h.iter().zip(&projected).map(|(h, t)| h * t).sum::<f64>();
    let length = |x: &[f64]| x.iter().map(|x| x * x).sum::<f64>().sqrt();
    let lengths = length(h) * length(&projected);
    if lengths > 0.0 { product / lengths } else { 0.0 }
}

#[cfg(test)]
#[path = "condition_tests.rs"]
mod tests;

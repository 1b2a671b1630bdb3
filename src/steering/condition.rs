//! When a vector steers: a condition looks at a prompt before anything is steered, and only a prompt whose score passes is steered
//! (conditional activation steering, CAST, arXiv 2409.05907). A condition is a direction c after one block, with a threshold; it is
//! stored as a vector file whose metadata have it. How one is found is `train::condition`'s business.

use candle_core::DType;
use serde::Serialize;

use super::vector::SteeringVector;
pub use super::vector::{Condition, FiringSide, PromptReading};
use crate::model::Model;
use crate::model::layout::Layout;
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

    /// Checks that it was made for a model of this size.
    ///
    /// # Errors
    /// It was not; the message names both sizes.
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
        let score = score(&residuals[0], &self.vector.layers[&self.layer]);
        Ok(Verdict { score, fired: self.condition.passes(score) })
    }
}

/// The untouched residual of a prompt after each of `layers`, which ascend: the mean over its tokens, or the last token's. Runs no
/// block above the last of them. → `(H)` for each layer
///
/// # Errors
/// The prompt is empty, a residual is not finite, or a tensor operation fails.
pub fn prompt_residuals(model: &Model, prompt: &[u32], layers: &[usize], reading: PromptReading) -> Result<Vec<Vec<f64>>> {
    if prompt.is_empty() {
        return Err(Error::Argument("the prompt is empty".into()));
    }
    let mut layout = Layout::default();
    layout.push_sequence(prompt.len());
    let plan = model.plan(&layout)?;
    let (mut x, mut next) = (model.embed(prompt)?, 0); // (T, H)
    let mut found = Vec::with_capacity(layers.len());
    for layer in layers {
        x = model.run(next..layer + 1, &x, &plan)?;
        next = layer + 1;
        let read = match reading {
            PromptReading::Mean => x.clone(),
            PromptReading::Last => x.narrow(0, prompt.len() - 1, 1)?,
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
        found.push(mean);
    }
    Ok(found)
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

//! A text token by token under a vector: how far its residual points along the vector, and how probable each token is with and
//! without it.

use candle_core::{DType, Tensor};
use serde::Serialize;

use crate::Result;
use crate::model::Model;
use crate::model::layout::Layout;
use crate::ops::head::{Gradient, Prediction, Predictions};
use crate::steering::Steering;

/// What a vector has to do with a token.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct TokenScore {
    /// The token.
    pub id: u32,
    /// Cosine of the residual at this token, where the vector of the lowest layer enters, with that vector; 0 without a vector.
    pub projection: f32,
    /// log p of the token behind those before it, in nats; none of the first token.
    pub logprob: Option<f32>,
    /// The same where the vectors, times the magnitude, are added at every token before it.
    pub steered_logprob: Option<f32>,
}

/// Scores each token of a text of at least one token.
///
/// # Errors
/// A token is not the model's, or a tensor operation fails.
pub fn score_tokens(model: &Model, ids: &[u32], steering: &Steering, magnitude: f32) -> Result<Vec<TokenScore>> {
    let mut layout = Layout::default();
    layout.push_sequence(ids.len());
    let plan = model.plan(&layout)?;
    let blocks = model.num_blocks();
    let split = steering.lowest().map_or(blocks, |layer| layer + 1);
    let x = model.run(0..split, &model.embed(ids)?, &plan)?; // (T, H)
    let projections = match steering.vectors().next() {
        Some((_, v)) => cosines(&x, v)?,
        None => vec![0.0; ids.len()],
    };
    let plain = model.run(split..blocks, &x, &plan)?;
    let factors = Tensor::full(magnitude, (ids.len(), 1), model.device())?;
    let (mut steered, mut at) = (x, split);
    for (layer, v) in steering.vectors() {
        steered = model.run(at..layer + 1, &steered, &plan)?;
        at = layer + 1;
        steered = steering.apply(&steered, v, &steering.factors(&factors)?)?;
    }
    let steered = model.run(at..blocks, &steered, &plan)?;
    let (plain, steered) = (log_probs(model, &plain, ids)?, log_probs(model, &steered, ids)?);
    let score = |(at, id): (usize, &u32)| {
        let of = |log_probs: &[f32]| at.checked_sub(1).and_then(|before| log_probs.get(before).copied());
        TokenScore { id: *id, projection: projections[at], logprob: of(&plain), steered_logprob: of(&steered) }
    };
    Ok(ids.iter().enumerate().map(score).collect())
}

/// The log-probability of each token but the first. `x (T, H)` after the last block
fn log_probs(model: &Model, x: &Tensor, ids: &[u32]) -> Result<Vec<f32>> {
    if ids.len() < 2 {
        return Ok(Vec::new());
    }
    let targets = ids[1..].iter().enumerate().map(|(row, target)| Prediction { row, target: *target });
    let predictions = Predictions::new(targets.collect(), ids.len(), model.device())?;
    Ok(model.log_probs(x, &predictions, Gradient::NotWanted)?.log_probs.to_vec1()?)
}

/// Cosine of each row with v. `x (T, H)`, `v (1, H)` → `(T,)`
fn cosines(x: &Tensor, v: &Tensor) -> Result<Vec<f32>> {
    let x = x.to_dtype(DType::F32)?;
    let products = x.broadcast_mul(v)?.sum(1)?;
    let lengths = (x.sqr()?.sum(1)?.sqrt()? * f64::from(v.sqr()?.sum_all()?.to_scalar::<f32>()?.sqrt()))?;
    Ok((products / lengths)?.to_vec1()?)
}

#[cfg(test)]
#[path = "tokens_tests.rs"]
mod tests;

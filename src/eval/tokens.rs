//! A text token by token under a vector: how far its residual points along the vector, and how probable each token is with and
//! without it.

use candle_core::{DType, Tensor};
use serde::Serialize;

use super::damage::{TextIds, Window};
use crate::Result;
use crate::model::Model;
use crate::ops::head::{Gradient, Prediction, Predictions};
use crate::steering::Steering;
use crate::steering::dose::row_norms;

/// What a vector has to do with a token.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct ScoredToken {
    /// Id of the token.
    pub id: u32,
    /// Cosine of the residual at this token, where the vector of the lowest layer enters, with that vector; 0 without a vector.
    pub projection: f32,
    /// log p of the token behind those before it, in nats; none of the first token.
    pub logprob: Option<f32>,
    /// log p of the token where the text is steered at every token before it, in nats.
    pub steered_logprob: Option<f32>,
}

/// Scores each token of a text of at least one token. `steered_logprob` is that of `steering` with its factor.
///
/// # Errors
/// A token is not the model's, or a tensor operation fails.
pub fn score_tokens(model: &Model, ids: &[u32], steering: &Steering) -> Result<Vec<ScoredToken>> {
    let split = steering.lowest().map_or(model.num_blocks(), |layer| layer + 1);
    let window = Window::new(model, TextIds { ids, bos: None }, &[], split)?;
    let projections = match steering.vectors().next() {
        Some((_, v)) => cosines(&window.residual, v)?,
        None => vec![0.0; ids.len()],
    };
    let targets = ids.get(1..).unwrap_or_default();
    let log_probs = |steering: Option<&Steering>| -> Result<Vec<f32>> {
        let rows = targets.iter().enumerate().map(|(row, target)| Prediction { row, target: *target });
        let predictions = Predictions::new(rows.collect(), targets.len(), model.device())?;
        let x = window.last_rows(steering, targets.len())?;
        Ok(model.log_probs(&x, &predictions, Gradient::NotWanted)?.log_probs.to_vec1()?)
    };
    let (plain, steered) = if targets.is_empty() { Default::default() } else { (log_probs(None)?, log_probs(Some(steering))?) };
    let score = |(at, id): (usize, &u32)| {
        let of = |log_probs: &[f32]| at.checked_sub(1).and_then(|before| log_probs.get(before).copied());
        ScoredToken { id: *id, projection: projections[at], logprob: of(&plain), steered_logprob: of(&steered) }
    };
    Ok(ids.iter().enumerate().map(score).collect())
}

/// Cosine of each row with v; 0 where either has no length. `x (T, H)`, `v (1, H)` → `(T,)`
fn cosines(x: &Tensor, v: &Tensor) -> Result<Vec<f32>> {
    let products: Vec<f32> = x.to_dtype(DType::F32)?.broadcast_mul(&v.to_device(x.device())?)?.sum(1)?.to_vec1()?;
    let length = row_norms(v)?.into_iter().sum::<f32>();
    let cosine = |(product, norm): (f32, f32)| if norm * length > 0.0 { product / (norm * length) } else { 0.0 };
    Ok(products.into_iter().zip(row_norms(x)?).map(cosine).collect())
}

#[cfg(test)]
#[path = "tokens_tests.rs"]
mod tests;

//! A text token by token under a vector: how far its residual points along the vector, and how probable each token is with and
//! without it.

use candle_core::{DType, Tensor};
use serde::Serialize;

use crate::Result;
use crate::model::Model;
use crate::model::layout::Layout;
use crate::model::plan::PassPlan;
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
    let mut scoring = Scoring::new(model, ids.to_vec(), steering.clone())?;
    loop {
        if let Some(scores) = scoring.advance(ids.len())? {
            return Ok(scores);
        }
    }
}

/// A text whose tokens are being scored, some blocks at a time, so that other work can come between.
pub(crate) struct Scoring<'m> {
    model: &'m Model,
    ids: Vec<u32>,
    steering: Steering,
    plan: PassPlan,
    /// First block that the vectors can change.
    split: usize,
    /// The blocks below it, which both passes share.
    below: Pass,
    projections: Vec<f32>,
    /// The passes behind them: without the vectors, and with them.
    above: Option<[Pass; 2]>,
}

/// A pass through the blocks, and then through the head.
#[derive(Clone)]
struct Pass {
    /// What enters block `next`. `(T, H)`
    x: Tensor,
    next: usize,
    is_steered: bool,
    /// Log-probabilities of the tokens behind the first, as far as they are known.
    log_probs: Vec<f32>,
}

impl<'m> Scoring<'m> {
    /// Begins with a text of at least one token.
    ///
    /// # Errors
    /// A token is not the model's.
    pub fn new(model: &'m Model, ids: Vec<u32>, steering: Steering) -> Result<Self> {
        let mut layout = Layout::default();
        layout.push_sequence(ids.len());
        let plan = model.plan(&layout)?;
        let below = Pass { x: model.embed(&ids)?, next: 0, is_steered: false, log_probs: Vec::new() };
        let split = steering.lowest().map_or(model.num_blocks(), |layer| layer + 1);
        Ok(Self { model, ids, steering, plan, split, below, projections: Vec::new(), above: None })
    }

    /// Goes on with about as much work as `rows` tokens are in all blocks, and at least one block. → the scores, at the end
    ///
    /// # Errors
    /// A tensor operation fails.
    pub fn advance(&mut self, rows: usize) -> Result<Option<Vec<ScoredToken>>> {
        let (model, tokens) = (self.model, self.ids.len());
        let blocks = model.blocks_of_rows(rows, tokens);
        let Some(above) = &mut self.above else {
            let end = (self.below.next + blocks).min(self.split);
            self.below.x = model.run(self.below.next..end, &self.below.x, &self.plan)?;
            self.below.next = end;
            if end == self.split {
                self.projections = match self.steering.vectors().next() {
                    Some((_, v)) => cosines(&self.below.x, v)?,
                    None => vec![0.0; tokens],
                };
                let x = with_vector(&self.below.x, &self.steering, self.split)?;
                let steered = Pass { x, is_steered: true, ..self.below.clone() };
                self.above = Some([self.below.clone(), steered]);
            }
            return Ok(None);
        };
        let targets = self.ids.get(1..).unwrap_or_default();
        let Some(pass) = above.iter_mut().find(|pass| pass.log_probs.len() < targets.len()) else {
            return Ok(Some(scores(&self.ids, &self.projections, above)));
        };
        if pass.next < model.num_blocks() {
            for _ in 0..blocks.min(model.num_blocks() - pass.next) {
                pass.x = model.run(pass.next..pass.next + 1, &pass.x, &self.plan)?;
                pass.next += 1;
                if pass.is_steered {
                    pass.x = with_vector(&pass.x, &self.steering, pass.next)?;
                }
            }
            return Ok(None);
        }
        let start = pass.log_probs.len();
        let count = rows.clamp(1, targets.len() - start);
        let predictions = (0..count).map(|row| Prediction { row, target: targets[start + row] });
        let predictions = Predictions::new(predictions.collect(), count, model.device())?;
        let x = pass.x.narrow(0, start, count)?.contiguous()?;
        let found = model.log_probs(&x, &predictions, Gradient::NotWanted)?.log_probs.to_vec1::<f32>()?;
        pass.log_probs.extend(found);
        Ok(None)
    }
}

fn scores(ids: &[u32], projections: &[f32], passes: &[Pass; 2]) -> Vec<ScoredToken> {
    let score = |(at, id): (usize, &u32)| {
        let of = |pass: &Pass| at.checked_sub(1).and_then(|before| pass.log_probs.get(before).copied());
        let [logprob, steered_logprob] = passes.each_ref().map(of);
        ScoredToken { id: *id, projection: projections[at], logprob, steered_logprob }
    };
    ids.iter().enumerate().map(score).collect()
}

/// What enters block `next` where every token is steered by the vector of the layer before it, if there is one. `x (T, H)`
fn with_vector(x: &Tensor, steering: &Steering, next: usize) -> Result<Tensor> {
    let Some((_, v)) = steering.vectors().find(|(layer, _)| layer + 1 == next) else { return Ok(x.clone()) };
    let every = Tensor::ones((x.dim(0)?, 1), DType::F32, x.device())?;
    steering.apply(x, v, &steering.factors(&every)?)
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

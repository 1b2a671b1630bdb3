//! What a vector means to its model: how long it is beside the residual that it is added to, and which tokens it promotes and
//! suppresses through the model's own last norm and unembedding (the logit lens). Measures no behaviour: nothing is generated.

use candle_core::Tensor;

use crate::Result;
use crate::model::Model;
use crate::model::layout::Layout;
use crate::ops::linear::Products;
use crate::steering::dose::{l2_norm, median, row_norms};

/// Questions without a leaning, on which residuals are measured: facts, numbers, cooking, travel, code, language.
pub const NEUTRAL_PROMPTS: [&str; 8] = [
    "What is the capital of France, and which river runs through it?",
    "How many minutes are there in three and a half hours?",
    "Describe how to boil an egg.",
    "Which train should I take to get from the airport to the city centre?",
    "Write a function that returns the larger of two numbers.",
    "Explain the difference between weather and climate in two sentences.",
    "Translate \"good morning\" into Spanish and Italian.",
    "List four things that people usually keep in a kitchen drawer.",
];

/// Length ‖h‖ of the residual after one block.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ResidualNorm {
    /// Mean over all tokens. The first token's residual is often hundreds of times longer than the others' and rules it.
    pub mean: f64,
    /// Median over all tokens.
    pub median: f64,
}

/// Length of the residual after each of the first `blocks` blocks, over all tokens of `sequences` (each at least one id).
/// `on_block` is called after each block.
///
/// # Errors
/// An id is none of the model's, a tensor operation or `on_block` fails.
pub fn residual_norms(
    model: &Model,
    sequences: &[Vec<u32>],
    blocks: usize,
    on_block: &mut dyn FnMut() -> Result<()>,
) -> Result<Vec<ResidualNorm>> {
    let mut layout = Layout::default();
    sequences.iter().for_each(|ids| layout.push_sequence(ids.len()));
    let plan = model.plan(&layout)?;
    let mut x = model.embed(&sequences.concat())?; // (T, H)
    let mut norms = Vec::with_capacity(blocks);
    for block in 0..blocks.min(model.num_blocks()) {
        x = model.run(block..block + 1, &x, &plan)?;
        norms.push(summary(row_norms(&x)?));
        on_block()?;
    }
    Ok(norms)
}

fn summary(mut lengths: Vec<f32>) -> ResidualNorm {
    // The mean is a sum from the shortest to the longest.
    lengths.sort_unstable_by(f32::total_cmp);
    let sum: f64 = lengths.iter().map(|length| f64::from(*length)).sum();
    ResidualNorm { mean: sum / lengths.len() as f64, median: median(lengths).unwrap_or(f64::NAN) }
}

/// A token and its score.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct TokenScore {
    /// Id of the token.
    pub id: u32,
    /// Score of the token, as [`logit_lens`] computes it.
    pub score: f32,
}

/// The ends of a vector's ranking of the vocabulary.
#[derive(Debug, Clone, PartialEq)]
pub struct LogitLens {
    /// Highest scores, descending.
    pub promoted: Vec<TokenScore>,
    /// Lowest scores, ascending.
    pub suppressed: Vec<TokenScore>,
}

/// The `top` tokens that `v (H)` promotes and suppresses most, among the ids that `is_token` knows. The score of token t is
///
/// `s_t = u_t − mean(u)`, `u = W_U · (γ ⊙ v / rms(v))`,
///
/// with the weight γ of the model's last norm and its unembedding W_U: the logit that t gets where the residual is v alone,
/// less the mean over the tokens (a constant on all logits changes no probability). Length and blocks above do not
/// enter: it is the vector's direct path to the output. `None` where `v` is zero or not finite.
///
/// # Errors
/// `v` has another length than the model's hidden size, or a tensor operation fails.
pub fn logit_lens(model: &Model, v: &[f32], top: usize, is_token: impl Fn(u32) -> bool) -> Result<Option<LogitLens>> {
    let rms = l2_norm(v) / (v.len() as f64).sqrt();
    if rms == 0.0 || !rms.is_finite() {
        return Ok(None);
    }
    // At rms 1 the eps of the norm does not show, however short v is.
    let unit = Tensor::from_iter(v.iter().map(|x| (f64::from(*x) / rms) as f32), model.device())?;
    let logits = model.logits(&unit.to_dtype(model.dtype())?.unsqueeze(0)?, Products::Fastest)?; // (1, V)
    let logits: Vec<f32> = logits.squeeze(0)?.to_vec1()?;
    let mut scores: Vec<TokenScore> =
        (0..).zip(logits).filter(|(id, _)| is_token(*id)).map(|(id, score)| TokenScore { id, score }).collect();
    let mean = scores.iter().map(|token| f64::from(token.score)).sum::<f64>() / scores.len() as f64;
    scores.iter_mut().for_each(|token| token.score -= mean as f32);
    scores.sort_by(|a, b| b.score.total_cmp(&a.score));
    let promoted = scores.iter().take(top).copied().collect();
    let suppressed = scores.iter().rev().take(top).copied().collect();
    Ok(Some(LogitLens { promoted, suppressed }))
}

#[cfg(test)]
#[path = "lens_tests.rs"]
mod tests;

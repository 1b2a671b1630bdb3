//! How the next token is chosen from logits: the likeliest one, or a draw after temperature, top-k and top-p. One sampler serves one
//! text. Without top-k, the arithmetic and the random stream are those of candle-transformers' `LogitsProcessor`, which is not a
//! dependency because it takes minutes to compile. With top-k, a draw goes through the kept tokens in the order of their ids;
//! `LogitsProcessor` has them in the order in which a selection leaves them, which depends on the rounding of all logits.

use std::cmp::Ordering;
use std::collections::HashSet;

use candle_core::{D, Tensor};
use rand::SeedableRng;
use rand::distr::Distribution;
use rand::distr::weighted::WeightedIndex;
use rand_chacha::ChaCha12Rng;

use super::options::GenerateOptions;
use crate::Result;
use crate::ops::softmax::{log_softmax, softmax};

/// Log-probabilities beside a token, of the model's own distribution: no temperature, penalty or bias is in them.
#[derive(Debug, Clone, PartialEq)]
pub struct TokenLogProbs {
    /// Log-probability of the token that was chosen.
    pub chosen: f32,
    /// The likeliest tokens, in falling order.
    pub top: Vec<(u32, f32)>,
}

/// A token and what was asked about it.
pub(super) struct Sampled {
    pub token: u32,
    pub log_probs: Option<TokenLogProbs>,
}

/// Chooses the tokens of one text.
#[derive(Debug)]
pub(super) struct Sampler {
    rng: ChaCha12Rng,
    temperature: f64,
    top_k: Option<usize>,
    top_p: Option<f64>,
    repeat_penalty: f32,
    logit_bias: Vec<(u32, f32)>,
    top_log_probs: Option<usize>,
    seen: HashSet<u32>,
}

impl Sampler {
    /// A sampler for a text that begins with `prompt_ids`, whose tokens count as seen.
    pub fn new(prompt_ids: &[u32], options: &GenerateOptions) -> Self {
        let GenerateOptions { temperature, top_k, top_p, repeat_penalty, seed, top_log_probs, .. } = *options;
        let rng = ChaCha12Rng::seed_from_u64(seed);
        let (logit_bias, seen) = (options.logit_bias.clone(), prompt_ids.iter().copied().collect());
        Self { rng, temperature, top_k, top_p, repeat_penalty, logit_bias, top_log_probs, seen }
    }

    /// The next token, given its logits `(V,)` f32 on the CPU; `None` if they are not all finite, or leave nothing to draw from
    /// once they are divided by the temperature.
    pub fn sample(&mut self, logits: &Tensor) -> Result<Option<Sampled>> {
        let lowest = logits.min(0)?.to_scalar::<f32>()?;
        let sum = logits.sum(0)?.to_scalar::<f32>()?;
        if !lowest.is_finite() || !sum.is_finite() {
            return Ok(None);
        }
        let plain = logits;
        let logits = self.adjusted(plain)?;
        let token = match self.temperature > 0.0 {
            false => logits.argmax(D::Minus1)?.to_scalar::<u32>()?,
            true => {
                let probabilities = softmax(&(logits / self.temperature)?)?.to_vec1()?;
                match self.draw_filtered(probabilities) {
                    Some(drawn) => drawn as u32,
                    None => return Ok(None),
                }
            }
        };
        self.seen.insert(token);
        let log_probs = self.top_log_probs.map(|count| log_probs(plain, token, count)).transpose()?;
        Ok(Some(Sampled { token, log_probs }))
    }

    /// Divides the positive logits of seen tokens by the penalty, and multiplies the negative ones (arXiv 1909.05858, section 4.1);
    /// then adds the biases.
    fn adjusted(&self, logits: &Tensor) -> Result<Tensor> {
        if self.repeat_penalty == 1.0 && self.logit_bias.is_empty() {
            return Ok(logits.clone());
        }
        let mut values = logits.to_vec1::<f32>()?;
        for token in self.seen.iter().filter(|_| self.repeat_penalty != 1.0) {
            if let Some(logit) = values.get_mut(*token as usize) {
                *logit = if *logit >= 0.0 { *logit / self.repeat_penalty } else { *logit * self.repeat_penalty };
            }
        }
        for (token, bias) in &self.logit_bias {
            if let Some(logit) = values.get_mut(*token as usize) {
                *logit += bias;
            }
        }
        Ok(Tensor::from_vec(values, logits.shape(), logits.device())?)
    }

    /// Keeps the `top_k` likeliest tokens, of these the likeliest whose probabilities reach `top_p`, and draws one. → its index;
    /// none where a probability is not a number
    fn draw_filtered(&mut self, mut probabilities: Vec<f32>) -> Option<usize> {
        let kept = self.top_k.filter(|k| *k < probabilities.len()).map(|k| {
            let mut indices = likeliest(&probabilities, k);
            // The draw goes through them in this order, which must not depend on the rounding of tokens that are not among them.
            indices.sort_unstable();
            indices
        });
        let whole = match &kept {
            Some(indices) => {
                probabilities = indices.iter().map(|index| probabilities[*index]).collect();
                probabilities.iter().sum::<f32>()
            }
            None => 1.0,
        };
        if let Some(top_p) = self.top_p.map(|p| p as f32).filter(|p| *p > 0.0 && *p < whole) {
            clear_unlikely(&mut probabilities, top_p);
        }
        let drawn = WeightedIndex::new(&probabilities).ok()?.sample(&mut self.rng);
        Some(kept.map_or(drawn, |indices| indices[drawn]))
    }
}

/// Log-probabilities of a token and of the `count` likeliest, from logits `(V,)`.
fn log_probs(logits: &Tensor, token: u32, count: usize) -> Result<TokenLogProbs> {
    let values = log_softmax(logits)?.to_vec1::<f32>()?;
    let mut order = likeliest(&values, count);
    order.sort_unstable_by(likelier(&values));
    let top = order.into_iter().map(|token| (token as u32, values[token])).collect();
    Ok(TokenLogProbs { chosen: values[token as usize], top })
}

/// Which of two tokens is likelier, by `values`: of two that are equally likely, the first.
fn likelier(values: &[f32]) -> impl Fn(&usize, &usize) -> Ordering {
    |a, b| values[*b].total_cmp(&values[*a]).then(a.cmp(b))
}

/// The indices of the `count` greatest values, in no order; of all where there are no more.
fn likeliest(values: &[f32], count: usize) -> Vec<usize> {
    let mut indices: Vec<usize> = (0..values.len()).collect();
    if count < indices.len() {
        indices.select_nth_unstable_by(count, likelier(values));
        indices.truncate(count);
    }
    indices
}

/// Sets to zero the probabilities behind the likeliest ones that together reach `top_p`.
fn clear_unlikely(probabilities: &mut [f32], top_p: f32) {
    let mut order: Vec<usize> = (0..probabilities.len()).collect();
    order.sort_unstable_by(likelier(probabilities));
    let mut sum = 0.0;
    for index in order {
        if sum >= top_p {
            probabilities[index] = 0.0;
        } else {
            sum += probabilities[index];
        }
    }
}

#[cfg(test)]
#[path = "sampler_tests.rs"]
mod tests;

//! One prompt at a sweep of magnitudes: prefill the lower blocks once, branch, then decode all branches as one batch with a
//! key-value cache.

use std::collections::BTreeMap;

use candle_core::{Device, Tensor};

use super::options::{FinishReason, GenerateOptions, Generation};
use super::prompt::Prompt;
use super::sampler::Sampler;
use crate::model::Model;
use crate::model::cache::KvCache;
use crate::model::layout::Layout;
use crate::steering::dose::{dose, l2_norm, median, row_norms, steered_norm, steered_share};
use crate::steering::{Operation, Steering};
use crate::{Error, Result};

/// Generates one text a magnitude. `vectors` maps a layer to what is added, times the magnitude, to its output, `(H)`.
/// `on_token` gets the branch and each token as it comes.
///
/// # Errors
/// The prompt is empty or fills the context, a vector does not fit the model, `on_token` fails, or no branch gets a token because
/// its logits are not finite. Otherwise such logits are no error but the end of their branch, [`FinishReason::NotFinite`].
pub fn generate<'a>(
    model: &Model,
    prompt: impl Into<Prompt<'a>>,
    vectors: &BTreeMap<usize, Vec<f32>>,
    magnitudes: &[f32],
    options: &GenerateOptions,
    on_token: &mut dyn FnMut(usize, u32) -> Result<()>,
) -> Result<Vec<Generation>> {
    let prompt = prompt.into();
    let prompt_ids = prompt.ids;
    let mut branched = BranchedPrompt::start(model, prompt, vectors, magnitudes, options)?;
    let mut samplers: Vec<Sampler> = magnitudes.iter().map(|_| Sampler::new(prompt_ids, options)).collect();
    let mut results = branched.unstarted()?;
    let mut alive: Vec<usize> = (0..magnitudes.len()).collect();
    let limit = options.max_new_tokens.min(model.config.max_position_embeddings - prompt_ids.len());
    // One transfer a token: samplers look at a row several times.
    let mut logits = branched.prompt_logits()?.to_device(&Device::Cpu)?; // (M, V)
    for step in 0..limit {
        let (mut still_alive, mut tokens) = (Vec::with_capacity(alive.len()), Vec::with_capacity(alive.len()));
        for (row, branch) in alive.into_iter().enumerate() {
            let Some(token) = samplers[branch].sample(&logits.get(row)?)? else {
                results[branch].finish_reason = FinishReason::NotFinite;
                continue;
            };
            results[branch].token_ids.push(token);
            on_token(branch, token)?;
            if options.eos.contains(&token) {
                results[branch].finish_reason = FinishReason::Stop;
                continue;
            }
            still_alive.push(branch);
            tokens.push(token);
        }
        alive = still_alive;
        if step == 0 && results.iter().all(|result| result.finish_reason == FinishReason::NotFinite) {
            return Err(Error::NotFinite("the logits behind the prompt are not finite at any magnitude".into()));
        }
        if alive.is_empty() || step + 1 == limit {
            break;
        }
        logits = branched.decode(&alive, &tokens)?.to_device(&Device::Cpu)?; // (alive, V)
    }
    Ok(results)
}

/// The logits that follow the prompt at each magnitude, f32. → `(M, V)`
///
/// # Errors
/// As [`generate`].
pub fn next_token_logits<'a>(
    model: &Model,
    prompt: impl Into<Prompt<'a>>,
    vectors: &BTreeMap<usize, Vec<f32>>,
    magnitudes: &[f32],
    options: &GenerateOptions,
) -> Result<Tensor> {
    BranchedPrompt::start(model, prompt.into(), vectors, magnitudes, options)?.prompt_logits()
}

/// Branches of one prompt with their cache.
struct BranchedPrompt<'a> {
    model: &'a Model,
    steering: Steering,
    magnitudes: &'a [f32],
    /// Whether the vectors are added at each token of the prompt, and at those generated.
    steered_prompt: Vec<bool>,
    steers_generated: bool,
    /// First block that the vectors can change.
    split: usize,
    cache: KvCache,
    prompt_residual: Tensor, // (T, H) after block split − 1
    tokens: usize,
    /// The lowest layer's. `(H)`
    vector: Vec<f32>,
}

impl<'a> BranchedPrompt<'a> {
    fn start(
        model: &'a Model,
        prompt: Prompt,
        vectors: &BTreeMap<usize, Vec<f32>>,
        magnitudes: &'a [f32],
        options: &GenerateOptions,
    ) -> Result<Self> {
        let prompt_ids = prompt.ids;
        check(model, prompt_ids, vectors)?;
        let split = vectors.keys().next().map_or(model.num_blocks(), |layer| layer + 1);
        let limit = options.max_new_tokens.min(model.config.max_position_embeddings - prompt_ids.len());
        let capacity = prompt_ids.len() + limit;
        if let Some(trained) = model.keys_change_past().filter(|trained| (prompt_ids.len()..capacity).contains(trained)) {
            return Err(Error::Argument(format!(
                "a prompt of {} tokens and {limit} new ones cross the {trained} tokens past which LongRoPE rotates all keys \
                 otherwise: generate at most {} tokens, or give a longer prompt",
                prompt_ids.len(),
                trained - prompt_ids.len()
            )));
        }
        let mut cache = KvCache::new(&model.config, magnitudes.len(), capacity, model.dtype(), model.device())?;
        let plan = model.plan(&Layout::continuing(&[0], 0, prompt_ids.len()))?;
        let prompt_residual = model.run_cached(0..split, &model.embed(prompt_ids)?, &plan, &mut cache)?;
        cache.replicate(0..split, prompt_ids.len())?;
        Ok(Self {
            model,
            steering: Steering::by(options.operation, vectors, model.device())?,
            magnitudes,
            steered_prompt: prompt.steered(options.positions),
            steers_generated: prompt.steers_generated(options.positions),
            split,
            cache,
            prompt_residual,
            tokens: prompt_ids.len(),
            vector: vectors.values().next().cloned().unwrap_or_default(),
        })
    }

    /// One empty result a branch, its dose measured on the prompt's residual.
    fn unstarted(&self) -> Result<Vec<Generation>> {
        let (length, residual_norm) = match self.steering.operation() {
            Operation::Ablate | Operation::Null if !self.vector.is_empty() => (self.median_share()?, 1.0),
            _ => (l2_norm(&self.vector), self.median_residual_norm()?),
        };
        let empty = |magnitude: &f32| Generation {
            magnitude: *magnitude,
            token_ids: Vec::new(),
            finish_reason: FinishReason::Length,
            dose: dose(*magnitude, length, residual_norm),
        };
        Ok(self.magnitudes.iter().map(empty).collect())
    }

    /// Over the prompt's steered tokens, over all where none is.
    fn median_residual_norm(&self) -> Result<f64> {
        let steered = steered_norm(&self.prompt_residual, self.steered_prompt.iter().copied())?;
        let all = || -> Result<f64> { Ok(median(row_norms(&self.prompt_residual)?).unwrap_or(f64::NAN)) };
        steered.map_or_else(all, Ok)
    }

    /// Of what an ablation can take out, over the same tokens.
    fn median_share(&self) -> Result<f64> {
        let share = |steered: &mut dyn Iterator<Item = bool>| steered_share(&self.prompt_residual, &self.vector, steered);
        let steered = share(&mut self.steered_prompt.iter().copied())?;
        let all = || -> Result<f64> { Ok(share(&mut std::iter::repeat(true))?.unwrap_or(f64::NAN)) };
        steered.map_or_else(all, Ok)
    }

    /// Logits after the prompt, a branch at a time, so that each is computed as if it were alone. → `(M, V)`
    fn prompt_logits(&mut self) -> Result<Tensor> {
        let mut last = Vec::with_capacity(self.magnitudes.len());
        for branch in 0..self.magnitudes.len() {
            let layout = Layout::continuing(&[self.cache.start(branch)], 0, self.tokens);
            let factor = |steered: &bool| if *steered { self.magnitudes[branch] } else { 0.0 };
            let factors: Vec<f32> = self.steered_prompt.iter().map(factor).collect();
            let x = self.upper(self.prompt_residual.clone(), &layout, &factors)?;
            last.push(x.narrow(0, self.tokens - 1, 1)?);
        }
        self.model.logits(&Tensor::cat(&last, 0)?)
    }

    /// Logits after one more token of each of `branches`. → `(branches, V)`
    fn decode(&mut self, branches: &[usize], ids: &[u32]) -> Result<Tensor> {
        let starts: Vec<usize> = branches.iter().map(|branch| self.cache.start(*branch)).collect();
        let layout = Layout::continuing(&starts, self.tokens, 1);
        let x = self.model.embed(ids)?;
        let x = self.model.run_cached(0..self.split, &x, &self.model.plan(&layout)?, &mut self.cache)?;
        let factor = |branch: &usize| if self.steers_generated { self.magnitudes[*branch] } else { 0.0 };
        let factors: Vec<f32> = branches.iter().map(factor).collect();
        let x = self.upper(x, &layout, &factors)?;
        self.tokens += 1;
        self.model.logits(&x)
    }

    /// Adds the vectors, each times its row's factor, and runs the blocks above. `x (T, H)` after block split − 1.
    fn upper(&mut self, mut x: Tensor, layout: &Layout, factors: &[f32]) -> Result<Tensor> {
        let plan = self.model.plan(layout)?;
        let rows = Tensor::from_slice(factors, (factors.len(), 1), self.model.device())?;
        let factors = self.steering.factors(&rows)?;
        let mut at = self.split;
        for (layer, v) in self.steering.vectors() {
            x = self.model.run_cached(at..layer + 1, &x, &plan, &mut self.cache)?;
            at = layer + 1;
            x = self.steering.apply(&x, v, &factors)?;
        }
        self.model.run_cached(at..self.model.num_blocks(), &x, &plan, &mut self.cache)
    }
}

fn check(model: &Model, prompt_ids: &[u32], vectors: &BTreeMap<usize, Vec<f32>>) -> Result<()> {
    let context = model.config.max_position_embeddings;
    if prompt_ids.is_empty() {
        return Err(Error::Argument("the prompt is empty".into()));
    }
    if prompt_ids.len() >= context {
        let tokens = prompt_ids.len();
        return Err(Error::Argument(format!(
            "the prompt has {tokens} tokens, but the model's context is {context}: shorten it"
        )));
    }
    let (layers, hidden) = (model.num_blocks(), model.config.hidden_size);
    for (layer, v) in vectors {
        if *layer >= layers {
            return Err(Error::Argument(format!("layer {layer} out of range: model has {layers} layers")));
        }
        if v.len() != hidden {
            let len = v.len();
            return Err(Error::Argument(format!("the vector has hidden size {len}, but the model has {hidden}")));
        }
    }
    Ok(())
}

#[cfg(test)]
#[path = "sweep_tests.rs"]
mod tests;

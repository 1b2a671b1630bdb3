//! Text at a sweep of magnitudes: prefill the lower blocks once, branch, then decode all branches as one batch with a
//! key-value cache. Knows token ids, not text.

use std::collections::BTreeMap;

use candle_core::{Device, Tensor};
use candle_transformers::generation::{LogitsProcessor, Sampling};
use candle_transformers::utils::apply_repeat_penalty;
use serde::Serialize;

use crate::model::Model;
use crate::model::cache::KvCache;
use crate::model::layout::Layout;
use crate::steering::Steering;
use crate::steering::dose::{dose, l2_norm, median, row_norms, steered_norm};
use crate::steering::positions::{Positions, TokenPosition};
use crate::text::tokens::{EncodedPrompt, PromptSpans};
use crate::{Error, Result};

/// How tokens are chosen and when to stop.
#[derive(Debug, Clone)]
pub struct GenerateOptions {
    /// Tokens to generate at most.
    pub max_new_tokens: usize,
    /// 0 is greedy.
    pub temperature: f64,
    /// Keep the likeliest tokens up to this probability.
    pub top_p: Option<f64>,
    /// Keep this many of the likeliest tokens.
    pub top_k: Option<usize>,
    /// Divisor of the logits of tokens seen before; 1 is none.
    pub repeat_penalty: f32,
    /// Seed of the sampler, the same for every branch.
    pub seed: u64,
    /// Tokens that end a text.
    pub eos: Vec<u32>,
    /// Where the vectors are added.
    pub positions: Positions,
}

impl GenerateOptions {
    /// The likeliest token each time, after every prompt, until there are so many.
    pub fn greedy(max_new_tokens: usize) -> Self {
        Self {
            max_new_tokens,
            temperature: 0.0,
            top_p: None,
            top_k: None,
            repeat_penalty: 1.0,
            seed: 0,
            eos: Vec::new(),
            positions: Positions::All,
        }
    }
}

/// Why a text ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum FinishReason {
    /// An end-of-text token.
    Stop,
    /// The token limit or the end of the context.
    Length,
}

/// One branch's result.
#[derive(Debug, Clone)]
pub struct Generation {
    /// Factor on the vectors.
    pub magnitude: f32,
    /// What was generated, the end-of-text token included.
    pub token_ids: Vec<u32>,
    /// Why it ended.
    pub finish_reason: FinishReason,
    /// ‖m·v‖/‖h‖ at the lowest steered layer, the median over the prompt's steered tokens, or over all of them where only what
    /// is generated is steered; 0 without a vector.
    pub dose: f64,
}

/// What to continue: a prompt's tokens, and which of them, and of those generated, spans hold.
#[derive(Debug, Clone, Copy)]
pub struct Prompt<'a> {
    ids: &'a [u32],
    spans: Option<&'a PromptSpans>,
}

impl<'a> From<&'a [u32]> for Prompt<'a> {
    fn from(ids: &'a [u32]) -> Self {
        Self { ids, spans: None }
    }
}

impl<'a> From<&'a Vec<u32>> for Prompt<'a> {
    fn from(ids: &'a Vec<u32>) -> Self {
        ids.as_slice().into()
    }
}

impl<'a> From<&'a EncodedPrompt> for Prompt<'a> {
    fn from(prompt: &'a EncodedPrompt) -> Self {
        Self { ids: &prompt.ids, spans: prompt.spans.as_ref() }
    }
}

impl Prompt<'_> {
    /// Whether vectors are added at each of its tokens.
    fn steered(&self, positions: Positions) -> Vec<bool> {
        let in_spans = |token: usize| self.spans.is_none_or(|spans| spans.prompt[token]);
        let tokens = 0..self.ids.len();
        tokens.map(|token| in_spans(token) && positions.includes(TokenPosition::of(token, self.ids.len()))).collect()
    }

    /// Whether a vector at `positions` is added at any token, of the prompt or generated.
    pub fn is_steered(&self, positions: Positions) -> bool {
        self.steers_generated(positions) || self.steered(positions).contains(&true)
    }

    /// Whether they are added at generated tokens.
    fn steers_generated(&self, positions: Positions) -> bool {
        self.spans.is_none_or(|spans| spans.generated) && positions.includes(TokenPosition::Response)
    }
}

/// Generates one text a magnitude. `vectors` maps a layer to what is added, times the magnitude, to its output, `(H)`.
/// `on_token` gets the branch and each token as it comes.
///
/// # Errors
/// The prompt is empty or fills the context, a vector does not fit the model, logits are not finite, or `on_token` fails.
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
    let mut sweep = Sweep::start(model, prompt, vectors, magnitudes, options)?;
    let mut samplers: Vec<Sampler> = magnitudes.iter().map(|_| Sampler::new(prompt_ids, options)).collect();
    let mut results = sweep.unstarted()?;
    let mut alive: Vec<usize> = (0..magnitudes.len()).collect();
    let limit = options.max_new_tokens.min(model.config.max_position_embeddings - prompt_ids.len());
    // One transfer a token: samplers look at a row several times.
    let mut logits = sweep.prompt_logits()?.to_device(&Device::Cpu)?; // (M, V)
    for step in 0..limit {
        let mut next = Vec::with_capacity(alive.len());
        for (row, branch) in alive.iter().enumerate() {
            let token = samplers[*branch].sample(&logits.get(row)?, magnitudes[*branch])?;
            results[*branch].token_ids.push(token);
            on_token(*branch, token)?;
            if options.eos.contains(&token) {
                results[*branch].finish_reason = FinishReason::Stop;
            }
            next.push(token);
        }
        let going = |(branch, token): (usize, u32)| (!options.eos.contains(&token)).then_some((branch, token));
        let (still_alive, tokens): (Vec<usize>, Vec<u32>) = alive.into_iter().zip(next).filter_map(going).unzip();
        alive = still_alive;
        if alive.is_empty() || step + 1 == limit {
            break;
        }
        logits = sweep.decode(&alive, &tokens)?.to_device(&Device::Cpu)?; // (alive, V)
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
    Sweep::start(model, prompt.into(), vectors, magnitudes, options)?.prompt_logits()
}

/// Branches of one prompt with their cache.
struct Sweep<'a> {
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
    vector_norm: f64,
}

impl<'a> Sweep<'a> {
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
        let mut cache = KvCache::new(&model.config, magnitudes.len(), capacity, model.dtype(), model.device())?;
        let plan = model.plan(&Layout::continuing(&[0], 0, prompt_ids.len()))?;
        let prompt_residual = model.run_cached(0..split, &model.embed(prompt_ids)?, &plan, &mut cache)?;
        cache.replicate(0..split, prompt_ids.len())?;
        Ok(Self {
            model,
            steering: Steering::new(vectors, model.device())?,
            magnitudes,
            steered_prompt: prompt.steered(options.positions),
            steers_generated: prompt.steers_generated(options.positions),
            split,
            cache,
            prompt_residual,
            tokens: prompt_ids.len(),
            vector_norm: vectors.values().next().map_or(0.0, |v| l2_norm(v)),
        })
    }

    /// One empty result a branch, its dose measured on the prompt's residual.
    fn unstarted(&self) -> Result<Vec<Generation>> {
        let residual_norm = self.median_residual_norm()?;
        let empty = |magnitude: &f32| Generation {
            magnitude: *magnitude,
            token_ids: Vec::new(),
            finish_reason: FinishReason::Length,
            dose: dose(*magnitude, self.vector_norm, residual_norm),
        };
        Ok(self.magnitudes.iter().map(empty).collect())
    }

    /// Over the prompt's steered tokens, over all where none is.
    fn median_residual_norm(&self) -> Result<f64> {
        let steered = steered_norm(&self.prompt_residual, self.steered_prompt.iter().copied())?;
        let all = || -> Result<f64> { Ok(median(row_norms(&self.prompt_residual)?).unwrap_or(f64::NAN)) };
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

/// One branch's choice of tokens.
struct Sampler {
    processor: LogitsProcessor,
    repeat_penalty: f32,
    seen: Vec<u32>,
}

impl Sampler {
    fn new(prompt_ids: &[u32], options: &GenerateOptions) -> Self {
        let temperature = options.temperature;
        let sampling = match (options.top_k, options.top_p) {
            _ if temperature <= 0.0 => Sampling::ArgMax,
            (None, None) => Sampling::All { temperature },
            (Some(k), None) => Sampling::TopK { k, temperature },
            (None, Some(p)) => Sampling::TopP { p, temperature },
            (Some(k), Some(p)) => Sampling::TopKThenTopP { k, p, temperature },
        };
        Self {
            processor: LogitsProcessor::from_sampling(options.seed, sampling),
            repeat_penalty: options.repeat_penalty,
            seen: prompt_ids.to_vec(),
        }
    }

    fn sample(&mut self, logits: &Tensor, magnitude: f32) -> Result<u32> {
        let lowest = logits.min(0)?.to_scalar::<f32>()?;
        let sum = logits.sum(0)?.to_scalar::<f32>()?;
        if !lowest.is_finite() || !sum.is_finite() {
            return Err(Error::NotFinite(format!(
                "magnitude {magnitude}: logits are not finite; use a smaller one or --dtype f32"
            )));
        }
        let logits = match self.repeat_penalty {
            1.0 => logits.clone(),
            penalty => apply_repeat_penalty(logits, penalty, &self.seen)?,
        };
        let token = self.processor.sample(&logits)?;
        self.seen.push(token);
        Ok(token)
    }
}

#[cfg(test)]
mod tests;

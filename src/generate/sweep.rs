//! One prompt at a sweep of magnitudes: a call of the engine with one request a magnitude, which shares the prompt's work below
//! the vectors.

use std::collections::BTreeMap;
use std::sync::Arc;

use candle_core::Tensor;

use super::engine::{Engine, EngineLimits};
use super::options::{FinishReason, GenerateOptions};
use super::prompt::Prompt;
use super::request::{Event, EventKind, Request};
use crate::model::Model;
use crate::steering::Steering;
use crate::{Error, Result};

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
    /// is generated is steered; 0 without a vector. Of an ablation what [`crate::steering::dose`] says.
    pub dose: f64,
}

impl Generation {
    /// A text without a token yet.
    pub fn unstarted(magnitude: f32) -> Self {
        Self { magnitude, token_ids: Vec::new(), finish_reason: FinishReason::Length, dose: 0.0 }
    }

    /// Takes what an engine says of it.
    pub fn take(&mut self, event: EventKind) {
        match event {
            EventKind::Token { id, .. } => self.token_ids.push(id),
            EventKind::Finished { reason, dose } => (self.finish_reason, self.dose) = (reason, dose),
        }
    }
}

/// What [`generate_each`] tells as it happens.
#[derive(Debug)]
pub enum SweepEvent {
    /// A text got a token.
    Token {
        /// Index of the prompt.
        prompt: usize,
        /// Index of the magnitude.
        branch: usize,
        /// The token.
        id: u32,
    },
    /// All texts of a prompt are complete, and so are those of the prompts before it.
    Answer {
        /// Index of the prompt.
        prompt: usize,
        /// A text for each magnitude.
        texts: Vec<Generation>,
    },
}

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
    let mut found = Vec::new();
    generate_each(model, &[prompt.into()], vectors, magnitudes, options, magnitudes.len(), &mut |progress| {
        match progress {
            SweepEvent::Token { branch, id, .. } => on_token(branch, id)?,
            SweepEvent::Answer { texts, .. } => found = texts,
        }
        Ok(())
    })?;
    check_finite(&found)?;
    Ok(found)
}

/// Generates one text a magnitude for each of many prompts, at most `streams` of all these texts at once, and tells of tokens as
/// they come and of prompts in their order. What a text becomes does not depend on `streams` or on the other prompts.
///
/// # Errors
/// As [`generate`], for any of the prompts. Logits that are not finite are the end of their text alone, also where every text of a
/// prompt ends so: [`check_finite`] makes an error of that.
pub fn generate_each(
    model: &Model,
    prompts: &[Prompt],
    vectors: &BTreeMap<usize, Vec<f32>>,
    magnitudes: &[f32],
    options: &GenerateOptions,
    streams: usize,
    on_progress: &mut dyn FnMut(SweepEvent) -> Result<()>,
) -> Result<()> {
    let mut engine = sweep(model, prompts, vectors, magnitudes, options, streams)?;
    let unstarted = || magnitudes.iter().copied().map(Generation::unstarted).collect();
    let mut texts: Vec<Vec<Generation>> = prompts.iter().map(|_| unstarted()).collect();
    let mut missing = vec![magnitudes.len(); prompts.len()];
    let mut told = 0;
    while told < prompts.len() {
        for Event { stream, kind } in engine.step()? {
            // Requests were submitted prompt by prompt.
            let (prompt, branch) = (stream.index() / magnitudes.len(), stream.index() % magnitudes.len());
            match kind {
                EventKind::Token { id, .. } => on_progress(SweepEvent::Token { prompt, branch, id })?,
                EventKind::Finished { .. } => missing[prompt] -= 1,
            }
            texts[prompt][branch].take(kind);
        }
        while missing.get(told) == Some(&0) {
            let texts = std::mem::take(&mut texts[told]);
            on_progress(SweepEvent::Answer { prompt: told, texts })?;
            told += 1;
        }
    }
    Ok(())
}

/// Refuses the texts of a prompt of which none got a token.
///
/// # Errors
/// The logits behind the prompt are not finite at any magnitude.
pub fn check_finite(texts: &[Generation]) -> Result<()> {
    let is_lost = |text: &Generation| text.token_ids.is_empty() && text.finish_reason == FinishReason::NotFinite;
    match !texts.is_empty() && texts.iter().all(is_lost) {
        true => Err(Error::NotFinite("the logits behind the prompt are not finite at any magnitude".into())),
        false => Ok(()),
    }
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
    sweep(model, &[prompt.into()], vectors, magnitudes, options, magnitudes.len())?.prompt_logits()
}

/// An engine with a request for each prompt and magnitude, prompt by prompt.
fn sweep<'m>(
    model: &'m Model,
    prompts: &[Prompt],
    vectors: &BTreeMap<usize, Vec<f32>>,
    magnitudes: &[f32],
    options: &GenerateOptions,
    streams: usize,
) -> Result<Engine<'m>> {
    let steering = Arc::new(Steering::by(options.operation, vectors, model.device())?);
    let streams = streams.clamp(1, (prompts.len() * magnitudes.len()).max(1));
    let longest = prompts.iter().map(|prompt| prompt.ids.len()).max().unwrap_or(0);
    let tokens = (longest + options.max_new_tokens).min(model.config.max_position_embeddings.max(longest));
    let mut engine = Engine::new(model, EngineLimits { tokens: tokens * streams, streams })?;
    for prompt in prompts {
        for magnitude in magnitudes {
            engine.submit(Request::new(*prompt, &steering, *magnitude, options))?;
        }
    }
    Ok(engine)
}

#[cfg(test)]
#[path = "sweep_tests.rs"]
mod tests;

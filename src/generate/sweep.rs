//! One prompt at a sweep of magnitudes: a call of the engine with one request a magnitude, which shares the prompt's work below
//! the vectors.

use std::collections::BTreeMap;
use std::sync::Arc;

use candle_core::Tensor;

use super::engine::{Engine, EngineLimits};
use super::options::{FinishReason, GenerateOptions};
use super::prompt::Prompt;
use super::request::{EventKind, Request, StreamId};
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
    /// is generated is steered; 0 without a vector.
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
    let (mut engine, ids) = sweep(model, prompt.into(), vectors, magnitudes, options)?;
    let mut texts: Vec<Generation> = magnitudes.iter().copied().map(Generation::unstarted).collect();
    while !engine.is_idle() {
        for event in engine.step()? {
            let Some(branch) = ids.iter().position(|id| *id == event.stream) else { continue };
            if let EventKind::Token { id, .. } = event.kind {
                on_token(branch, id)?;
            }
            texts[branch].take(event.kind);
        }
    }
    check_finite(&texts)?;
    Ok(texts)
}

/// Whether any of the texts of one prompt got a token.
///
/// # Errors
/// None did because the logits behind the prompt are not finite at any magnitude.
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
    sweep(model, prompt.into(), vectors, magnitudes, options)?.0.prompt_logits()
}

/// An engine with a request a magnitude.
fn sweep<'m>(
    model: &'m Model,
    prompt: Prompt,
    vectors: &BTreeMap<usize, Vec<f32>>,
    magnitudes: &[f32],
    options: &GenerateOptions,
) -> Result<(Engine<'m>, Vec<StreamId>)> {
    let steering = Arc::new(Steering::new(vectors, model.device())?);
    let tokens = (prompt.ids.len() + options.max_new_tokens).min(model.config.max_position_embeddings.max(prompt.ids.len()));
    let mut engine = Engine::new(model, EngineLimits { tokens: tokens * magnitudes.len(), streams: magnitudes.len() })?;
    let requests = magnitudes.iter().map(|magnitude| Request::new(prompt, &steering, *magnitude, options));
    let ids = requests.map(|request| engine.submit(request)).collect::<Result<_>>()?;
    Ok((engine, ids))
}

#[cfg(test)]
#[path = "sweep_tests.rs"]
mod tests;

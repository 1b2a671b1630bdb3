//! A prompt and which of its tokens, and of those generated after it, are steered.

use crate::steering::condition::Verdict;
use crate::steering::positions::{Positions, TokenPosition};
use crate::text::tokens::{EncodedPrompt, PromptSpans};

/// What to continue: a prompt's tokens, and which of them, and of those generated, spans hold.
#[derive(Debug, Clone, Copy)]
pub struct Prompt<'a> {
    /// Tokens of the prompt.
    pub ids: &'a [u32],
    spans: Option<&'a PromptSpans>,
    /// Whether nothing of it or behind it is steered, whatever the magnitude.
    is_left_alone: bool,
}

impl<'a> From<&'a [u32]> for Prompt<'a> {
    fn from(ids: &'a [u32]) -> Self {
        Self { ids, spans: None, is_left_alone: false }
    }
}

impl<'a> From<&'a Vec<u32>> for Prompt<'a> {
    fn from(ids: &'a Vec<u32>) -> Self {
        ids.as_slice().into()
    }
}

impl<'a> From<&'a EncodedPrompt> for Prompt<'a> {
    fn from(prompt: &'a EncodedPrompt) -> Self {
        Self { ids: &prompt.ids, spans: prompt.spans.as_ref(), is_left_alone: false }
    }
}

impl Prompt<'_> {
    /// Returns the prompt as a condition wants it: where that did not fire, it is left to the untouched model.
    pub fn under(self, verdict: Option<Verdict>) -> Self {
        Self { is_left_alone: verdict.is_some_and(|verdict| !verdict.fired), ..self }
    }

    /// The magnitude that it is continued with where `magnitude` is wanted.
    pub(super) fn magnitude(&self, magnitude: f32) -> f32 {
        if self.is_left_alone { 0.0 } else { magnitude }
    }

    /// Whether vectors at `positions` are added at each of its tokens.
    pub(crate) fn steered(&self, positions: Positions) -> Vec<bool> {
        let is_told = |token: usize| self.spans.map(|spans| spans.prompt[token]);
        let tokens = 0..self.ids.len();
        tokens.map(|token| positions.steers(TokenPosition::of(token, self.ids.len()), is_told(token))).collect()
    }

    /// Whether a vector at `positions` is added at any token, of the prompt or generated.
    pub fn is_steered(&self, positions: Positions) -> bool {
        self.steers_generated(positions) || self.steered(positions).contains(&true)
    }

    /// Whether they are added at generated tokens.
    pub(crate) fn steers_generated(&self, positions: Positions) -> bool {
        positions.steers(TokenPosition::Response, self.spans.map(|spans| spans.generated))
    }
}

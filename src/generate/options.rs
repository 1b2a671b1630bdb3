//! What a caller of the room says and gets: how tokens are chosen, and the text of one branch.

use serde::Serialize;

use crate::steering::Operation;
use crate::steering::positions::Positions;

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
    /// How they enter the residual stream.
    pub operation: Operation,
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
            operation: Operation::Add,
        }
    }
}

/// Why a text ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum FinishReason {
    /// An end-of-text token.
    Stop,
    /// The token limit or the end of the context.
    Length,
    /// The next token's logits were NaN or infinite, as where a magnitude is far too large: the text ends before that token.
    NotFinite,
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
    /// is generated is steered; 0 without a vector. Of an ablation what [`crate::steering::dose`] says.
    pub dose: f64,
}

//! What a caller of the room says of a text: how tokens are chosen, when it ends, and why it did.

use serde::{Deserialize, Serialize};

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
    /// What is added to the logits of some tokens before one is chosen; −∞ forbids a token.
    pub logit_bias: Vec<(u32, f32)>,
    /// How many of the likeliest tokens are told with their log-probabilities, beside the token that is chosen; none of either
    /// where there is none.
    pub top_log_probs: Option<usize>,
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
            logit_bias: Vec::new(),
            top_log_probs: None,
            seed: 0,
            eos: Vec::new(),
            positions: Positions::All,
            operation: Operation::Add,
        }
    }
}

/// Why a text ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FinishReason {
    /// An end-of-text token.
    Stop,
    /// The token limit or the end of the context.
    Length,
    /// The next token's logits were NaN or infinite, as where a magnitude is far too large: the text ends before that token.
    NotFinite,
}

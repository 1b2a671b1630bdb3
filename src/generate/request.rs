//! What a client of the engine hands in, and what it gets back while its text grows.

use std::sync::Arc;

use super::options::{FinishReason, GenerateOptions};
use super::prompt::Prompt;
use super::sampler::TokenLogProbs;
use crate::steering::Steering;
use crate::steering::condition::Verdict;

/// One text to generate: a prompt, the vectors that steer it, and how tokens are chosen.
#[derive(Debug, Clone)]
pub struct Request {
    pub(super) ids: Vec<u32>,
    pub(super) steering: Arc<Steering>,
    pub(super) magnitude: f32,
    /// Whether the vectors enter at each token of the prompt, and at those generated.
    pub(super) steered: Vec<bool>,
    pub(super) steers_generated: bool,
    pub(super) options: GenerateOptions,
}

impl Request {
    /// Continues `prompt` with the vectors of `steering`, times `magnitude`, at the positions that `options` names. Requests that
    /// share the same `steering` share the work of what their prompts begin with.
    pub fn new<'a>(prompt: impl Into<Prompt<'a>>, steering: &Arc<Steering>, magnitude: f32, options: &GenerateOptions) -> Self {
        let prompt = prompt.into();
        Self {
            ids: prompt.ids.to_vec(),
            steering: Arc::clone(steering),
            magnitude: prompt.magnitude(magnitude),
            steered: prompt.steered(options.positions),
            steers_generated: prompt.steers_generated(options.positions),
            options: options.clone(),
        }
    }

    /// Ids of the prompt.
    pub fn prompt(&self) -> &[u32] {
        &self.ids
    }

    /// Returns the request as a condition wants it: where that did not fire, it is left to the untouched model.
    pub fn under(self, verdict: Verdict) -> Self {
        Self { magnitude: if verdict.fired { self.magnitude } else { 0.0 }, ..self }
    }

    /// Factor of the vectors at a token of the prompt.
    pub(super) fn factor(&self, token: usize) -> f32 {
        if self.steered[token] { self.magnitude } else { 0.0 }
    }

    /// Factor of the vectors at a generated token.
    pub(super) fn generated_factor(&self) -> f32 {
        if self.steers_generated { self.magnitude } else { 0.0 }
    }
}

/// Names one request of an engine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct StreamId(pub(super) usize);

impl StreamId {
    /// How many requests the engine was handed before this one.
    pub fn index(self) -> usize {
        self.0
    }
}

/// What happened to a request in a step.
#[derive(Debug, Clone)]
pub struct Event {
    /// The request.
    pub stream: StreamId,
    /// What happened.
    pub kind: EventKind,
}

/// What can happen to a request in a step.
#[derive(Debug, Clone)]
pub enum EventKind {
    /// The request got a token, an end-of-text token included.
    Token {
        /// Id of the token.
        id: u32,
        /// Log-probabilities of the token and of the likeliest ones, where the request asks for them.
        log_probs: Option<TokenLogProbs>,
    },
    /// The request has ended, and its place is free.
    Finished {
        /// Why the text ended.
        reason: FinishReason,
        /// ‖m·v‖/‖h‖, as [`Generation::dose`](super::Generation::dose).
        dose: f64,
    },
}

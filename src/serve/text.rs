//! A text under way as its client gets it: pieces whose characters are complete and in which no stop can begin, with their tokens.

use std::collections::VecDeque;
use std::time::Instant;

use tokenizers::Tokenizer;
use tokio::sync::mpsc;

use super::error::ApiError;
use crate::Result;
use crate::generate::{EventKind, FinishReason, TokenLogProbs};
use crate::steering::condition::Verdict;
use crate::text::tokens::TokenStream;

/// A piece of a text, or its end.
#[derive(Debug)]
pub(super) struct Delta {
    pub index: usize,
    pub kind: DeltaKind,
}

#[derive(Debug)]
pub(super) enum DeltaKind {
    /// What the text gained, with the tokens that are in it. Tokens whose characters are incomplete come with those that complete
    /// them.
    Text { text: String, tokens: Vec<Token> },
    /// The text has ended.
    Done { reason: FinishReason, dose: f64, when: Option<Verdict>, token_ids: Vec<u32> },
    /// The server could not go on.
    Failed(ApiError),
}

/// A token with what was asked about it.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Token {
    pub id: u32,
    pub log_probs: Option<TokenLogProbs>,
    /// Where it begins in the text, in characters.
    pub offset: usize,
}

/// Who gets a text.
pub(super) struct Recipient {
    /// Which of the texts of a request it is.
    pub index: usize,
    pub to: mpsc::UnboundedSender<Delta>,
}

impl Recipient {
    pub fn send(&self, kind: DeltaKind) {
        // A recipient that has gone is found before the next step.
        let _ = self.to.send(Delta { index: self.index, kind });
    }

    pub fn has_gone(&self) -> bool {
        self.to.is_closed()
    }
}

/// A text under way.
pub(super) struct Stream<'a> {
    pub to: Recipient,
    /// What the condition said of its prompt.
    pub when: Option<Verdict>,
    pub token_ids: Vec<u32>,
    decoder: TokenStream<'a>,
    text: Held,
    since: Instant,
}

impl<'a> Stream<'a> {
    /// A text without a token yet, which ends before any of `stop`.
    pub fn new(to: Recipient, when: Option<Verdict>, stop: Vec<String>, tokenizer: &'a Tokenizer) -> Self {
        let decoder = TokenStream::new(tokenizer);
        Self { to, when, token_ids: Vec::new(), decoder, text: Held::new(stop), since: Instant::now() }
    }

    /// Takes what the engine says. → where the text has ended: why, and its dose where the engine told it
    pub fn take(&mut self, event: EventKind, eos: &[u32]) -> Result<Option<(FinishReason, Option<f64>)>> {
        match event {
            EventKind::Token { id, log_probs } => {
                if self.token_ids.is_empty() {
                    metrics::histogram!("bipo_first_token_seconds").record(self.since.elapsed().as_secs_f64());
                }
                metrics::counter!("bipo_generated_tokens_total").increment(1);
                self.token_ids.push(id);
                if !eos.contains(&id) {
                    let text = self.decoder.push(id)?;
                    self.text.push(id, log_probs, text);
                }
                self.tell();
                Ok(self.text.has_stopped.then_some((FinishReason::Stop, None)))
            }
            EventKind::Finished { reason, dose } => {
                self.text.end(&self.decoder.finish()?);
                self.tell();
                let reason = if self.text.has_stopped { FinishReason::Stop } else { reason };
                Ok(Some((reason, Some(dose))))
            }
        }
    }

    /// Sends the text that no stop can begin in.
    fn tell(&mut self) {
        let (text, tokens) = self.text.ready();
        if !text.is_empty() || !tokens.is_empty() {
            self.to.send(DeltaKind::Text { text, tokens });
        }
    }
}

/// Text that is held back as long as it may be the beginning of a stop, and its tokens.
#[derive(Debug, Default)]
pub(super) struct Held {
    stops: Vec<String>,
    text: String,
    /// Characters of the text that was taken, and of all.
    taken: usize,
    total: usize,
    /// Tokens that are not taken, each with the place where its text ends.
    tokens: VecDeque<(Token, usize)>,
    /// Tokens whose characters are incomplete.
    incomplete: Vec<Token>,
    pub has_stopped: bool,
    is_released: bool,
}

impl Held {
    pub fn new(stops: Vec<String>) -> Self {
        Self { stops: stops.into_iter().filter(|stop| !stop.is_empty()).collect(), ..Self::default() }
    }

    /// A token, and the text that it completes.
    pub fn push(&mut self, id: u32, log_probs: Option<TokenLogProbs>, text: Option<String>) {
        self.incomplete.push(Token { id, log_probs, offset: self.total });
        if let Some(text) = text {
            self.complete(&text);
        }
    }

    /// The text of the tokens that were incomplete.
    fn complete(&mut self, text: &str) {
        self.total += text.chars().count();
        self.tokens.extend(self.incomplete.drain(..).map(|token| (token, self.total)));
        self.text += text;
        let first = self.stops.iter().filter_map(|stop| self.text.find(stop.as_str())).min();
        if let Some(first) = first {
            self.text.truncate(first);
            let end = self.taken + self.text.chars().count();
            self.tokens.retain(|(token, _)| token.offset < end);
            (self.has_stopped, self.is_released) = (true, true);
        }
    }

    /// No token comes any more: `rest` is the text of those that are incomplete, and what is held is the text's end.
    pub fn end(&mut self, rest: &str) {
        self.complete(rest);
        self.is_released = true;
    }

    /// Takes the text in which no stop can begin, and the tokens that are in it.
    pub fn ready(&mut self) -> (String, Vec<Token>) {
        if self.is_released {
            let tokens = self.tokens.drain(..).map(|(token, _)| token).collect();
            return (std::mem::take(&mut self.text), tokens);
        }
        let begins = |at: &usize| self.stops.iter().any(|stop| stop.starts_with(&self.text[*at..]));
        let held = self.text.char_indices().map(|(at, _)| at).find(begins).unwrap_or(self.text.len());
        let rest = self.text.split_off(held);
        let text = std::mem::replace(&mut self.text, rest);
        self.taken += text.chars().count();
        let taken = self.tokens.iter().take_while(|(_, end)| *end <= self.taken).count();
        (text, self.tokens.drain(..taken).map(|(token, _)| token).collect())
    }
}

#[cfg(test)]
#[path = "text_tests.rs"]
mod tests;

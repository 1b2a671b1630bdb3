//! Parts the thought of an answer from the answer itself while the text comes. A thought stands at the beginning, between the
//! tags `<think>` and `</think>`; the first one may be the chat template's.

use crate::text::chat::THINK;

/// A piece of an answer's text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ThoughtPiece {
    /// A piece of the thought, without its tags.
    Thought(String),
    /// A piece of the answer, without the white space that parts it from the thought.
    Answer(String),
}

/// Text whose place is told as soon as it is known.
#[derive(Debug)]
pub struct Parted {
    at: At,
    /// Text that may be the beginning of a tag.
    held: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum At {
    /// No word of the text is known.
    Beginning,
    Thought,
    /// White space between a thought and its answer.
    Between,
    Answer,
}

impl Parted {
    /// A text without a character yet; `in_thought` says whether the prompt ends inside a thought.
    pub fn new(in_thought: bool) -> Self {
        Self { at: if in_thought { At::Thought } else { At::Beginning }, held: String::new() }
    }

    /// Takes some text. → what is known now
    pub fn push(&mut self, text: &str) -> Vec<ThoughtPiece> {
        self.held += text;
        let [open, close] = THINK;
        let mut pieces = Vec::new();
        if self.at == At::Beginning {
            let begun = self.held.trim_start();
            if let Some(rest) = begun.strip_prefix(open) {
                (self.at, self.held) = (At::Thought, rest.to_owned());
            } else if !open.starts_with(begun) {
                self.at = At::Answer;
            }
        }
        if self.at == At::Thought {
            match self.held.split_once(close) {
                Some((thought, rest)) => {
                    pieces.push(ThoughtPiece::Thought(thought.to_owned()));
                    (self.at, self.held) = (At::Between, rest.to_owned());
                }
                None => {
                    let begins_close = |at: &usize| close.starts_with(&self.held[*at..]);
                    let known = self.held.char_indices().map(|(at, _)| at).find(begins_close).unwrap_or(self.held.len());
                    let rest = self.held.split_off(known);
                    pieces.push(ThoughtPiece::Thought(std::mem::replace(&mut self.held, rest)));
                }
            }
        }
        if self.at == At::Between {
            self.held = self.held.trim_start().to_owned();
            if !self.held.is_empty() {
                self.at = At::Answer;
            }
        }
        if self.at == At::Answer {
            pieces.push(ThoughtPiece::Answer(std::mem::take(&mut self.held)));
        }
        pieces.retain(|piece| !piece.text().is_empty());
        pieces
    }

    /// No more text comes. → what was held
    pub fn finish(&mut self) -> Option<ThoughtPiece> {
        let held = std::mem::take(&mut self.held);
        let piece = if self.at == At::Thought { ThoughtPiece::Thought(held) } else { ThoughtPiece::Answer(held) };
        Some(piece).filter(|piece| !piece.text().is_empty())
    }
}

impl ThoughtPiece {
    /// Text of the piece.
    pub fn text(&self) -> &str {
        match self {
            Self::Thought(text) | Self::Answer(text) => text,
        }
    }
}

#[cfg(test)]
#[path = "thought_tests.rs"]
mod tests;

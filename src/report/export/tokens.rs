//! The tokens that an engine is told to steer: which of the prompt's, and whether those that are generated. A rule that counts from what
//! a template begins prompts with, or that asks whose words a token belongs to, is none that an engine knows.

use crate::steering::positions::Positions;
use crate::text::ends::Ends;
use crate::text::spans::Spans;

/// Tokens that are steered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Tokens {
    pub prompt: OfPrompt,
    /// Whether each generated token is.
    pub generated: bool,
}

/// Tokens of the prompt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum OfPrompt {
    All,
    Last(u16),
    None,
}

impl Tokens {
    pub const EVERY: Self = Self { prompt: OfPrompt::All, generated: true };

    /// The tokens that the rules name; none where an engine cannot know them.
    pub fn of(positions: Positions, spans: Option<Spans>) -> Option<Self> {
        if spans.is_some() {
            return None;
        }
        let (prompt, generated) = match positions {
            Positions::All => (OfPrompt::All, true),
            Positions::Prompt => (OfPrompt::All, false),
            Positions::Response => (OfPrompt::None, true),
            Positions::Last => (OfPrompt::Last(1), false),
            Positions::Ends(Ends { first: 0, last, response }) => (OfPrompt::Last(last), response),
            Positions::Ends(_) => return None,
        };
        Some(Self { prompt, generated })
    }

    pub fn are_all(self) -> bool {
        self == Self::EVERY
    }

    /// Whether they are tokens of the prompt alone, generated ones alone, or all.
    pub fn are_of_one_kind(self) -> bool {
        self.are_all() || self.generated == (self.prompt == OfPrompt::None)
    }
}

//! Which tokens a vector is added at: a rule on the token's position ([`Positions`]) and one on whose words it belongs to
//! ([`Spans`]). Both must hold. How the words are found in a prompt is the business of `tokens`.

use serde::{Deserialize, Serialize};
use strum::{Display, EnumString, VariantNames};

use crate::{Error, Result};

/// Where a vector is added.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, Display, EnumString, VariantNames)]
#[serde(rename_all = "lowercase")]
#[strum(serialize_all = "lowercase")]
pub enum Positions {
    /// At every token of prompt and response.
    #[default]
    All,
    /// At the prompt's tokens alone.
    Prompt,
    /// At the response's tokens alone.
    Response,
    /// At the last token of the prompt alone: the one that predicts the response's first.
    Last,
}

/// Where a token stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TokenPosition {
    /// In the prompt, before its last token.
    Prompt,
    /// The prompt's last token.
    LastOfPrompt,
    /// In the response; every generated token.
    Response,
}

impl TokenPosition {
    /// The position of token `index` of a sequence whose response begins at `start`.
    pub fn of(index: usize, start: usize) -> Self {
        match index {
            _ if index >= start => Self::Response,
            _ if index + 1 == start => Self::LastOfPrompt,
            _ => Self::Prompt,
        }
    }
}

impl Positions {
    /// Whether the vector is added at a token of this position.
    pub fn includes(self, position: TokenPosition) -> bool {
        match self {
            Self::All => true,
            Self::Prompt => position != TokenPosition::Response,
            Self::Response => position == TokenPosition::Response,
            Self::Last => position == TokenPosition::LastOfPrompt,
        }
    }

    /// Checks that some token can satisfy both rules.
    ///
    /// # Errors
    /// None can: the response is never the user's, the prompt's last token is the template's.
    pub fn check(self, spans: Option<Spans>) -> Result<()> {
        match (self, spans) {
            (Self::Response, Some(Spans::User)) | (Self::Last, Some(_)) => Err(Error::Argument(format!(
                "positions {self} with spans {} leaves no token: take one of the two",
                spans.map_or(String::new(), |spans| spans.to_string())
            ))),
            _ => Ok(()),
        }
    }
}

/// Whose words a vector is added at: the content of that role's messages, as the chat template renders them, without the
/// template's own tokens. A response and what is generated are the assistant's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, Display, EnumString, VariantNames)]
#[serde(rename_all = "lowercase")]
#[strum(serialize_all = "lowercase")]
pub enum Spans {
    /// The user's, in every turn of the prompt.
    User,
    /// The assistant's: earlier turns of the prompt, and the response.
    Assistant,
}

impl Spans {
    /// Whether a response's tokens, and generated ones, are in these spans.
    pub fn includes_response(self) -> bool {
        self == Self::Assistant
    }
}

/// Where a vector with these rules is added, in words.
pub fn in_words(positions: Positions, spans: Option<Spans>) -> String {
    let tokens = match positions {
        Positions::All => "all tokens of prompt and response",
        Positions::Prompt => "the prompt's tokens alone",
        Positions::Response => "the response's tokens alone",
        Positions::Last => "the prompt's last token alone",
    };
    match (positions, spans) {
        (_, None) => tokens.to_owned(),
        (Positions::All, Some(spans)) => format!("the words of the {spans}'s messages alone"),
        (_, Some(spans)) => format!("{tokens}, where they are words of the {spans}'s messages"),
    }
}

#[cfg(test)]
#[path = "positions_tests.rs"]
mod tests;

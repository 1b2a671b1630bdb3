//! Which tokens a vector is added at: a rule on the token's position ([`Positions`]) and one on whose words it belongs to
//! ([`Spans`]). Both must hold. How the words are found in a prompt is the business of `tokens`.

use serde::{Deserialize, Serialize};
use strum::{Display, EnumString, VariantNames};

use crate::text::spans::Spans;
use crate::text::tokens::{EncodedPair, EncodedResponse};
use crate::{Error, Result};

/// Where a vector is added. The model predicts each token from the token before it, so the first token of a response is
/// predicted from the last token of the prompt.
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
    /// At the last token of the prompt and at the response's tokens: at every token that predicts one of the response.
    #[strum(serialize = "last+response")]
    #[serde(rename = "last+response")]
    LastAndResponse,
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
            Self::LastAndResponse => position != TokenPosition::Prompt,
        }
    }

    /// Whether the vector is added at token `index` of a response with its prompt.
    pub fn steer(self, response: &EncodedResponse, index: usize) -> bool {
        let in_spans = response.in_spans.as_ref().is_none_or(|in_spans| in_spans[index]);
        in_spans && self.includes(TokenPosition::of(index, response.start))
    }

    /// Whether the two responses differ in one token alone, such as a letter, and the vector is added at no token before it.
    /// The vector then has no effect on which of the two the model finds likelier.
    pub fn miss_choice(self, pair: &EncodedPair) -> bool {
        let (chosen, rejected) = (&pair.chosen, &pair.rejected);
        let alike = chosen.ids.iter().zip(&rejected.ids).take_while(|(a, b)| a == b).count();
        let rest = |response: &EncodedResponse| response.ids.get(alike + 1..).map(<[u32]>::to_vec);
        let is_one_token = rest(chosen).is_some() && rest(chosen) == rest(rejected);
        is_one_token && !(0..alike).any(|index| self.steer(chosen, index))
    }

    /// Checks that some token can satisfy both rules.
    ///
    /// # Errors
    /// None can: the response is never the user's, the prompt's last token is the template's.
    pub fn check(self, spans: Option<Spans>) -> Result<()> {
        match (self, spans) {
            (Self::Response | Self::LastAndResponse, Some(Spans::User)) | (Self::Last, Some(_)) => {
                Err(Error::Argument(format!(
                    "positions {self} with spans {} leaves no token: take one of the two",
                    spans.map_or(String::new(), |spans| spans.to_string())
                )))
            }
            _ => Ok(()),
        }
    }
}

/// Where a vector with these rules is added, in words.
pub fn in_words(positions: Positions, spans: Option<Spans>) -> String {
    let tokens = match positions {
        Positions::All => "all tokens of prompt and response",
        Positions::Prompt => "the prompt's tokens alone",
        Positions::Response => "the response's tokens alone",
        Positions::Last => "the prompt's last token alone",
        Positions::LastAndResponse => "the prompt's last token and the response's tokens",
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

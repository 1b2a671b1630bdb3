//! Which tokens a vector is added at: a rule on the token's position ([`Positions`]) and one on whose words it belongs to
//! ([`Spans`]). Both must hold. How the words and the ends of a prompt are found is the business of `tokens`.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::text::ends::Ends;
use crate::text::spans::Spans;
use crate::text::tokens::{EncodedPair, EncodedResponse};
use crate::{Error, Result};

/// The tokens at which a vector is added.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub enum Positions {
    /// Every token of prompt and response.
    #[default]
    All,
    /// The prompt's tokens alone.
    Prompt,
    /// The response's tokens alone.
    Response,
    /// The last token of the prompt alone: the one that predicts the response's first.
    Last,
    /// These ends of the prompt. Which tokens they are the encoder says, as it says which are in spans.
    Ends(Ends),
}

impl fmt::Display for Positions {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        let Ends { first, last, response } = match self {
            Self::All => return f.write_str("all"),
            Self::Prompt => return f.write_str("prompt"),
            Self::Response => return f.write_str("response"),
            Self::Last => return f.write_str("last"),
            Self::Ends(ends) => *ends,
        };
        let parts = [
            (first > 0).then(|| format!("first:{first}")),
            (last > 0).then(|| format!("last:{last}")),
            response.then(|| "response".to_owned()),
        ];
        f.write_str(&parts.into_iter().flatten().collect::<Vec<_>>().join("+"))
    }
}

impl FromStr for Positions {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let mut prompt = false;
        let mut ends = Ends { first: 0, last: 0, response: false };
        for part in text.split('+') {
            match part.split_once(':') {
                None if part == "all" => (prompt, ends.response) = (true, true),
                None if part == "prompt" => prompt = true,
                None if part == "response" => ends.response = true,
                None if part == "last" => ends.last = ends.last.max(1),
                Some(("first", count)) => ends.first = ends.first.max(end(text, count)?),
                Some(("last", count)) => ends.last = ends.last.max(end(text, count)?),
                _ => return Err(unknown(text)),
            }
        }
        Ok(match (prompt, ends.response) {
            (true, true) => Self::All,
            (true, false) => Self::Prompt,
            (false, true) if (ends.first, ends.last) == (0, 0) => Self::Response,
            (false, false) if (ends.first, ends.last) == (0, 1) => Self::Last,
            (false, _) => Self::Ends(ends),
        })
    }
}

/// How many tokens an end has.
fn end(text: &str, count: &str) -> Result<u16> {
    count.parse().ok().filter(|count| *count > 0).ok_or_else(|| unknown(text))
}

fn unknown(text: &str) -> Error {
    Error::Argument(format!(
        "positions {text:?}: expected all, prompt, response, last, first:N or last:N with N from 1 to 65535, or several joined by +"
    ))
}

impl From<Positions> for String {
    fn from(positions: Positions) -> Self {
        positions.to_string()
    }
}

impl TryFrom<String> for Positions {
    type Error = Error;

    fn try_from(text: String) -> Result<Self> {
        text.parse()
    }
}

/// The place of a token in prompt and response.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum TokenPosition {
    /// A token of the prompt before its last one.
    Prompt,
    /// The prompt's last token.
    LastOfPrompt,
    /// A token of the response; every generated token.
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
    /// The ends of the prompt that the encoder must tell, so that a vector is added at no other token of it.
    pub fn ends(self) -> Option<Ends> {
        match self {
            Self::Ends(ends) => Some(ends),
            Self::All | Self::Prompt | Self::Response | Self::Last => None,
        }
    }

    /// Whether the vector is added at a token of this position. `is_told` is what the encoder told of the token: whether it is in
    /// the spans and at the ends that the encoder was asked for; none where it was asked for neither.
    pub(crate) fn steers(self, position: TokenPosition, is_told: Option<bool>) -> bool {
        match (self, is_told) {
            // Without the encoder, the last token is all that is known of the prompt's ends.
            (Self::Ends(ends), None) => match position {
                TokenPosition::Prompt => false,
                TokenPosition::LastOfPrompt => ends.last > 0,
                TokenPosition::Response => ends.response,
            },
            _ => is_told.unwrap_or(true) && self.includes(position),
        }
    }

    /// Whether the vector may be added at a token of this position.
    fn includes(self, position: TokenPosition) -> bool {
        match self {
            Self::Ends(ends) => ends.response || position != TokenPosition::Response,
            Self::All => true,
            Self::Prompt => position != TokenPosition::Response,
            Self::Response => position == TokenPosition::Response,
            Self::Last => position == TokenPosition::LastOfPrompt,
        }
    }

    /// Whether these are tokens that only the encoder can tell, since they count from what the prompts of a template begin with.
    pub(crate) fn needs_template(self) -> bool {
        self.ends().is_some_and(|ends| ends.first > 0 || ends.last > 1)
    }

    /// Whether the vector is added at token `index` of a response with its prompt.
    pub fn steers_token(self, response: &EncodedResponse, index: usize) -> bool {
        let is_told = response.in_spans.as_ref().map(|in_spans| in_spans[index]);
        self.steers(TokenPosition::of(index, response.start), is_told)
    }

    /// Whether the vector is added at any token of the pair that others are predicted behind: the last ones predict nothing.
    pub(crate) fn reaches(self, pair: &EncodedPair) -> bool {
        let is_steered = |side: &EncodedResponse| (0..side.ids.len() - 1).any(|index| self.steers_token(side, index));
        is_steered(&pair.chosen) || is_steered(&pair.rejected)
    }
}

/// Says in words where a vector with these rules is added.
pub fn in_words(positions: Positions, spans: Option<Spans>) -> String {
    let tokens = match positions {
        Positions::All => "all tokens of prompt and response".to_owned(),
        Positions::Prompt => "the prompt's tokens alone".to_owned(),
        Positions::Response => "the response's tokens alone".to_owned(),
        Positions::Last => "the prompt's last token alone".to_owned(),
        Positions::Ends(ends) => ends_in_words(ends),
    };
    match (positions, spans) {
        (_, None) => tokens,
        (Positions::All, Some(spans)) => format!("the words of the {spans}'s messages alone"),
        (_, Some(spans)) => format!("{tokens}, where they are words of the {spans}'s messages"),
    }
}

fn ends_in_words(Ends { first, last, response }: Ends) -> String {
    let count = |end: &str, count: u16| match count {
        0 => None,
        1 => Some(format!("{end} token")),
        _ => Some(format!("{end} {count} tokens")),
    };
    let of_prompt = [count("first", first), count("last", last)].into_iter().flatten().collect::<Vec<_>>().join(" and its ");
    let of_response = if response { ", and at all tokens of the response" } else { "" };
    format!("the prompt's {of_prompt}, not counting what every prompt of the template begins with{of_response}")
}

#[cfg(test)]
#[path = "positions_tests.rs"]
mod tests;

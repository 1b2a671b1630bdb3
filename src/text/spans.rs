//! Whose words a rule picks among the tokens of a conversation. How the words are found in a rendered prompt is the business of
//! `chat` and `tokens`.

use serde::{Deserialize, Serialize};
use strum::{Display, EnumString, VariantNames};

/// A role whose words are picked: the content of its messages, as the chat template renders them, without the template's own
/// tokens. A response and what is generated are the assistant's.
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
    pub(crate) fn includes_response(self) -> bool {
        self == Self::Assistant
    }
}

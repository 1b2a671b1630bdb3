//! What is made, by what recipe, and who is asked for it.

use std::fmt;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::checks::Reason;
use crate::data::endpoint::{ApiKey, Endpoint, Patience};

/// Number of questions that are asked for at once.
pub(super) const BATCH: usize = 20;

/// The pairs that are made, and where they go.
#[derive(Debug, Clone)]
pub struct PairsConfig {
    /// What they show, and who writes them.
    pub recipe: Recipe,
    /// Number of pairs.
    pub pairs: usize,
    /// Largest number of tokens of an answer.
    pub max_tokens: usize,
    /// Temperature of the endpoint's replies.
    pub temperature: f64,
    /// Seed of the endpoint's replies, if it takes one.
    pub seed: u64,
    /// File of the pairs, which grows with each.
    pub output: PathBuf,
}

/// The endpoint that is asked, and how.
#[derive(Debug, Clone)]
pub struct Asked {
    /// URL of the endpoint.
    pub endpoint: Endpoint,
    /// Key for the endpoint, sent only over https or to this machine.
    pub key: Option<ApiKey>,
    /// Number of requests at a time, at least 1.
    pub concurrency: usize,
    /// Timeouts and retries.
    pub patience: Patience,
}

/// What pairs show, and who writes them. Pairs of one file have one recipe.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Recipe {
    /// Behaviour of the chosen answers, such as "answers like a pirate".
    pub description: String,
    /// Behaviour of the rejected answers; plain ones without it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub opposite: Option<String>,
    /// Name of the model that is asked, as the endpoint knows it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    /// Name of the model that gave the rejected answers itself, if one did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub on_policy: Option<String>,
}

impl fmt::Display for Recipe {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "{:?}", self.description)?;
        let parts = [("against", &self.opposite), ("asking", &self.model), ("with answers of", &self.on_policy)];
        parts
            .iter()
            .filter_map(|(word, value)| Some((word, value.as_ref()?)))
            .try_for_each(|(word, value)| write!(f, " {word} {value:?}"))
    }
}

/// A question, and its place in the lists of questions.
#[derive(Debug, Clone)]
pub(super) struct PlacedQuestion {
    pub batch: usize,
    pub index: usize,
    pub text: String,
    /// Why it is not asked, if it is of no use.
    pub problem: Option<Reason>,
}

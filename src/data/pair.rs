//! A contrastive pair, and a row that gives none.

use crate::text::chat::Message;

/// One contrastive pair, its text as the file has it.
#[derive(Debug, Clone, PartialEq)]
pub struct Pair {
    /// 0-based row of the data set (before rows were skipped). The pairs that one TruthfulQA question gives share its row.
    pub row: usize,
    /// The conversation up to the response: one user message for a plain question.
    pub prompt: Vec<Message>,
    /// The response that shows the target behaviour.
    pub chosen: String,
    /// The response that shows the opposite.
    pub rejected: String,
}

/// A row that gave no pair, or fewer than it could.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Skipped {
    /// 0-based row of the data set.
    pub row: usize,
    /// Why, as the end of a sentence: `the question is empty`.
    pub reason: String,
}

/// Which of TruthfulQA's incorrect answers are set against the best one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, strum::EnumString, strum::VariantNames)]
#[strum(serialize_all = "lowercase")]
pub enum TruthfulPairs {
    /// Each: several pairs a question.
    #[default]
    All,
    /// The first: one pair a question.
    First,
}

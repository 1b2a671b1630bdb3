//! Preference pairs from CSV, JSONL, JSON and Parquet files, published sets and the bundled ones.

use crate::chat::Message;

/// One contrastive pair, its text as the file has it.
#[derive(Debug, Clone, PartialEq)]
pub struct Pair {
    /// 0-based row of the data set (before rows were skipped).
    pub row: usize,
    /// The conversation up to the response: one user message for a plain question.
    pub prompt: Vec<Message>,
    /// The response that shows the target behaviour.
    pub chosen: String,
    /// The response that shows the opposite.
    pub rejected: String,
}

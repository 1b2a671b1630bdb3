//! TruthfulQA's own files: the authors' CSV (the answers in one cell, separated by `; `) and the hub's Parquet (lists). The
//! best answer is the chosen response of each pair, and an incorrect answer is the rejected one.

use serde_json::Value;

use super::conversation;
use super::pair::{Pair, TruthfulPairs};
use super::table::{Record, cell, find};

/// Column names as the Parquet file spells them.
pub(super) const NAMES: [&str; 3] = ["question", "best_answer", "incorrect_answers"];

/// Column names as the file at hand spells them.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct TruthfulColumns {
    question: String,
    best: String,
    incorrect: String,
}

impl TruthfulColumns {
    /// Finds the three columns; returns `None` unless all are present.
    pub(super) fn of(columns: &[String]) -> Result<Option<Self>, String> {
        let [question, best, incorrect] = NAMES;
        let found = (find(columns, question)?, find(columns, best)?, find(columns, incorrect)?);
        let (Some(question), Some(best), Some(incorrect)) = found else { return Ok(None) };
        Ok(Some(Self { question, best, incorrect }))
    }

    /// Makes a pair for each incorrect answer, or for the first one alone.
    pub(super) fn pairs(&self, row: usize, record: &Record, which: TruthfulPairs) -> Vec<Result<Pair, String>> {
        let mut incorrect = answers(cell(record, &self.incorrect));
        if incorrect.is_empty() {
            return vec![Err("there is no incorrect answer".to_string())];
        }
        if which == TruthfulPairs::First {
            incorrect.truncate(1);
        }
        let (question, best) = (cell(record, &self.question), cell(record, &self.best));
        let mut pairs: Vec<_> = incorrect.iter().map(|answer| conversation::pair(row, question, best, answer)).collect();
        // A problem of the question is reported once, not once per answer.
        pairs.dedup_by(|next, last| next.is_err() && next == last);
        pairs
    }
}

fn answers(cell: &Value) -> Vec<Value> {
    match cell {
        Value::String(text) => text.split(';').map(str::trim).filter(|answer| !answer.is_empty()).map(Value::from).collect(),
        Value::Array(list) => list.clone(),
        _ => Vec::new(),
    }
}

#[cfg(test)]
#[path = "truthfulqa_tests.rs"]
mod tests;

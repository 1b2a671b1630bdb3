//! From records to pairs: what each column means, and what makes a row unusable.

use serde_json::Value;

use super::pair::{Pair, TruthfulPairs};
use super::table::{Record, Table, cell, find, plain};
use super::{conversation, truthfulqa};

/// Names that the column of the prompt can have; the first one that a file has is used.
const PROMPT: [&str; 2] = ["question", "prompt"];
const CHOSEN: [&str; 3] = ["matching", "chosen", "answer_matching_behavior"];
const REJECTED: [&str; 3] = ["not_matching", "rejected", "answer_not_matching_behavior"];
const WANTED: &str = "expected question or prompt, matching or chosen, and not_matching or rejected";

/// What the columns of a file mean.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Columns {
    /// A question or conversation and two responses. If there is no prompt, the responses are whole conversations.
    Pairs { prompt: Option<String>, chosen: String, rejected: String },
    /// The columns of TruthfulQA's own files.
    Truthful(truthfulqa::TruthfulColumns),
}

impl Columns {
    /// Finds the columns of a table. The error names the missing columns and the columns that the table has.
    pub(super) fn of(table: &Table) -> Result<Self, String> {
        let columns = &table.columns;
        let prompt = find_any(columns, &PROMPT)?;
        let chosen = find_any(columns, &CHOSEN)?;
        let rejected = find_any(columns, &REJECTED)?;
        if chosen.is_none()
            && rejected.is_none()
            && let Some(columns) = truthfulqa::TruthfulColumns::of(columns)?
        {
            return Ok(Self::Truthful(columns));
        }
        // Responses that are lists of messages begin with their prompt, so that no column of prompts is needed.
        let conversations = || table.records.first().is_some_and(|row| CHOSEN.iter().any(|&name| cell(row, name).is_array()));
        let mut missing = Vec::new();
        if prompt.is_none() && !conversations() {
            missing.push(PROMPT.join("|"));
        }
        match (chosen, rejected) {
            (Some(chosen), Some(rejected)) if missing.is_empty() => Ok(Self::Pairs { prompt, chosen, rejected }),
            (chosen, rejected) => {
                missing.extend(chosen.is_none().then(|| "matching|chosen".to_string()));
                missing.extend(rejected.is_none().then(|| "not_matching|rejected".to_string()));
                let found = if columns.is_empty() { "none".to_string() } else { columns.join(", ") };
                Err(format!("no column {}; found {found}; {WANTED}", missing.join(", ")))
            }
        }
    }

    /// Returns the pairs of one row, or the reason why the row gives no pair.
    pub(super) fn pairs(&self, row: usize, record: &Record, which: TruthfulPairs) -> Vec<Result<Pair, String>> {
        match self {
            Self::Pairs { prompt, chosen, rejected } => {
                let prompt = prompt.as_deref().map_or(&Value::Null, |prompt| cell(record, prompt));
                vec![conversation::pair(row, prompt, cell(record, chosen), cell(record, rejected))]
            }
            Self::Truthful(columns) => columns.pairs(row, record, which),
        }
    }
}

/// Whether pairs can be made from a column of this name.
pub(super) fn can_use(name: &str) -> bool {
    let name = plain(name);
    let known = [&PROMPT[..], &CHOSEN, &REJECTED, &truthfulqa::NAMES].concat();
    known.contains(&name.as_str())
}

fn find_any(columns: &[String], names: &[&str]) -> Result<Option<String>, String> {
    for name in names {
        if let Some(column) = find(columns, name)? {
            return Ok(Some(column));
        }
    }
    Ok(None)
}

#[cfg(test)]
#[path = "rows_tests.rs"]
mod tests;

//! Preference pairs from CSV, JSONL, JSON and Parquet files, published sets and the bundled ones.
//!
//! [`Source::parse`] says where a set comes from, [`load`] reads it. Files become tables of records (`format`), records become
//! pairs (`rows`). Text stays as the file has it: chat templates and tokens are not made here.

mod bundled;
mod conversation;
mod csv;
mod format;
mod hub;
mod json;
mod pages;
mod parquet;
mod published;
mod questions;
mod rows;
mod source;
mod truthfulqa;

use sha2::{Digest, Sha256};

use crate::error::one_line;
use crate::hub::repo::is_offline;
use crate::text::chat::Message;
use crate::{Error, Result};

pub use bundled::{Bundled, bundled};
pub use published::{Published, published};
pub use questions::{Key, Question, QuestionSet, load_questions};
pub use source::{DEFAULT_DATASET, Source};

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

/// How to read a data set.
#[derive(Debug, Clone, Default)]
pub struct LoadOptions {
    /// Read the first rows only, counted before any is skipped.
    pub limit: Option<usize>,
    /// A row that would be skipped is an error.
    pub strict: bool,
    /// For TruthfulQA's files.
    pub pairs: TruthfulPairs,
    /// Never touch the network (`HF_HUB_OFFLINE=1` does the same).
    pub offline: bool,
}

/// The pairs of a data set, with what identifies them.
#[derive(Debug, Clone, PartialEq)]
pub struct Dataset {
    /// The bundled or published name, the file's name, or `hf:owner/name…`.
    pub name: String,
    /// SHA-256 of the file's bytes in hex; of all files one after the other where a hub data set has several.
    pub sha256: String,
    /// At least one, in the order of the rows.
    pub pairs: Vec<Pair>,
    /// In the order of the rows.
    pub skipped: Vec<Skipped>,
}

/// Reads a data set, after fetching it where it is neither bundled, a file, nor cached.
///
/// Rows are numbered from 0 without the header; they go on counting over the files of a hub data set that has several.
pub fn load(source: &Source, options: &LoadOptions) -> Result<Dataset> {
    if options.limit == Some(0) {
        return Err(Error::Argument("a limit of 0 rows leaves no data: at least 1 is needed".to_string()));
    }
    let mut dataset = Dataset { name: source.name(), sha256: String::new(), pairs: Vec::new(), skipped: Vec::new() };
    let mut hash = Sha256::new();
    let mut rows = 0;
    let files = source.files(is_offline(options.offline))?;
    for file in &files {
        let bytes = file.bytes()?;
        hash.update(&bytes);
        let limit = options.limit.map(|limit| limit.saturating_sub(rows));
        if limit == Some(0) {
            continue;
        }
        let table = format::read(file.path(), &bytes, limit)?;
        // An empty JSON list names no columns, so that none can be missing.
        if table.columns.is_empty() {
            continue;
        }
        let layout = rows::Layout::of(&table).map_err(|problem| Error::malformed(file.path(), problem))?;
        for record in &table.records {
            for pair in layout.pairs(rows, record, options.pairs) {
                match pair {
                    Ok(pair) => dataset.pairs.push(pair),
                    Err(reason) if options.strict => {
                        let problem = format!("row {rows}: {reason}; mend the row, or load without strict to skip it");
                        return Err(Error::malformed(file.path(), problem));
                    }
                    Err(reason) => dataset.skipped.push(Skipped { row: rows, reason: one_line(&reason) }),
                }
            }
            rows += 1;
        }
    }
    dataset.sha256 = format!("{:x}", hash.finalize());
    if dataset.pairs.is_empty() {
        let path = files.first().map(|file| file.path().to_path_buf()).unwrap_or_default();
        return Err(Error::malformed(path, nothing_left(rows, dataset.skipped.first())));
    }
    Ok(dataset)
}

fn nothing_left(rows: usize, skipped: Option<&Skipped>) -> String {
    match skipped {
        None => "the data set is empty: expected at least one row below the column names".to_string(),
        Some(Skipped { row, reason }) => format!("no pair is left of {rows} rows: the first reason is row {row}, {reason}"),
    }
}

#[cfg(test)]
mod tests;

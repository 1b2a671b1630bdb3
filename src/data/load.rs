//! Reads a data set: files become tables of records, records become pairs, and rows that give none are counted.

use sha2::{Digest, Sha256};

use super::pair::{Pair, Skipped, TruthfulPairs};
use super::source::Source;
use super::{format, rows};
use crate::error::one_line;
use crate::hub::repo::is_offline;
use crate::{Error, Result};

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
        let table = format::read(file.path(), &bytes, limit, &rows::can_use)?;
        // An empty JSON list names no columns, so that none can be missing.
        if table.columns.is_empty() {
            continue;
        }
        let columns = rows::Columns::of(&table).map_err(|problem| Error::malformed(file.path(), problem))?;
        for record in &table.records {
            for pair in columns.pairs(rows, record, options.pairs) {
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
#[path = "load_tests.rs"]
mod tests;

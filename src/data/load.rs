//! Reads a data set: files become tables of records, records become pairs, and rows that give no pair are listed.

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
    /// Number of rows to read from the start, counted before unusable rows are skipped; `None` reads all rows.
    pub limit: Option<usize>,
    /// Whether a row that would be skipped is an error.
    pub strict: bool,
    /// Which pairs a question of TruthfulQA's files gives.
    pub pairs: TruthfulPairs,
    /// Whether the network is off (`HF_HUB_OFFLINE=1` does the same).
    pub offline: bool,
}

/// The pairs of a data set, with what identifies them.
#[derive(Debug, Clone, PartialEq)]
pub struct Dataset {
    /// Name of a bundled or published set, name of the file, or `hf:owner/name…`.
    pub name: String,
    /// SHA-256 in hex of the bytes of the files, one after the other.
    pub sha256: String,
    /// Pairs in the order of their rows; there is at least one.
    pub pairs: Vec<Pair>,
    /// Skipped rows in their order.
    pub skipped: Vec<Skipped>,
}

/// Reads a data set. A set of the hub that is not cached is downloaded first.
///
/// Rows are numbered from 0 without the header. If a hub data set has several files, the numbers continue from one to the next.
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
        // An empty JSON list names no columns, so no column can be missing.
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

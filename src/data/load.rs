//! Reads a data set: files become tables of records, records become pairs, and rows that give no pair are listed.

use std::collections::BTreeSet;

use sha2::{Digest, Sha256};

use super::concepts::{self, Labelled};
use super::format::{self, WantedFormat};
use super::input::Input;
use super::pair::{FileLayout, Pair, Skipped, TruthfulPairs};
use super::ranking::Ranking;
use super::rows::{Choice, ColumnNames, Columns};
use super::source::Source;
use crate::hub::options::FetchOptions;
use crate::machine::error::one_line;
use crate::{Error, Result};

/// How to read a data set.
#[derive(Debug, Clone, Default)]
pub struct LoadOptions {
    /// Number of rows to read from the start, counted before unusable rows are skipped; `None` reads all rows.
    pub limit: Option<usize>,
    /// Whether a row that would be skipped is an error.
    pub strict: bool,
    /// Pairs that a question of TruthfulQA's files gives.
    pub pairs: TruthfulPairs,
    /// Pairs that several ranked or scored responses give.
    pub rank: Ranking,
    /// Names of columns that the shapes that bipo knows do not have.
    pub columns: ColumnNames,
    /// How a set that is not on this machine is fetched.
    pub fetch: FetchOptions,
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
    /// Number of rows that were read.
    pub rows: usize,
    /// What the first file is.
    pub layout: FileLayout,
}

impl Dataset {
    /// Says what to do where fewer than a tenth of the answers with a concept have a pair; none of other data.
    pub fn few_pairs(&self) -> Option<String> {
        let is_labelled = self.layout.shape == concepts::LABELLED_SHAPE;
        concepts::few_pairs(self.pairs.len(), self.skipped.len()).filter(|_| is_labelled)
    }
}

/// Reads a data set. A set of the hub that is not cached is downloaded first.
///
/// Rows are numbered from 0 without the header. If a hub data set has several files, the numbers continue from one to the next.
///
/// # Errors
/// A file cannot be fetched or read, or is no data set of pairs; the limit is 0 rows; no row has a pair, or with `strict` some
/// row has none.
pub fn load(source: &Source, options: &LoadOptions) -> Result<Dataset> {
    if options.limit == Some(0) {
        return Err(Error::Argument("a limit of 0 rows leaves no data: at least 1 is needed".to_string()));
    }
    let mut dataset = Dataset {
        name: source.name(),
        sha256: String::new(),
        pairs: Vec::new(),
        skipped: Vec::new(),
        rows: 0,
        layout: FileLayout::default(),
    };
    let mut hash = Sha256::new();
    let files = source.files(&options.fetch)?;
    for file in &files {
        file.hash(&mut hash)?;
        let limit = options.limit.map(|limit| limit.saturating_sub(dataset.rows));
        if limit == Some(0) {
            continue;
        }
        let concept = source.concept();
        let can_use = |name: &str| options.columns.can_use(name) || (concept.is_some() && concepts::can_use(name));
        // Of a set with many concepts, the rows of one are counted.
        let wanted = WantedFormat { limit: limit.filter(|_| concept.is_none()), column: &can_use, headerless: None };
        let table = format::read(file, &wanted)?;
        // An empty JSON list names no columns, so no column can be missing.
        if table.columns.is_empty() {
            continue;
        }
        if let Some(concept) = concept.filter(|_| source.is_labelled()) {
            take_labelled(&mut dataset, concepts::labelled(table.into_records(), concept, limit)?, file, concept, options)?;
            continue;
        }
        let columns = Columns::of(&table, &options.columns).map_err(|problem| Error::malformed(file.path(), problem))?;
        if dataset.layout.columns.is_empty() {
            let roles = table.columns.iter().map(|name| (name.clone(), columns.role(name)));
            dataset.layout = FileLayout { format: table.format, shape: columns.shape(), columns: roles.collect() };
        }
        let choice = Choice { truthful: options.pairs, rank: options.rank };
        let (mut seen, mut of_concept) = (BTreeSet::new(), 0);
        for record in table.into_records() {
            let (row, record) = (dataset.rows, record?);
            if concept.is_some_and(|concept| !concepts::is_of(&record, concept, &mut seen)) {
                dataset.rows += 1;
                continue;
            }
            of_concept += 1;
            if concept.is_some() && limit.is_some_and(|limit| of_concept > limit) {
                break;
            }
            for pair in columns.pairs(row, &record, choice) {
                match pair {
                    Ok(pair) => dataset.pairs.push(pair),
                    Err(reason) if options.strict => {
                        let problem = format!("row {row}: {reason}; mend the row, or have it skipped");
                        return Err(Error::malformed(file.path(), problem));
                    }
                    Err(reason) => dataset.skipped.push(Skipped { row, reason: one_line(&reason) }),
                }
            }
            dataset.rows += 1;
        }
        if let Some(concept) = concept.filter(|_| of_concept == 0) {
            return Err(Error::malformed(file.path(), concepts::unknown(concept, &seen)));
        }
    }
    dataset.sha256 = format!("{:x}", hash.finalize());
    if dataset.pairs.is_empty() {
        let path = files.first().map(|file| file.path().to_path_buf()).unwrap_or_default();
        let problem = nothing_left(dataset.rows, dataset.skipped.first());
        let problem = dataset.few_pairs().map_or_else(|| problem.clone(), |advice| format!("{problem}; {advice}"));
        return Err(Error::malformed(path, problem));
    }
    Ok(dataset)
}

/// Adds what the labelled answers of a concept give.
fn take_labelled(dataset: &mut Dataset, found: Labelled, file: &Input, concept: &str, options: &LoadOptions) -> Result<()> {
    if found.pairs.is_empty() && found.skipped.is_empty() {
        return Err(Error::malformed(file.path(), concepts::unknown(concept, &found.seen)));
    }
    if let Some(Skipped { row, reason }) = found.skipped.first().filter(|_| options.strict) {
        return Err(Error::malformed(file.path(), format!("row {row}: {reason}; mend the row, or have it skipped")));
    }
    let roles =
        [("input", "prompt"), ("output", "chosen and rejected"), ("category", "which of them"), ("concept_id", "concept")];
    let columns = roles.map(|(name, role)| (name.to_owned(), Some(role.to_owned()))).into();
    dataset.layout = FileLayout { format: "Parquet", shape: concepts::LABELLED_SHAPE, columns };
    dataset.rows += found.rows;
    dataset.pairs.extend(found.pairs);
    dataset.skipped.extend(found.skipped);
    Ok(())
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

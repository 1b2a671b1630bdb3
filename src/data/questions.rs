//! Multiple-choice questions from files: TruthfulQA, items with a matching and another answer as in the CAA data sets, and
//! questions with any number of options. Which of these a file has, and what a row asks, is decided in `items`. A row that cannot
//! be scored is skipped and counted.

use sha2::{Digest, Sha256};

use super::csv::Headerless;
use super::format::{self, WantedFormat};
use super::items::{Items, MMLU_COLUMNS, can_use};
use super::pair::{FileLayout, Skipped};
use super::question::{AnswerForm, Question};
use super::source::Source;
use crate::hub::options::FetchOptions;
use crate::machine::error::one_line;
use crate::{Error, Result};

/// The questions of a file. There is at least one, and all are of one kind.
#[derive(Debug, Clone, Default)]
pub struct QuestionSet {
    /// Name of the set, or of the file without folder and extension.
    pub name: String,
    /// SHA-256 of the file's bytes in hex.
    pub sha256: String,
    /// Questions in the order of their rows.
    pub questions: Vec<Question>,
    /// Skipped rows in their order.
    pub skipped: Vec<Skipped>,
    /// Number of rows that were read.
    pub rows: usize,
    /// What the file is.
    pub layout: FileLayout,
}

/// Reads the questions in the first `limit` rows of a set of one file, or in all rows if `limit` is `None`. A set that is not on this
/// machine is downloaded first, unless the network is off.
///
/// # Errors
/// The file cannot be read, does not have the columns of any known format, or has no row that can be scored; or the set has several
/// files.
pub fn load_questions(source: &Source, limit: Option<usize>, form: AnswerForm, fetch: &FetchOptions) -> Result<QuestionSet> {
    let mut files = source.files(fetch)?;
    let (Some(input), true) = (files.pop(), files.is_empty()) else {
        return Err(Error::Argument(format!("{source} has several files: name one of them")));
    };
    let path = input.path();
    let mut hash = Sha256::new();
    input.hash(&mut hash)?;
    let headerless = Headerless { columns: &MMLU_COLUMNS, is_last: is_letter };
    let table = format::read(&input, &WantedFormat { limit, column: &can_use, headerless: Some(headerless) })?;
    let malformed = |problem: String| Error::malformed(path, problem);
    let items = Items::of(&table, form).map_err(malformed)?;
    let columns = table.columns.iter().map(|name| (name.clone(), items.role(name).map(str::to_owned))).collect();
    let layout = FileLayout { format: table.format, shape: items.shape(), columns };
    let name = match source {
        Source::File(path) => path.file_stem().unwrap_or_default().to_string_lossy().into_owned(),
        named => named.to_string(),
    };
    let mut set = QuestionSet { name, sha256: format!("{:x}", hash.finalize()), layout, ..QuestionSet::default() };
    for record in table.into_records() {
        match items.questions(set.rows, &record?) {
            Ok(questions) => set.questions.extend(questions),
            Err(reason) => set.skipped.push(Skipped { row: set.rows, reason: one_line(&reason) }),
        }
        set.rows += 1;
    }
    match (set.questions.is_empty(), set.skipped.first()) {
        (false, _) => Ok(set),
        (true, None) => Err(malformed("no question in it: expected at least one row".into())),
        (true, Some(Skipped { row, reason })) => {
            Err(malformed(format!("row {row}: {reason}; no question is left of {} rows", set.rows)))
        }
    }
}

fn is_letter(text: &str) -> bool {
    matches!(text.trim(), "A" | "B" | "C" | "D")
}

#[cfg(test)]
#[path = "questions_tests.rs"]
mod tests;

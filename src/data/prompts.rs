//! Prompts alone, without responses: the lines of a text file, or a column of a table in any format that pairs are read in. What
//! they are for is not known here.

use std::collections::BTreeSet;
use std::io::BufRead;
use std::path::Path;

use sha2::{Digest, Sha256};

use super::concepts;
use super::format::{self, WantedFormat};
use super::input::Input;
use super::message::Message;
use super::numbers;
use super::shapes::PROMPT;
use super::source::Source;
use super::stream::ByteStream;
use super::table::{DataTable, Names, Record, cell};
use super::turns::{Turns, USER};
use crate::hub::options::FetchOptions;
use crate::{Error, Result};

/// The prompts of a set, with what identifies them.
#[derive(Debug, Clone, PartialEq)]
pub struct PromptSet {
    /// Name of a bundled or published set, name of the file, or `hf:owner/name…`.
    pub name: String,
    /// SHA-256 in hex of the bytes of the files, one after the other.
    pub sha256: String,
    /// Conversations that end in a message of the user, in the order of their rows. There is at least one.
    pub prompts: Vec<Vec<Message>>,
    /// The number that answers each prompt, where a column `answer` gives it: alone, or behind `####` as in GSM8K.
    pub answers: Vec<Option<f64>>,
}

/// The messages of a prompt, with the number that answers it if that is known.
pub type PromptWithAnswer = (Vec<Message>, Option<f64>);

/// The column of the numbers that answer the prompts.
const ANSWER: &str = "answer";

/// Reads the prompts in the first `limit` rows of a set, or in all of them. A row whose prompt is a conversation gives it up to the
/// last message of the user.
///
/// # Errors
/// The set cannot be read, has no column of prompts or no prompt, or a row's prompt is none.
pub fn load_prompts(source: &Source, limit: Option<usize>, fetch: &FetchOptions) -> Result<PromptSet> {
    let mut set = PromptSet { name: source.name(), sha256: String::new(), prompts: Vec::new(), answers: Vec::new() };
    let mut hash = Sha256::new();
    let files = source.files(fetch)?;
    for file in &files {
        file.hash(&mut hash)?;
        let left = limit.map_or(usize::MAX, |limit| limit.saturating_sub(set.prompts.len()));
        let prompts = if is_text(file)? { lines(file, left)? } else { rows(file, left, source.concept())? };
        for (prompt, answer) in prompts {
            set.prompts.push(prompt);
            set.answers.push(answer);
        }
    }
    set.sha256 = format!("{:x}", hash.finalize());
    match (set.prompts.is_empty(), files.first()) {
        (true, Some(file)) => Err(Error::malformed(file.path(), "no prompt in it: expected at least one")),
        (true, None) => Err(Error::Argument(format!("{}: no file in it", set.name))),
        (false, _) => Ok(set),
    }
}

/// Whether a file's name says that its prompts are a column of a table; a file of JSON lines may have anything in each.
#[must_use]
pub fn is_prompt_table(path: &Path) -> bool {
    let is_gzip = path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("gz"));
    format::extension(path).is_some_and(|extension| is_gzip || !matches!(extension, "jsonl" | "ndjson"))
}

/// The prompt of a JSON row, with the number that answers it; `None` where no key of it names a prompt.
///
/// # Errors
/// The prompt is empty, or neither a text nor a conversation.
pub fn prompt_of_row(row: &Record) -> Option<Result<PromptWithAnswer, String>> {
    let columns: Vec<String> = row.keys().cloned().collect();
    let column = Names::of(&columns).find_any(PROMPT).transpose()?;
    let answers = columns.iter().find(|name| is_answer(name));
    Some(column.and_then(|column| of_record(row, &column, answers)))
}

/// The prompt of a row in `column`, and its answer in the column of answers, where there is one.
fn of_record(row: &Record, column: &str, answers: Option<&String>) -> Result<PromptWithAnswer, String> {
    Ok((prompt(cell(row, column))?, answers.and_then(|answers| numbers::reference(cell(row, answers)))))
}

fn is_answer(name: &str) -> bool {
    name.trim().eq_ignore_ascii_case(ANSWER)
}

/// Whether a file has a prompt a line: its name tells of no table, and it does not begin as JSON does.
fn is_text(file: &Input) -> Result<bool> {
    if format::extension(file.path()).is_some() {
        return Ok(false);
    }
    let head = ByteStream::open(file)?.head;
    let first = head.iter().find(|byte| !byte.is_ascii_whitespace() && !b"\xef\xbb\xbf".contains(byte));
    // A line of text may well begin with a bracket.
    let is_named_text = file.path().extension().is_some_and(|extension| extension.eq_ignore_ascii_case("txt"));
    let is_json = first == Some(&b'{') || (first == Some(&b'[') && !is_named_text);
    Ok(!is_json && !head.starts_with(b"PAR1"))
}

fn lines(file: &Input, limit: usize) -> Result<Vec<PromptWithAnswer>> {
    let text = ByteStream::open(file)?.into_text(file.path())?;
    let not_text = |_| Error::malformed(file.path(), "not UTF-8 text: expected one prompt a line");
    let lines = text.lines().map(|line| line.map_err(not_text));
    let is_empty = |line: &Result<String>| line.as_ref().is_ok_and(|line| line.trim().is_empty());
    let prompt = |line: Result<String>| Ok((vec![Message::new(USER, line?)], None));
    lines.filter(|line| !is_empty(line)).take(limit).map(prompt).collect()
}

/// The prompts in the rows of a table, or of those of a concept.
fn rows(file: &Input, limit: usize, concept: Option<&str>) -> Result<Vec<PromptWithAnswer>> {
    let is_prompt = |name: &str| PROMPT.iter().any(|known| name.trim().eq_ignore_ascii_case(known));
    let can_use = |name: &str| is_prompt(name) || is_answer(name) || (concept.is_some() && concepts::can_use(name));
    let table =
        format::read(file, &WantedFormat { limit: concept.is_none().then_some(limit), column: &can_use, headerless: None })?;
    let column = column(&table, file.path())?;
    let answers = table.columns.iter().find(|name| is_answer(name)).cloned();
    let mut seen = BTreeSet::new();
    let mut prompts = Vec::new();
    for (row, record) in table.into_records().enumerate() {
        let record = record?;
        if concept.is_some_and(|concept| !concepts::is_of(&record, concept, &mut seen)) || prompts.len() == limit {
            continue;
        }
        let wrong = |problem| Error::malformed(file.path(), format!("row {row}: {problem}; mend or remove the row"));
        prompts.push(of_record(&record, &column, answers.as_ref()).map_err(wrong)?);
    }
    match concept.filter(|_| prompts.is_empty()) {
        Some(concept) => Err(Error::malformed(file.path(), concepts::unknown(concept, &seen))),
        None => Ok(prompts),
    }
}

fn column(table: &DataTable, path: &Path) -> Result<String> {
    let found = Names::of(&table.columns).find_any(PROMPT).map_err(|problem| Error::malformed(path, problem))?;
    found.ok_or_else(|| {
        let (wanted, columns) = (PROMPT.join(", "), table.columns.join(", "));
        Error::malformed(path, format!("no column of prompts; found {columns}; expected one of {wanted}"))
    })
}

/// The conversation of a cell, up to the last message of the user.
fn prompt(cell: &serde_json::Value) -> Result<Vec<Message>, String> {
    let mut messages = Turns::of("prompt", cell)?.into_messages(USER);
    let asked = messages.iter().rposition(|message| message.role == USER && !message.content.trim().is_empty());
    messages.truncate(asked.map_or(0, |last| last + 1));
    if messages.is_empty() { Err("the prompt is empty".into()) } else { Ok(messages) }
}

#[cfg(test)]
#[path = "prompts_tests.rs"]
mod tests;

//! Rows by column name, whatever format they came from, and the lookup of columns and cells. What the columns mean is decided
//! elsewhere, in `rows` and `questions`.

use std::collections::HashMap;

use serde_json::{Map, Value};

use crate::Result;

/// The values of one row by column name.
pub(super) type Record = Map<String, Value>;

/// The rows of a file, read one by one.
pub(super) type Records = Box<dyn Iterator<Item = Result<Record>>>;

/// Number of rows that are read before anything is decided from them.
const FIRST: usize = 100;

/// The rows of a file. The first of them are in memory, the others are read as they are asked for.
pub(super) struct DataTable {
    /// Name of the file's format.
    pub format: &'static str,
    /// Column names as the file has them; for a JSON file, every key of the first rows.
    pub columns: Vec<String>,
    /// The first rows, which tell what the table's columns hold.
    pub first: Vec<Record>,
    rest: Records,
}

impl DataTable {
    /// Makes a table of at most `limit` rows. If the format names no columns, the first rows do.
    pub(super) fn new(
        format: &'static str,
        columns: Option<Vec<String>>,
        records: Records,
        limit: Option<usize>,
    ) -> Result<Self> {
        let mut rest = records.take(limit.unwrap_or(usize::MAX));
        let first = rest.by_ref().take(FIRST).collect::<Result<Vec<Record>>>()?;
        let columns = columns.unwrap_or_else(|| {
            let mut columns: Vec<String> = Vec::new();
            for key in first.iter().flat_map(Record::keys) {
                if !columns.contains(key) {
                    columns.push(key.clone());
                }
            }
            columns
        });
        Ok(Self { format, columns, first, rest: Box::new(rest) })
    }

    /// Returns all rows in their order.
    pub(super) fn into_records(self) -> impl Iterator<Item = Result<Record>> {
        self.first.into_iter().map(Ok).chain(self.rest)
    }
}

/// Returns the cell of a column; a key that a JSON row lacks counts as null.
pub(super) fn cell<'a>(record: &'a Record, column: &str) -> &'a Value {
    record.get(column).unwrap_or(&Value::Null)
}

/// The columns of a table by name. A file can have a million of them, so they are not searched one by one.
pub(super) struct Names<'a> {
    exact: HashMap<&'a str, usize>,
    plain: HashMap<String, (usize, &'a str)>,
}

impl<'a> Names<'a> {
    pub(super) fn of(columns: &'a [String]) -> Self {
        let (mut exact, mut by_plain) = (HashMap::new(), HashMap::new());
        for column in columns {
            *exact.entry(column.as_str()).or_insert(0) += 1;
            by_plain.entry(plain(column)).or_insert((0, column.as_str())).0 += 1;
        }
        Self { exact, plain: by_plain }
    }

    /// Finds the column of this name. An exact match wins; otherwise letter case is ignored, and a space equals an underscore.
    pub(super) fn find(&self, name: &str) -> Result<Option<String>, String> {
        let exact = self.exact.get_key_value(name).map(|(column, times)| (*times, *column));
        match exact.or_else(|| self.plain.get(name).copied()) {
            None => Ok(None),
            Some((1, column)) => Ok(Some(column.to_string())),
            Some((times, column)) => Err(format!("column {column} is there {times} times: expected once")),
        }
    }

    /// Finds the first of these names that the table has.
    pub(super) fn find_any(&self, names: &[&str]) -> Result<Option<String>, String> {
        names.iter().find_map(|name| self.find(name).transpose()).transpose()
    }
}

/// Returns a column name in lower case with underscores for spaces.
pub(super) fn plain(name: &str) -> String {
    name.trim().to_lowercase().replace(' ', "_")
}

/// Returns the text of a cell that must not be empty; a number is text, too.
pub(super) fn text(column: &str, value: &Value) -> Result<String, String> {
    match value {
        Value::String(text) if !text.trim().is_empty() => Ok(text.clone()),
        Value::Number(number) => Ok(number.to_string()),
        Value::String(_) | Value::Null => Err(format!("{column} is empty")),
        other => Err(format!("{column} is {}: expected text", kind(other))),
    }
}

/// Describes the type of a JSON value in words.
pub(super) fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "true or false",
        Value::Number(_) => "a number",
        Value::String(_) => "text",
        Value::Array(_) => "a list",
        Value::Object(_) => "one object",
    }
}

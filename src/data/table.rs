//! Rows by column name, whatever format they came from, and the lookup of columns and cells. What the columns mean is decided
//! elsewhere, in `rows` and `questions`.

use serde_json::{Map, Value};

/// The values of one row by column name.
pub(super) type Record = Map<String, Value>;

/// The rows of a file.
#[derive(Debug)]
pub(super) struct Table {
    /// Column names as the file has them; for a JSON file, every key of any row.
    pub(super) columns: Vec<String>,
    pub(super) records: Vec<Record>,
}

/// Returns the cell of a column; a key that a JSON row lacks counts as null.
pub(super) fn cell<'a>(record: &'a Record, column: &str) -> &'a Value {
    record.get(column).unwrap_or(&Value::Null)
}

/// Finds the column of this name. An exact match wins; otherwise letter case is ignored, and a space equals an underscore.
pub(super) fn find(columns: &[String], name: &str) -> Result<Option<String>, String> {
    let exact: Vec<&String> = columns.iter().filter(|column| *column == name).collect();
    let found = match exact.is_empty() {
        true => columns.iter().filter(|column| plain(column) == name).collect(),
        false => exact,
    };
    match found.as_slice() {
        [] => Ok(None),
        [column] => Ok(Some(column.to_string())),
        [column, ..] => Err(format!("column {column} is there {} times: expected once", found.len())),
    }
}

/// Returns a column name in lower case with underscores for spaces.
pub(super) fn plain(name: &str) -> String {
    name.trim().to_lowercase().replace(' ', "_")
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

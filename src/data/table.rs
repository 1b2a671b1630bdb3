//! Rows by column name, whatever format they came in, and how a column or a cell is looked up. What the columns mean is not decided
//! here.

use serde_json::{Map, Value};

/// One row, by column name.
pub(super) type Record = Map<String, Value>;

/// The rows of a file.
#[derive(Debug)]
pub(super) struct Table {
    /// Column names as the file has them; of a JSON file every key that a row has.
    pub(super) columns: Vec<String>,
    pub(super) records: Vec<Record>,
}

/// The cell of a column; a key that a JSON row lacks is null.
pub(super) fn cell<'a>(record: &'a Record, column: &str) -> &'a Value {
    record.get(column).unwrap_or(&Value::Null)
}

/// The column of this name, letter case aside and with spaces for underscores; an exact match wins.
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

/// The name with letter case and spaces evened out.
pub(super) fn plain(name: &str) -> String {
    name.trim().to_lowercase().replace(' ', "_")
}

/// What a value is, in words.
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

//! JSON: an array of objects, or one object per line (JSONL). The first character tells which of the two a file is.

use std::path::Path;

use serde_json::Value;

use super::table::{Record, Table, kind};
use crate::{Error, Result};

pub(super) fn read(path: &Path, text: &str, limit: Option<usize>) -> Result<Table> {
    let limit = limit.unwrap_or(usize::MAX);
    let records = match text.trim_start().starts_with('[') {
        true => array(path, text, limit),
        false => lines(path, text, limit),
    }?;
    let mut columns: Vec<String> = Vec::new();
    for key in records.iter().flat_map(Record::keys) {
        if !columns.contains(key) {
            columns.push(key.clone());
        }
    }
    Ok(Table { columns, records })
}

fn array(path: &Path, text: &str, limit: usize) -> Result<Vec<Record>> {
    let values: Vec<Value> = serde_json::from_str(text).map_err(|error| {
        let (line, column) = (error.line(), error.column());
        Error::malformed(path, format!("line {line}, column {column}: broken JSON array: {}", reason(&error)))
    })?;
    let rows = values.into_iter().take(limit).enumerate();
    rows.map(|(row, value)| object(path, value, || format!("row {row}"))).collect()
}

fn lines(path: &Path, text: &str, limit: usize) -> Result<Vec<Record>> {
    let lines = text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty());
    let records = lines.take(limit).map(|(index, line)| {
        let number = index + 1;
        let value = serde_json::from_str(line).map_err(|error| broken_line(path, text, number, &error))?;
        object(path, value, || format!("line {number}"))
    });
    records.collect()
}

fn broken_line(path: &Path, text: &str, number: usize, error: &serde_json::Error) -> Error {
    let problem = match serde_json::from_str::<Value>(text) {
        Ok(value) => format!("the file is {}: expected an array of objects, or one object a line", kind(&value)),
        Err(_) => format!("line {number}, column {}: broken JSON: {}", error.column(), reason(error)),
    };
    Error::malformed(path, problem)
}

fn object(path: &Path, value: Value, place: impl Fn() -> String) -> Result<Record> {
    match value {
        Value::Object(record) => Ok(record),
        other => Err(Error::malformed(path, format!("{} is {}: expected an object", place(), kind(&other)))),
    }
}

/// Returns serde's message without the position at its end, because serde counts each line of a JSONL file as line 1.
fn reason(error: &serde_json::Error) -> String {
    let text = error.to_string();
    text.split(" at line ").next().unwrap_or(&text).to_string()
}

#[cfg(test)]
#[path = "json_tests.rs"]
mod tests;

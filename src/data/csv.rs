//! CSV with a header line as RFC 4180 defines it: quoted fields can contain commas, quotes and line ends. CRLF and LF both end
//! a record, and blank lines are skipped.

use std::io::Read;
use std::path::Path;

use ::csv::{ReaderBuilder, StringRecord};
use serde_json::Value;

use super::table::{Record, Table};
use crate::{Error, Result};

/// Appended to the text to detect a quoted field that never ends: such a field contains this marker.
const END: &str = "\u{0}end";

/// Reads a table. `columns` are the column names of a file that has no header line.
pub(super) fn read(path: &Path, text: &str, columns: Option<&[&str]>, limit: Option<usize>) -> Result<Table> {
    let end = format!("\n{END}\n");
    let mut reader = ReaderBuilder::new().has_headers(false).flexible(true).from_reader(text.as_bytes().chain(end.as_bytes()));
    let mut records = reader.records().map(|record| {
        let record = record.map_err(|error| Error::malformed(path, format!("not CSV: {error}")))?;
        if record.iter().next_back().is_some_and(|field| field.ends_with(&end)) {
            let line = line(&record);
            return Err(Error::malformed(path, format!("line {line}: a quoted field begins here and never ends")));
        }
        Ok(record)
    });

    let columns: Vec<String> = match columns {
        Some(columns) => columns.iter().map(|name| name.to_string()).collect(),
        None => match records.next() {
            Some(header) => header?.iter().map(str::to_string).collect(),
            None => return Ok(Table { columns: Vec::new(), records: Vec::new() }),
        },
    };
    let mut rows = Vec::new();
    for record in records.take(limit.unwrap_or(usize::MAX)) {
        let record = record?;
        if record.len() == 1 && record.get(0) == Some(END) {
            break;
        }
        if record.len() != columns.len() {
            let (row, line, found, wanted) = (rows.len(), line(&record), record.len(), columns.len());
            let problem = format!(
                "row {row} (line {line}) has {found} fields, the header has {wanted}: quote fields that hold commas or line ends"
            );
            return Err(Error::malformed(path, problem));
        }
        rows.push(to_record(&columns, &record));
    }
    Ok(Table { columns, records: rows })
}

/// Returns the fields of the first record, if it can be read.
pub(super) fn first_record(text: &str) -> Option<Vec<String>> {
    let mut reader = ReaderBuilder::new().has_headers(false).flexible(true).from_reader(text.as_bytes());
    let first = reader.records().next()?.ok()?;
    Some(first.iter().map(str::to_string).collect())
}

fn to_record(columns: &[String], record: &StringRecord) -> Record {
    columns.iter().cloned().zip(record.iter().map(Value::from)).collect()
}

fn line(record: &StringRecord) -> u64 {
    record.position().map_or(0, |position| position.line())
}

#[cfg(test)]
#[path = "csv_tests.rs"]
mod tests;

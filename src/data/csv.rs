//! CSV with a header line as RFC 4180 defines it: quoted fields can contain separators, quotes and line ends. CRLF and LF both
//! end a record, and blank lines are skipped. Fields are separated by commas, tabs or semicolons, which the header tells.

use std::io::{BufRead, Cursor, Read};
use std::path::Path;

use ::csv::{ErrorKind, Reader, ReaderBuilder, StringRecord};
use serde_json::Value;

use super::stream::{ByteStream, read_error};
use super::table::{Record, Records};
use crate::{Error, Result};

/// Appended to the text to detect a quoted field that never ends: such a field contains this marker.
const END: &str = "\u{0}end";

/// What may separate fields; the first is taken where the header does not tell.
const SEPARATORS: [u8; 3] = [b',', b'\t', b';'];

/// Number of fields of the header that are looked at to find the separator.
const FIELDS: usize = 1000;

/// A file without a header line: the names of its columns, and what the last field of its first record must be.
#[derive(Debug, Clone, Copy)]
pub(super) struct Headerless {
    pub columns: &'static [&'static str],
    pub is_last: fn(&str) -> bool,
}

impl Headerless {
    fn fits(&self, first: &[String]) -> bool {
        first.len() == self.columns.len() && first.last().is_some_and(|field| (self.is_last)(field))
    }
}

/// Opens a table. Returns the names of its columns, and its records as they are read.
pub(super) fn read(
    path: &Path,
    stream: ByteStream,
    is_wanted: &dyn Fn(&str) -> bool,
    headerless: Option<Headerless>,
) -> Result<(Option<Vec<String>>, Records)> {
    let mut text = stream.into_text(path)?;
    let head = text.fill_buf().map_err(|source| read_error(path, source))?;
    let separator = separator(head, is_wanted);
    // Where CRLF ends the records, the crate counts the LF to the record behind it.
    let late = u64::from(head.iter().position(|byte| *byte == b'\n').is_some_and(|lf| lf > 0 && head[lf - 1] == b'\r'));
    let headerless = headerless.filter(|headerless| headerless.fits(&first_record(head, separator)));
    let mut reader = reader(text.chain(Cursor::new(format!("\n{END}\n"))), separator);
    let columns: Vec<String> = match headerless {
        Some(Headerless { columns, .. }) => columns.iter().map(|name| name.to_string()).collect(),
        None => {
            let mut header = StringRecord::new();
            reader.read_record(&mut header).map_err(|error| malformed(path, error, 0))?;
            check_end(path, &header, 0)?;
            // Blank lines alone are no header.
            header.iter().filter(|name| *name != END).map(str::to_string).collect()
        }
    };
    let (path, names) = (path.to_path_buf(), columns.clone());
    let mut row = 0;
    let records = reader.into_records().map_while(move |record| {
        let record = match record.map_err(|error| malformed(&path, error, late)) {
            Ok(record) if record.len() == 1 && record.get(0) == Some(END) => return None,
            Ok(record) => {
                check_end(&path, &record, late).and_then(|()| to_record(&path, (row, line(&record, late)), &names, &record))
            }
            Err(error) => Err(error),
        };
        row += 1;
        Some(record)
    });
    Ok((Some(columns), Box::new(records)))
}

/// Returns the separator under which most fields of the header are wanted columns; where none is, a comma, unless the header
/// then has a single field.
fn separator(head: &[u8], is_wanted: &dyn Fn(&str) -> bool) -> u8 {
    let fields = SEPARATORS.map(|separator| first_record(head, separator));
    let known = fields.each_ref().map(|fields| fields.iter().take(FIELDS).filter(|name| is_wanted(name)).count());
    let most = |counts: [usize; 3]| counts.iter().max().and_then(|most| counts.iter().position(|count| count == most));
    let found = match (known, fields.each_ref().map(Vec::len)) {
        (known, _) if known.iter().any(|count| *count > 1) => most(known),
        (_, lengths) if lengths[0] < 2 => most(lengths),
        _ => None,
    };
    SEPARATORS[found.unwrap_or(0)]
}

/// Returns the fields of the first record, or none if it cannot be read.
fn first_record(head: &[u8], separator: u8) -> Vec<String> {
    let first = reader(head, separator).into_records().next().and_then(Result::ok);
    first.iter().flatten().map(str::to_string).collect()
}

fn reader<R: Read>(text: R, separator: u8) -> Reader<R> {
    ReaderBuilder::new().delimiter(separator).has_headers(false).flexible(true).from_reader(text)
}

fn malformed(path: &Path, error: ::csv::Error, late: u64) -> Error {
    let text = error.to_string();
    match error.into_kind() {
        ErrorKind::Io(source) => read_error(path, source),
        ErrorKind::Utf8 { pos, .. } => {
            let line = pos.map_or(1, |position| position.line() + late);
            Error::malformed(path, format!("line {line} is not valid UTF-8: save the file as UTF-8"))
        }
        _ => Error::malformed(path, format!("not CSV: {text}")),
    }
}

/// Refuses a record whose last field swallowed the marker behind the text.
fn check_end(path: &Path, record: &StringRecord, late: u64) -> Result<()> {
    match record.iter().next_back() {
        Some(field) if field.ends_with(&format!("\n{END}\n")) => {
            let line = line(record, late);
            Err(Error::malformed(path, format!("line {line}: a quoted field begins here and never ends")))
        }
        _ => Ok(()),
    }
}

fn to_record(path: &Path, (row, line): (usize, u64), columns: &[String], record: &StringRecord) -> Result<Record> {
    if record.len() != columns.len() {
        let (found, wanted) = (record.len(), columns.len());
        let problem = format!(
            "row {row} (line {line}) has {found} fields, the header has {wanted}: quote fields that hold commas or line ends"
        );
        return Err(Error::malformed(path, problem));
    }
    Ok(columns.iter().cloned().zip(record.iter().map(Value::from)).collect())
}

fn line(record: &StringRecord, late: u64) -> u64 {
    record.position().map_or(0, |position| position.line() + late)
}

#[cfg(test)]
#[path = "csv_tests.rs"]
mod tests;

//! JSON: an array of objects, one object per line (JSONL), or one object that holds a table by rows or by columns. The first
//! character and the first line tell which of these a file is. Arrays and lines are read one row at a time. `NaN` and
//! `Infinity`, which Python writes and JSON does not have, are read as null.

use std::io::BufRead;
use std::path::{Path, PathBuf};

use serde_json::{Deserializer, Map, Value};

use super::stream::read_error;
use super::table::{Record, Records, kind};
use super::turns::is_message;
use crate::{Error, Result};

/// Keys under which one object holds a list of rows; the first that a file has is used.
const WRAPPERS: [&str; 8] = ["data", "rows", "train", "examples", "instances", "items", "records", "dataset"];

/// Opens the records of a file.
pub(super) fn read(path: &Path, text: Box<dyn BufRead>) -> Result<Records> {
    let mut source = JsonText { path: path.to_path_buf(), text, line: 1, column: 0 };
    match source.skip_space()? {
        Some(b'[') => {
            source.step();
            Ok(Box::new(ListElements { source, row: 0, is_done: false }))
        }
        _ => lines(source),
    }
}

/// The text of a file and the place in it.
struct JsonText {
    path: PathBuf,
    text: Box<dyn BufRead>,
    /// Number of the line, from 1.
    line: usize,
    /// Number of the bytes of the line that were read.
    column: usize,
}

impl JsonText {
    /// Returns the first byte that is not white space, or `None` at the end of the text, and stays in front of it.
    fn skip_space(&mut self) -> Result<Option<u8>> {
        loop {
            let chunk = self.text.fill_buf().map_err(|source| read_error(&self.path, source))?;
            let Some(&byte) = chunk.first() else { return Ok(None) };
            if !byte.is_ascii_whitespace() {
                return Ok(Some(byte));
            }
            let spaces = chunk.iter().take_while(|byte| byte.is_ascii_whitespace()).count();
            let chunk = chunk[..spaces].to_vec();
            self.text.consume(spaces);
            self.passed(&chunk);
        }
    }

    /// Goes past one byte.
    fn step(&mut self) {
        self.text.consume(1);
        self.column += 1;
    }

    fn passed(&mut self, bytes: &[u8]) {
        match bytes.iter().rposition(|byte| *byte == b'\n') {
            None => self.column += bytes.len(),
            Some(last) => {
                self.line += bytes.iter().filter(|byte| **byte == b'\n').count();
                self.column = bytes.len() - last - 1;
            }
        }
    }

    /// Returns the next line that is not blank, and its number.
    fn next_line(&mut self) -> Result<Option<(usize, Vec<u8>)>> {
        loop {
            let mut line = Vec::new();
            let count = self.text.read_until(b'\n', &mut line).map_err(|source| read_error(&self.path, source))?;
            let number = self.line;
            self.line += 1;
            if count == 0 {
                return Ok(None);
            }
            if !line.trim_ascii().is_empty() {
                return Ok(Some((number, line)));
            }
        }
    }

    /// Makes the error of a value that begins behind `column` bytes of `line`.
    fn broken(&self, what: &str, (line, column): (usize, usize), bytes: &[u8], error: &serde_json::Error) -> Error {
        if let Err(error) = std::str::from_utf8(bytes) {
            let good = bytes.get(..error.valid_up_to()).unwrap_or_default();
            let line = line + good.iter().filter(|byte| **byte == b'\n').count();
            return Error::malformed(&self.path, format!("line {line} is not valid UTF-8: save the file as UTF-8"));
        }
        // What a line feed ends before its time ends in its line, and not in the next.
        let (row, within) = match (error.line(), error.column()) {
            (row @ 2.., 0) => (row - 1, bytes.split(|byte| *byte == b'\n').nth(row - 2).map_or(0, <[u8]>::len)),
            found => found,
        };
        let column = if row < 2 { column + within } else { within };
        let line = line + row.saturating_sub(1);
        Error::malformed(&self.path, format!("line {line}, column {column}: {what}: {}", reason(error)))
    }
}

/// The elements of an array, each parsed by itself.
struct ListElements {
    source: JsonText,
    row: usize,
    is_done: bool,
}

impl Iterator for ListElements {
    type Item = Result<Record>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.is_done {
            return None;
        }
        let record = self.record().transpose();
        self.is_done = !matches!(record, Some(Ok(_)));
        self.row += 1;
        record
    }
}

impl ListElements {
    fn record(&mut self) -> Result<Option<Record>> {
        match self.source.skip_space()? {
            None => return Err(self.wrong("EOF while parsing a list")),
            Some(b']') => {
                self.source.step();
                return match self.source.skip_space()? {
                    None => Ok(None),
                    Some(_) => Err(self.wrong("trailing characters")),
                };
            }
            Some(b',') if self.row > 0 => {
                self.source.step();
                if self.source.skip_space()? == Some(b']') {
                    return Err(self.wrong("trailing comma"));
                }
            }
            Some(_) if self.row > 0 => return Err(self.wrong("expected `,` or `]`")),
            Some(_) => {}
        }
        let place = (self.source.line, self.source.column);
        let bytes = self.element()?;
        let value = parse(&bytes).map_err(|error| self.source.broken("broken JSON array", place, &bytes, &error))?;
        object(&self.source.path, value, || format!("row {}", self.row)).map(Some)
    }

    /// Returns the bytes of the element that begins here; if the text ends within it, these are all that are left.
    fn element(&mut self) -> Result<Vec<u8>> {
        let mut bytes = Vec::new();
        let (mut depth, mut in_string, mut is_escaped, mut is_whole) = (0_usize, false, false, false);
        while !is_whole {
            let source = &mut self.source;
            let chunk = source.text.fill_buf().map_err(|error| read_error(&source.path, error))?;
            if chunk.is_empty() {
                break;
            }
            let mut used = chunk.len();
            for (index, byte) in chunk.iter().enumerate() {
                match byte {
                    _ if is_escaped => is_escaped = false,
                    b'\\' if in_string => is_escaped = true,
                    b'"' => in_string = !in_string,
                    _ if in_string => {}
                    b'{' | b'[' => depth += 1,
                    b',' | b']' | b'}' if depth == 0 => (used, is_whole) = (index, true),
                    b'}' | b']' => {
                        depth -= 1;
                        if depth == 0 {
                            (used, is_whole) = (index + 1, true);
                        }
                    }
                    _ => {}
                }
                if is_whole {
                    break;
                }
            }
            bytes.extend_from_slice(&chunk[..used]);
            source.text.consume(used);
        }
        self.source.passed(&bytes);
        Ok(bytes)
    }

    fn wrong(&self, what: &str) -> Error {
        let JsonText { path, line, column, .. } = &self.source;
        Error::malformed(path, format!("line {line}, column {column}: broken JSON array: {what}"))
    }
}

/// Opens one object per line, or one object over several lines.
fn lines(mut source: JsonText) -> Result<Records> {
    let Some((number, first)) = source.next_line()? else { return Ok(Box::new(std::iter::empty())) };
    let record = match parse(&first) {
        Ok(value) => object(&source.path, value, || format!("line {number}"))?,
        Err(error) if error.is_eof() => return whole(source, number, first),
        Err(error) => return Err(source.broken("broken JSON", (number, 0), &first, &error)),
    };
    let second = source.next_line()?;
    if second.is_none()
        && let Some(rows) = table(&record)
    {
        return records(&source.path, rows);
    }
    let mut second = second;
    let mut is_done = false;
    let rest = std::iter::from_fn(move || {
        if is_done {
            return None;
        }
        let record = match second.take().map_or_else(|| source.next_line(), |line| Ok(Some(line))) {
            Ok(None) => return None,
            Ok(Some((number, line))) => match parse(&line) {
                Ok(value) => object(&source.path, value, || format!("line {number}")),
                Err(error) => Err(source.broken("broken JSON", (number, 0), &line, &error)),
            },
            Err(error) => Err(error),
        };
        is_done = record.is_err();
        Some(record)
    });
    Ok(Box::new(std::iter::once(Ok(record)).chain(rest)))
}

/// Reads objects that take several lines each: usually a single one that holds a table.
fn whole(mut source: JsonText, first_line: usize, mut bytes: Vec<u8>) -> Result<Records> {
    source.text.read_to_end(&mut bytes).map_err(|error| read_error(&source.path, error))?;
    let values = |bytes: &[u8]| Deserializer::from_slice(bytes).into_iter::<Value>().collect::<Result<Vec<_>, _>>();
    let values = values(&bytes).or_else(|error| without_nan(&bytes).map_or(Err(error), |bytes| values(&bytes)));
    let values = values.map_err(|error| source.broken("broken JSON", (first_line, 0), &bytes, &error))?;
    match values.as_slice() {
        [Value::Object(only)] => records(&source.path, table(only).unwrap_or_else(|| vec![Value::Object(only.clone())])),
        _ => records(&source.path, values),
    }
}

fn records(path: &Path, rows: Vec<Value>) -> Result<Records> {
    let rows = rows.into_iter().enumerate().map(|(row, value)| object(path, value, || format!("row {row}")));
    Ok(Box::new(rows.collect::<Result<Vec<Record>>>()?.into_iter().map(Ok)))
}

/// Returns the rows of the table that one object holds, or `None` if the object is a row itself.
fn table(object: &Map<String, Value>) -> Option<Vec<Value>> {
    by_name(object).or_else(|| wrapped(object)).or_else(|| by_column(object)).or_else(|| by_number(object))
}

/// `{"columns": ["prompt", …], "data": [["q", …], …]}`
fn by_name(object: &Map<String, Value>) -> Option<Vec<Value>> {
    let (columns, rows) = (object.get("columns")?.as_array()?, object.get("data")?.as_array()?);
    let columns: Vec<&str> = columns.iter().map(Value::as_str).collect::<Option<_>>()?;
    let row = |row: &Value| {
        let cells = row.as_array().filter(|cells| cells.len() == columns.len())?;
        Some(columns.iter().map(|name| name.to_string()).zip(cells.iter().cloned()).collect())
    };
    rows.iter().map(row).collect()
}

/// `{"version": …, "data": [{row}, …]}`; the hub's viewer puts each row under `row` once more.
fn wrapped(object: &Map<String, Value>) -> Option<Vec<Value>> {
    let rows = WRAPPERS.iter().find_map(|name| object.get(*name)?.as_array())?;
    if rows.iter().any(|row| !row.is_object() || is_message(row)) {
        return None;
    }
    let bare = |row: &Value| row.get("row").filter(|inner| inner.is_object()).unwrap_or(row).clone();
    Some(rows.iter().map(bare).collect())
}

/// `{"prompt": ["q", …], "chosen": ["a", …], …}`, or objects with the same keys in place of lists. Lists of messages alone are
/// the cells of one row.
fn by_column(object: &Map<String, Value>) -> Option<Vec<Value>> {
    let columns: Vec<Vec<(&str, &Value)>> = object
        .values()
        .map(|column| match column {
            Value::Array(cells) => Some(cells.iter().map(|cell| ("", cell)).collect()),
            Value::Object(cells) if cells.keys().all(|key| is_number(key)) => {
                Some(cells.iter().map(|(key, cell)| (key.as_str(), cell)).collect())
            }
            _ => None,
        })
        .collect::<Option<_>>()?;
    let first = columns.first().filter(|first| columns.len() > 1 && !first.is_empty())?;
    let has_rows_of_first = |column: &Vec<(&str, &Value)>| {
        column.len() == first.len() && column.iter().zip(first).all(|((key, _), (first, _))| key == first)
    };
    if !columns.iter().all(has_rows_of_first) || columns.iter().flatten().all(|(_, cell)| is_message(cell)) {
        return None;
    }
    let row = |row: usize| object.keys().cloned().zip(columns.iter().map(|column| column[row].1.clone())).collect();
    Some((0..first.len()).map(row).collect())
}

/// `{"0": {row}, "1": {row}, …}`
fn by_number(object: &Map<String, Value>) -> Option<Vec<Value>> {
    let is_row = |(key, value): (&String, &Value)| is_number(key) && value.is_object();
    (!object.is_empty() && object.iter().all(is_row)).then(|| object.values().cloned().collect())
}

fn is_number(key: &str) -> bool {
    !key.is_empty() && key.bytes().all(|byte| byte.is_ascii_digit())
}

fn parse(bytes: &[u8]) -> Result<Value, serde_json::Error> {
    serde_json::from_slice(bytes).or_else(|error| without_nan(bytes).map_or(Err(error), |bytes| serde_json::from_slice(&bytes)))
}

/// Writes null for `NaN`, `Infinity` and `-Infinity` outside texts. Returns `None` if there is none of them.
fn without_nan(bytes: &[u8]) -> Option<Vec<u8>> {
    let mut clean = Vec::with_capacity(bytes.len());
    let (mut rest, mut in_string, mut has_any) = (bytes, false, false);
    while let Some((&byte, next)) = rest.split_first() {
        let name = [&b"NaN"[..], b"Infinity", b"-Infinity"].into_iter().find(|name| !in_string && rest.starts_with(name));
        if let Some(name) = name {
            clean.extend_from_slice(b"null");
            (rest, has_any) = (&rest[name.len()..], true);
            continue;
        }
        clean.push(byte);
        rest = next;
        match byte {
            b'"' => in_string = !in_string,
            b'\\' if in_string => {
                clean.extend(rest.first());
                rest = rest.get(1..).unwrap_or_default();
            }
            _ => {}
        }
    }
    has_any.then_some(clean)
}

fn object(path: &Path, value: Value, place: impl Fn() -> String) -> Result<Record> {
    match value {
        Value::Object(record) => Ok(record),
        other => Err(Error::malformed(path, format!("{} is {}: expected an object", place(), kind(&other)))),
    }
}

/// Returns serde's message without the position at its end.
fn reason(error: &serde_json::Error) -> String {
    let text = error.to_string();
    text.split(" at line ").next().unwrap_or(&text).to_string()
}

#[cfg(test)]
#[path = "json_tests.rs"]
mod tests;

//! From a file's bytes to a table of records. The extension tells the format; the content does if the extension is not known.
//! What the columns mean is decided elsewhere, in `rows` and `questions`.

use std::path::Path;

use super::table::Table;
use super::{csv, json, parquet};
use crate::{Error, Result};

/// Known extensions of data files.
pub(super) const EXTENSIONS: [&str; 5] = ["parquet", "jsonl", "ndjson", "json", "csv"];

/// Reads at most `limit` rows. From a Parquet file, which stores columns separately, only those that `is_wanted` are read.
pub(super) fn read(path: &Path, bytes: &[u8], limit: Option<usize>, is_wanted: &dyn Fn(&str) -> bool) -> Result<Table> {
    if without_bom(bytes).trim_ascii().is_empty() {
        return Err(Error::malformed(path, "the file is empty: expected CSV, JSONL, JSON or Parquet"));
    }
    match FileFormat::of(path, bytes) {
        FileFormat::Csv => csv::read(path, text(path, bytes)?, None, limit),
        FileFormat::Json => json::read(path, text(path, bytes)?, limit),
        FileFormat::Parquet => parquet::read(path, bytes, limit, is_wanted),
        FileFormat::Compressed => Err(Error::malformed(path, "the file is compressed: unpack it first")),
    }
}

/// Reads a CSV file without a header whose columns are `columns`. Returns `None` if the file is not CSV, or if its first record
/// has another number of fields or a last field that is not `is_last`.
pub(super) fn headerless(
    path: &Path,
    bytes: &[u8],
    columns: &[&str],
    is_last: fn(&str) -> bool,
    limit: Option<usize>,
) -> Option<Result<Table>> {
    if FileFormat::of(path, bytes) != FileFormat::Csv {
        return None;
    }
    let text = text(path, bytes).ok()?;
    let first = csv::first_record(text)?;
    let is_headerless = first.len() == columns.len() && first.last().is_some_and(|field| is_last(field));
    is_headerless.then(|| csv::read(path, text, Some(columns), limit))
}

/// Returns the file's extension in lower case, if it is one of [`EXTENSIONS`].
pub(super) fn extension(path: &Path) -> Option<&'static str> {
    let extension = path.extension()?.to_str()?;
    EXTENSIONS.into_iter().find(|known| extension.eq_ignore_ascii_case(known))
}

#[derive(Debug, PartialEq, Eq)]
enum FileFormat {
    Csv,
    /// An array of objects, or one object per line.
    Json,
    Parquet,
    Compressed,
}

impl FileFormat {
    fn of(path: &Path, bytes: &[u8]) -> Self {
        match extension(path) {
            Some("csv") => return Self::Csv,
            Some("parquet") => return Self::Parquet,
            Some(_) => return Self::Json,
            None => {}
        }
        if bytes.starts_with(b"PAR1") {
            return Self::Parquet;
        }
        // The first bytes of gzip, Zstandard and zip files.
        if [&b"\x1f\x8b"[..], b"\x28\xb5\x2f\xfd", b"PK\x03\x04"].iter().any(|magic| bytes.starts_with(magic)) {
            return Self::Compressed;
        }
        match without_bom(bytes).trim_ascii_start().first() {
            Some(b'[' | b'{') => Self::Json,
            _ => Self::Csv,
        }
    }
}

fn without_bom(bytes: &[u8]) -> &[u8] {
    bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes)
}

fn text<'a>(path: &Path, bytes: &'a [u8]) -> Result<&'a str> {
    let bytes = without_bom(bytes);
    std::str::from_utf8(bytes).map_err(|error| {
        let good = bytes.get(..error.valid_up_to()).unwrap_or_default();
        let line = 1 + good.iter().filter(|&&byte| byte == b'\n').count();
        Error::malformed(path, format!("line {line} is not valid UTF-8: save the file as UTF-8"))
    })
}

#[cfg(test)]
#[path = "format_tests.rs"]
mod tests;

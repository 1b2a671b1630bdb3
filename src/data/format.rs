//! From a file to a table of records. The extension tells the format; the content does if the extension is not known. What the
//! columns mean is decided elsewhere, in `rows` and `questions`.

use std::path::Path;

use super::input::Input;
#[cfg(feature = "parquet")]
use super::parquet;
use super::stream::{ByteStream, HEAD};
use super::table::{DataTable, Records};
use super::{csv, json};
use crate::{Error, Result};

/// Known extensions of data files. Text files can also be compressed, with `.gz` behind their extension.
pub(super) const EXTENSIONS: [&str; 6] = ["parquet", "jsonl", "ndjson", "json", "csv", "tsv"];

/// What is read of a file.
pub(super) struct WantedFormat<'a> {
    /// Number of rows from the start; `None` reads all rows.
    pub limit: Option<usize>,
    /// Names of the columns that are used. Of a Parquet file, which stores columns separately, only these are read.
    pub column: &'a dyn Fn(&str) -> bool,
    /// The columns of a CSV file without a header line.
    pub headerless: Option<csv::Headerless>,
}

/// Opens the table of a file, whose rows are read as they are asked for.
pub(super) fn read(input: &Input, wanted: &WantedFormat) -> Result<DataTable> {
    let path = input.path();
    let stream = ByteStream::open(input)?;
    if stream.head.len() < HEAD && without_bom(&stream.head).trim_ascii().is_empty() {
        return Err(Error::malformed(path, "the file is empty: expected CSV, JSONL, JSON or Parquet"));
    }
    let format = FileFormat::of(path, &stream.head);
    let (columns, records) = match format {
        FileFormat::Csv => csv::read(path, stream, wanted.column, wanted.headerless)?,
        FileFormat::Json => (None, json::read(path, stream.into_text(path)?)?),
        FileFormat::Parquet if stream.is_gzip => {
            return Err(Error::malformed(path, "a Parquet file inside gzip: unpack it first"));
        }
        FileFormat::Parquet => {
            let (columns, records) = parquet(path, wanted)?;
            (Some(columns), records)
        }
        FileFormat::Compressed => {
            return Err(Error::malformed(path, "the file is compressed, and not with gzip: unpack it first"));
        }
    };
    DataTable::new(format.name(), columns, records, wanted.limit)
}

/// The names of all columns of a Parquet file, and its records with those that are wanted.
#[cfg(feature = "parquet")]
fn parquet(path: &Path, wanted: &WantedFormat) -> Result<(Vec<String>, Records)> {
    parquet::read(path, wanted.column)
}

#[cfg(not(feature = "parquet"))]
fn parquet(path: &Path, _: &WantedFormat) -> Result<(Vec<String>, Records)> {
    Err(Error::malformed(
        path,
        "this bipo is built without Parquet: build it with the feature parquet, or convert the file to JSONL",
    ))
}

/// Returns the file's extension in lower case, if it is one of [`EXTENSIONS`]; that of `x.csv.gz` is `csv`.
pub(super) fn extension(path: &Path) -> Option<&'static str> {
    let is_gzip = path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("gz"));
    let stem = path.file_stem().filter(|_| is_gzip).map(Path::new);
    let extension = stem.unwrap_or(path).extension()?.to_str()?;
    EXTENSIONS.into_iter().find(|known| extension.eq_ignore_ascii_case(known))
}

#[derive(Debug, PartialEq, Eq)]
enum FileFormat {
    /// Fields separated by commas, tabs or semicolons.
    Csv,
    /// An array of objects, one object per line, or a table in one object.
    Json,
    Parquet,
    Compressed,
}

impl FileFormat {
    fn of(path: &Path, head: &[u8]) -> Self {
        match extension(path) {
            Some("csv" | "tsv") => return Self::Csv,
            Some("parquet") => return Self::Parquet,
            Some(_) => return Self::Json,
            None => {}
        }
        if head.starts_with(b"PAR1") {
            return Self::Parquet;
        }
        // The first bytes of Zstandard and zip files.
        if [&b"\x28\xb5\x2f\xfd"[..], b"PK\x03\x04"].iter().any(|magic| head.starts_with(magic)) {
            return Self::Compressed;
        }
        // In UTF-16, a zero byte stands beside each byte of an ASCII character.
        match without_bom(head).iter().find(|byte| **byte != 0 && !byte.is_ascii_whitespace()) {
            Some(b'[' | b'{') => Self::Json,
            _ => Self::Csv,
        }
    }

    fn name(&self) -> &'static str {
        match self {
            Self::Csv => "CSV",
            Self::Json => "JSON",
            Self::Parquet => "Parquet",
            Self::Compressed => "compressed",
        }
    }
}

fn without_bom(bytes: &[u8]) -> &[u8] {
    let marks = [&b"\xef\xbb\xbf"[..], b"\xff\xfe", b"\xfe\xff"];
    marks.into_iter().find_map(|mark| bytes.strip_prefix(mark)).unwrap_or(bytes)
}

#[cfg(test)]
#[path = "format_tests.rs"]
mod tests;

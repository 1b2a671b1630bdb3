//! Parquet files, read through the parquet crate's record API, one group of rows at a time. Only the wanted columns are decoded.
//! A group that would unpack to far more memory than its size suggests is refused first.

use std::fs::File;
use std::path::Path;

use ::parquet::basic::{Compression, ConvertedType, Type as Physical};
use ::parquet::column::reader::ColumnReader;
use ::parquet::errors::ParquetError;
use ::parquet::file::metadata::{ColumnChunkMetaData, ParquetMetaData};
use ::parquet::file::reader::{FileReader, SerializedFileReader};
use ::parquet::record::reader::RowIter;
use ::parquet::schema::types::{Type, TypePtr};
use serde_json::Value;

use super::pages;
use super::stream::{UNPACKED, UNPACKED_TIMES, swollen};
use super::table::{Record, Records};
use crate::machine::files::open_input;
use crate::machine::panics::caught;
use crate::{Error, Result};

/// Approximate memory of a value beside its text. It is counted because runs of equal values take almost no space in a file.
const VALUE_BYTES: u64 = 256;

/// Number of rows whose lists are counted in one call of the decoder.
const ROWS_AT_ONCE: usize = 1024;

/// Opens a table. Returns the names of all of its columns, and its records with the wanted columns as they are read.
pub(super) fn read(path: &Path, is_wanted: &dyn Fn(&str) -> bool) -> Result<(Vec<String>, Records)> {
    let (file, again) = (open_input(path)?, open_input(path)?);
    let malformed = |problem: String| Error::malformed(path, problem);
    let (columns, groups) = guarded(|| open(file, again, is_wanted)).map_err(malformed)?;
    let Some(mut groups) = groups else { return Ok((columns, Box::new(std::iter::empty()))) };
    let (path, mut is_done) = (path.to_path_buf(), false);
    let records = std::iter::from_fn(move || {
        if is_done {
            return None;
        }
        let record = guarded(|| groups.next().transpose()).transpose();
        is_done = !matches!(record, Some(Ok(_)));
        record.map(|record| record.map_err(|problem| Error::malformed(&path, problem)))
    });
    Ok((columns, Box::new(records)))
}

/// A damaged file can reach an assertion of the decoder: about one in a hundred bytes of a small file does so when changed.
fn guarded<T>(read: impl FnOnce() -> Result<T, String>) -> Result<T, String> {
    caught(read).unwrap_or_else(|| Err("the file is damaged: fetch or write it again".to_string()))
}

/// The rows of a file, one group of rows after the other. What a group unpacks to is checked before it is decoded.
struct Groups {
    rows: RowIter<'static>,
    reader: SerializedFileReader<File>,
    file: File,
    wanted: Vec<TypePtr>,
    /// Number of bytes that the file may unpack to.
    most: u64,
    /// Number of bytes that the pages of the groups so far unpack to, the texts in their lists, and all texts.
    unpacked: [u64; 3],
    next_group: usize,
    left_in_group: u64,
    row: usize,
}

/// Opens the groups of a file, or none if no column is wanted.
fn open(file: File, again: File, is_wanted: &dyn Fn(&str) -> bool) -> Result<(Vec<String>, Option<Groups>), String> {
    let open = |file: &File| {
        let file = file.try_clone().map_err(|error| error.to_string())?;
        SerializedFileReader::new(file).map_err(|error| format!("not a Parquet file: {}", first_line(&error)))
    };
    let reader = open(&file)?;
    let schema = reader.metadata().file_metadata().schema();
    let columns = schema.get_fields().iter().map(|field| field.name().to_string()).collect();
    let wanted: Vec<TypePtr> = schema.get_fields().iter().filter(|field| is_wanted(field.name())).cloned().collect();
    if wanted.is_empty() {
        return Ok((columns, None));
    }
    wanted.iter().try_for_each(|field| check_type(field.name(), field))?;
    check_codecs(reader.metadata(), &wanted)?;
    let projection = Type::group_type_builder(schema.name()).with_fields(wanted.clone()).build();
    let projection = projection.map_err(|error| first_line(&error))?;
    let rows = RowIter::from_file_into(Box::new(open(&again)?)).project(Some(projection));
    let rows = rows.map_err(|error| first_line(&error))?;
    let length = file.metadata().map_err(|error| error.to_string())?.len();
    let most = UNPACKED.max(UNPACKED_TIMES.saturating_mul(length));
    let groups = Groups { rows, reader, file, wanted, most, unpacked: [0; 3], next_group: 0, left_in_group: 0, row: 0 };
    Ok((columns, Some(groups)))
}

impl Groups {
    fn next(&mut self) -> Option<Result<Record, String>> {
        while self.left_in_group == 0 && self.next_group < self.reader.metadata().num_row_groups() {
            if let Err(problem) = self.enter_group() {
                return Some(Err(problem));
            }
        }
        let row = self.row;
        let record = match self.rows.next()? {
            Ok(record) => record.to_json_value(),
            Err(error) => return Some(Err(format!("row {row} cannot be read: {}", first_line(&error)))),
        };
        (self.row, self.left_in_group) = (row + 1, self.left_in_group.saturating_sub(1));
        // An entry of a dictionary is stored once, but every row can refer to it.
        self.unpacked[2] += text_len(&record);
        Some(match record {
            _ if self.unpacked[2] > self.most => Err(swollen(self.most)),
            Value::Object(record) => Ok(record),
            _ => Err(format!("row {row} is no record")),
        })
    }

    fn enter_group(&mut self) -> Result<(), String> {
        let group = self.next_group;
        let rows = self.reader.metadata().row_group(group).num_rows();
        self.left_in_group = u64::try_from(rows).map_err(|_| format!("group {group} has {rows} rows: is it damaged?"))?;
        self.next_group += 1;
        self.check_pages(group)?;
        self.check_lists(group)
    }

    /// Refuses pages that unpack to too many bytes, since the decoder allocates whatever size a page's header states.
    fn check_pages(&mut self, group: usize) -> Result<(), String> {
        let group = self.reader.metadata().row_group(group);
        for column in group.columns().iter().filter(|column| is_wanted(column, &self.wanted)) {
            let pages = pages::of_chunk(&mut self.file, column)?;
            let bytes = pages.bytes.saturating_add(pages.values.saturating_mul(VALUE_BYTES));
            self.unpacked[0] = self.unpacked[0].saturating_add(bytes);
        }
        if self.unpacked[0] > self.most { Err(swollen(self.most)) } else { Ok(()) }
    }

    /// Refuses lists whose texts take too many bytes. All items of a list can refer to one dictionary entry that is stored
    /// once, and the record API decodes whole rows, so the texts are counted beforehand without copying them.
    fn check_lists(&mut self, group: usize) -> Result<(), String> {
        let columns = self.reader.metadata().row_group(group).columns().iter().enumerate();
        for (index, _) in columns.filter(|(_, c)| is_wanted(c, &self.wanted) && c.column_descr().max_rep_level() > 0) {
            let column = self.reader.get_row_group(group).and_then(|group| group.get_column_reader(index));
            let ColumnReader::ByteArrayColumnReader(mut column) = column.map_err(|error| first_line(&error))? else { continue };
            let (mut definitions, mut repetitions, mut texts) = (Vec::new(), Vec::new(), Vec::new());
            while {
                let read = column.read_records(ROWS_AT_ONCE, Some(&mut definitions), Some(&mut repetitions), &mut texts);
                read.map_err(|error| first_line(&error))?.0 > 0
            } {
                self.unpacked[1] += texts.iter().map(|text| text.len() as u64).sum::<u64>();
                if self.unpacked[1] > self.most {
                    return Err(swollen(self.most));
                }
                definitions.clear();
                repetitions.clear();
                texts.clear();
            }
        }
        Ok(())
    }
}

/// Refuses columns of raw bytes, since the record API would not return their content as text.
fn check_type(column: &str, field: &Type) -> Result<(), String> {
    if field.is_group() {
        return field.get_fields().iter().try_for_each(|field| check_type(column, field));
    }
    let binary = matches!(field.get_physical_type(), Physical::BYTE_ARRAY | Physical::FIXED_LEN_BYTE_ARRAY);
    if binary && field.get_basic_info().converted_type() != ConvertedType::UTF8 {
        return Err(format!("column {column} holds binary data: write it as a string column"));
    }
    Ok(())
}

fn is_wanted(column: &ColumnChunkMetaData, wanted: &[TypePtr]) -> bool {
    column.column_path().parts().first().is_some_and(|name| wanted.iter().any(|field| field.name() == name))
}

fn text_len(value: &Value) -> u64 {
    match value {
        Value::String(text) => text.len() as u64,
        Value::Array(items) => items.iter().map(text_len).sum(),
        Value::Object(items) => items.values().map(text_len).sum(),
        _ => 0,
    }
}

fn check_codecs(metadata: &ParquetMetaData, wanted: &[TypePtr]) -> Result<(), String> {
    for column in metadata.row_groups().iter().flat_map(|group| group.columns()).filter(|column| is_wanted(column, wanted)) {
        let known = matches!(
            column.compression(),
            Compression::UNCOMPRESSED | Compression::SNAPPY | Compression::GZIP(_) | Compression::ZSTD(_)
        );
        if !known {
            let name = column.column_path().parts().first().map(String::as_str).unwrap_or_default();
            let codec = column.compression();
            return Err(format!(
                "column {name} is compressed with {codec}: write the file with snappy, zstd, gzip or no compression"
            ));
        }
    }
    Ok(())
}

fn first_line(error: &ParquetError) -> String {
    let text = error.to_string();
    // For text that is not UTF-8, the decoder's message lists every byte.
    if text.contains("Error reading BYTE_ARRAY as String") {
        return "a text is not valid UTF-8".to_string();
    }
    text.lines().next().unwrap_or_default().to_string()
}

#[cfg(test)]
#[path = "parquet_tests.rs"]
mod tests;

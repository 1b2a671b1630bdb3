//! Parquet files, read through the parquet crate's record API. Only the wanted columns are decoded. A file that would unpack to
//! far more memory than its size suggests is refused first.

use std::fs::File;
use std::path::Path;

use ::parquet::basic::{Compression, ConvertedType, Type as Physical};
use ::parquet::column::reader::ColumnReader;
use ::parquet::errors::ParquetError;
use ::parquet::file::metadata::{ColumnChunkMetaData, ParquetMetaData};
use ::parquet::file::reader::{FileReader, SerializedFileReader};
use ::parquet::schema::types::{Type, TypePtr};
use serde_json::Value;

use super::pages;
use super::table::{Record, Table};
use crate::machine::files::open_input;
use crate::machine::panics::caught;
use crate::{Error, Result};

/// Bytes that the pages of a file may unpack to; the larger of this and [`UNPACKED_TIMES`] the file's length is the limit. The
/// same limit holds for the texts in lists, and for all texts together.
const UNPACKED: u64 = 256 << 20;
const UNPACKED_TIMES: u64 = 50;

/// Approximate memory of a value beside its text. It is counted because runs of equal values take almost no space in a file.
const VALUE_BYTES: u64 = 256;

/// Number of rows whose lists are counted in one call of the decoder.
const ROWS_AT_ONCE: usize = 1024;

/// Reads the table of the file at `path`, whose content is `bytes`.
pub(super) fn read(path: &Path, bytes: &[u8], limit: Option<usize>, is_wanted: &dyn Fn(&str) -> bool) -> Result<Table> {
    let file = open_input(path)?;
    // A damaged file can reach an assertion of the decoder: about one in a hundred bytes of a small file does so when changed.
    let table = caught(|| read_table(file, bytes, limit, is_wanted));
    let table = table.unwrap_or_else(|| Err("the file is damaged: fetch or write it again".to_string()));
    table.map_err(|problem| Error::malformed(path, problem))
}

fn read_table(file: File, bytes: &[u8], limit: Option<usize>, is_wanted: &dyn Fn(&str) -> bool) -> Result<Table, String> {
    let reader = SerializedFileReader::new(file).map_err(|error| format!("not a Parquet file: {}", first_line(&error)))?;
    let schema = reader.metadata().file_metadata().schema();
    let columns = schema.get_fields().iter().map(|field| field.name().to_string()).collect();
    let wanted: Vec<TypePtr> = schema.get_fields().iter().filter(|field| is_wanted(field.name())).cloned().collect();
    if wanted.is_empty() {
        return Ok(Table { columns, records: Vec::new() });
    }
    for field in &wanted {
        check_type(field.name(), field)?;
    }
    check_codecs(reader.metadata(), &wanted)?;
    let most = UNPACKED.max(UNPACKED_TIMES.saturating_mul(bytes.len() as u64));
    check_pages(reader.metadata(), &wanted, bytes, most)?;
    check_lists(&reader, &wanted, most)?;

    let projection = Type::group_type_builder(schema.name()).with_fields(wanted).build();
    let projection = projection.map_err(|error| first_line(&error))?;
    let rows = reader.get_row_iter(Some(projection)).map_err(|error| first_line(&error))?;
    let mut text_bytes = 0;
    let records = rows.take(limit.unwrap_or(usize::MAX)).enumerate().map(|(row, record)| {
        let record = record.map_err(|error| format!("row {row} cannot be read: {}", first_line(&error)))?;
        let record = record.to_json_value();
        // An entry of a dictionary is stored once, but every row can refer to it.
        text_bytes += text_len(&record);
        match record {
            _ if text_bytes > most => Err(swollen(most)),
            Value::Object(record) => Ok(record),
            _ => Err(format!("row {row} is no record")),
        }
    });
    let records = records.collect::<Result<Vec<Record>, String>>()?;
    Ok(Table { columns, records })
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

/// Refuses pages that unpack to more than `most` bytes, since the decoder allocates whatever size a page's header states.
fn check_pages(metadata: &ParquetMetaData, wanted: &[TypePtr], bytes: &[u8], most: u64) -> Result<(), String> {
    let mut sum = 0_u64;
    for column in metadata.row_groups().iter().flat_map(|group| group.columns()).filter(|column| is_wanted(column, wanted)) {
        let pages = pages::of_chunk(bytes, column)?;
        sum = sum.saturating_add(pages.bytes).saturating_add(pages.values.saturating_mul(VALUE_BYTES));
    }
    if sum > most { Err(swollen(most)) } else { Ok(()) }
}

/// Refuses lists whose texts take more than `most` bytes. All items of a list can refer to one dictionary entry that is stored
/// once, and the record API decodes whole rows, so the texts are counted beforehand without copying them.
fn check_lists(reader: &SerializedFileReader<File>, wanted: &[TypePtr], most: u64) -> Result<(), String> {
    let mut sum = 0_u64;
    for (group, metadata) in reader.metadata().row_groups().iter().enumerate() {
        let columns = metadata.columns().iter().enumerate();
        for (index, _) in columns.filter(|(_, c)| is_wanted(c, wanted) && c.column_descr().max_rep_level() > 0) {
            let column = reader.get_row_group(group).and_then(|group| group.get_column_reader(index));
            let ColumnReader::ByteArrayColumnReader(mut column) = column.map_err(|error| first_line(&error))? else { continue };
            let (mut definitions, mut repetitions, mut texts) = (Vec::new(), Vec::new(), Vec::new());
            while {
                let read = column.read_records(ROWS_AT_ONCE, Some(&mut definitions), Some(&mut repetitions), &mut texts);
                read.map_err(|error| first_line(&error))?.0 > 0
            } {
                sum += texts.iter().map(|text| text.len() as u64).sum::<u64>();
                if sum > most {
                    return Err(swollen(most));
                }
                definitions.clear();
                repetitions.clear();
                texts.clear();
            }
        }
    }
    Ok(())
}

fn is_wanted(column: &ColumnChunkMetaData, wanted: &[TypePtr]) -> bool {
    column.column_path().parts().first().is_some_and(|name| wanted.iter().any(|field| field.name() == name))
}

fn swollen(most: u64) -> String {
    format!("unpacks to more than {} MiB, out of all proportion to its length: is it damaged?", most >> 20)
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
        let known = matches!(column.compression(), Compression::UNCOMPRESSED | Compression::SNAPPY | Compression::ZSTD(_));
        if !known {
            let name = column.column_path().parts().first().map(String::as_str).unwrap_or_default();
            let codec = column.compression();
            return Err(format!(
                "column {name} is compressed with {codec}: write the file with snappy, zstd or no compression"
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

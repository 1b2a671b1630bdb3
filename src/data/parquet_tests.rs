//! Tests of `parquet`.

use std::path::PathBuf;

use super::super::rows::ColumnNames;
use super::*;

#[derive(Debug)]
struct Table {
    columns: Vec<String>,
    records: Vec<Record>,
}

fn read(path: &Path, limit: Option<usize>) -> Result<Table> {
    let (columns, records) = super::read(path, &|name| ColumnNames::default().can_use(name))?;
    Ok(Table { columns, records: records.take(limit.unwrap_or(usize::MAX)).collect::<Result<_>>()? })
}

/// A fixture that pyarrow wrote (tests/fixtures/data/make.py).
fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/data").join(name)
}

fn problem(name: &str) -> String {
    match read(&fixture(name), None).unwrap_err() {
        Error::Malformed { problem, .. } => problem,
        other => panic!("unexpected {other}"),
    }
}

#[test]
fn compressed_and_uncompressed_files_give_the_same_rows() {
    let plain = read(&fixture("plain-none.parquet"), None).unwrap();
    assert_eq!(plain.columns, ["id", "question", "matching", "not_matching"]);
    assert_eq!(plain.records.len(), 3);
    assert_eq!(plain.records[2]["question"], " Ünïcode, \"quoted\"\nand two lines? ");
    assert_eq!(plain.records[1]["matching"], Value::Null);
    assert!(!plain.records[0].contains_key("id"));
    for name in ["plain-snappy.parquet", "plain-zstd.parquet", "plain-gzip.parquet"] {
        assert_eq!(read(&fixture(name), None).unwrap().records, plain.records, "{name}");
    }
}

#[test]
fn limit_counts_rows_over_row_groups() {
    assert_eq!(read(&fixture("plain-zstd.parquet"), Some(2)).unwrap().records.len(), 2);
}

#[test]
fn groups_behind_the_limit_are_not_read() {
    let mut bytes = std::fs::read(fixture("plain-none.parquet")).unwrap();
    let reader = SerializedFileReader::new(File::open(fixture("plain-none.parquet")).unwrap()).unwrap();
    assert_eq!(reader.metadata().num_row_groups(), 2);
    for column in reader.metadata().row_group(1).columns() {
        let (start, length) = column.byte_range();
        bytes[start as usize..(start + length) as usize].fill(0xff);
    }
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("second.parquet");
    std::fs::write(&path, &bytes).unwrap();
    assert_eq!(read(&path, Some(2)).unwrap().records.len(), 2);
    assert!(read(&path, None).is_err());
}

#[test]
fn binary_columns_are_refused() {
    assert_eq!(problem("binary.parquet"), "column question holds binary data: write it as a string column");
}

#[test]
fn truncated_and_foreign_files_are_refused() {
    let bytes = std::fs::read(fixture("plain-none.parquet")).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("cut.parquet");
    for length in [0, 3, 20, bytes.len() - 1] {
        std::fs::write(&path, &bytes[..length]).unwrap();
        let error = read(&path, None).unwrap_err();
        assert!(matches!(error, Error::Malformed { .. }), "{length}: {error}");
    }
}

#[test]
fn damaged_bytes_never_panic() {
    let bytes = std::fs::read(fixture("plain-snappy.parquet")).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("flipped.parquet");
    for index in (0..bytes.len()).step_by(7) {
        let mut bytes = bytes.clone();
        bytes[index] ^= 0x55;
        std::fs::write(&path, &bytes).unwrap();
        // A reader does not check every byte, so the call may succeed; it must return in any case.
        let _ = read(&path, None);
    }
}

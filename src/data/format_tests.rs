//! Tests of `format`.

use super::*;

fn open(name: &str, bytes: &[u8]) -> Result<()> {
    let wanted = WantedFormat { limit: None, column: &|_| true, headerless: None };
    read(&Input::Bytes(name.into(), bytes.to_vec()), &wanted).map(drop)
}

#[test]
fn extension_decides_before_content() {
    assert_eq!(FileFormat::of(Path::new("a.CSV"), b"[1]"), FileFormat::Csv);
    assert_eq!(FileFormat::of(Path::new("a.csv.GZ"), b"[1]"), FileFormat::Csv);
    assert_eq!(FileFormat::of(Path::new("a.tsv"), b"[1]"), FileFormat::Csv);
    assert_eq!(FileFormat::of(Path::new("a.jsonl"), b"x,y"), FileFormat::Json);
    assert_eq!(FileFormat::of(Path::new("a.parquet"), b"x,y"), FileFormat::Parquet);
}

#[test]
fn content_decides_without_a_known_extension() {
    assert_eq!(FileFormat::of(Path::new("a.txt"), b"\xef\xbb\xbf \n[{}]"), FileFormat::Json);
    assert_eq!(FileFormat::of(Path::new("a"), b"{}"), FileFormat::Json);
    assert_eq!(FileFormat::of(Path::new("a.data"), b"PAR1...."), FileFormat::Parquet);
    assert_eq!(FileFormat::of(Path::new("a.tsv"), b"question,chosen"), FileFormat::Csv);
    assert_eq!(FileFormat::of(Path::new("a"), b"\xff\xfe[\0{\0"), FileFormat::Json);
    assert_eq!(FileFormat::of(Path::new("a.zst"), b"\x28\xb5\x2f\xfd"), FileFormat::Compressed);
}

#[test]
fn broken_utf8_is_refused_with_its_line() {
    let error = open("a.csv", b"question,chosen\nx,y\nz,\xff\n").unwrap_err().to_string();
    assert_eq!(error, "a.csv: line 3 is not valid UTF-8: save the file as UTF-8");
}

#[test]
fn empty_file_is_refused() {
    let error = open("a.csv", b" \r\n").unwrap_err().to_string();
    assert_eq!(error, "a.csv: the file is empty: expected CSV, JSONL, JSON or Parquet");
}

#[cfg(not(feature = "parquet"))]
#[test]
fn a_parquet_file_is_refused_by_a_build_without_the_feature_which_it_names() {
    let error = open("a.parquet", b"PAR1....").unwrap_err().to_string();
    assert!(
        error.starts_with("a.parquet: this bipo is built without Parquet: ") && error.contains("the feature parquet"),
        "{error}"
    );
}

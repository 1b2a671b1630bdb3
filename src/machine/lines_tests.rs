//! Tests of `lines`.

use super::*;

#[test]
fn lines_replace_a_file_only_once_there_are_some() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("texts.jsonl");
    std::fs::write(&path, "old\n").unwrap();
    let mut lines = LineFile::new(&path);
    assert_eq!(std::fs::read_to_string(&path).unwrap(), "old\n");
    lines.add(b"one\n").unwrap();
    lines.add(b"two\nthree\n").unwrap();
    assert_eq!(std::fs::read_to_string(&path).unwrap(), "one\ntwo\nthree\n");
    assert!(LineFile::new(&dir.path().join("nowhere/x")).add(b"one\n").is_err());
}

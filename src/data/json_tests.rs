//! Tests of `json`.

use super::*;

fn error(text: &str) -> String {
    read(Path::new("a.jsonl"), text, None).unwrap_err().to_string()
}

#[test]
fn array_and_lines_give_the_same_records() {
    let array = read(Path::new("a.json"), "[{\"q\": \"x\"},\n {\"a\": \"\\u00e9\"}]", None).unwrap();
    let lines = read(Path::new("a.json"), "{\"q\": \"x\"}\r\n\n{\"a\": \"\\u00e9\"}", None).unwrap();
    assert_eq!(array.records, lines.records);
    assert_eq!(array.columns, ["q", "a"]);
    assert_eq!(array.records.len(), 2);
    assert_eq!(array.records[1]["a"], "é");
}

#[test]
fn broken_line_is_refused_with_its_number() {
    assert_eq!(error("{\"q\": 1}\n\n{\"q\": }\n"), "a.jsonl: line 3, column 7: broken JSON: expected value");
    assert!(error("question,chosen\n").starts_with("a.jsonl: line 1, column 1: broken JSON"));
}

#[test]
fn broken_array_is_refused_with_line_and_column() {
    assert_eq!(error("[{\"q\": 1},\n{\"q\": 2}"), "a.jsonl: line 2, column 8: broken JSON array: EOF while parsing a list");
}

#[test]
fn other_shapes_than_objects_are_refused() {
    assert_eq!(error("[{}, 3]"), "a.jsonl: row 1 is a number: expected an object");
    assert_eq!(error("{}\n[]\n"), "a.jsonl: line 2 is a list: expected an object");
    assert_eq!(
        error("{\n \"data\": []\n}"),
        "a.jsonl: the file is one object: expected an array of objects, or one object a line"
    );
}

#[test]
fn deep_nesting_is_refused_without_overflow() {
    assert!(error(&"[".repeat(100_000)).contains("recursion limit"));
}

//! Tests of `json`.

use serde_json::json;

use super::*;

fn rows(text: &str) -> Result<Vec<Record>> {
    read(Path::new("a.jsonl"), Box::new(std::io::Cursor::new(text.as_bytes().to_vec())))?.collect()
}

fn error(text: &str) -> String {
    rows(text).unwrap_err().to_string()
}

#[test]
fn array_and_lines_give_the_same_records() {
    let array = rows("[{\"q\": \"x\"},\n {\"a\": \"\\u00e9\"}]").unwrap();
    let lines = rows("{\"q\": \"x\"}\r\n\n{\"a\": \"\\u00e9\"}").unwrap();
    let pretty = rows("{\n \"q\": \"x\"\n}\n{\n \"a\": \"\\u00e9\"\n}").unwrap();
    assert_eq!(array, lines);
    assert_eq!(array, pretty);
    assert_eq!(array.len(), 2);
    assert_eq!(array[1]["a"], "é");
}

#[test]
fn broken_line_is_refused_with_its_number() {
    assert_eq!(error("{\"q\": 1}\n\n{\"q\": }\n"), "a.jsonl: line 3, column 7: broken JSON: expected value");
    assert!(error("question,chosen\n").starts_with("a.jsonl: line 1, column 1: broken JSON"));
    let open = error("{\"q\": 1}\n{\"q\": 2\n{\"q\": 3}\n");
    assert_eq!(open, "a.jsonl: line 2, column 7: broken JSON: EOF while parsing an object");
}

#[test]
fn broken_array_is_refused_with_line_and_column() {
    assert_eq!(error("[{\"q\": 1},\n{\"q\": 2}"), "a.jsonl: line 2, column 8: broken JSON array: EOF while parsing a list");
    assert_eq!(error("[{\"q\": 1},\n {\"q\": }]"), "a.jsonl: line 2, column 8: broken JSON array: expected value");
    assert_eq!(error("[{\"q\":\n\n1 2}]"), "a.jsonl: line 3, column 3: broken JSON array: expected `,` or `}`");
    assert_eq!(error("[{} {}]"), "a.jsonl: line 1, column 4: broken JSON array: expected `,` or `]`");
    assert_eq!(error("[{},]"), "a.jsonl: line 1, column 4: broken JSON array: trailing comma");
    assert_eq!(error("[{}] x"), "a.jsonl: line 1, column 5: broken JSON array: trailing characters");
    assert_eq!(error("[{\"q\": \"x"), "a.jsonl: line 1, column 9: broken JSON array: EOF while parsing a string");
}

#[test]
fn other_shapes_than_objects_are_refused() {
    assert_eq!(error("[{}, 3]"), "a.jsonl: row 1 is a number: expected an object");
    assert_eq!(error("{}\n[]\n"), "a.jsonl: line 2 is a list: expected an object");
    assert_eq!(error("{\n \"data\": 3\n}\n[]"), "a.jsonl: row 1 is a list: expected an object");
}

#[test]
fn deep_nesting_is_refused_without_overflow() {
    assert!(error(&"[".repeat(100_000)).contains("recursion limit"));
}

#[test]
fn one_object_that_holds_a_table_gives_its_rows() {
    let right = rows("[{\"prompt\": \"p\", \"chosen\": [\"c\"]}, {\"prompt\": \"q\", \"chosen\": [\"d\"]}]").unwrap();
    let row = |prompt: &str, chosen: &str| json!({"prompt": prompt, "chosen": [chosen]});
    for table in [
        json!({"version": "1", "data": [row("p", "c"), row("q", "d")]}),
        json!({"features": [{"name": "prompt"}], "rows": [{"row_idx": 0, "row": row("p", "c")}, {"row_idx": 1, "row": row("q", "d")}]}),
        json!({"test": [], "train": [row("p", "c"), row("q", "d")]}),
        json!({"prompt": ["p", "q"], "chosen": [["c"], ["d"]]}),
        json!({"prompt": {"0": "p", "1": "q"}, "chosen": {"0": ["c"], "1": ["d"]}}),
        json!({"0": row("p", "c"), "1": row("q", "d")}),
        json!({"columns": ["prompt", "chosen"], "index": [0, 1], "data": [["p", ["c"]], ["q", ["d"]]]}),
    ] {
        assert_eq!(rows(&table.to_string()).unwrap(), right, "{table}");
        assert_eq!(rows(&serde_json::to_string_pretty(&table).unwrap()).unwrap(), right, "{table}");
    }
}

#[test]
fn single_row_is_no_table() {
    let message = json!({"role": "user", "content": "q"});
    for row in [
        json!({"prompt": "q", "chosen": "a"}),
        json!({"chosen": [message, message], "rejected": [message, message]}),
        json!({"prompt": "q", "answers": [{"answer": "a", "rank": 1}], "source": ["s"]}),
        json!({"data": [message], "chosen": "a"}),
        json!({}),
    ] {
        assert_eq!(rows(&row.to_string()).unwrap(), [row.as_object().unwrap().clone()]);
    }
}

#[test]
fn names_of_python_that_are_no_json_are_null() {
    let text = "{\"a\": NaN, \"b\": [-Infinity, Infinity], \"c\": \"NaN \\\" Infinity\"}";
    let right = json!({"a": null, "b": [null, null], "c": "NaN \" Infinity"});
    for text in [text.to_owned(), format!("[{text}]"), text.replace(", ", ",\n")] {
        assert_eq!(rows(&text).unwrap(), [right.as_object().unwrap().clone()], "{text}");
    }
    assert!(error("{\"a\": Nan}").contains("expected value"));
}

#[test]
fn rows_behind_the_last_one_asked_for_are_not_read() {
    for text in ["{\"q\": 1}\n{\"q\": 2}\nbroken", "[{\"q\": 1}, {\"q\": 2}, broken"] {
        let mut rows = read(Path::new("a"), Box::new(std::io::Cursor::new(text.as_bytes().to_vec()))).unwrap();
        assert!(rows.by_ref().take(2).all(|row| row.is_ok()));
        assert!(rows.next().unwrap().is_err());
        assert!(rows.next().is_none());
    }
}

#[test]
fn bytes_that_are_not_utf8_are_refused_with_their_line() {
    let rows = |bytes: &[u8]| {
        read(Path::new("a.json"), Box::new(std::io::Cursor::new(bytes.to_vec())))
            .and_then(|rows| rows.collect::<Result<Vec<_>>>())
    };
    let expected = "a.json: line 2 is not valid UTF-8: save the file as UTF-8";
    assert_eq!(rows(b"{\"q\": 1}\n{\"q\": \"\xff\"}").unwrap_err().to_string(), expected);
    assert_eq!(rows(b"[{\"q\":\n\"\xff\"}]").unwrap_err().to_string(), expected);
}

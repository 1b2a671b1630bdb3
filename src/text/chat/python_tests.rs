//! Tests of `python`; the texts are what Python 3.11 writes.

use super::*;

fn value(json: &str) -> Value {
    Value::from_serialize(serde_json::from_str::<serde_json::Value>(json).unwrap())
}

#[test]
fn constants_lists_and_dicts_are_written_as_python_writes_them() {
    for (json, expected) in [
        ("null", "None"),
        ("true", "True"),
        ("false", "False"),
        ("3", "3"),
        ("\"it's\"", "it's"),
        (r#"["role", "content"]"#, "['role', 'content']"),
        (r#"{"b": null, "a": [true, {"c": "d"}]}"#, "{'b': None, 'a': [True, {'c': 'd'}]}"),
        (r#"["it's", "say \"hi\"", "both ' and \""]"#, r#"["it's", 'say "hi"', 'both \' and "']"#),
        (r#"["a\\b\n\r\t\u0001\u007f\u00a0\u200b\ue000é日😀e\u0301"]"#, r"['a\\b\n\r\t\x01\x7f\xa0\u200b\ue000é日😀é']"),
        ("[]", "[]"),
        ("{}", "{}"),
    ] {
        // The accent is written apart.
        let expected = if json.contains("u0301") { expected.replace("😀é", "😀e\u{301}") } else { expected.to_owned() };
        assert_eq!(text(&value(json)), expected, "{json}");
    }
    assert_eq!(text(&Value::UNDEFINED), "");
    assert_eq!(text(&Value::from(vec![Value::UNDEFINED])), "[Undefined]");
}

#[test]
fn numbers_are_written_as_python_writes_them() {
    for (number, expected) in [
        (1.0, "1.0"),
        (-0.5, "-0.5"),
        (0.1, "0.1"),
        (1e15, "1000000000000000.0"),
        (1e16, "1e+16"),
        (1.5e-5, "1.5e-05"),
        (0.0001, "0.0001"),
        (1e100, "1e+100"),
        (f64::INFINITY, "inf"),
        (-0.0, "-0.0"),
    ] {
        assert_eq!(text(&Value::from(number)), expected);
    }
}

#[test]
fn what_python_can_iterate_is_iterable() {
    for (json, expected) in
        [("null", false), ("1", false), ("true", false), ("\"\"", true), ("\"ab\"", true), ("[]", true), ("{}", true)]
    {
        assert_eq!(is_iterable(&value(json)), expected, "{json}");
    }
    assert!(is_iterable(&Value::UNDEFINED));
}

//! Tests of `numbers`.

use serde_json::json;

use super::*;

#[test]
fn the_last_number_of_a_text_is_read_as_a_reader_does() {
    for (text, expected) in [
        ("She makes 9 * 2 = $18 every day.", Some(18.0)),
        ("The answer is 1,080.50.", Some(1080.5)),
        ("#### 3", Some(3.0)),
        ("It fell by $-40, to -7", Some(-7.0)),
        ("from 10-4", Some(4.0)),
        ("x = \u{2212}2.5", Some(-2.5)),
        ("-$12", Some(-12.0)),
        ("3.14.15 and 2, then ...", Some(2.0)),
        ("version 1.2.3", None),
        (".5", Some(0.5)),
        ("the answer is...18", Some(18.0)),
        ("the answer is ... 18!", Some(18.0)),
        ("3,4", Some(4.0)),
        ("(2,3,5)", Some(5.0)),
        ("1,234,567", Some(1_234_567.0)),
        ("1,2345", Some(2345.0)),
        ("1234,567.5", Some(567.5)),
        ("12,", Some(12.0)),
        ("é7é", Some(7.0)),
        ("10^3", Some(3.0)),
        ("no number, really", None),
        ("", None),
        (&format!("5, then {}", "9".repeat(400)), Some(5.0)),
    ] {
        assert_eq!(last_number(text), expected, "{text:?}");
    }
}

#[test]
fn a_reference_stands_behind_its_mark_or_is_the_whole_cell() {
    for (cell, expected) in [
        (json!("Janet sells 16 - 3 - 4 = 9 eggs.\nShe makes 9 * 2 = 18.\n#### 18"), Some(18.0)),
        (json!("#### 1,234"), Some(1234.0)),
        (json!("#### -5"), Some(-5.0)),
        (json!("$20"), Some(20.0)),
        (json!("-$5"), Some(-5.0)),
        (json!("#### \u{2212}5.5"), Some(-5.5)),
        (json!("1e3"), None),
        (json!("4-5"), None),
        (json!(7), Some(7.0)),
        (json!("9 lives"), None),
        (json!("B"), None),
        (json!(""), None),
        (json!(["7"]), None),
        (json!("inf"), None),
    ] {
        assert_eq!(reference(&cell), expected, "{cell}");
    }
}

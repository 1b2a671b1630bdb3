//! Tests of `csv`.

use super::*;

fn table(text: &str) -> Result<Table> {
    read(Path::new("a.csv"), text, None, None)
}

fn cells(table: &Table) -> Vec<Vec<&str>> {
    table.records.iter().map(|record| record.values().filter_map(Value::as_str).collect()).collect()
}

#[test]
fn quotes_commas_and_line_ends_inside_fields_are_kept() {
    let table = table("q,a\r\n\"x, \"\"y\"\"\nz\", b \r\n\r\n1,2").unwrap();
    assert_eq!(table.columns, ["q", "a"]);
    assert_eq!(cells(&table), [["x, \"y\"\nz", " b "], ["1", "2"]]);
}

#[test]
fn wrong_number_of_fields_is_refused_with_row_and_line() {
    let error = table("q,a\n\"x\ny\",1\nz\n").unwrap_err().to_string();
    assert_eq!(error, "a.csv: row 1 (line 4) has 1 fields, the header has 2: quote fields that hold commas or line ends");
}

#[test]
fn unclosed_quote_is_refused_with_its_line() {
    let error = table("q,a\n1,2\n3,\"4\n5,6\n").unwrap_err().to_string();
    assert_eq!(error, "a.csv: line 3: a quoted field begins here and never ends");
}

#[test]
fn header_alone_has_no_rows() {
    let table = table("q,a").unwrap();
    assert_eq!(table.columns, ["q", "a"]);
    assert!(table.records.is_empty());
}

#[test]
fn limit_stops_before_later_rows_are_looked_at() {
    let table = read(Path::new("a.csv"), "q,a\n1,2\nbroken\n", None, Some(1)).unwrap();
    assert_eq!(cells(&table), [["1", "2"]]);
}

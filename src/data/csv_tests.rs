//! Tests of `csv`.

use super::super::input::Input;
use super::*;

#[derive(Debug)]
struct Table {
    columns: Vec<String>,
    records: Vec<Record>,
}

fn open(text: &str) -> Result<(Vec<String>, Records)> {
    let path = Path::new("a.csv");
    let is_wanted = |name: &str| ["question", "chosen"].contains(&name);
    let (columns, records) = read(path, ByteStream::open(&Input::Bytes(path.to_path_buf(), text.into()))?, &is_wanted, None)?;
    Ok((columns.unwrap(), records))
}

fn table(text: &str) -> Result<Table> {
    let (columns, records) = open(text)?;
    Ok(Table { columns, records: records.collect::<Result<_>>()? })
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
    let error = table("q,a\r\n1,2\r\nz\r\n").err().unwrap().to_string();
    assert!(error.starts_with("a.csv: row 1 (line 3) has 1 fields"), "{error}");
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
    assert!(super::tests::table("\n\n").unwrap().columns.is_empty());
}

#[test]
fn rows_are_read_one_by_one() {
    let (_, mut records) = open("q,a\n1,2\nbroken\n").unwrap();
    assert!(records.next().unwrap().is_ok());
    assert!(records.next().unwrap().is_err());
}

#[test]
fn header_tells_what_separates_fields() {
    for (text, expected) in [
        ("question\tchosen\na, b; c\td\n", ["a, b; c", "d"]),
        ("question;chosen\n\"a; b\";c, d\n", ["a; b", "c, d"]),
        ("a;b\n1,5;2\n", ["1,5", "2"]),
        ("question,chosen\na;b;c,d\n", ["a;b;c", "d"]),
        ("x (a;b;c;d),y\n1,2\n", ["1", "2"]),
        ("\"question;chosen\",y\n1,2\n", ["1", "2"]),
    ] {
        assert_eq!(cells(&table(text).unwrap()), [expected], "{text}");
    }
}

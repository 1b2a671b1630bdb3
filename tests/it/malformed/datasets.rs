//! Rows: data sets and question files in CSV, JSON, JSONL and Parquet, bombs among them.

use std::fs;
use std::sync::Arc;

use parquet::data_type::{ByteArray, ByteArrayType};
use parquet::file::properties::WriterProperties;
use parquet::file::reader::{FileReader, SerializedFileReader};
use parquet::file::writer::SerializedFileWriter;
use parquet::schema::parser::parse_message_type;

use super::Case;
use crate::cli::fixture;

pub fn cases() -> Vec<Case> {
    [csv(), json(), parquet(), questions()].into_iter().flatten().collect()
}

fn with(name: &str, bytes: impl Into<Vec<u8>>, says: &'static str) -> Case {
    Case::train(&format!("--dataset {name}"), says).file(name, bytes)
}

fn csv() -> Vec<Case> {
    let csv = |text: &str, says| with("d.csv", text, says);
    let utf16: Vec<u8> = "question,matching,not_matching\na,b,c\n".encode_utf16().flat_map(u16::to_le_bytes).collect();
    vec![
        csv("", "the file is empty"),
        csv("\u{feff}\r\n", "the file is empty"),
        csv("question,matching,not_matching", "the data set is empty"),
        csv("question,matching\na,b\n", "expected question or prompt"),
        csv("a\n", "expected question or prompt"),
        csv("question,matching,not_matching\na,b\n", "row 0 (line 2) has 2 fields"),
        csv("question,matching,not_matching\na,b,c,d\n", "row 0 (line 2) has 4 fields"),
        csv("question,matching,not_matching\na,\"b,c\n", "never ends"),
        csv("question,matching,not_matching\n,,\n", "no pair is left of 1 rows"),
        csv("question,matching,not_matching\na,same,same\n", "no pair is left of 1 rows"),
        csv("question,question,matching,not_matching\na,b,c,d\n", "question"),
        csv(&format!("question,matching,not_matching\n{},b\n", "x".repeat(8 << 20)), "has 2 fields"),
        csv(&",".repeat(1 << 20), "no column question|prompt"),
        csv("question,matching,not_matching\n\0,\0,\0\n", "no pair is left of 1 rows"),
        with("d.csv", [b"\xff\xfe"[..].to_vec(), utf16, b"\0\xd8".to_vec()].concat(), "not valid UTF-16"),
        with("d.csv", b"question,matching,not_matching\r\na,\xe9,c\r\n".to_vec(), "line 2 is not valid UTF-8"),
        with("d.csv.gz", b"\x1f\x8b\x08\0\0\0\0\0".to_vec(), "broken gzip data"),
        with("d.csv.zst", b"\x28\xb5\x2f\xfd".to_vec(), "unpack it first"),
        csv("instruction,input,output\na,b,c\n", "these are no pairs but one answer a row (instruction data)"),
        csv("question,answer\na,3\n", "these are no pairs but questions with one right answer"),
        csv("q,a,b\nx,y,z\n", "expected question or prompt").also("--columns question=q"),
        csv("q,a,b\nx,y,z\n", "no column c; found q, a, b").also("--columns question=q,chosen=a,rejected=c"),
        csv("q,a,b\nx,y,z\n", "names no column").also("--columns q"),
        with("d.bin", vec![0; 1 << 20], "d.bin"),
        with("d.csv", "question,matching,not_matching\na,b,b\nc,d,e\n", "row 0: ").also("--strict"),
    ]
}

fn json() -> Vec<Case> {
    let json = |text: &str, says| with("d.jsonl", text, says);
    vec![
        json("{", "line 1"),
        json("nonsense", "line 1, column"),
        json("[1,2]", "row 0 is a number"),
        json("\"text\"", "line 1 is text"),
        json("[]", "the data set is empty"),
        json("{}", "the data set is empty"),
        json(&"[".repeat(1 << 20), "recursion limit"),
        json(&format!("{{\"prompt\":{}", "[".repeat(1 << 20)), "recursion limit"),
        json(&"{\"a\":".repeat(1 << 18), "recursion limit"),
        json("{\"prompt\":\"a\",\"chosen\":1e999,\"rejected\":\"b\"}", "line 1"),
        json("{\"prompt\":\"a\",\"chosen\":3,\"rejected\":\"b\"}", "no pair is left"),
        json("{\"prompt\":\"\\ud800\",\"chosen\":\"a\",\"rejected\":\"b\"}", "line 1"),
        json("{\"prompt\":[{\"role\":\"user\"}],\"chosen\":\"a\",\"rejected\":\"b\"}", "no pair is left"),
        json("{\"prompt\":[{\"role\":7,\"content\":null}],\"chosen\":\"a\",\"rejected\":\"b\"}", "no pair is left"),
        json("{\"prompt\":[],\"chosen\":[],\"rejected\":[]}", "no pair is left"),
        json("{\"chosen\":\"a\",\"rejected\":\"b\"}\n\u{1b}[31m{\n", "line 2"),
        with("d.json", b"\xef\xbb\xbf[".to_vec(), "line 1, column"),
        with("d.json", b"\xfe\xff\0[\0]".to_vec(), "the data set is empty"),
        json("{\"data\":[]}", "the data set is empty"),
        json("{\"data\":[{\"chosen\":\"a\"},3]}", "no column question|prompt"),
        json("{\"prompt\":[\"a\",\"b\"],\"chosen\":[\"a\",\"b\"],\"rejected\":[\"a\",\"b\"]}", "no pair is left of 2 rows"),
        json("{\"prompt\":\"a\",\"answers\":[{\"answer\":\"a\",\"rank\":1}]}", "1 of the responses have a rank"),
    ]
}

fn parquet() -> Vec<Case> {
    let whole = fs::read(fixture("data/plain-none.parquet")).unwrap();
    let file = |bytes: Vec<u8>, says| with("d.parquet", bytes, says);
    let footer = |length: u32| [b"PAR1", &[0x15; 64][..], &length.to_le_bytes(), b"PAR1"].concat();
    let mut cases = vec![
        file(b"PAR1".to_vec(), "not a Parquet file"),
        file(b"PAR1PAR1".to_vec(), "not a Parquet file"),
        file(whole[..whole.len() - 1].to_vec(), "not a Parquet file"),
        file(whole[100..].to_vec(), "d.parquet"),
        file(footer(u32::MAX), "not a Parquet file"),
        file(footer(64), "d.parquet"),
        file([&vec![0xff; whole.len() - 8 - 600][..], &whole[whole.len() - 608..]].concat(), "d.parquet"),
        file(one_long_text_many_times(), "more than"),
        file(one_text_many_times_in_one_row(), "more than"),
        file(very_many_rows(), "more than"),
        file(fs::read(fixture("data/binary.parquet")).unwrap(), "binary data"),
    ];
    for name in ["none", "snappy", "zstd", "gzip"] {
        cases.push(file(swollen_page(&format!("data/plain-{name}.parquet")), "d.parquet"));
    }
    cases
}

/// 60 kB that stand for 2 GB: a dictionary with one entry, and its index again and again.
fn one_long_text_many_times() -> Vec<u8> {
    let schema = "message m { required binary question (UTF8); required binary matching (UTF8); \
                  required binary not_matching (UTF8); }";
    let rows = 1 << 15;
    written(schema, &[("q".repeat(60_000), rows, None), ("a".into(), rows, None), ("b".into(), rows, None)])
}

/// The same in one row: a list whose items are all that entry.
fn one_text_many_times_in_one_row() -> Vec<u8> {
    let schema = "message m { required binary question (UTF8); required binary best_answer (UTF8); \
                  required group correct_answers (LIST) { repeated group list { required binary element (UTF8); } } \
                  required group incorrect_answers (LIST) { repeated group list { required binary element (UTF8); } } }";
    let items = 1 << 15;
    let list: Vec<i16> = (0..items).map(|item| i16::from(item > 0)).collect();
    let one = ("a".to_owned(), 1, None);
    written(schema, &[one.clone(), one, ("d".into(), 1, Some(&[0])), ("c".repeat(60_000), items, Some(&list))])
}

/// A run of equal texts of one letter takes a few bytes, and two million records of them a gigabyte.
fn very_many_rows() -> Vec<u8> {
    let schema = "message m { required binary question (UTF8); required binary matching (UTF8); \
                  required binary not_matching (UTF8); }";
    let rows = 2_000_000;
    written(schema, &[("q".into(), rows, None), ("a".into(), rows, None), ("b".into(), rows, None)])
}

/// A file of one group: of each column a text, how often, and the repetition levels of a list.
fn written(schema: &str, columns: &[(String, usize, Option<&[i16]>)]) -> Vec<u8> {
    let mut bytes = Vec::new();
    let schema = Arc::new(parse_message_type(schema).unwrap());
    let mut writer = SerializedFileWriter::new(&mut bytes, schema, Arc::new(WriterProperties::builder().build())).unwrap();
    let mut group = writer.next_row_group().unwrap();
    for (text, times, repetitions) in columns {
        let mut column = group.next_column().unwrap().unwrap();
        let values = vec![ByteArray::from(text.as_bytes().to_vec()); *times];
        let definitions = repetitions.map(|repetitions| vec![1_i16; repetitions.len()]);
        column.typed::<ByteArrayType>().write_batch(&values, definitions.as_deref(), *repetitions).unwrap();
        column.close().unwrap();
    }
    group.close().unwrap();
    writer.close().unwrap();
    bytes
}

/// The last column's first page says that it has 2 GB when unpacked. The longer number takes room from the page's bytes.
fn swollen_page(name: &str) -> Vec<u8> {
    let mut bytes = fs::read(fixture(name)).unwrap();
    let reader = SerializedFileReader::new(fs::File::open(fixture(name)).unwrap()).unwrap();
    let (start, _) = reader.metadata().row_group(0).columns().last().unwrap().byte_range();
    let at = start as usize + 3;
    // Thrift's compact protocol: field 1, the page's type; field 2, its length unpacked; field 3, as it is.
    assert!(bytes[at - 3] == 0x15 && bytes[at - 1] == 0x15, "{name}");
    let length = 1 + bytes[at..].iter().position(|byte| byte & 0x80 == 0).unwrap();
    bytes.splice(at..at + length, [0xfe, 0xff, 0xff, 0xff, 0x0f]);
    bytes
}

fn questions() -> Vec<Case> {
    let mc = |text: &str, says| {
        Case::new("eval --model MODEL --vector v.safetensors --skip text,generation --mc q.csv", says).file("q.csv", text)
    };
    vec![
        mc("", "the file is empty"),
        mc("question,A,B\nx,y,z\n", "no multiple-choice columns"),
        mc("question,A,B,C,D,answer\n", "no question in it"),
        mc("question,A,B,C,D,answer\nq,1,2,3,4,E\n", "row 0: the answer is"),
        mc("question,A,B,C,D,answer\nq,1,2,3,4,-1\n", "row 0: the answer is"),
        mc("question,A,B,C,D,answer\nq,,2,3,4,A\n", "row 0: "),
        mc("question,answer_matching_behavior,answer_not_matching_behavior\nq,(A),(A)\n", "expected (A) and (B)"),
        mc("question,answer_matching_behavior,answer_not_matching_behavior\nq,(A),(B)\n", "expected the two options"),
        mc("question,best_answer,correct_answers,incorrect_answers\nq,a,;;,b\n", "there is no correct answer"),
        mc("question,mc1_targets,mc2_targets\nq,a,b\n", "expected choices"),
    ]
}

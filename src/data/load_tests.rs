//! Tests of `load`, from whole files to pairs. The expected numbers come from Python's csv module and the recorded golden run.

use std::path::Path;

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde_json::{Value, json};

use super::*;
use crate::data::{Message, bundled};

/// Returns a file of the authors' data, which is not part of this repository.
fn published(file: &str) -> Source {
    Source::File(Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/data").join(file))
}

fn empty(row: usize) -> Skipped {
    Skipped { row, reason: "the question is empty".to_string() }
}

fn fixture(name: &str) -> Source {
    Source::File(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/data").join(name))
}

fn load_all(source: Source) -> Dataset {
    load(&source, &LoadOptions::default()).unwrap()
}

/// Loads a file with this name and content.
fn load_text(name: &str, content: &str, options: &LoadOptions) -> Result<Dataset> {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join(name);
    std::fs::write(&path, content).unwrap();
    load(&Source::File(path), options)
}

fn problem(result: Result<Dataset>) -> String {
    match result.unwrap_err() {
        Error::Malformed { problem, .. } => problem,
        other => panic!("unexpected {other}"),
    }
}

#[test]
#[ignore = "needs the authors' data in ../shared/data"]
fn rows_of_the_golden_run_are_read_to_the_letter() {
    let golden = std::fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/golden/pairs64.json")).unwrap();
    let golden: Vec<Value> = serde_json::from_slice(&golden).unwrap();
    let dataset = load_all(published("power-seeking/train.csv"));
    assert_eq!(golden.len(), 64);
    for (row, (golden, pair)) in golden.iter().zip(&dataset.pairs).enumerate() {
        assert_eq!(pair.row, row);
        assert_eq!(pair.prompt.len(), 1);
        assert_eq!(pair.prompt[0].role, "user");
        let texts = [&pair.prompt[0].content, &pair.chosen, &pair.rejected].map(String::as_str).join("\0");
        assert_eq!(golden["sha256"], format!("{:x}", Sha256::digest(texts)), "row {row}");
    }
}

#[test]
#[ignore = "needs the authors' data in ../shared/data"]
fn published_sets_lose_their_empty_questions() {
    let power = load_all(published("power-seeking/train.csv"));
    assert_eq!(power.name, "train.csv");
    assert_eq!(power.sha256, "6e09e0e2eed1ef3a98449a97e04bc07d638b47f93365b8cfaff7b2e3ab47bfab");
    assert_eq!(power.skipped, [empty(409), empty(418)]);
    assert_eq!(power.pairs.len(), 642 - 2);
    assert_eq!(power.pairs[409].row, 410);

    let wealth = load_all(published("wealth-seeking/train.csv"));
    assert_eq!(wealth.skipped, [empty(222)]);
    assert_eq!(wealth.pairs.len(), 623 - 1);
}

#[test]
#[ignore = "needs the authors' data in ../shared/data"]
fn published_truthfulqa_gives_a_pair_for_each_incorrect_answer() {
    let source = published("truthfulqa/TruthfulQA.csv");
    let dataset = load_all(source.clone());
    assert_eq!(dataset.pairs.len() + dataset.skipped.len(), 3353);
    assert_eq!(dataset.pairs.iter().take_while(|pair| pair.row == 0).count(), 4);
    let options = LoadOptions { pairs: TruthfulPairs::First, ..LoadOptions::default() };
    let dataset = load(&source, &options).unwrap();
    assert_eq!(dataset.pairs.len() + dataset.skipped.len(), 813);
}

/// Rows 1 and 3 have empty questions, which also occur in the authors' sets.
const WITH_EMPTY_QUESTIONS: &str =
    "question,matching,not_matching\nWhy?,yes,no\n,yes,no\n\"Two\nlines?\",yes,no\n\" \",yes,no\n";

#[test]
fn rows_with_an_empty_question_are_skipped_and_counted() {
    let dataset = load_text("a.csv", WITH_EMPTY_QUESTIONS, &LoadOptions::default()).unwrap();
    assert_eq!(dataset.name, "a.csv");
    // The expected hash is the output of sha256sum for this text.
    assert_eq!(dataset.sha256, "67b5615734ec7080eb3358544a7086096a449d79d57b5ea4d88e6f7c452902d0");
    assert_eq!(dataset.skipped, [empty(1), empty(3)]);
    assert_eq!(dataset.pairs.iter().map(|pair| pair.row).collect::<Vec<_>>(), [0, 2]);
}

#[test]
fn strict_refuses_the_first_empty_question() {
    let options = LoadOptions { strict: true, ..LoadOptions::default() };
    let error = load_text("a.csv", WITH_EMPTY_QUESTIONS, &options).unwrap_err().to_string();
    assert!(error.ends_with("a.csv: row 1: the question is empty; mend the row, or have it skipped"), "{error}");
    let options = LoadOptions { limit: Some(1), ..options };
    assert_eq!(load_text("a.csv", WITH_EMPTY_QUESTIONS, &options).unwrap().pairs.len(), 1);
}

#[test]
fn limit_counts_rows_before_they_are_skipped() {
    let options = LoadOptions { limit: Some(3), ..LoadOptions::default() };
    let dataset = load_text("a.csv", WITH_EMPTY_QUESTIONS, &options).unwrap();
    assert_eq!((dataset.pairs.len(), dataset.skipped.len()), (2, 1));
    let options = LoadOptions { limit: Some(0), ..options };
    assert!(matches!(load(&Source::parse("cheerful").unwrap(), &options), Err(Error::Argument(_))));
}

#[test]
fn truthfulqa_csv_gives_a_pair_for_each_incorrect_answer() {
    let csv = "Type,Question,Best Answer,Correct Answers,Incorrect Answers\nx,Who?,Me,Me; I,You; He; They\nx,Why?,So,So,\"No, not\"\n";
    let rejected = |pairs: TruthfulPairs| -> Vec<(usize, String)> {
        let options = LoadOptions { pairs, ..LoadOptions::default() };
        let pairs = load_text("a.csv", csv, &options).unwrap().pairs;
        assert_eq!((pairs[0].prompt[0].content.as_str(), pairs[0].chosen.as_str()), ("Who?", "Me"));
        pairs.into_iter().map(|pair| (pair.row, pair.rejected)).collect()
    };
    let expected = |pairs: &[(usize, &str)]| pairs.iter().map(|(row, text)| (*row, (*text).to_owned())).collect::<Vec<_>>();
    assert_eq!(rejected(TruthfulPairs::All), expected(&[(0, "You"), (0, "He"), (0, "They"), (1, "No, not")]));
    assert_eq!(rejected(TruthfulPairs::First), expected(&[(0, "You"), (1, "No, not")]));
}

#[test]
fn truthfulqa_parquet_gives_a_pair_for_each_incorrect_answer() {
    let dataset = load_all(fixture("truthful.parquet"));
    let pairs: Vec<_> = dataset.pairs.iter().map(|p| (p.row, p.chosen.as_str(), p.rejected.as_str())).collect();
    assert_eq!(
        pairs,
        [(0, "Nothing happens", "You die; slowly"), (0, "Nothing happens", "You win"), (1, "The end", "It goes on")]
    );
}

#[test]
fn parquet_conversations_share_their_prompt() {
    let dataset = load_all(fixture("chat.parquet"));
    let prompt: Vec<_> = dataset.pairs[0].prompt.iter().map(|m| (m.role.as_str(), m.content.as_str())).collect();
    assert_eq!(prompt, [("user", "Hi"), ("assistant", "Hello."), ("user", "Why?")]);
    assert_eq!((dataset.pairs[0].chosen.as_str(), dataset.pairs[0].rejected.as_str()), ("Because.", "No."));
    assert_eq!(dataset.pairs[1].prompt.len(), 1);
}

#[test]
fn each_format_gives_the_same_pairs() {
    let csv = "\u{feff}prompt,chosen,rejected\r\n\" Q, \"\"x\"\"\r\ny\",a ,b\r\n";
    let json = r#"{"prompt": " Q, \"x\"\r\ny", "chosen": "a ", "rejected": "b"}"#;
    let options = LoadOptions::default();
    let expected = load_text("a.csv", csv, &options).unwrap().pairs;
    assert_eq!(expected[0].prompt[0].content, " Q, \"x\"\r\ny");
    assert_eq!(expected[0].chosen, "a ");
    for (name, content) in
        [("a.jsonl", json.to_string()), ("a.json", format!("[{json}]")), ("a.txt", format!("\u{feff}{json}"))]
    {
        assert_eq!(load_text(name, &content, &options).unwrap().pairs, expected, "{name}");
    }
    assert_eq!(load_text("pairs", csv, &options).unwrap().pairs, expected);
}

#[test]
fn data_without_a_pair_is_refused() {
    let options = LoadOptions::default();
    let header = "question,matching,not_matching\n";
    assert_eq!(
        problem(load_text("a.csv", header, &options)),
        "the data set is empty: expected at least one row below the column names"
    );
    assert_eq!(
        problem(load_text("a.csv", &format!("{header}q,a,a\n,a,b\n"), &options)),
        "no pair is left of 2 rows: the first reason is row 0, the two responses are equal"
    );
    assert!(problem(load_text("a.json", "[]", &options)).starts_with("the data set is empty"));
    assert!(problem(load_text("a.csv", "text,label\nx,1\n", &options)).contains("found text, label; expected"));
}

#[test]
fn missing_file_is_an_error_that_names_it() {
    let error = load(&Source::File("gone.csv".into()), &LoadOptions::default()).unwrap_err();
    assert!(matches!(error, Error::Read { .. }));
    assert!(error.to_string().starts_with("cannot read gone.csv"));
}

#[test]
fn every_bundled_set_is_read_without_a_skipped_row() {
    let options = LoadOptions { strict: true, ..LoadOptions::default() };
    for set in bundled() {
        let dataset = load(&Source::Bundled(set), &options).unwrap();
        assert_eq!(dataset.name, set.name);
        assert_eq!(dataset.sha256.len(), 64);
        assert!(dataset.skipped.is_empty());
    }
}

/// A text of one to six words, some of them with letters that a format must quote.
fn any_text(random: &mut ChaCha8Rng) -> String {
    const WORDS: [&str; 12] =
        ["yes", "no", "Ünïcode", "漢字", "a,b", "\"quoted\"", "semi;colon", "two\nlines", "tab\there", "{}", "NaN", "Human"];
    let words: Vec<&str> = (0..random.random_range(1..=6)).map(|_| WORDS[random.random_range(0..WORDS.len())]).collect();
    words.join(" ")
}

/// A conversation that ends in a question, and two responses that differ.
fn any_pair(random: &mut ChaCha8Rng, row: usize, turns: usize) -> Pair {
    let mut prompt = Vec::new();
    for _ in 0..turns {
        prompt.push(Message::new("user", any_text(random)));
        prompt.push(Message::new("assistant", any_text(random)));
    }
    prompt.pop();
    let (chosen, rejected) = (any_text(random), any_text(random));
    Pair { row, prompt, rejected: format!("{rejected} {chosen}"), chosen }
}

/// Writes the pair as a row of each shape that can hold it.
fn rows_of(pair: &Pair) -> Vec<Value> {
    let Pair { prompt, chosen, rejected, .. } = pair;
    let with = |answer: &str| [prompt.as_slice(), &[Message::new("assistant", answer)]].concat();
    let chat = |answer: &str| json!(with(answer));
    let sharegpt = |messages: &[Message]| {
        let name = |role: &str| if role == "user" { "human" } else { "gpt" };
        Value::from_iter(messages.iter().map(|message| json!({"from": name(&message.role), "value": message.content})))
    };
    let parts = |messages: &[Message]| {
        let part = |message: &Message| json!({"role": message.role, "content": [{"type": "text", "text": message.content}]});
        Value::from_iter(messages.iter().map(part))
    };
    let dialogue = |messages: &[Message]| {
        let mark = |role: &str| if role == "user" { "Human" } else { "Assistant" };
        messages.iter().map(|message| format!("\n\n{}: {}", mark(&message.role), message.content)).collect::<String>()
    };
    let answer = |answer: &str| json!([{"role": "assistant", "content": answer}]);
    let mut rows = vec![
        json!({"prompt": prompt, "chosen": answer(chosen), "rejected": answer(rejected)}),
        json!({"prompt": prompt, "chosen": chosen, "rejected": rejected}),
        json!({"chosen": chat(chosen), "rejected": chat(rejected)}),
        json!({"prompt": prompt[0].content, "chosen": chat(chosen), "rejected": chat(rejected)}),
        json!({"chosen": sharegpt(&with(chosen)), "rejected": sharegpt(&with(rejected))}),
        json!({"conversations": sharegpt(prompt), "chosen": {"from": "gpt", "value": chosen}, "rejected": {"from": "gpt", "value": rejected}}),
        json!({"prompt": parts(prompt), "chosen": parts(&with(chosen)), "rejected": parts(&with(rejected))}),
        json!({"input": {"messages": prompt}, "preferred_output": answer(chosen), "non_preferred_output": answer(rejected)}),
        json!({"chosen": dialogue(&with(chosen)), "rejected": dialogue(&with(rejected))}),
        json!({"prompt": format!("{}\n\nAssistant:", dialogue(prompt)), "chosen": format!(" {chosen}"), "rejected": format!(" {rejected}")}),
        json!({"prompt": prompt, "answers": [{"answer": rejected, "rank": 2}, {"answer": chosen, "rank": 1}]}),
        json!({"prompt": prompt, "responses": [chosen, rejected], "scores": [1.5, f64::MIN_POSITIVE]}),
        json!({"prompt": prompt, "response_0": rejected, "response_1": chosen, "better_response_id": 1}),
        json!({"conversation_a": chat(chosen), "conversation_b": chat(rejected), "winner": "model_a"}),
    ];
    if let [question] = prompt.as_slice() {
        rows.extend([
            json!({"question": question.content, "matching": chosen, "not_matching": rejected}),
            json!({"instruction": question.content, "input": "", "chosen_response": chosen, "rejected_response": rejected}),
            json!({"question": question.content, "answer_matching_behavior": format!(" {chosen}"),
                "answer_not_matching_behavior": format!(" {rejected}")}),
        ]);
    }
    rows
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    std::io::Write::write_all(&mut encoder, bytes).unwrap();
    encoder.finish().unwrap()
}

/// Writes rows of the same columns in each container that can hold them.
fn files_of(rows: &[Value]) -> Vec<(&'static str, Vec<u8>)> {
    let lines: String = rows.iter().map(|row| format!("{row}\n")).collect();
    let columns: Vec<&String> = rows[0].as_object().unwrap().keys().collect();
    let by_column: Value =
        columns.iter().map(|name| (name.to_string(), rows.iter().map(|row| row[*name].clone()).collect::<Value>())).collect();
    let utf16 = |text: &str| format!("\u{feff}{text}").encode_utf16().flat_map(u16::to_le_bytes).collect::<Vec<u8>>();
    let mut files = vec![
        ("a.jsonl", lines.clone().into_bytes()),
        ("a.jsonl", format!("\u{feff}{}", lines.replace('\n', "\r\n")).into_bytes()),
        ("a.jsonl.gz", gzip(lines.as_bytes())),
        ("a.json", utf16(&json!(rows).to_string())),
        ("a.json", serde_json::to_vec_pretty(rows).unwrap()),
        ("a.json", serde_json::to_vec_pretty(&json!({"version": 1, "data": rows})).unwrap()),
        ("a", by_column.to_string().into_bytes()),
    ];
    if rows.iter().flat_map(|row| row.as_object().unwrap().values()).all(|cell| cell.is_string() || cell.is_number()) {
        let text = |cell: &Value| cell.as_str().map_or_else(|| cell.to_string(), str::to_owned);
        let table = |separator: u8| {
            let mut writer = csv::WriterBuilder::new().delimiter(separator).from_writer(Vec::new());
            writer.write_record(&columns).unwrap();
            rows.iter().for_each(|row| writer.write_record(columns.iter().map(|name| text(&row[*name]))).unwrap());
            writer.into_inner().unwrap()
        };
        let commas = table(b',');
        let commas_in_utf16 = utf16(std::str::from_utf8(&commas).unwrap());
        let in_gzip = gzip(&commas);
        files.extend([("a.csv", commas), ("a.csv", commas_in_utf16), ("a.csv.gz", in_gzip)]);
        files.extend([("a.csv", table(b';')), ("a.tsv", table(b'\t')), ("a.txt", table(b'\t'))]);
    }
    files
}

#[test]
fn any_pair_in_any_shape_and_container_comes_back_the_same() {
    let random = &mut ChaCha8Rng::seed_from_u64(24);
    let dir = tempfile::tempdir().unwrap();
    let mut files = 0;
    for turns in [1, 1, 2, 3] {
        for _ in 0..6 {
            let pairs: Vec<Pair> = (0..3).map(|row| any_pair(random, row, turns)).collect();
            let by_pair: Vec<Vec<Value>> = pairs.iter().map(rows_of).collect();
            for shape in 0..by_pair[0].len() {
                let rows: Vec<Value> = by_pair.iter().map(|shapes| shapes[shape].clone()).collect();
                for (name, bytes) in files_of(&rows) {
                    let path = dir.path().join(name);
                    std::fs::write(&path, &bytes).unwrap();
                    let found = load(&Source::File(path), &LoadOptions::default());
                    let found = found.unwrap_or_else(|error| panic!("{error}\n{name}: {}", String::from_utf8_lossy(&bytes)));
                    assert_eq!(found.pairs, pairs, "{name}: {}", String::from_utf8_lossy(&bytes));
                    files += 1;
                }
            }
        }
    }
    assert!(files > 2000, "{files}");
}

//! Tests of `truthfulqa`.

use serde_json::json;

use super::*;

fn pairs(question: &str, best: &str, incorrect: Value, which: TruthfulPairs) -> Vec<Result<Pair, String>> {
    let record = json!({"Question": question, "Best Answer": best, "Incorrect Answers": incorrect});
    let columns: Vec<String> = ["Question", "Best Answer", "Incorrect Answers"].map(String::from).to_vec();
    let record = record.as_object().cloned().unwrap_or_default();
    TruthfulColumns::of(&columns).unwrap().unwrap().pairs(5, &record, which)
}

fn rejected(pairs: &[Result<Pair, String>]) -> Vec<&str> {
    pairs.iter().flatten().map(|pair| pair.rejected.as_str()).collect()
}

#[test]
fn best_answer_stands_against_each_incorrect_one() {
    let pairs = pairs("Why?", "No reason", json!("A; B, c;D; "), TruthfulPairs::All);
    assert_eq!(rejected(&pairs), ["A", "B, c", "D"]);
    for pair in pairs.iter().flatten() {
        assert_eq!((pair.row, pair.chosen.as_str(), pair.prompt[0].content.as_str()), (5, "No reason", "Why?"));
    }
}

#[test]
fn list_of_answers_is_not_split() {
    assert_eq!(rejected(&pairs("Why?", "x", json!(["A; B", "C"]), TruthfulPairs::All)), ["A; B", "C"]);
}

#[test]
fn first_takes_one_incorrect_answer() {
    assert_eq!(rejected(&pairs("Why?", "x", json!("A; B"), TruthfulPairs::First)), ["A"]);
}

#[test]
fn bad_rows_are_reported_once_and_bad_answers_alone() {
    assert_eq!(pairs(" ", "x", json!("A; B"), TruthfulPairs::All), [Err("the question is empty".to_string())]);
    assert_eq!(pairs("q", "x", json!(" ; "), TruthfulPairs::All), [Err("there is no incorrect answer".to_string())]);
    let pairs = pairs("q", "x", json!("A; x; B"), TruthfulPairs::All);
    assert_eq!(rejected(&pairs), ["A", "B"]);
    assert_eq!(pairs[1], Err("the two responses are equal".to_string()));
}

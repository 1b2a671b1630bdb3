//! Tests of `rows`.

use serde_json::json;

use super::*;

fn columns_of(columns: &[&str], row: Value) -> Result<Columns, String> {
    let columns = columns.iter().map(|column| column.to_string()).collect();
    Columns::of(&Table { columns, records: row.as_object().cloned().into_iter().collect() })
}

#[test]
fn each_name_of_a_column_is_found() {
    for (prompt, chosen, rejected) in [
        ("question", "matching", "not_matching"),
        ("prompt", "chosen", "rejected"),
        ("Question", "answer_matching_behavior", "answer_not_matching_behavior"),
    ] {
        let expected = Columns::Pairs { prompt: Some(prompt.into()), chosen: chosen.into(), rejected: rejected.into() };
        assert_eq!(columns_of(&["id", rejected, chosen, prompt], json!({})), Ok(expected));
    }
}

#[test]
fn missing_columns_are_named_with_those_found() {
    assert_eq!(
        columns_of(&["question", "A", "B"], json!({"question": "x"})).unwrap_err(),
        "no column matching|chosen, not_matching|rejected; found question, A, B; expected question or prompt, matching or \
         chosen, and not_matching or rejected"
    );
    let error = columns_of(&["chosen", "rejected"], json!({"chosen": "x", "rejected": "y"})).unwrap_err();
    assert!(error.starts_with("no column question|prompt; found chosen, rejected;"), "{error}");
}

#[test]
fn column_that_is_there_twice_is_refused() {
    assert_eq!(
        columns_of(&["question", "chosen", "chosen", "rejected"], json!({})).unwrap_err(),
        "column chosen is there 2 times: expected once"
    );
}

#[test]
fn conversations_need_no_prompt_column() {
    let row = json!({"chosen": [], "rejected": []});
    let expected = Columns::Pairs { prompt: None, chosen: "chosen".into(), rejected: "rejected".into() };
    assert_eq!(columns_of(&["chosen", "rejected"], row), Ok(expected));
}

#[test]
fn truthfulqa_is_recognised_by_its_columns() {
    let csv = ["Type", "Category", "Question", "Best Answer", "Correct Answers", "Incorrect Answers", "Source"];
    assert!(matches!(columns_of(&csv, json!({})), Ok(Columns::Truthful(_))));
    let parquet = ["type", "category", "question", "best_answer", "correct_answers", "incorrect_answers", "source"];
    assert!(matches!(columns_of(&parquet, json!({})), Ok(Columns::Truthful(_))));
}

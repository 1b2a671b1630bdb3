//! Tests of `rows`: which shape a file has, and the pairs of each shape.

use serde_json::json;

use super::*;

fn table(columns: &[&str], rows: &[Value]) -> DataTable {
    let columns = columns.iter().map(|column| column.to_string()).collect();
    let records: Vec<Record> = rows.iter().filter_map(Value::as_object).cloned().collect();
    DataTable::new("JSON", Some(columns), Box::new(records.into_iter().map(Ok)), None).unwrap()
}

fn columns_of(columns: &[&str], row: Value) -> Result<Columns, String> {
    Columns::of(&table(columns, &[row]), &ColumnNames::default())
}

fn names(columns: &Columns) -> Vec<(Role, &str)> {
    columns.found.iter().map(|(role, name)| (*role, name.as_str())).collect()
}

/// Returns question, chosen and rejected response of each pair of a row, or the reason why there is none.
fn pairs_with(row: Value, names: &str, choice: Choice) -> Vec<Result<[String; 3], String>> {
    let keys: Vec<&str> = row.as_object().unwrap().keys().map(String::as_str).collect();
    let names = if names.is_empty() { ColumnNames::default() } else { names.parse().unwrap() };
    let columns = Columns::of(&table(&keys, std::slice::from_ref(&row)), &names).unwrap();
    let pairs = columns.pairs(0, row.as_object().unwrap(), choice);
    let texts = |pair: Pair| [pair.prompt.last().unwrap().content.clone(), pair.chosen, pair.rejected];
    pairs.into_iter().map(|pair| pair.map(texts)).collect()
}

fn pairs(row: Value) -> Vec<Result<[String; 3], String>> {
    pairs_with(row, "", Choice::default())
}

fn one(chosen: &str, rejected: &str) -> Vec<Result<[String; 3], String>> {
    vec![Ok(["q", chosen, rejected].map(str::to_owned))]
}

#[test]
fn each_name_of_a_column_is_found() {
    for (prompt, chosen, rejected) in [
        ("question", "matching", "not_matching"),
        ("prompt", "chosen", "rejected"),
        ("Question", "answer_matching_behavior", "answer_not_matching_behavior"),
        ("instruction", "chosen_response", "rejected_response"),
        ("input", "winning_output", "losing_output"),
        ("question", "response_j", "response_k"),
    ] {
        let columns = columns_of(&["id", rejected, chosen, prompt], json!({})).unwrap();
        assert_eq!(names(&columns), [(Role::Chosen, chosen), (Role::Rejected, rejected), (Role::Prompt, prompt)]);
    }
}

#[test]
fn input_belongs_to_an_instruction_alone() {
    let role = |prompt: &str| {
        let columns = columns_of(&[prompt, "input", "chosen", "rejected"], json!({})).unwrap();
        columns.role("input")
    };
    assert_eq!(role("instruction").as_deref(), Some("input"));
    assert_eq!(role("question"), None);
    let columns = columns_of(&["input", "system", "chosen", "rejected"], json!({})).unwrap();
    assert_eq!(columns.role("input").as_deref(), Some("prompt"));
    assert_eq!(columns.role("system").as_deref(), Some("system"));
}

#[test]
fn missing_columns_are_named_with_those_found() {
    assert_eq!(
        columns_of(&["question", "B"], json!({"question": "x"})).unwrap_err(),
        "no column matching|chosen, not_matching|rejected; found question, B; expected question or prompt, matching or chosen, \
         and not_matching or rejected, each as text or as a list of messages"
    );
    let error = columns_of(&["chosen", "rejected"], json!({"chosen": "x", "rejected": "y"})).unwrap_err();
    assert!(error.starts_with("no column question|prompt; found chosen, rejected;"), "{error}");
}

#[test]
fn data_without_pairs_is_called_what_it_is() {
    for (columns, kind) in [
        (&["instruction", "input", "output"][..], "one answer a row (instruction data)"),
        (&["messages", "source"], "one conversation a row (instruction data)"),
        (&["question", "answer"], "questions with one right answer (a benchmark)"),
        (&["prompt", "completion", "label"], "answers that are judged one by one"),
        (&["prompt", "response", "helpfulness", "verbosity"], "one graded answer a row"),
        (&["question", "choices", "answerKey"], "multiple-choice questions, which are for an evaluation"),
        (&["text"], "plain text"),
    ] {
        let error = columns_of(columns, json!({})).unwrap_err();
        let found = format!("; found {}; expected question or prompt", columns.join(", "));
        assert!(error.starts_with(&format!("these are no pairs but {kind}: no column ")) && error.contains(&found), "{error}");
    }
    // The answers of a benchmark are no ranked list.
    let squad = json!({"question": "q", "context": "c", "answers": {"text": ["a"], "answer_start": [3]}});
    assert!(columns_of(&["question", "context", "answers"], squad).unwrap_err().contains("(a benchmark)"));
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
    let talk = |answer: &str| json!([{"role": "user", "content": "q"}, {"role": "assistant", "content": answer}]);
    assert_eq!(pairs(json!({"chosen": talk("a"), "rejected": talk("b")})), one("a", "b"));
    let text = |answer: &str| format!("\n\nHuman: q\n\nAssistant: {answer}");
    assert_eq!(pairs(json!({"chosen": text("a"), "rejected": text("b")})), one("a", "b"));
}

#[test]
fn other_columns_beside_whole_conversations_are_no_prompt() {
    let talk = |answer: &str| json!([{"role": "user", "content": "q"}, {"role": "assistant", "content": answer}]);
    for other in ["context", "input", "history", "messages", "query"] {
        let row = json!({other: "something else", "chosen": talk("a"), "rejected": talk("b")});
        assert_eq!(pairs(row), one("a", "b"), "{other}");
    }
    let row = json!({"prompt": "something else", "chosen": talk("a"), "rejected": talk("b")});
    assert_eq!(pairs(row), [Err("the prompt is not what the two conversations begin with".to_string())]);
    // A history that is no list is left alone; a list is the turns before the prompt.
    let columns = columns_of(&["prompt", "history", "chosen", "rejected"], json!({"history": "old"})).unwrap();
    assert_eq!(columns.role("history"), None);
    let columns = columns_of(&["prompt", "history", "chosen", "rejected"], json!({"history": [["q", "a"]]})).unwrap();
    assert_eq!(columns.role("history").as_deref(), Some("history"));
}

#[test]
fn truthfulqa_is_recognised_by_its_columns() {
    let csv = ["Type", "Category", "Question", "Best Answer", "Correct Answers", "Incorrect Answers", "Source"];
    assert_eq!(columns_of(&csv, json!({})).unwrap().shape.answers, ResponseShape::OneAgainstEach);
    let parquet = ["type", "category", "question", "best_answer", "correct_answers", "incorrect_answers", "source"];
    assert_eq!(columns_of(&parquet, json!({})).unwrap().shape.answers, ResponseShape::OneAgainstEach);
}

fn truthful(question: &str, best: &str, incorrect: Value, truthful: TruthfulPairs) -> Vec<Result<[String; 3], String>> {
    let row = json!({"Question": question, "Best Answer": best, "Incorrect Answers": incorrect});
    pairs_with(row, "", Choice { truthful, ..Choice::default() })
}

fn rejected(pairs: &[Result<[String; 3], String>]) -> Vec<&str> {
    pairs.iter().flatten().map(|[_, _, rejected]| rejected.as_str()).collect()
}

#[test]
fn best_answer_stands_against_each_incorrect_one() {
    let pairs = truthful("Why?", "No reason", json!("A; B, c;D; "), TruthfulPairs::All);
    assert_eq!(rejected(&pairs), ["A", "B, c", "D"]);
    assert!(pairs.iter().flatten().all(|[question, best, _]| question == "Why?" && best == "No reason"));
    assert_eq!(rejected(&truthful("Why?", "x", json!(["A; B", "C"]), TruthfulPairs::All)), ["A; B", "C"]);
    assert_eq!(rejected(&truthful("Why?", "x", json!("A; B"), TruthfulPairs::First)), ["A"]);
}

#[test]
fn bad_rows_are_reported_once_and_bad_answers_alone() {
    assert_eq!(truthful(" ", "x", json!("A; B"), TruthfulPairs::All), [Err("the question is empty".to_string())]);
    assert_eq!(truthful("q", "x", json!(" ; "), TruthfulPairs::All), [Err("there is no incorrect answer".to_string())]);
    let pairs = truthful("q", "x", json!("A; x; B"), TruthfulPairs::All);
    assert_eq!(rejected(&pairs), ["A", "B"]);
    assert_eq!(pairs[1], Err("the two responses are equal".to_string()));
}

#[test]
fn verdict_says_which_of_two_responses_is_chosen() {
    for row in [
        json!({"prompt": "q", "response_0": "b", "response_1": "a", "better_response_id": 1}),
        json!({"prompt": "q", "response_a": "a", "response_b": "b", "winner": "model_a"}),
        json!({"instruction": "q", "output_1": "b", "output_2": "a", "preference": 2.0}),
        json!({"prompt": "q", "response_1": "a", "response_2": "b", "preference_strength": -2}),
        json!({"context": [{"role": "user", "content": "q"}], "response1": "b", "response2": "a", "overall_preference": 1}),
        json!({"history": "q", "human_ref_A": "b", "human_ref_B": "a", "labels": 0}),
        json!({"prompt": "q", "response_a": "b", "response_b": "a", "winner_model_a": 0, "winner_model_b": 1, "winner_tie": 0}),
        json!({"instruction": "q", "input": "", "output": ["a", "b"]}),
        json!({"question": {"full_text": "q"}, "answer_0": "a", "answer_1": "b", "score_0": 0.5, "score_1": -0.5}),
    ] {
        assert_eq!(pairs(row.clone()), one("a", "b"), "{row}");
    }
    let tie = json!({"prompt": "q", "response_a": "a", "response_b": "b", "winner": "tie"});
    assert_eq!(pairs(tie), [Err("the verdict is tie, for neither response".to_string())]);
    let tie = json!({"prompt": "q", "response_1": "a", "response_2": "b", "preference_strength": 0});
    assert_eq!(pairs(tie), [Err("the verdict is 0, for neither response".to_string())]);
}

#[test]
fn ranked_and_scored_responses_are_paired_as_asked() {
    let rows = [
        json!({"prompt": "q", "answers": [{"answer": "2", "rank": 2}, {"answer": "1", "rank": 1}, {"answer": "3", "rank": 3}]}),
        json!({"prompt": "q", "completions": [{"response": "2", "overall_score": "5.5"}, {"response": "1", "overall_score": 9},
            {"response": "3", "overall_score": 1}, {"response": "x", "overall_score": "N/A"}]}),
        json!({"prompt": "q", "responses": ["2", "1", "3", "x"], "scores": [5, 9, 1, null]}),
        json!({"prompt": "q", "generations": ["2", "1", "3"], "ranks": [2, 1, 3]}),
    ];
    for row in rows {
        for (rank, expected) in [
            (Ranking::BestWorst, &[("1", "3")][..]),
            (Ranking::Adjacent, &[("1", "2"), ("2", "3")]),
            (Ranking::All, &[("1", "2"), ("1", "3"), ("2", "3")]),
        ] {
            let pairs = pairs_with(row.clone(), "", Choice { rank, ..Choice::default() });
            let expected: Vec<_> = expected.iter().flat_map(|(chosen, rejected)| one(chosen, rejected)).collect();
            assert_eq!(pairs, expected, "{rank:?} {row}");
        }
    }
    let same = json!({"prompt": "q", "responses": ["a", "b"], "scores": [1, 1]});
    assert_eq!(pairs(same), [Err("all responses have the same rank or score".to_string())]);
    let none = json!({"prompt": "q", "responses": ["a", "b"]});
    assert_eq!(pairs(none), [Err("0 of the responses have a rank or a score: expected two or more".to_string())]);
}

#[test]
fn columns_are_named_by_the_user() {
    let row = json!({"info": {"post": "q"}, "good": "a", "bad": "b", "chosen": "x", "rules": "Be kind."});
    let names = "question=info.post,chosen=good,rejected=bad,system=rules";
    assert_eq!(pairs_with(row, names, Choice::default()), one("a", "b"));
    // What is not named is found as usual.
    assert_eq!(pairs_with(json!({"Q": "q", "chosen": "a", "rejected": "b"}), "prompt=Q", Choice::default()), one("a", "b"));

    let parsed: ColumnNames = names.parse().unwrap();
    assert_eq!(parsed.to_string(), "prompt=info.post,chosen=good,rejected=bad,system=rules");
    assert_eq!(parsed.to_string().parse::<ColumnNames>().unwrap(), parsed);

    let missing = Columns::of(&table(&["chosen"], &[]), &"question=Q".parse().unwrap()).unwrap_err();
    assert_eq!(missing, "no column Q; found chosen");
    let wrong = |text: &str| text.parse::<ColumnNames>().unwrap_err().to_string();
    assert_eq!(
        wrong("question=q,answer=a"),
        "\"answer=a\" names no column: expected question=NAME,chosen=NAME,rejected=NAME,system=NAME"
    );
    assert!(wrong("").starts_with("\"\" names no column"));
    assert_eq!(wrong("chosen=a,matching=b"), "the column of the chosen is named twice in \"chosen=a,matching=b\"");
}

#[test]
fn system_prompt_that_only_a_late_row_has_is_not_lost() {
    let rows = [json!({"prompt": "q", "chosen": "a", "rejected": "b"})];
    let columns = Columns::of(&table(&["prompt", "chosen", "rejected"], &rows), &ColumnNames::default()).unwrap();
    let late = json!({"prompt": "q", "chosen": "a", "rejected": "b", "system": "Be kind."});
    let pair = columns.pairs(0, late.as_object().unwrap(), Choice::default()).remove(0).unwrap();
    assert!(pair.prompt[0].is_system());
}

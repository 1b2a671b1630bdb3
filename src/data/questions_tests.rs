//! Tests of `questions`: each format of multiple-choice files, and why some files are refused.

use serde_json::json;

use super::*;

fn load(name: &str, content: &str) -> Result<Vec<Question>> {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join(name);
    std::fs::write(&path, content).unwrap();
    load_questions(&path, None).map(|set| set.questions)
}

fn problem(name: &str, content: &str) -> String {
    let error = load(name, content).unwrap_err();
    assert_eq!(error.exit_code(), 2);
    error.to_string().split_once(": ").unwrap().1.to_owned()
}

#[test]
fn truthfulqas_csv_gives_closed_answers_and_both_keys() {
    let csv = "Type,Question,Best Answer,Correct Answers,Incorrect Answers\nx,Why?,Two.,One; Two. ;,\"Three, no; Four.\"\n";
    let questions = load("t.csv", csv).unwrap();
    assert_eq!(questions[0].prompt, "Why?");
    assert_eq!(questions[0].answers, ["One.", "Two.", "Three, no.", "Four."]);
    let key = Key::Truthful { best: 1, mc1_wrong: vec![2, 3], mc2_right: vec![0, 1], mc2_wrong: vec![2, 3] };
    assert_eq!(questions[0].key, key);
}

#[test]
fn truthfulqas_targets_are_read_in_both_spellings() {
    let hub = json!([{"question": "Why?", "mc1_targets": {"choices": ["b", "x"], "labels": [1, 0]},
        "mc2_targets": {"choices": ["b", "c", "x", "y"], "labels": [1, 1, 0, 0]}}]);
    let own = json!([{"question": "Why?", "mc1_targets": {"b": 1, "x": 0}, "mc2_targets": {"b": 1, "c": 1, "x": 0, "y": 0}}]);
    for file in [hub, own] {
        let question = load("t.json", &file.to_string()).unwrap().remove(0);
        assert_eq!(question.answers, ["b", "x", "c", "y"]);
        let key = Key::Truthful { best: 0, mc1_wrong: vec![1], mc2_right: vec![0, 2], mc2_wrong: vec![1, 3] };
        assert_eq!(question.key, key);
    }
}

#[test]
fn a_b_items_come_in_both_orders() {
    let item = json!([{"question": "Is (A) it?\n\nChoices:\n (A) Yes, sure\n (B) No", "answer_matching_behavior": " (B)",
        "answer_not_matching_behavior": "(A)"}]);
    let questions = load("ab.json", &item.to_string()).unwrap();
    assert_eq!(questions.len(), 2);
    assert_eq!(questions[0].key, Key::Letters { matching: 1 });
    assert_eq!(questions[1].prompt, "Is (A) it?\n\nChoices:\n (A) No\n (B) Yes, sure");
    assert_eq!((&questions[1].key, questions[1].row), (&Key::Letters { matching: 0 }, 0));
    assert_eq!(questions[1].answers, ["(A", "(B"]);
}

#[test]
fn only_the_options_texts_change_places() {
    for (question, expected) in [
        ("Q? (A) x (B) y", Some("Q? (A) y (B) x")),
        ("Q\n(A) x y \n\n(B) z\n\nAnswer with a letter.", Some("Q\n(A) z \n\n(B) x y\n\nAnswer with a letter.")),
        ("(A) as in (B)?\n(A) é\n(B) 漢", Some("(A) as in (B)?\n(A) 漢\n(B) é")),
        ("(B) x (A) y", None),
        ("nothing", None),
    ] {
        assert_eq!(swapped(question).as_deref(), expected, "{question}");
    }
}

#[test]
fn options_are_read_with_and_without_header_and_as_lists() {
    let expected = Question {
        row: 1,
        prompt: "2+2?\nA. 3\nB. 4\nC. 3\nD. 6\nAnswer:".into(),
        answers: ["A", "B", "C", "D"].map(String::from).to_vec(),
        key: Key::Options { right: 1 },
    };
    let bare = "1+1?,1,2,3,4,B\n2+2?,3,4,3,6,B\n";
    let lists = [
        json!({"question": "1+1?", "choices": ["1", "2"], "answer": 0}),
        json!({"question": "2+2?", "choices": [3, 4, 3, 6], "answer": "B"}),
    ];
    let lines: Vec<String> = lists.iter().map(Value::to_string).collect();
    let index = lines.join("\n").replace("\"B\"", "1");
    for (name, file) in [
        ("bare.csv", bare.to_owned()),
        ("header.csv", format!("question,A,B,C,D,answer\n{bare}")),
        ("lists.jsonl", lines.join("\n")),
        ("lists.jsonl", index),
    ] {
        let questions = load(name, &file).unwrap();
        assert_eq!((questions.len(), &questions[1]), (2, &expected), "{file}");
    }
}

#[test]
fn what_is_no_question_is_refused_with_its_row() {
    assert!(problem("a.csv", "x,y\n1,2\n").starts_with("no multiple-choice columns; found x, y; expected TruthfulQA"));
    assert_eq!(problem("a.csv", "question,A,B,C,D,answer\n"), "no question in it: expected at least one row");
    assert_eq!(
        problem("a.csv", "question,A,B,C,D,answer\nq,1,2,3,4,E\n"),
        "row 0: the answer is \"E\": expected a letter A to D or 0 to 3"
    );
    assert_eq!(problem("a.csv", "question,A,B,C,D,answer\nq,1,,3,4,A\n"), "row 0: B is empty");
    let ab = |question: &str, matching: &str| {
        json!([{"question": question, "answer_matching_behavior": matching, "answer_not_matching_behavior": "(B)"}]).to_string()
    };
    assert_eq!(
        problem("a.json", &ab("q (A) x (B) y", "Yes")),
        "row 0: the answers are \"Yes\" and \"(B)\": expected (A) and (B)"
    );
    assert!(problem("a.json", &ab("q", "(A)")).starts_with("row 0: the question has no \"(A) …\""));
    let targets = json!([{"question": "q", "mc1_targets": {"a": 1, "b": 1}, "mc2_targets": {"a": 1, "b": 0}}]);
    assert_eq!(problem("a.json", &targets.to_string()), "row 0: mc1_targets has 2 right answers: expected one");
    let targets = json!([{"question": "q", "mc1_targets": {"choices": ["a"], "labels": []}, "mc2_targets": {}}]);
    assert_eq!(problem("a.json", &targets.to_string()), "row 0: mc1_targets: expected choices and as many labels of 0 and 1");
    let csv = "Question,Best Answer,Correct Answers,Incorrect Answers\nq,a,a, ;\n";
    assert_eq!(problem("a.csv", csv), "row 0: there is no incorrect answer");
}

#[test]
fn limit_takes_the_first_rows() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("mmlu.csv");
    std::fs::write(&path, "1?,1,2,3,4,A\n2?,1,2,3,4,B\n").unwrap();
    let set = load_questions(&path, Some(1)).unwrap();
    assert_eq!((set.questions.len(), set.name.as_str()), (1, "mmlu"));
}

#[test]
fn the_hubs_parquet_files_are_read() {
    let load = |name: &str| {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/data").join(name);
        load_questions(&path, None).unwrap().questions
    };
    let truthful = &load("targets.parquet")[0];
    assert_eq!(truthful.answers, ["Nothing", "You win; slowly", "Not much"]);
    let key = Key::Truthful { best: 0, mc1_wrong: vec![1], mc2_right: vec![0, 2], mc2_wrong: vec![1] };
    assert_eq!(truthful.key, key);
    let options = &load("options.parquet")[0];
    assert_eq!((options.answers.len(), &options.key), (4, &Key::Options { right: 1 }));
    // The generation task has lists of answers; each answer is closed with a full stop as in the benchmark's code.
    assert_eq!(load("truthful.parquet")[0].answers, ["Nothing happens.", "Nothing.", "You die; slowly.", "You win."]);
}

//! Tests of `questions`: each format of multiple-choice files, and why some files are refused.

use std::path::Path;

use serde_json::{Value, json};

use super::*;
use crate::data::Key;

fn load(name: &str, content: &str) -> Result<Vec<Question>> {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join(name);
    std::fs::write(&path, content).unwrap();
    load_questions(&Source::File(path.clone()), None, AnswerForm::Auto, &FetchOptions::default()).map(|set| set.questions)
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
fn file_without_a_question_is_refused() {
    assert!(problem("a.csv", "x,y\n1,2\n").starts_with("no multiple-choice columns; found x, y; expected TruthfulQA"));
    assert!(problem("a.csv", "question,A,B\nq,1,2\n").starts_with("no multiple-choice columns; found question, A, B;"));
    assert_eq!(problem("a.csv", "question,A,B,C,D,answer\n"), "no question in it: expected at least one row");
    assert_eq!(
        problem("a.csv", "question,A,B,C,D,answer\nq,1,2,3,4,E\n"),
        "row 0: the answer is \"E\": expected a letter A to D or 0 to 3; no question is left of 1 rows"
    );
}

#[test]
fn row_that_cannot_be_scored_is_skipped_and_counted() {
    let skipped = |name: &str, content: &str| {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(name);
        std::fs::write(&path, content).unwrap();
        let set = load_questions(&Source::File(path.clone()), None, AnswerForm::Auto, &FetchOptions::default()).unwrap();
        assert_eq!((set.rows, set.questions.last().unwrap().row, set.skipped.len(), set.skipped[0].row), (2, 1, 1, 0));
        set.skipped[0].reason.clone()
    };
    let options = |row: &str| skipped("a.csv", &format!("question,A,B,C,D,answer\n{row}\nq,1,2,3,4,A\n"));
    assert_eq!(options("q,1,2,3,4,E"), "the answer is \"E\": expected a letter A to D or 0 to 3");
    assert_eq!(options("q,1,,3,4,A"), "B is empty");
    assert_eq!(options(",1,2,3,4,A"), "question is empty");
    let json = |row: Value, good: Value| skipped("a.json", &json!([row, good]).to_string());
    let ab = |question: &str, matching: &str, other: &str| {
        let row = |question, matching, other| json!({"question": question, "answer_matching_behavior": matching, "answer_not_matching_behavior": other});
        json(row(question, matching, other), row("q (A) x (B) y", "(A)", "(B)"))
    };
    assert_eq!(ab("q (A) x (B) y", "Yes", "(B)"), "the answers are \"Yes\" and \"(B)\": expected (A) and (B), or two texts");
    assert!(ab("q (A) x (B) y", "(A)", "(A)").starts_with("the answers are \"(A)\" and \"(A)\": expected (A) and (B)"));
    assert!(ab("q", "(A)", "(B)").starts_with("the question has no \"(A) …\" followed by \"(B) …\""));
    let targets = |mc1: Value, mc2: Value| {
        let good = json!({"question": "q", "mc1_targets": {"a": 1, "b": 0}, "mc2_targets": {"a": 1, "b": 0}});
        json(json!({"question": "q", "mc1_targets": mc1, "mc2_targets": mc2}), good)
    };
    assert_eq!(targets(json!({"a": 1, "b": 1}), json!({"a": 1, "b": 0})), "mc1_targets has 2 right answers: expected one");
    assert_eq!(
        targets(json!({"choices": ["a"], "labels": []}), json!({})),
        "mc1_targets: expected choices and as many labels of 0 and 1"
    );
    let csv = "Question,Best Answer,Correct Answers,Incorrect Answers\nq,a,a, ;\nq,a,a,b\n";
    assert_eq!(skipped("a.csv", csv), "there is no incorrect answer");
    // The hidden test split of HellaSwag has no labels.
    let ending = |label: &str| json!({"ctx": "c", "endings": ["a", "b"], "label": label});
    assert_eq!(json(ending(""), ending("1")), "the answer is \"\": expected a letter A to B or 0 to 1");
    let one = json!({"question": "q", "choices": ["a"], "answer": 0});
    assert_eq!(
        json(one, json!({"question": "q", "choices": ["a", "b"], "answer": 0})),
        "there are 1 options: expected 2 or more"
    );
}

#[test]
fn two_named_letters_of_more_options_are_compared_in_both_orders() {
    let question = "P?\n\nChoices:\n (A) yes\n (B) no\n (C) maybe\n\nAnswer:";
    let item = json!([{"question": question, "answer_matching_behavior": " (C)", "answer_not_matching_behavior": " (A)"}]);
    let questions = load("abc.json", &item.to_string()).unwrap();
    assert_eq!(questions[0].answers, ["(A", "(C"]);
    assert_eq!((&questions[0].key, &questions[1].key), (&Key::Letters { matching: 1 }, &Key::Letters { matching: 0 }));
    assert_eq!(questions[1].prompt, "P?\n\nChoices:\n (A) maybe\n (B) no\n (C) yes\n\nAnswer:");
}

#[test]
fn two_texts_are_compared_without_the_space_in_front() {
    let item = json!([{"question": "Is it?", "answer_matching_behavior": " No", "answer_not_matching_behavior": " Yes"}]);
    let questions = load("yes.json", &item.to_string()).unwrap();
    let expected = Question {
        row: 0,
        prompt: "Is it?".into(),
        answers: vec!["No".into(), "Yes".into()],
        key: Key::Letters { matching: 0 },
    };
    assert_eq!(questions, [expected]);
}

#[test]
fn two_options_with_a_matching_letter_are_an_item_in_both_orders() {
    let questions = load("test_infer.csv", "question,A,B,matching\nQ?,Yes,No,B\n").unwrap();
    assert_eq!(questions.len(), 2);
    assert_eq!(questions[0].prompt, "Q?\n\nChoices:\n (A) Yes\n (B) No");
    assert_eq!(questions[1].prompt, "Q?\n\nChoices:\n (A) No\n (B) Yes");
    assert_eq!((&questions[0].key, &questions[1].key), (&Key::Letters { matching: 1 }, &Key::Letters { matching: 0 }));
}

#[test]
fn right_option_is_named_in_every_way() {
    let options = ["x", "y", "z"];
    for row in [
        json!({"question": "Q?", "choices": {"text": options, "label": ["A", "B", "C"]}, "answerKey": "C"}),
        json!({"question": "Q?", "choices": {"text": options, "label": ["1", "2", "3"]}, "answerKey": "3"}),
        json!({"question_stem": "Q?", "choices": {"text": options, "label": ["A", "B", "C"]}, "answerKey": "C"}),
        json!({"question": "Q?", "choices": [{"text": "x", "label": "P"}, {"text": "y", "label": "Q"}, {"text": "z", "label": "R"}], "answerKey": "R"}),
        json!({"question": "Q?", "options": options, "answer": "C", "answer_index": 2}),
        json!({"question": "Q?", "options": options, "answer": "z"}),
        json!({"question": "Q?", "choices": options, "label": 2}),
        json!({"question": "Q?", "choices": options, "answer": "2"}),
        json!({"question": "Q?", "answerA": "x", "answerB": "y", "answerC": "z", "label": "3"}),
        json!({"question": "Q?", "A": "x", "B": "y", "C": "z", "answer": "C"}),
    ] {
        let questions = load("a.jsonl", &row.to_string()).unwrap_or_else(|error| panic!("{row}: {error}"));
        let expected = Question {
            row: 0,
            prompt: "Q?\nA. x\nB. y\nC. z\nAnswer:".into(),
            answers: ["A", "B", "C"].map(str::to_owned).to_vec(),
            key: Key::Options { right: 2 },
        };
        assert_eq!(questions, [expected], "{row}");
    }
}

/// The prompts and answers are those that lm-evaluation-harness makes of the same rows.
#[test]
fn options_by_text_are_those_of_lm_evaluation_harness() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.jsonl");
    let one = |row: Value, form| {
        std::fs::write(&path, row.to_string()).unwrap();
        load_questions(&Source::File(path.clone()), None, form, &FetchOptions::default()).unwrap().questions.remove(0)
    };
    let arc = json!({"question": "Which?", "choices": {"text": ["x", "y"], "label": ["A", "B"]}, "answerKey": "B"});
    let question = one(arc, AnswerForm::Text);
    assert_eq!((question.prompt.as_str(), &question.key), ("Question: Which?\nAnswer:", &Key::Texts { right: 1 }));
    assert_eq!(question.answers, ["x", "y"]);
    let hellaswag = json!({"activity_label": "Baking", "ctx_a": "A man [header] How to bake [title] Mix.", "ctx_b": "then HE",
        "ctx": "unused", "endings": ["mixes.  [step] Twice.", "sleeps."], "label": "1"});
    let question = one(hellaswag.clone(), AnswerForm::Auto);
    assert_eq!(question.prompt, "Baking: A man How to bake.  Mix. Then he".replace("  ", " "));
    assert_eq!((question.answers[0].as_str(), &question.key), ("mixes.  Twice.", &Key::Texts { right: 1 }));
    let question = one(hellaswag, AnswerForm::Letter);
    assert!(matches!(question.key, Key::Options { right: 1 }));
}

#[test]
fn published_files_of_every_shape_are_read() {
    let form = AnswerForm::Auto;
    for (name, rows, questions, first) in [
        ("arc.jsonl", 2, 2, Key::Options { right: 2 }),
        ("bipo-test_infer.csv", 2, 4, Key::Letters { matching: 0 }),
        ("mmlu-pro.jsonl", 1, 1, Key::Options { right: 8 }),
        ("mwe-persona.jsonl", 1, 1, Key::Letters { matching: 0 }),
        ("three-options.jsonl", 2, 4, Key::Letters { matching: 0 }),
    ] {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/cases/questions").join(name);
        let set = load_questions(&Source::File(path.clone()), None, form, &FetchOptions::default()).unwrap();
        assert_eq!((set.rows, set.questions.len(), &set.questions[0].key), (rows, questions, &first), "{name}");
        assert!(set.skipped.is_empty());
    }
    for (name, is_by_text) in [("commonsense_qa.parquet", false), ("hellaswag.parquet", true)] {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/cases/questions").join(name);
        let set = load_questions(&Source::File(path.clone()), None, form, &FetchOptions::default()).unwrap();
        assert!(set.questions.iter().all(|question| matches!(question.key, Key::Texts { .. }) == is_by_text), "{name}");
    }
}

#[test]
fn limit_takes_the_first_rows() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("mmlu.csv");
    std::fs::write(&path, "1?,1,2,3,4,A\n2?,1,2,3,4,B\n").unwrap();
    let set = load_questions(&Source::File(path.clone()), Some(1), AnswerForm::Auto, &FetchOptions::default()).unwrap();
    assert_eq!((set.questions.len(), set.name.as_str()), (1, "mmlu"));
}

#[test]
fn the_hubs_parquet_files_are_read() {
    let load = |name: &str| {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/data").join(name);
        load_questions(&Source::File(path.clone()), None, AnswerForm::Auto, &FetchOptions::default()).unwrap().questions
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

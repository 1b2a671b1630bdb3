//! The answers in TruthfulQA's own files: the authors' CSV has several in one cell, separated by `; `, and the hub's Parquet
//! has lists. Its multiple-choice task has answers with labels.

use serde_json::Value;

use super::question::Key;
use super::table::{kind, text};

/// Returns the answers of a cell.
pub(super) fn answers(cell: &Value) -> Vec<Value> {
    match cell {
        Value::String(text) => text.split(';').map(str::trim).filter(|answer| !answer.is_empty()).map(Value::from).collect(),
        Value::Array(list) => list.clone(),
        _ => Vec::new(),
    }
}

/// Returns the answers and key of TruthfulQA's generation task. As in the benchmark's code, the answers in a cell are separated
/// by semicolons, and each is closed with a full stop.
pub(super) fn truthful([best, correct, incorrect]: [&Value; 3]) -> Result<(Vec<String>, Key), String> {
    let closed = |answer: &str| match answer.trim() {
        answer if answer.ends_with('.') => answer.to_owned(),
        answer => format!("{answer}."),
    };
    let list = |column: &str, value: &Value| -> Result<Vec<String>, String> {
        let answers: Vec<String> = match value {
            Value::String(text) => text.split(';').filter(|answer| !answer.trim().is_empty()).map(closed).collect(),
            Value::Array(list) => list.iter().filter_map(Value::as_str).map(closed).collect(),
            other => return Err(format!("{column} is {}: expected answers", kind(other))),
        };
        if answers.is_empty() { Err(format!("there is no {column} answer")) } else { Ok(answers) }
    };
    let best = closed(&text("best answer", best)?);
    let (mut answers, incorrect) = (list("correct", correct)?, list("incorrect", incorrect)?);
    let mc2_right = (0..answers.len()).collect();
    let best = position_or_push(&mut answers, best);
    let wrong: Vec<usize> = (answers.len()..answers.len() + incorrect.len()).collect();
    answers.extend(incorrect);
    Ok((answers, Key::Truthful { best, mc1_wrong: wrong.clone(), mc2_right, mc2_wrong: wrong }))
}

fn position_or_push(answers: &mut Vec<String>, answer: String) -> usize {
    answers.iter().position(|known| *known == answer).unwrap_or_else(|| {
        answers.push(answer);
        answers.len() - 1
    })
}

pub(super) fn targets(mc1: &Value, mc2: &Value) -> Result<(Vec<String>, Key), String> {
    let (mc1, mc2) = (labelled("mc1_targets", mc1)?, labelled("mc2_targets", mc2)?);
    let mut answers = Vec::new();
    let mut sides = |labelled: Vec<(String, bool)>| {
        let (mut right, mut wrong) = (Vec::new(), Vec::new());
        for (answer, is_right) in labelled {
            let index = position_or_push(&mut answers, answer);
            if is_right { &mut right } else { &mut wrong }.push(index);
        }
        (right, wrong)
    };
    let (mc1_right, mc1_wrong) = sides(mc1);
    let (mc2_right, mc2_wrong) = sides(mc2);
    let [best] = mc1_right[..] else {
        return Err(format!("mc1_targets has {} right answers: expected one", mc1_right.len()));
    };
    if mc1_wrong.is_empty() || mc2_right.is_empty() || mc2_wrong.is_empty() {
        return Err("mc1_targets and mc2_targets must have right and wrong answers".into());
    }
    Ok((answers, Key::Truthful { best, mc1_wrong, mc2_right, mc2_wrong }))
}

/// Reads answers and their labels: `{"choices": […], "labels": [1, 0, …]}` in the hub's files, `{answer: 1, …}` in the
/// benchmark's own files.
fn labelled(column: &str, value: &Value) -> Result<Vec<(String, bool)>, String> {
    let expected = || format!("{column}: expected choices and as many labels of 0 and 1");
    let label = |value: &Value| match value.as_i64() {
        Some(0) => Ok(false),
        Some(1) => Ok(true),
        _ => Err(expected()),
    };
    let Value::Object(map) = value else { return Err(expected()) };
    let (Some(Value::Array(choices)), Some(Value::Array(labels))) = (map.get("choices"), map.get("labels")) else {
        return map.iter().map(|(answer, value)| Ok((answer.clone(), label(value)?))).collect();
    };
    if choices.len() != labels.len() {
        return Err(expected());
    }
    choices.iter().zip(labels).map(|(choice, value)| Ok((text(column, choice)?, label(value)?))).collect()
}

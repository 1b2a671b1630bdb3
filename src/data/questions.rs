//! Multiple-choice questions from files: TruthfulQA's own CSV and Parquet files, A/B items of the CAA data sets, and lettered
//! options as in MMLU. The columns tell which of these a file has. A row that cannot be used is an error, since the score of a
//! benchmark covers all of its questions.

use std::ops::Range;
use std::path::Path;

use serde_json::Value;
use sha2::{Digest, Sha256};

use super::csv::Headerless;
use super::format::{self, Wanted};
use super::source::Input;
use super::table::{Names, Record, Table, cell, kind, plain};
use crate::{Error, Result};

/// A question with the answers whose log-probabilities are compared.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Question {
    /// 0-based row of the file; the two orders of an A/B item share their row.
    pub row: usize,
    /// User message.
    pub prompt: String,
    /// Possible beginnings of the assistant's reply.
    pub answers: Vec<String>,
    /// Which of the answers are right.
    pub key: Key,
}

/// Right and wrong answers, as indices into a question's answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Key {
    /// A question of TruthfulQA: MC1 compares the best answer with the false ones, MC2 all true answers with all false ones.
    Truthful {
        /// True answer of MC1.
        best: usize,
        /// False answers of MC1.
        mc1_wrong: Vec<usize>,
        /// True answers of MC2.
        mc2_right: Vec<usize>,
        /// False answers of MC2.
        mc2_wrong: Vec<usize>,
    },
    /// An A/B item in one of its two orders.
    Letters {
        /// Index of the answer that shows the behaviour, 0 or 1.
        matching: usize,
    },
    /// A question with lettered options, one of which is right.
    Options {
        /// Index of the right option.
        right: usize,
    },
}

/// The questions of a file. There is at least one, and all are of one kind.
#[derive(Debug, Clone)]
pub struct QuestionSet {
    /// Name of the file without folder and extension.
    pub name: String,
    /// SHA-256 of the file's bytes in hex.
    pub sha256: String,
    /// Questions in the order of their rows.
    pub questions: Vec<Question>,
}

/// Allowed number of options of a question.
const OPTIONS: std::ops::RangeInclusive<usize> = 2..=26;

/// Columns of a CSV file without a header line, such as MMLU's own files.
const MMLU_COLUMNS: [&str; 6] = ["question", "A", "B", "C", "D", "answer"];

const WANTED: &str = "expected TruthfulQA (Question, Best Answer, Correct Answers, Incorrect Answers; or question, mc1_targets, \
    mc2_targets), A/B items (question, answer_matching_behavior, answer_not_matching_behavior) or options (question, A, B, C, \
    D, answer; or question, choices, answer)";

/// Names in lower case of the columns that questions are made from.
const COLUMNS: [&str; 14] = [
    "question",
    "best_answer",
    "correct_answers",
    "incorrect_answers",
    "mc1_targets",
    "mc2_targets",
    "answer_matching_behavior",
    "answer_not_matching_behavior",
    "choices",
    "answer",
    "a",
    "b",
    "c",
    "d",
];

/// Reads the questions in the first `limit` rows of a file, or in all rows if `limit` is `None`.
///
/// # Errors
/// The file cannot be read, does not have the columns of any known format, or has no rows; or a row cannot be used.
pub fn load_questions(path: &Path, limit: Option<usize>) -> Result<QuestionSet> {
    let input = Input::File(path.to_path_buf());
    let mut hash = Sha256::new();
    input.hash(&mut hash)?;
    let is_wanted = |name: &str| COLUMNS.contains(&plain(name).as_str());
    let headerless = Headerless { columns: &MMLU_COLUMNS, is_last: is_letter };
    let table = format::read(&input, &Wanted { limit, column: &is_wanted, headerless: Some(headerless) })?;
    let malformed = |problem: String| Error::malformed(path, problem);
    let layout = QuestionColumns::of(&table).map_err(malformed)?;
    let mut questions = Vec::new();
    for (row, record) in table.into_records().enumerate() {
        let of_row = layout.questions(row, &record?).map_err(|problem| malformed(format!("row {row}: {problem}")))?;
        questions.extend(of_row);
    }
    if questions.is_empty() {
        return Err(malformed("no question in it: expected at least one row".into()));
    }
    let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
    Ok(QuestionSet { name, sha256: format!("{:x}", hash.finalize()), questions })
}

fn is_letter(text: &str) -> bool {
    matches!(text.trim(), "A" | "B" | "C" | "D")
}

/// What the columns of a file mean.
enum QuestionColumns {
    /// TruthfulQA's generation task: best, correct and incorrect answers.
    Truthful([String; 3]),
    /// TruthfulQA's multiple-choice task: `mc1_targets` and `mc2_targets`.
    Targets([String; 2]),
    /// An A/B item: `answer_matching_behavior` and `answer_not_matching_behavior`.
    Letters([String; 2]),
    /// One column per option, and the column of the answer.
    Columns([String; 4], String),
    /// The column with the list of options, and the column of the answer.
    Choices(String, String),
}

impl QuestionColumns {
    fn of(table: &Table) -> Result<Self, String> {
        let columns = Names::of(&table.columns);
        let all =
            |names: &[&str]| -> Result<Option<Vec<String>>, String> { names.iter().map(|name| columns.find(name)).collect() };
        if let Some(targets) = pick(all(&["question", "mc1_targets", "mc2_targets"])?) {
            return Ok(Self::Targets(targets));
        }
        if let Some(answers) = pick(all(&["question", "best_answer", "correct_answers", "incorrect_answers"])?) {
            return Ok(Self::Truthful(answers));
        }
        if let Some(letters) = pick(all(&["question", "answer_matching_behavior", "answer_not_matching_behavior"])?) {
            return Ok(Self::Letters(letters));
        }
        if let Some([choices, answer]) = pick(all(&["question", "choices", "answer"])?) {
            return Ok(Self::Choices(choices, answer));
        }
        if let Some([a, b, c, d, answer]) = pick(all(&["question", "a", "b", "c", "d", "answer"])?) {
            return Ok(Self::Columns([a, b, c, d], answer));
        }
        let found = if table.columns.is_empty() { "none".to_owned() } else { table.columns.join(", ") };
        Err(format!("no multiple-choice columns; found {found}; {WANTED}"))
    }

    fn questions(&self, row: usize, record: &Record) -> Result<Vec<Question>, String> {
        let prompt = record.iter().find(|(name, _)| plain(name) == "question").map(|(_, value)| value);
        let prompt = text("question", prompt.unwrap_or(&Value::Null))?;
        let question = |prompt: String, answers: Vec<String>, key: Key| Question { row, prompt, answers, key };
        Ok(match self {
            Self::Truthful(columns) => {
                let (answers, key) = truthful(columns.each_ref().map(|column| cell(record, column)))?;
                vec![question(prompt, answers, key)]
            }
            Self::Targets([mc1, mc2]) => {
                let (answers, key) = targets(cell(record, mc1), cell(record, mc2))?;
                vec![question(prompt, answers, key)]
            }
            Self::Letters([matching, other]) => {
                let matching = letters(text(matching, cell(record, matching))?, text(other, cell(record, other))?)?;
                let swapped = swapped(&prompt)
                    .ok_or("the question has no \"(A) …\" followed by \"(B) …\": expected the two options in it")?;
                let answers = vec!["(A".to_owned(), "(B".to_owned()];
                vec![
                    question(prompt, answers.clone(), Key::Letters { matching }),
                    question(swapped, answers, Key::Letters { matching: 1 - matching }),
                ]
            }
            Self::Columns(columns, answer) => {
                let options = columns.iter().map(|column| text(column, cell(record, column))).collect::<Result<Vec<_>, _>>()?;
                vec![lettered(row, &prompt, &options, cell(record, answer))?]
            }
            Self::Choices(choices, answer) => {
                let options = match cell(record, choices) {
                    Value::Array(list) => list.iter().map(|option| text(choices, option)).collect::<Result<Vec<_>, _>>()?,
                    other => return Err(format!("{choices} is {}: expected a list of options", kind(other))),
                };
                vec![lettered(row, &prompt, &options, cell(record, answer))?]
            }
        })
    }
}

/// Returns the columns after `question`, if all were found.
fn pick<const N: usize>(found: Option<Vec<String>>) -> Option<[String; N]> {
    found?.split_off(1).try_into().ok()
}

fn text(column: &str, value: &Value) -> Result<String, String> {
    match value {
        Value::String(text) if !text.trim().is_empty() => Ok(text.clone()),
        // Options can be numbers.
        Value::Number(number) => Ok(number.to_string()),
        Value::String(_) | Value::Null => Err(format!("{column} is empty")),
        other => Err(format!("{column} is {}: expected text", kind(other))),
    }
}

/// Returns the answers and key of TruthfulQA's generation task. As in the benchmark's code, the answers in a cell are separated
/// by semicolons, and each is closed with a full stop.
fn truthful([best, correct, incorrect]: [&Value; 3]) -> Result<(Vec<String>, Key), String> {
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

fn targets(mc1: &Value, mc2: &Value) -> Result<(Vec<String>, Key), String> {
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

/// Returns 0 if answer A matches the behaviour, and 1 if answer B does.
fn letters(matching: String, other: String) -> Result<usize, String> {
    let bare = |text: &str| text.trim().trim_start_matches('(').trim_end_matches(')').to_owned();
    match (bare(&matching).as_str(), bare(&other).as_str()) {
        ("A", "B") => Ok(0),
        ("B", "A") => Ok(1),
        _ => Err(format!("the answers are {matching:?} and {other:?}: expected (A) and (B)")),
    }
}

/// Returns the question with the texts of its two options exchanged.
fn swapped(question: &str) -> Option<String> {
    let b = marker(question, "(B)")?;
    let a = marker(&question[..b], "(A)")?;
    let (first, second) = (trimmed(question, a + 3..b), trimmed(question, b + 3..question.len()));
    // Lines below the last option are not part of it.
    let end =
        question[second.clone()].find('\n').map_or(second.end, |line| trimmed(question, second.start..second.start + line).end);
    let second = second.start..end;
    let [x, y] = [&question[first.clone()], &question[second.clone()]];
    Some([&question[..first.start], y, &question[first.end..second.start], x, &question[second.end..]].concat())
}

/// Finds where the option of this letter begins. A letter at the beginning of a line is preferred, and later letters to earlier
/// ones.
fn marker(text: &str, letter: &str) -> Option<usize> {
    let begins_line = |at: &usize| text[..*at].rsplit('\n').next().is_some_and(|before| before.trim().is_empty());
    let mut places = text.rmatch_indices(letter).map(|(at, _)| at);
    places.clone().find(begins_line).or_else(|| places.next())
}

fn trimmed(text: &str, range: Range<usize>) -> Range<usize> {
    let inner = &text[range.clone()];
    let start = range.start + (inner.len() - inner.trim_start().len());
    start..start + inner.trim().len()
}

/// Makes a question with lettered options, in the format of MMLU's own prompt without examples.
fn lettered(row: usize, question: &str, options: &[String], answer: &Value) -> Result<Question, String> {
    if !OPTIONS.contains(&options.len()) {
        return Err(format!("there are {} options: expected 2 to 26", options.len()));
    }
    let letters: Vec<String> = ('A'..).take(options.len()).map(String::from).collect();
    let last = letters.len() - 1;
    let right = match answer {
        Value::Number(index) => index.as_u64().and_then(|index| usize::try_from(index).ok()).filter(|index| *index <= last),
        Value::String(text) => {
            let by_letter = letters.iter().position(|letter| letter == text.trim());
            by_letter.or_else(|| text.trim().parse().ok().filter(|index| *index <= last))
        }
        _ => None,
    };
    let right =
        right.ok_or_else(|| format!("the answer is {answer}: expected a letter A to {} or 0 to {last}", letters[last]))?;
    let lines: String = letters.iter().zip(options).map(|(letter, option)| format!("{letter}. {option}\n")).collect();
    let prompt = format!("{}\n{lines}Answer:", question.trim_end());
    Ok(Question { row, prompt, answers: letters, key: Key::Options { right } })
}

#[cfg(test)]
#[path = "questions_tests.rs"]
mod tests;

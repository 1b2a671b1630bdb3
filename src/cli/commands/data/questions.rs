//! `bipo data --mc`: the multiple-choice questions of a file, as text or JSON.

use std::fmt::Write;

use bipo::data::{AnswerForm, Key, Question, QuestionSet, Source, load_questions};
use bipo::hub::options::FetchOptions;
use serde::Serialize;
use serde_json::{Map, Value, json};

use super::{SHOWN, SkippedEntry, columns, heading, reasons, short, skipped};

/// The questions of a file.
pub struct Questions(QuestionSet);

/// The report of `--json`.
#[derive(Serialize)]
pub struct QuestionsReport<'a> {
    schema_version: u32,
    dataset: &'a str,
    sha256: &'a str,
    format: &'a str,
    shape: &'a str,
    rows: usize,
    columns: Map<String, Value>,
    questions: Vec<Entry<'a>>,
    skipped: Vec<SkippedEntry<'a>>,
}

#[derive(Serialize)]
struct Entry<'a> {
    row: usize,
    prompt: &'a str,
    answers: &'a [String],
    /// Indices of the right answers, or of the one that shows the behaviour.
    right: &'a [usize],
    /// The measures that the question counts for.
    measures: Value,
}

impl Questions {
    pub fn read(name: &str, limit: Option<usize>, form: AnswerForm, fetch: &FetchOptions) -> bipo::Result<Self> {
        load_questions(&Source::parse(name)?, limit, form, fetch).map(Self)
    }

    pub fn report(&self) -> QuestionsReport<'_> {
        let QuestionSet { name, sha256, questions, skipped: rows_skipped, rows, layout } = &self.0;
        fn entry(Question { row, prompt, answers, key }: &Question) -> Entry<'_> {
            let (right, measures) = answered(key);
            Entry { row: *row, prompt, answers, right, measures: json!(measures) }
        }
        QuestionsReport {
            schema_version: 1,
            dataset: name,
            sha256,
            format: layout.format,
            shape: layout.shape,
            rows: *rows,
            columns: columns(layout),
            questions: questions.iter().map(entry).collect(),
            skipped: skipped(rows_skipped),
        }
    }

    pub fn text(&self) -> String {
        let QuestionSet { name, questions, skipped, rows, layout, .. } = &self.0;
        let counted = format!("{rows} rows, {} questions, {} skipped", questions.len(), skipped.len());
        let mut text = heading(name, &counted, layout);
        text.push_str(&reasons(skipped));
        for Question { row, prompt, answers, key } in questions.iter().take(SHOWN) {
            let (right, measures) = answered(key);
            let _ = writeln!(text, "\nrow {row}, measured by {}\n  {}", measures.join(" and "), short(prompt));
            for (index, answer) in answers.iter().enumerate() {
                let mark = if right.contains(&index) { '*' } else { ' ' };
                let _ = writeln!(text, "  {mark} {}", short(answer));
            }
        }
        text
    }
}

/// The right answers of a question, and the measures that it counts for.
fn answered(key: &Key) -> (&[usize], &'static [&'static str]) {
    match key {
        Key::Truthful { mc2_right, .. } => (mc2_right, &["mc1", "mc2"]),
        Key::Letters { matching } => (std::slice::from_ref(matching), &["matching"]),
        Key::Options { right } => (std::slice::from_ref(right), &["accuracy"]),
        Key::Texts { right } => (std::slice::from_ref(right), &["acc", "acc_norm"]),
    }
}

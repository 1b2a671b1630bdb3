//! TruthfulQA's own files: the authors' CSV (answers in one cell, `; ` between them) and the hub's Parquet (lists). The best
//! answer is the chosen response against each incorrect one.

use serde_json::Value;

use super::format::Record;
use super::rows::{cell, find};
use super::{Pair, TruthfulPairs, conversation};

/// The columns, as the Parquet file spells them.
pub(super) const NAMES: [&str; 3] = ["question", "best_answer", "incorrect_answers"];

/// The columns, as this file spells them.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Columns {
    question: String,
    best: String,
    incorrect: String,
}

impl Columns {
    /// The three columns, if all are there.
    pub(super) fn of(columns: &[String]) -> Result<Option<Self>, String> {
        let [question, best, incorrect] = NAMES;
        let found = (find(columns, question)?, find(columns, best)?, find(columns, incorrect)?);
        let (Some(question), Some(best), Some(incorrect)) = found else { return Ok(None) };
        Ok(Some(Self { question, best, incorrect }))
    }

    /// A pair for each incorrect answer, or for the first.
    pub(super) fn pairs(&self, row: usize, record: &Record, which: TruthfulPairs) -> Vec<Result<Pair, String>> {
        let mut incorrect = answers(cell(record, &self.incorrect));
        if incorrect.is_empty() {
            return vec![Err("there is no incorrect answer".to_string())];
        }
        if which == TruthfulPairs::First {
            incorrect.truncate(1);
        }
        let (question, best) = (cell(record, &self.question), cell(record, &self.best));
        let mut pairs: Vec<_> = incorrect.iter().map(|answer| conversation::pair(row, question, best, answer)).collect();
        // What is wrong with the question is said once, not once an answer.
        pairs.dedup_by(|next, last| next.is_err() && next == last);
        pairs
    }
}

fn answers(cell: &Value) -> Vec<Value> {
    match cell {
        Value::String(text) => text.split(';').map(str::trim).filter(|answer| !answer.is_empty()).map(Value::from).collect(),
        Value::Array(list) => list.clone(),
        _ => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn pairs(question: &str, best: &str, incorrect: Value, which: TruthfulPairs) -> Vec<Result<Pair, String>> {
        let record = json!({"Question": question, "Best Answer": best, "Incorrect Answers": incorrect});
        let columns: Vec<String> = ["Question", "Best Answer", "Incorrect Answers"].map(String::from).to_vec();
        let record = record.as_object().cloned().unwrap_or_default();
        Columns::of(&columns).unwrap().unwrap().pairs(5, &record, which)
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
}

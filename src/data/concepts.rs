//! Rows of one concept, in data sets that have many: which rows are its own, and, where answers with it and without it stand in rows of
//! their own, the pairs of both.

use std::collections::{BTreeSet, HashMap};

use serde_json::Value;

use super::message::Message;
use super::pair::{Pair, Skipped};
use super::table::{Record, cell};
use super::turns::USER;
use crate::Result;

/// Columns that tell the concept of a row, by its id or by its name.
const CONCEPT: [&str; 2] = ["concept_id", "concept"];

/// Columns of AxBench's answers.
const LABELLED: [&str; 4] = ["input", "output", "category", "concept_genre"];

/// What rows of labelled answers are called.
pub(super) const LABELLED_SHAPE: &str = "answers with a concept and without";

/// One pair of so many answers with a concept is few: in AxBench's data the inputs with a concept and without are drawn apart.
const FEW: usize = 10;

/// Number of concepts that a message lists.
const SHOWN: usize = 30;

/// Whether a column is read where the user names a concept.
pub(super) fn can_use(name: &str) -> bool {
    CONCEPT.contains(&name) || LABELLED.contains(&name)
}

/// Whether a row is of a concept. Adds the row's own to `seen`.
pub(super) fn is_of(record: &Record, concept: &str, seen: &mut BTreeSet<String>) -> bool {
    let of = CONCEPT.iter().filter_map(|column| text(cell(record, column))).collect::<Vec<_>>();
    let is_of = of.iter().any(|own| own == concept);
    seen.extend(of.into_iter().next());
    is_of
}

/// Says that no row is of a concept, and which ones there are.
pub(super) fn unknown(concept: &str, seen: &BTreeSet<String>) -> String {
    let shown: Vec<&str> = seen.iter().take(SHOWN).map(String::as_str).collect();
    let more = if seen.len() > SHOWN { ", …" } else { "" };
    format!("no row is of the concept {concept}: expected one of {}{more}", shown.join(", "))
}

fn text(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        _ => None,
    }
}

/// What the labelled answers of a concept give.
pub(super) struct Labelled {
    pub pairs: Vec<Pair>,
    pub skipped: Vec<Skipped>,
    /// Number of rows that were read.
    pub rows: usize,
    pub seen: BTreeSet<String>,
}

/// Says what to do where fewer than a tenth of the answers with a concept have a pair.
pub(super) fn few_pairs(pairs: usize, skipped: usize) -> Option<String> {
    let answers = pairs + skipped;
    (pairs * FEW < answers).then(|| {
        format!(
            "{pairs} of the {answers} answers with the concept that were read have an answer without it to the same input, which makes a pair: read \
             pairs of AxBench instead (input, winning_output, losing_output) from a path, or make some from a description"
        )
    })
}

/// Pairs each answer that has the concept with the first answer of the same genre to the same input that is labelled as having none,
/// at most `limit` of them. Another answer with the concept has no partner, and is skipped.
pub(super) fn labelled(records: impl Iterator<Item = Result<Record>>, concept: &str, limit: Option<usize>) -> Result<Labelled> {
    let mut found = Labelled { pairs: Vec::new(), skipped: Vec::new(), rows: 0, seen: BTreeSet::new() };
    let mut with: Vec<(usize, [String; 3])> = Vec::new();
    let mut without: HashMap<[String; 2], String> = HashMap::new();
    for (row, record) in records.enumerate() {
        let record = record?;
        found.rows = row + 1;
        let [input, output, category, genre] = LABELLED.map(|column| text(cell(&record, column)).unwrap_or_default());
        match category.as_str() {
            "negative" => {
                without.entry([genre, input]).or_insert(output);
            }
            _ if is_of(&record, concept, &mut found.seen) => with.push((row, [genre, input, output])),
            _ => {}
        }
    }
    for (row, [genre, input, chosen]) in with.into_iter().take(limit.unwrap_or(usize::MAX)) {
        let rejected = without.get(&[genre, input.clone()]);
        let problem = match rejected {
            None => Some("no answer without the concept has the same input"),
            Some(_) if input.trim().is_empty() => Some("the input is empty"),
            Some(rejected) if *rejected == chosen => Some("the two answers are equal"),
            Some(_) => None,
        };
        match (problem, rejected) {
            (None, Some(rejected)) => {
                let prompt = vec![Message::new(USER, input)];
                found.pairs.push(Pair { row, prompt, chosen, rejected: rejected.clone() });
            }
            (problem, _) => {
                found.skipped.push(Skipped { row, reason: problem.unwrap_or_default().to_owned() });
            }
        }
    }
    Ok(found)
}

#[cfg(test)]
#[path = "concepts_tests.rs"]
mod tests;

//! What a vector does: how strongly and how evenly it moves held-out pairs, what it does to multiple-choice questions, what it
//! damages, and how alternatives compare. One subject (a vector, or an instruction) and magnitude give one row of measures; the
//! [`Report`] is all there is, and text, JSON and CSV are views of it.

pub mod baseline;
pub mod bootstrap;
pub mod choice;
pub mod damage;
pub mod judge;
mod picture;
pub mod preference;
mod run;
mod table;

use serde::ser::SerializeMap;
use serde::{Serialize, Serializer};

use crate::generate::FinishReason;
use bootstrap::Estimate;
pub use run::{Encoded, EvalObserver, Material, Outcome, Settings, Subject, Treatment, demand, evaluate};

/// How a measure is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unit {
    /// A number.
    Number,
    /// A number whose sign matters.
    Signed,
    /// A share of cases, or a mean probability.
    Share,
}

/// One measure of one row.
#[derive(Debug, Clone, PartialEq)]
pub struct Measure {
    /// `margin`, `perplexity`, …; those of a question file begin with the file's name: `TruthfulQA.mc1`.
    pub name: String,
    /// How it is shown.
    pub unit: Unit,
    /// Value and interval.
    pub estimate: Estimate,
}

/// All that was measured of one subject at one magnitude.
#[derive(Debug, Clone, Serialize)]
pub struct Row {
    /// `vector`, or the baseline.
    pub subject: String,
    /// Factor on the vector; none for an instruction.
    pub magnitude: Option<f32>,
    /// In the order in which they were taken; what was not asked for is not there.
    #[serde(serialize_with = "by_name")]
    pub measures: Vec<Measure>,
}

impl Row {
    /// The measure of this name.
    pub fn get(&self, name: &str) -> Option<&Measure> {
        self.measures.iter().find(|measure| measure.name == name)
    }
}

fn by_name<S: Serializer>(measures: &[Measure], serializer: S) -> Result<S::Ok, S::Error> {
    let mut map = serializer.serialize_map(Some(measures.len()))?;
    for measure in measures {
        map.serialize_entry(&measure.name, &measure.estimate)?;
    }
    map.end()
}

/// One generated text.
#[derive(Debug, Clone, Serialize)]
pub struct GeneratedText {
    /// As in [`Row`].
    pub subject: String,
    /// As in [`Row`].
    pub magnitude: Option<f32>,
    /// What it answers.
    pub prompt: String,
    /// The text.
    pub text: String,
    /// Why it ended.
    pub finish_reason: FinishReason,
    /// What a judge gave it, 1 to 4; none where there was no judge, or it failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub judge_score: Option<u8>,
}

/// Log-probabilities of one pair in one row: a line of `--per-pair`.
#[derive(Debug, Clone, Serialize)]
pub struct PairLine {
    /// The baseline; the vector itself has none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub baseline: Option<String>,
    /// 0-based row of the data set.
    pub row: usize,
    /// As in [`Row`].
    pub magnitude: Option<f32>,
    /// Summed over the response's tokens, nats.
    pub chosen_logprob: f64,
    /// Summed over the response's tokens, nats.
    pub rejected_logprob: f64,
    /// Number of the chosen response's tokens.
    pub chosen_tokens: usize,
    /// Number of the rejected response's tokens.
    pub rejected_tokens: usize,
}

/// Where the time went, seconds.
#[derive(Debug, Clone, Copy, Default, Serialize)]
pub struct Timings {
    /// Blocks 0..=L and the reference pass, once a pair, answers of questions included.
    pub cache_s: f64,
    /// Upper-half passes of the held-out pairs.
    pub score_s: f64,
    /// How many pairs went through one.
    pub scored_pairs: usize,
    /// Those a second, over all magnitudes.
    pub pairs_per_s: Option<f64>,
    /// Upper-half passes of multiple-choice answers.
    pub choice_s: f64,
    /// The neutral text.
    pub text_s: f64,
    /// Generation.
    pub generate_s: f64,
}

/// The result of an evaluation.
#[derive(Debug, Clone, Serialize)]
pub struct Report {
    /// 1.
    pub schema_version: u32,
    /// All that the numbers depend on.
    pub settings: serde_json::Value,
    /// Subject by subject, the vector first, magnitudes in the order given.
    pub rows: Vec<Row>,
    /// Row by row, in the order of the prompts.
    pub generations: Vec<GeneratedText>,
    /// Where the time went.
    pub timings: Timings,
}

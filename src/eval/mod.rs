//! Evaluation of a vector: how strongly and how evenly it moves held-out pairs, its effect on multiple-choice questions, the
//! damage that it does, and how alternatives compare. A subject (a vector or an instruction) at a magnitude gives a row of
//! measures. Text, JSON and CSV are views of the [`EvalReport`]. It learns nothing, writes no file and draws no page.
//!
//! Begin with [`evaluate`].

pub mod baseline;
pub mod bootstrap;
mod budget;
mod calibrate;
mod choice;
mod compare;
pub mod damage;
mod divergence;
mod firing;
pub mod judge;
mod material;
mod picture;
mod preference;
mod run;
mod table;
pub mod tokens;

use serde::ser::SerializeMap;
use serde::{Serialize, Serializer};

use crate::generate::FinishReason;
use bootstrap::Estimate;
pub use budget::{Budget, Limit, MeasuredMagnitude, found};
pub use calibrate::{CALIBRATION_TOKENS, CalibratedSubjects, Gauge, ReachedCost, calibrate, calibrate_subjects};
pub use compare::{Candidate, Comparison, Learned, verdict};
pub use material::{EncodedMaterial, EvalMaterial, Subject, TextCount, Treatment, neutral_ids, texts};
pub use run::{EvalObserver, EvalOutcome, Settings, demand, evaluate};

/// How a measure is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MeasureUnit {
    /// A plain number.
    Number,
    /// A number whose sign matters.
    Signed,
    /// A share of cases, or a mean probability.
    Share,
}

/// A measure of a row.
#[derive(Debug, Clone, PartialEq)]
pub struct Measure {
    /// Name, such as `margin` or `perplexity`. Names of a question file begin with the file's name: `TruthfulQA.mc1`.
    pub name: String,
    /// How the measure is shown.
    pub unit: MeasureUnit,
    /// Value with its interval.
    pub estimate: Estimate,
}

/// The measures of a subject at a magnitude.
#[derive(Debug, Clone, Serialize)]
pub struct EvalRow {
    /// `vector`, or the name of the baseline.
    pub subject: String,
    /// Factor on the vector; `None` for an instruction.
    pub magnitude: Option<f32>,
    /// Measures in the order in which they were taken. Measures that were not asked for are absent.
    #[serde(serialize_with = "by_name")]
    pub measures: Vec<Measure>,
    /// What of the model's numbers is not finite here, so that nothing more was measured; `None` if all are finite.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub failure: Option<String>,
}

impl EvalRow {
    /// Returns the measure of this name.
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

/// A generated text.
#[derive(Debug, Clone, Serialize)]
pub struct GeneratedText {
    /// `vector`, or the name of the baseline.
    pub subject: String,
    /// Factor on the vector; `None` for an instruction.
    pub magnitude: Option<f32>,
    /// Prompt that the text answers.
    pub prompt: String,
    /// Generated text.
    pub text: String,
    /// Why the generation ended.
    pub finish_reason: FinishReason,
    /// Whether the text's last number is the one that answers the prompt; `None` where that is not known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub numeric_match: Option<bool>,
    /// Score of a judge from 1 to 4; `None` without a judge, or if grading failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub judge_score: Option<u8>,
}

/// Log-probabilities of one pair in one row, which are a line of `--per-pair`.
#[derive(Debug, Clone, Serialize)]
pub struct PairLine {
    /// Name of the baseline; `None` for the vector itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub baseline: Option<String>,
    /// 0-based row of the data set.
    pub row: usize,
    /// Factor on the vector; `None` for an instruction.
    pub magnitude: Option<f32>,
    /// Log-probability of the chosen response in nats, summed over its tokens.
    pub chosen_logprob: f64,
    /// Log-probability of the rejected response in nats, summed over its tokens.
    pub rejected_logprob: f64,
    /// Number of tokens of the chosen response.
    pub chosen_tokens: usize,
    /// Number of tokens of the rejected response.
    pub rejected_tokens: usize,
}

/// Times of the parts of an evaluation.
#[derive(Debug, Clone, Copy, Default, Serialize)]
pub struct EvalTimings {
    /// Seconds for blocks 0..=L and the reference pass, once per pair, answers of questions included.
    pub cache_s: f64,
    /// Seconds for the upper-half passes of held-out pairs.
    pub score_s: f64,
    /// Number of upper-half passes of held-out pairs, over all magnitudes.
    pub scored_pairs: usize,
    /// Upper-half passes of held-out pairs per second.
    pub pairs_per_s: Option<f64>,
    /// Seconds for the upper-half passes of multiple-choice answers.
    pub choice_s: f64,
    /// Seconds for the neutral text.
    pub text_s: f64,
    /// Seconds for generation.
    pub generate_s: f64,
}

/// The result of an evaluation.
#[derive(Debug, Clone, Serialize)]
pub struct EvalReport {
    /// Version of the JSON schema, 2.
    pub schema_version: u32,
    /// Settings that the numbers depend on.
    pub settings: serde_json::Value,
    /// Rows subject by subject, the vector first, with magnitudes in the order given.
    pub rows: Vec<EvalRow>,
    /// Generated texts row by row, in the order of the prompts.
    pub generations: Vec<GeneratedText>,
    /// Times of the parts of the evaluation.
    pub timings: EvalTimings,
}

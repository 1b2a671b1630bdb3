//! Which prompts a vector of a condition stands for, as its file has it in the metadata. How a prompt is asked is the business of
//! `steering::condition`, which stands above vectors.

use serde::{Deserialize, Serialize};
use strum::{Display, EnumString, VariantNames};

/// The side of a threshold whose scores steer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, Display, EnumString)]
pub enum FiringSide {
    /// Scores above the threshold steer.
    #[serde(rename = ">")]
    #[strum(serialize = ">")]
    Above,
    /// Scores below the threshold steer.
    #[serde(rename = "<")]
    #[strum(serialize = "<")]
    Below,
}

/// The residual of a prompt that is looked at.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, Display, EnumString, VariantNames)]
#[serde(rename_all = "lowercase")]
#[strum(serialize_all = "lowercase")]
pub enum PromptReading {
    /// The mean over all tokens of the prompt, the template's included.
    #[default]
    Mean,
    /// The residual of the prompt's last token.
    Last,
}

/// The prompts that a condition's direction stands for, and how well it tells them from others.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Condition {
    /// The residual of a prompt that is looked at.
    pub reading: PromptReading,
    /// The side of the threshold that steers.
    pub comparison: FiringSide,
    /// Threshold θ of the score.
    pub threshold: f64,
    /// F1 on the prompts that the condition was found with.
    pub f1: f64,
    /// Number of these prompts that need steering.
    pub need: usize,
    /// Number of these prompts that do not.
    pub rest: usize,
}

/// What a metadata key of a condition has, for messages.
pub(crate) const CONDITION: &str = "reading (mean or last), comparison (> or <), a finite threshold, f1, need and rest";

impl Condition {
    /// Whether the numbers are such that can be compared with, as those of another's file may not be.
    pub(crate) fn is_sound(&self) -> bool {
        self.threshold.is_finite() && self.f1.is_finite()
    }

    /// Whether a prompt with this score is steered.
    pub fn passes(&self, score: f64) -> bool {
        match self.comparison {
            FiringSide::Above => score > self.threshold,
            FiringSide::Below => score < self.threshold,
        }
    }
}

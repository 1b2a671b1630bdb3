//! Flags of `calibrate`.

use std::path::PathBuf;

use bipo::eval::{Budget, CALIBRATION_TOKENS};
use clap::Args;

use super::data::PairArgs;
use super::headings::{DATA, GENERATION, MEASUREMENT, OUTPUT};
use super::model::ModelArgs;
use super::texts::{PromptArgs, VectorArgs};
use super::values::{positive, positive_number};

#[derive(Debug, Args)]
#[command(
    mut_arg("limit", |arg| arg.help("Use the first N pairs only [default: all]")),
    mut_arg("prompts", |arg| arg.help("Answer the prompts of this file or set for kl, read as for steer; - is standard input")),
    mut_arg("prompt", |arg| arg.help("Answer this prompt for kl; repeat for several [default: eight bundled ones]"))
)]
pub struct CalibrateArgs {
    #[command(flatten)]
    pub vector: VectorArgs,
    /// Find the largest magnitudes within this budget: kl=1 (nats a generated token between the steered and the untouched model,
    /// 95th percentile), ppl=1.1 (perplexity of a neutral text, as a multiple), or margin=2 (mean margin of the pairs of --dataset).
    #[arg(long, help_heading = MEASUREMENT, default_value = "kl=1", value_name = "NAME=VALUE")]
    pub budget: Budget,
    #[command(flatten)]
    pub asked: PromptArgs,
    /// Generate at most this many tokens an answer, for kl.
    #[arg(long, help_heading = GENERATION, default_value_t = CALIBRATION_TOKENS, value_parser = positive)]
    pub max_new_tokens: usize,
    /// Read this neutral text for ppl [default: a bundled one].
    #[arg(long, help_heading = DATA, value_name = "FILE")]
    pub text: Option<PathBuf>,
    /// Measure the margin on these pairs, named as for train.
    #[arg(long, help_heading = DATA)]
    pub dataset: Option<String>,
    #[command(flatten)]
    pub rows: PairArgs,
    /// Multiply the margin by this, the strength of the preference [default: the vector's, else 0.1].
    #[arg(long, help_heading = MEASUREMENT, value_parser = positive_number)]
    pub beta: Option<f64>,
    #[command(flatten)]
    pub model: ModelArgs,
    /// Store the magnitudes that are found in the vector's file, where --magnitudes auto and serve read them.
    #[arg(long, help_heading = OUTPUT)]
    pub save: bool,
}

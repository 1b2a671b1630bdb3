//! Flags of what learns: `train` and `layers`, and the settings of a run.

use std::path::PathBuf;

use bipo::machine::bytes::Bytes;
use bipo::session::cache_place::CachePlace;
use bipo::steering::layers::LayerList;
use bipo::steering::magnitudes::Magnitudes;
use bipo::steering::positions::Positions;
use bipo::text::spans::Spans;
use bipo::text::tokens::ResponsePrefix;
use bipo::train::caa::CaaPositions;
use bipo::train::optim::Scheduler;
use bipo::train::{Direction, ObjectiveName};
use clap::builder::ArgPredicate;
use clap::{Args, ValueEnum};

use super::data::PairArgs;
use super::model::ModelArgs;
use super::values::{factors, not_negative, one_of, positive, positive_number};

#[derive(Debug, Args)]
pub struct TrainArgs {
    #[command(flatten)]
    pub run: RunArgs,
    /// Steer the output of this block, 0-based [default: by model; Llama-2 15, Mistral 13, else 0.45 of the depth].
    #[arg(long)]
    pub layer: Option<usize>,
    /// Steer the outputs of these blocks, each by a vector of its own, learned together: 10,13,16 or 10..16 or all.
    #[arg(long, value_name = "LIST", conflicts_with = "layer")]
    pub layers: Option<LayerList>,
    /// Learn the vector (bipo), or take the mean difference of activations instead (caa, arXiv 2312.06681), which takes
    /// none of the optimiser's flags.
    #[arg(long, default_value = "bipo")]
    pub method: MethodArg,
    /// With --method caa, compare activations at these tokens of the responses: the mean of all but the end of turn, or the
    /// last before it [default: response].
    #[arg(long, value_parser = one_of::<CaaPositions>())]
    pub caa_positions: Option<CaaPositions>,
    /// Continue from this vector; its layers must be the run's, which they are by default [default: start at zero].
    #[arg(long, value_name = "FILE")]
    pub init: Option<PathBuf>,
    /// Write the vector, metrics.jsonl, config.json, the training curve and a model card to this directory.
    #[arg(long, default_value = "bipo_output", value_name = "DIR")]
    pub output_dir: PathBuf,
    /// Replace what an earlier run left in the output directory.
    #[arg(long)]
    pub overwrite: bool,
    /// Continue the run in the output directory from its newest checkpoint, to the same bytes; begin at the first step where
    /// there is none.
    #[arg(long, conflicts_with = "overwrite")]
    pub resume: bool,
    /// Resume though settings are not those that the run was begun with; its data, layers, seed and model must be.
    #[arg(long, conflicts_with = "overwrite")]
    pub force_resume: bool,
    /// Save the state of the run every N steps [default: after each epoch, and every 5 minutes].
    #[arg(long, value_name = "N", value_parser = positive)]
    pub checkpoint_every: Option<usize>,
    /// Generate at magnitudes -2, 0 and 2 when done, at most 48 tokens each; with --json the texts are in the result.
    #[arg(long)]
    pub test_generation: bool,
}

impl TrainArgs {
    /// Whether the run goes on with what is in the output directory.
    pub fn is_resumed(&self) -> bool {
        self.resume || self.force_resume
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum MethodArg {
    Bipo,
    Caa,
}

#[derive(Debug, Args)]
// Short runs; the cache of all candidates has no output directory to go to.
#[command(
    mut_arg("epochs", |arg| arg.default_value("1")),
    mut_arg("max_steps", |arg| arg.default_value("50").help("Stop after this many steps")),
    mut_arg("warmup_steps", |arg| arg.default_value("10")),
    mut_arg("eval_dataset", |arg| arg.help("Rank by these pairs [default: a fifth of the dataset, drawn with the seed]")),
    mut_arg("cache_memory", |arg| arg.help(
        "Keep this much of the candidates' activations in memory, the rest in a temporary file in the system's directory for \
         such (TMPDIR), as 2GB or 500MiB [default: a quarter of the machine's memory]"
    ))
)]
pub struct LayersArgs {
    #[command(flatten)]
    pub run: RunArgs,
    /// Try each of these blocks by itself: 8..20, 8..20:4, 8,10,12 or all [default: the middle half].
    #[arg(long, value_name = "LIST")]
    pub layers: Option<LayerList>,
    /// Draw each layer's held-out loss into this file, .svg or .png; repeat for both.
    #[arg(long, value_name = "FILE")]
    pub plot: Vec<PathBuf>,
}

/// A default of RePS (arXiv 2505.20809), which PrOSV (arXiv 2605.05983), the method with a learned factor, has too.
fn as_in_reps(value: &'static str) -> [(&'static str, ArgPredicate, &'static str); 2] {
    [("objective", "reps".into(), value), ("learn_factor", "true".into(), value)]
}

/// The data and the settings of a run, whatever it is for.
#[derive(Debug, Args)]
pub struct RunArgs {
    #[command(flatten)]
    pub model: ModelArgs,
    /// Choose the pairs: a CSV, JSONL, JSON or Parquet file, a bundled or published set's name, or hf:owner/name.
    #[arg(long, default_value = bipo::data::DEFAULT_DATASET)]
    pub dataset: String,
    /// Score these pairs after each epoch, and keep the best epoch's vector [default: none].
    #[arg(long, value_name = "DATASET")]
    pub eval_dataset: Option<String>,
    /// Pass over the data this many times.
    #[arg(long, default_value_t = 5, value_parser = positive)]
    pub epochs: usize,
    /// Stop after this many steps [default: none].
    #[arg(long, value_parser = positive)]
    pub max_steps: Option<usize>,
    /// Span the learning-rate schedule over this many epochs [default: those of the run].
    #[arg(long, value_parser = positive)]
    pub schedule_epochs: Option<usize>,
    /// Take this many pairs a step.
    #[arg(long, default_value_t = 4, value_parser = positive)]
    pub batch_size: usize,
    /// Set the peak learning rate [default: by model; 5e-4 for the paper's 7B models; with reps or --learn-factor 0.04].
    #[arg(long, value_parser = positive_number)]
    pub lr: Option<f64>,
    /// Minimise this loss: docs/objectives.md has the formula and the source of each.
    #[arg(long, default_value = "bipo", value_parser = one_of::<ObjectiveName>())]
    pub objective: ObjectiveName,
    /// Set the strength of the preference, the beta of the loss, or with lm and reps of the margin alone [default: 0.1; with
    /// simpo 2].
    #[arg(long, value_parser = positive_number)]
    pub beta: Option<f64>,
    /// Set the gamma of simpo, the difference at which its loss is ln 2 [default: 1].
    #[arg(long, value_parser = not_negative)]
    pub gamma: Option<f64>,
    /// Draw the direction of a step: one sign, uniform in [-1, 1], both signs of every batch, or +1 always [default: sign; with
    /// reps both, with every other objective but bipo positive, which is the only one then].
    #[arg(long, value_parser = one_of::<Direction>())]
    pub direction: Option<Direction>,
    /// Draw the factor on the vector at each step, and with reps for each response, from numbers above 0: a list 2,4,8 or a range
    /// 2..20:2 [default: 1; with reps 2..20:2].
    #[arg(long, value_name = "LIST", value_parser = factors)]
    pub factors: Option<Magnitudes>,
    /// Learn one factor beside the vector, at a rate of its own; the vector that is written is multiplied by it.
    #[arg(long, conflicts_with = "factors")]
    pub learn_factor: bool,
    /// Start the learned factor at this times the square root of the hidden size.
    #[arg(long, default_value_t = 4.0, requires = "learn_factor", value_parser = positive_number)]
    pub factor_scale: f64,
    /// Set the peak learning rate of the learned factor.
    #[arg(long, default_value_t = 20.0, requires = "learn_factor", value_parser = positive_number)]
    pub factor_lr: f64,
    /// Start the vector at random numbers, seeded, up to this over the square root of the hidden size [default: 0; with reps 1,
    /// with --learn-factor 8].
    #[arg(long, value_parser = not_negative)]
    pub init_scale: Option<f64>,
    /// Scale a gradient that is longer down to this norm.
    #[arg(long, default_value_t = 1.0, value_parser = positive_number)]
    pub max_grad_norm: f64,
    /// Add the vector at all tokens, or at these alone: prompt, response, last (the prompt's last token, which predicts the
    /// response's first), first:N or last:N (of the prompt's, after what every prompt of the template begins with), or several
    /// joined by +.
    #[arg(long, default_value = "all", value_name = "WHERE")]
    pub positions: Positions,
    /// Add it at tokens of this role's messages alone, without the chat template's own; a response is the assistant's
    /// [default: at any].
    #[arg(long, value_parser = one_of::<Spans>())]
    pub spans: Option<Spans>,
    /// Put this text between prompt and response; auto writes what the chat template writes before and behind an answer, or a
    /// space where it has no such form, unless the prompt ends in white space.
    #[arg(long, default_value = "auto", allow_hyphen_values = true, value_name = "auto|TEXT")]
    pub response_prefix: String,
    /// Set the decoupled weight decay of the vector; with reps or --learn-factor it is 0 where this is not given.
    #[arg(long, default_value_t = 0.05, default_value_ifs(as_in_reps("0")), value_parser = not_negative)]
    pub weight_decay: f64,
    /// Raise the learning rate from 0 over this many steps; with reps or --learn-factor over 0 where this is not given.
    #[arg(long, default_value_t = 100, default_value_ifs(as_in_reps("0")))]
    pub warmup_steps: usize,
    /// Lower the learning rate after the warmup along this curve; with reps or --learn-factor it is linear where this is not given.
    #[arg(long, default_value = "cosine", default_value_ifs(as_in_reps("linear")), value_parser = one_of::<Scheduler>())]
    pub scheduler: Scheduler,
    /// Seed the shuffles, the directions, the factors and a random start.
    #[arg(long, default_value_t = 11)]
    pub seed: u64,
    /// Truncate longer pairs to this many tokens.
    #[arg(long, default_value_t = 2048, value_name = "TOKENS", value_parser = positive)]
    pub max_length: usize,
    #[command(flatten)]
    pub rows: PairArgs,
    /// Keep the activation cache on the device, or in main memory (past --cache-memory in a file), from where each batch is
    /// brought to the device [default: auto: on the device where it fits].
    #[arg(long, default_value = "auto", hide_default_value = true, value_parser = one_of::<CachePlace>())]
    pub cache: CachePlace,
    /// Keep this much of the activation cache in main memory, the rest in a temporary file in the output directory, as 2GB
    /// or 500MiB [default: a quarter of the machine's memory].
    #[arg(long, value_name = "SIZE")]
    pub cache_memory: Option<Bytes>,
}

/// `--response-prefix` as the encoder wants it.
pub fn response_prefix(text: &str) -> ResponsePrefix {
    match text {
        "auto" => ResponsePrefix::Auto,
        text => ResponsePrefix::Text(text.to_owned()),
    }
}

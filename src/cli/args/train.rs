//! Flags of what learns: `train` and `layers`, and the settings of a run.

use std::path::PathBuf;

use bipo::machine::bytes::Bytes;
use bipo::session::CachePlace;
use bipo::steering::condition::PromptReading;
use bipo::steering::layers::LayerList;
use bipo::steering::magnitudes::Magnitudes;
use bipo::steering::positions::Positions;
use bipo::text::spans::Spans;
use bipo::text::tokens::ResponsePrefix;
use bipo::train::caa::CaaPositions;
use bipo::train::optim::Scheduler;
use bipo::train::{Direction, FACTOR_LR, FACTOR_SCALE, ObjectiveName};
use clap::builder::ArgPredicate;
use clap::{Args, ValueEnum};

use super::data::{EncodingArgs, PairArgs};
use super::headings::{DATA, MACHINE, OPTIMISATION, OUTPUT, VECTOR};
use super::model::ModelArgs;
use super::values::{factors, not_negative, one_of, positive, positive_number, whole};

#[derive(Debug, Args)]
pub struct TrainArgs {
    /// Steer the output of this block, 0-based [default: by model; Llama-2 15, Mistral 13, else 0.45 of the depth].
    #[arg(long, help_heading = VECTOR, value_parser = whole::<usize>)]
    pub layer: Option<usize>,
    /// Steer the outputs of these blocks, each by a vector of its own, learned together: 10,13,16 or 10..16 or all.
    #[arg(long, help_heading = VECTOR, value_name = "LIST", conflicts_with = "layer")]
    pub layers: Option<LayerList>,
    /// Learn the vector (bipo), or take the mean difference of activations (caa, arXiv 2312.06681); or find the condition (condition,
    /// arXiv 2409.05907) by which --when tells the prompts of --dataset from those of --against. The last two refuse the
    /// optimiser's flags.
    #[arg(long, help_heading = VECTOR, default_value = "bipo")]
    pub method: MethodArg,
    /// With --method caa, compare activations at these tokens: the mean over the response without its end of turn (response), or
    /// the response's last token before it [default: response].
    #[arg(long, help_heading = VECTOR, value_parser = one_of::<CaaPositions>())]
    pub caa_positions: Option<CaaPositions>,
    /// With --method condition, find what the prompts of --dataset have and these have not: a text file with a prompt a line, or a set
    /// named as for --dataset, of which the prompts alone are read.
    #[arg(long, help_heading = DATA, value_name = "DATASET")]
    pub against: Option<String>,
    /// With --method condition, count how well the condition tells the prompts of --eval-dataset from these [default: no count].
    #[arg(long, help_heading = DATA, value_name = "DATASET", requires = "eval_dataset")]
    pub eval_against: Option<String>,
    /// With --method condition, look at the mean residual of all of a prompt's tokens (mean), or at that of its last one (last)
    /// [default: mean].
    #[arg(long, help_heading = VECTOR, value_name = "WHERE", value_parser = one_of::<PromptReading>())]
    pub reading: Option<PromptReading>,
    /// Start from this vector, at its layers; --layer and --layers, if given, must name the same ones [default: start at zero].
    #[arg(long, help_heading = VECTOR, value_name = "FILE")]
    pub init: Option<PathBuf>,
    #[command(flatten)]
    pub run: RunArgs,
    /// Write the vector, metrics.jsonl, config.json, the training curve and a model card to this directory.
    #[arg(long, help_heading = OUTPUT, default_value = "bipo_output", value_name = "DIR")]
    pub output_dir: PathBuf,
    /// Replace what an earlier run left in the output directory.
    #[arg(long, help_heading = OUTPUT)]
    pub overwrite: bool,
    /// Continue the run in the output directory from its newest checkpoint. The result is byte-identical to a run without a
    /// break; without a checkpoint, the run starts fresh.
    #[arg(long, help_heading = OUTPUT, conflicts_with = "overwrite")]
    pub resume: bool,
    /// Resume even if settings have changed since the run began; its data, layers, seed and model must be the same.
    #[arg(long, help_heading = OUTPUT, conflicts_with = "overwrite")]
    pub force_resume: bool,
    /// Save the state of the run every N steps [default: after each epoch, and every 5 minutes].
    #[arg(long, help_heading = OUTPUT, value_name = "N", value_parser = positive)]
    pub checkpoint_every: Option<usize>,
    /// Generate texts at magnitudes -2, 0 and 2 after training, at most 48 tokens each; with --json they are in the result.
    #[arg(long, help_heading = OUTPUT)]
    pub test_generation: bool,
    /// Leave the blocks up to the lowest steered layer in their files: each is read when its turn comes while the activation cache is
    /// made, and no step needs them, so that they never fill the device together.
    #[arg(long, help_heading = MACHINE, conflicts_with = "test_generation")]
    pub offload: bool,
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
    Condition,
}

#[derive(Debug, Args)]
// Short runs; the cache of all candidates has no output directory to go to.
#[command(
    mut_arg("epochs", |arg| arg.default_value("1")),
    mut_arg("max_steps", |arg| arg.default_value("50").help("Stop after this many steps")),
    mut_arg("warmup_steps", |arg| arg.default_value("10").help(
        "Raise the learning rate from 0 over this many steps [default: 10; 0 with reps or a learned factor]"
    )),
    mut_arg("eval_dataset", |arg| arg.help("Rank by these pairs [default: a fifth of the dataset, drawn with the seed]")),
    mut_arg("cache_memory", |arg| arg.help(
        "Keep this much of the candidates' activations in memory, the rest in a temporary file in the system's directory for \
         such (TMPDIR), as 2GB or 500MiB [default: a quarter of the machine's memory]"
    ))
)]
pub struct LayersArgs {
    /// Try each of these layers by itself: 8..20, 8..20:4, 8,10,12 or all [default: the middle half].
    #[arg(long, help_heading = VECTOR, value_name = "LIST")]
    pub layers: Option<LayerList>,
    #[command(flatten)]
    pub run: RunArgs,
    /// Draw each layer's held-out loss into this file, .svg or .png; repeat for both.
    #[arg(long, help_heading = OUTPUT, value_name = "FILE")]
    pub plot: Vec<PathBuf>,
}

/// A default of RePS (arXiv 2505.20809), which PrOSV (arXiv 2605.05983), the method with a learned factor, has too.
fn as_in_reps(value: &'static str) -> [(&'static str, ArgPredicate, &'static str); 2] {
    [("objective", "reps".into(), value), ("learn_factor", "true".into(), value)]
}

/// The data and the settings of a run, whatever it is for.
#[derive(Debug, Args)]
#[command(next_help_heading = OPTIMISATION)]
pub struct RunArgs {
    /// Choose the pairs: a CSV, JSONL, JSON or Parquet file, a bundled or published set's name, or hf:owner/name.
    #[arg(long, help_heading = DATA, default_value = bipo::data::DEFAULT_DATASET)]
    pub dataset: String,
    /// Score these pairs after each epoch, and keep the best epoch's vector [default: none].
    #[arg(long, help_heading = DATA, value_name = "DATASET")]
    pub eval_dataset: Option<String>,
    /// Learn from each pair this many times.
    #[arg(long, default_value_t = 5, value_parser = positive)]
    pub epochs: usize,
    /// Stop after this many steps [default: none].
    #[arg(long, value_parser = positive)]
    pub max_steps: Option<usize>,
    /// Lay the learning-rate schedule out for this many epochs, even if the run has fewer [default: the epochs of the run].
    #[arg(long, value_parser = positive)]
    pub schedule_epochs: Option<usize>,
    /// Take this many pairs a step.
    #[arg(long, default_value_t = 4, value_parser = positive)]
    pub batch_size: usize,
    /// Set the peak learning rate [default: by model; 5e-4 for the paper's 7B models; with reps or --learn-factor 0.04].
    #[arg(long, value_parser = positive_number)]
    pub lr: Option<f64>,
    /// Minimise this loss; docs/objectives.md has the formula and the source of each.
    #[arg(long, default_value = "bipo", value_parser = one_of::<ObjectiveName>())]
    pub objective: ObjectiveName,
    /// Set beta, the strength of the preference in the loss and the margin; lm and reps have it in the margin alone [default: 0.1;
    /// with simpo 2].
    #[arg(long, value_parser = positive_number)]
    pub beta: Option<f64>,
    /// Set the gamma of simpo, the difference at which its loss is ln 2 [default: 1].
    #[arg(long, value_parser = not_negative)]
    pub gamma: Option<f64>,
    /// Draw the direction of each step: a random sign (sign), a number in [-1, 1] (uniform), both signs for every batch (both), or
    /// always +1 (positive). Only bipo has a choice [default: sign; with reps both; with dpo, simpo and lm positive].
    #[arg(long, value_parser = one_of::<Direction>())]
    pub direction: Option<Direction>,
    /// Draw a new factor on the vector at each step (with reps, for each response) from these numbers above 0: a list 2,4,8 or a range
    /// 2..20:2 [default: 1; with reps 2..20:2].
    #[arg(long, value_name = "LIST", value_parser = factors)]
    pub factors: Option<Magnitudes>,
    /// Learn one factor on the vector too, at its own learning rate; the vector is written multiplied by it.
    #[arg(long, conflicts_with = "factors")]
    pub learn_factor: bool,
    /// Start the learned factor at this number times the square root of the hidden size.
    #[arg(long, default_value_t = FACTOR_SCALE, requires = "learn_factor", value_parser = positive_number)]
    pub factor_scale: f64,
    /// Set the peak learning rate of the learned factor.
    #[arg(long, default_value_t = FACTOR_LR, requires = "learn_factor", value_parser = positive_number)]
    pub factor_lr: f64,
    /// Start the vector at random numbers between -s and s, where s is this over the square root of the hidden size [default: 0;
    /// with reps 1, with --learn-factor 8].
    #[arg(long, help_heading = VECTOR, value_parser = not_negative)]
    pub init_scale: Option<f64>,
    /// Scale down a gradient whose norm is larger to this norm.
    #[arg(long, default_value_t = 1.0, value_parser = positive_number)]
    pub max_grad_norm: f64,
    /// Add the vector at all tokens, or only at these: prompt, response, last (the prompt's last token, which predicts the
    /// response's first), first:N or last:N (of the prompt, not counting what every prompt of the template begins with), or
    /// several joined by +.
    #[arg(long, help_heading = VECTOR, default_value = "all", value_name = "WHERE")]
    pub positions: Positions,
    /// Add it only at tokens in messages of this role, not at those that the chat template adds; a response is the assistant's
    /// [default: all tokens].
    #[arg(long, help_heading = VECTOR, value_parser = one_of::<Spans>())]
    pub spans: Option<Spans>,
    #[command(flatten)]
    pub encoding: EncodingArgs,
    /// Set the decoupled weight decay of the vector [default: 0.05; 0 with reps or a learned factor].
    #[arg(long, hide_default_value = true, default_value_t = 0.05, default_value_ifs(as_in_reps("0")), value_parser = not_negative)]
    pub weight_decay: f64,
    /// Raise the learning rate from 0 over this many steps [default: 100; 0 with reps or a learned factor].
    #[arg(long, hide_default_value = true, default_value_t = 100, default_value_ifs(as_in_reps("0")), value_parser = whole::<usize>)]
    pub warmup_steps: usize,
    /// Lower the learning rate after the warmup along this curve [default: cosine; linear with reps or a learned factor].
    #[arg(long, hide_default_value = true, default_value = "cosine", default_value_ifs(as_in_reps("linear")), value_parser = one_of::<Scheduler>())]
    pub scheduler: Scheduler,
    /// Seed the shuffles, the directions, the factors and a random start.
    #[arg(long, default_value_t = 11, value_parser = whole::<u64>)]
    pub seed: u64,
    #[command(flatten)]
    pub rows: PairArgs,
    #[command(flatten)]
    pub model: ModelArgs,
    /// Keep the activation cache on the device, or in main memory (host; what exceeds --cache-memory goes to a file), from which
    /// each batch is copied to the device [default: auto: on the device if it fits].
    #[arg(long, help_heading = MACHINE, default_value = "auto", hide_default_value = true, value_parser = one_of::<CachePlace>())]
    pub cache: CachePlace,
    /// Keep this much of the activation cache in main memory, the rest in a temporary file in the output directory, as 2GB
    /// or 500MiB [default: a quarter of the machine's memory].
    #[arg(long, help_heading = MACHINE, value_name = "SIZE")]
    pub cache_memory: Option<Bytes>,
}

/// `--response-prefix` as the encoder wants it.
pub fn response_prefix(text: &str) -> ResponsePrefix {
    match text {
        "auto" => ResponsePrefix::Auto,
        text => ResponsePrefix::Text(text.to_owned()),
    }
}

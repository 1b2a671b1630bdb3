//! All of clap: what the user may write, and its conversion into the library's settings. No work is done here.

use std::path::PathBuf;

use bipo::Error;
use bipo::activations::CachePlace;
use bipo::bytes::Bytes;
use bipo::caa::CaaPositions;
use bipo::data::TruthfulPairs;
use bipo::layers::LayerList;
use bipo::magnitudes::Magnitudes;
use bipo::model::shapes::Shape;
use bipo::optim::Scheduler;
use bipo::positions::{Positions, Spans};
use bipo::tokens::ResponsePrefix;
use bipo::train::Direction;
use candle_core::DType;
use clap::error::ErrorKind;
use clap::parser::ValueSource;
use clap::{ArgMatches, Args, CommandFactory, Parser, Subcommand, ValueEnum};

use crate::output;

/// Personalise a frozen large language model with one steering vector.
#[derive(Debug, Parser)]
#[command(version, max_term_width = 110)]
pub struct Cli {
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Learn a steering vector from pairs of responses.
    #[command(
        after_help = "Examples:\n  bipo train\n  bipo train --model mistral --layer 13 --dataset pairs.csv --output-dir out/ --resume"
    )]
    Train(Box<TrainArgs>),
    /// Find the layer to steer: short runs at each, ranked by held-out pairs.
    #[command(
        after_help = "Examples:\n  bipo layers --layers 8..20 --dataset cheerful --eval-dataset cheerful-heldout\n  bipo layers --model mistral --layers 10,13,16 --dataset pairs.csv --max-steps 100 --json"
    )]
    Layers(Box<LayersArgs>),
    /// Generate text at a sweep of magnitudes.
    #[command(
        after_help = "Examples:\n  bipo steer --prompt \"How was your day?\"\n  bipo steer --vector out/steering_vector.safetensors --magnitudes -2..2:0.5 --prompts questions.txt --json\n  bipo steer --prompt \"How was your day?\" --report sweep.html"
    )]
    Steer(Box<SteerArgs>),
    /// Measure what a vector does: preference, multiple choice, damage, and alternatives beside it.
    #[command(
        after_help = "Examples:\n  bipo eval --dataset cheerful-heldout\n  bipo eval --vector out/steering_vector.safetensors --dataset held-out.csv --magnitudes -2..2:0.5 --mc TruthfulQA.csv --baseline random --csv curve.csv",
        after_long_help = EVAL_HELP
    )]
    Eval(Box<EvalArgs>),
    /// Let a language model grade generated texts by a rubric.
    ///
    /// Each text gets a score from 1 to 4; the mean score of each magnitude is shown with its 95 % interval.
    #[command(
        after_help = "Examples:\n  bipo judge sweep.json --rubric cheerful --judge-dry-run\n  bipo judge sweep.json --judge https://api.openai.com/v1 --judge-model gpt-4o --rubric mine.txt --judge-results scores.jsonl",
        after_long_help = JUDGE_HELP
    )]
    Judge(Box<JudgeTextsArgs>),
    /// Change a vector's format, or add several vectors up.
    ///
    /// The output's extension names its format: .safetensors, .pt, .gguf (llama.cpp), .svec, .npy or .json.
    #[command(
        after_help = "Examples:\n  bipo convert bipo_output/steering_vector.safetensors vector.gguf\n  bipo convert formal.safetensors:1 concise.safetensors:-0.5 both.safetensors --normalize"
    )]
    Convert(Box<ConvertArgs>),
    /// Show what vector files hold, how they were made and what they mean to a model.
    #[command(
        after_help = "Examples:\n  bipo inspect bipo_output/steering_vector.safetensors\n  bipo inspect a.safetensors b.gguf c.pt --layer 13 --model mistral --top 20",
        after_long_help = INSPECT_HELP
    )]
    Inspect(Box<InspectArgs>),
    /// Write a model whose MLP bias carries a vector.
    #[command(
        after_help = "Examples:\n  bipo merge --vector bipo_output/steering_vector.safetensors --output-dir merged/\n  bipo merge --model llama-2 --vector v.safetensors --magnitude 1.5 -o merged/",
        after_long_help = MERGE_HELP
    )]
    Merge(Box<MergeArgs>),
    /// Measure training steps and sweeps on this machine, beside its best matrix product.
    #[command(
        after_help = "Examples:\n  bipo bench --shape smollm2-135m --seconds 2\n  bipo bench --shape mistral-7b --device cuda --json",
        after_long_help = BENCH_HELP
    )]
    Bench(Box<BenchArgs>),
    /// Compare a device with the CPU: logits, gradients and training steps of tiny models of every architecture.
    #[command(
        after_help = "Examples:\n  bipo check --device cuda\n  bipo check --device cpu --dtype bf16 --json",
        after_long_help = CHECK_HELP
    )]
    Check(Box<CheckArgs>),
}

const EVAL_HELP: &str = "\
One row a magnitude. In brackets stand 95 % intervals: percentiles of a seeded bootstrap over pairs, questions, tokens or texts.

Preference (--dataset): dose, the mean over pairs of ‖m·v‖/‖h‖, with the median residual ‖h‖ of a pair's steered tokens at the layer. Margin, β·[(log π_m(chosen) - log π(chosen)) - (log π_m(rejected) - log π(rejected))]. Moved right and moved wrong, the shares of pairs whose margin has the sign of m and the other one. Prefers chosen, the share with log π_m(chosen) > log π_m(rejected), and the same per token.

Multiple choice (--mc): TruthfulQA's mc1 and mc2 as the benchmark defines them, from its CSV or the hub's Parquet, asked through the chat template without examples. matching: the probability of the letter that matches the behaviour, of the two, in A/B items of the CAA data sets, averaged over both orders of the options. accuracy: the share of questions whose right letter is the likeliest, in files as MMLU's. The end-of-turn token is no part of an answer.

Damage: perplexity of a neutral text, read without template in windows of 1024 tokens with the vector at every token; KL divergence (kl in files), the mean over its next-token distributions from those of the model without vector; repetition, the share of 4-grams of tokens in the generated texts that occur earlier in the same text.

Baselines (--baseline): random, a random direction of the vector's norm at its layers; prompt, the model without vector, told --baseline-system (on the neutral text it stands in front, followed by an empty line); or another vector file, scaled to the vector's norm. At magnitude 0 they are the same model, so that row is there once.

Examples:
  bipo eval --dataset cheerful-heldout
  bipo eval --vector out/steering_vector.safetensors --dataset held-out.csv --magnitudes -2..2:0.5 --mc TruthfulQA.csv --baseline random --csv curve.csv";
const JUDGE_HELP: &str = "\
The key comes from BIPO_JUDGE_KEY, else OPENAI_API_KEY. It is sent over https or to this machine alone, and written nowhere.

A reply counts where one line of it is `Score: N`; another is asked for once more, then the text counts as failed. Answers 429 and 5xx, timeouts and broken connections are tried again, five times in all.

Examples:
  bipo steer --prompts questions.txt --output sweep.json
  bipo judge sweep.json --rubric cheerful --judge-dry-run
  bipo judge sweep.json --judge https://api.openai.com/v1 --judge-model gpt-4o --rubric mine.txt --judge-results scores.jsonl";

const INSPECT_HELP: &str = "\
Without --model nothing but the files is read. With it, two things are measured:

Residual: the length ‖h‖ of the residual stream after the layer, on bundled neutral prompts: its mean over all their tokens, and its median (the first token's is often hundreds of times the others', which moves the mean alone). A ratio is ‖v‖ over it.

Tokens: the score of token t is u_t - mean(u), with u = W_U · (γ ⊙ v / rms(v)), the weight γ of the model's last norm and its unembedding W_U. This is the vector's direct path to the logits, without the blocks above its layer.

Warned of: a vector that is zero or not finite, one longer than 5 median residuals, and, without --model, one whose elements have a root mean square above 10. Vectors for the same layer are compared by their cosine.

Examples:
  bipo inspect bipo_output/steering_vector.safetensors
  bipo inspect a.safetensors b.gguf c.pt --layer 13 --model mistral --top 20";

const BENCH_HELP: &str = "\
Training: random pairs with a prompt that both responses share; the reference pass and the blocks up to the steered layer are done before, as in a run of `bipo train`. Useful work is counted from the shapes, and stands beside the best of several matrix products of the same run. A sweep is timed from the prompt to the last token of every magnitude. Each is done once before it is timed.

Peak memory: of a GPU, what it had less at the worst moment than when bipo began, asked every 2 ms; of the CPU, what the system counts for the process. Counted for a device: what bipo expects to take of a GPU, from the shapes alone.

Examples:
  bipo bench --shape smollm2-135m --seconds 2
  bipo bench --shape mistral-7b --device cuda --json
  bipo bench --model smollm2 --weights quantized";

const CHECK_HELP: &str = "\
Each tiny model has the same random weights on the CPU in f32, as `bipo train` computes there, and on the device as tensors in each dtype: the path that GPUs take, on the CPU too. A difference is |a - b| / |b| over all numbers; beside it stands the most that the dtype's rounding explains. 48 steps are those of the authors' recorded run: 64 pairs, batches of four, signs +1 -1 -1 +1. Exit code 1 where a check failed.

Examples:
  bipo check --device cuda
  bipo check --device cpu --dtype bf16 --json
  bipo check --device cuda --model smollm2 --offline";

const MERGE_HELP: &str = "\
The residual after block L is … + down_proj(·), so a bias of m·v on the down projection of block L steers at every token, in any program that runs the model. Of the supported architectures `transformers` gives Llama's MLP alone a bias (`mlp_bias`); the other biases that the key brings are zero. Mistral, Qwen2 and Qwen3 have none, and GGUF files are not rewritten: use a control vector there (bipo convert v.safetensors v.gguf).

Examples:
  bipo merge --vector bipo_output/steering_vector.safetensors --output-dir merged/
  bipo merge --model llama-2 --vector v.safetensors --magnitude 1.5 -o merged/";

/// What every command that loads a model takes.
/// What a command that loads no model takes to say how it reports.
#[derive(Debug, Args)]
pub struct ReportArgs {
    /// Print a machine-readable result on standard output, and nothing else there.
    #[arg(long)]
    pub json: bool,
    /// Say more on standard error.
    #[arg(short, long, conflicts_with = "quiet")]
    pub verbose: bool,
    /// Say nothing on standard error but errors.
    #[arg(short, long)]
    pub quiet: bool,
}

#[derive(Debug, Args)]
pub struct ModelArgs {
    /// Choose the model: an alias, a hub id owner/name[@revision], a local directory, or a .gguf file.
    #[arg(long, default_value = "smollm2")]
    pub model: String,
    /// Choose where to compute: auto, cpu, cuda[:N] or metal.
    #[arg(long, default_value = "auto", value_name = "auto|cpu|cuda[:N]|metal")]
    pub device: String,
    /// Set the type of weights and activations [auto: f32 on the CPU, bf16 elsewhere].
    #[arg(long, default_value = "auto")]
    pub dtype: DTypeArg,
    /// Hold the weights on the CPU dense, in their dtype, or as their file has them, decoded when used
    /// [auto: dense where that takes at most half of the memory].
    #[arg(long, default_value = "auto")]
    pub weights: WeightsArg,
    /// Set the system prompt; "" for none [default: none].
    #[arg(long, allow_hyphen_values = true)]
    pub system: Option<String>,
    /// Choose the chat template: auto (the tokenizer's own), a built-in name, or a Jinja file.
    #[arg(long, default_value = "auto")]
    pub template: String,
    /// Never touch the network (also HF_HUB_OFFLINE=1).
    #[arg(long)]
    pub offline: bool,
    /// Use this many threads [default: one a physical core].
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=512))]
    pub threads: Option<u16>,
    /// Print a machine-readable result on standard output, and nothing else there.
    #[arg(long)]
    pub json: bool,
    /// Say more on standard error.
    #[arg(short, long, conflicts_with = "quiet")]
    pub verbose: bool,
    /// Say nothing on standard error but errors.
    #[arg(short, long)]
    pub quiet: bool,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
pub enum DTypeArg {
    Auto,
    F32,
    Bf16,
    F16,
}

impl DTypeArg {
    /// The dtype on a device of this kind.
    pub fn resolve(self, on_cpu: bool) -> DType {
        match self {
            Self::Auto if on_cpu => DType::F32,
            Self::Auto | Self::Bf16 => DType::BF16,
            Self::F32 => DType::F32,
            Self::F16 => DType::F16,
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum WeightsArg {
    Auto,
    Dense,
    Quantized,
}

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
    /// With --method caa, compare activations at these tokens of the responses: response (the mean of all but the end of
    /// turn) or last (the one before it) [default: response].
    #[arg(long, value_name = "response|last")]
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
    /// Generate a short sweep when done.
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
    /// Try each of these blocks by itself: 8..20 or 8,10,12 or all [default: the middle half].
    #[arg(long, value_name = "LIST")]
    pub layers: Option<LayerList>,
    /// Draw each layer's held-out loss into this file, .svg or .png; repeat for both.
    #[arg(long, value_name = "FILE")]
    pub plot: Vec<PathBuf>,
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
    /// Set the peak learning rate [default: by model; 5e-4 for the paper's 7B models].
    #[arg(long, value_parser = positive_number)]
    pub lr: Option<f64>,
    /// Set the strength of the preference.
    #[arg(long, default_value_t = 0.1, value_parser = positive_number)]
    pub beta: f64,
    /// Draw the direction of a step: one sign, uniform in [-1, 1], or both signs of every batch.
    #[arg(long, default_value = "sign")]
    pub direction: DirectionArg,
    /// Scale gradients down to this norm.
    #[arg(long, default_value_t = 1.0, value_parser = positive_number)]
    pub max_grad_norm: f64,
    /// Add the vector at these tokens: all, prompt, response, or last (the prompt's last token alone, the one that
    /// predicts the response's first).
    #[arg(long, default_value = "all", value_name = "all|prompt|response|last")]
    pub positions: Positions,
    /// Add it at tokens of this role's messages alone, without the chat template's own; a response is the assistant's
    /// [default: at any].
    #[arg(long, value_name = "user|assistant")]
    pub spans: Option<Spans>,
    /// Put this text between prompt and response; auto is a space unless the template ends in white space.
    #[arg(long, default_value = "auto", allow_hyphen_values = true, value_name = "auto|TEXT")]
    pub response_prefix: String,
    /// Set the decoupled weight decay.
    #[arg(long, default_value_t = 0.05, value_parser = not_negative)]
    pub weight_decay: f64,
    /// Raise the learning rate from 0 over this many steps.
    #[arg(long, default_value_t = 100)]
    pub warmup_steps: usize,
    /// Lower the learning rate after the warmup along this curve.
    #[arg(long, default_value = "cosine")]
    pub scheduler: SchedulerArg,
    /// Seed shuffles and directions.
    #[arg(long, default_value_t = 11)]
    pub seed: u64,
    /// Truncate longer pairs to this many tokens.
    #[arg(long, default_value_t = 2048, value_name = "TOKENS", value_parser = positive)]
    pub max_length: usize,
    /// Use the first N rows only [default: all].
    #[arg(long, value_name = "N", value_parser = positive)]
    pub limit: Option<usize>,
    /// Refuse a data set with a row that would be skipped.
    #[arg(long)]
    pub strict: bool,
    /// Pair TruthfulQA's best answer with all of its incorrect ones, or with the first.
    #[arg(long, default_value = "all")]
    pub pairs: PairsArg,
    /// Keep the activation cache on the device, or in main memory (past --cache-memory in a file), from where each batch is
    /// brought to the device [default: auto: on the device where it fits].
    #[arg(long, default_value = "auto", hide_default_value = true, value_name = "auto|device|host")]
    pub cache: CachePlace,
    /// Keep this much of the activation cache in main memory, the rest in a temporary file in the output directory, as 2GB
    /// or 500MiB [default: a quarter of the machine's memory].
    #[arg(long, value_name = "SIZE")]
    pub cache_memory: Option<Bytes>,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
pub enum DirectionArg {
    Sign,
    Uniform,
    Both,
}

impl From<DirectionArg> for Direction {
    fn from(arg: DirectionArg) -> Self {
        match arg {
            DirectionArg::Sign => Self::Sign,
            DirectionArg::Uniform => Self::Uniform,
            DirectionArg::Both => Self::Both,
        }
    }
}

#[derive(Debug, Clone, Copy, ValueEnum)]
pub enum SchedulerArg {
    Cosine,
    Linear,
    Constant,
}

impl From<SchedulerArg> for Scheduler {
    fn from(arg: SchedulerArg) -> Self {
        match arg {
            SchedulerArg::Cosine => Self::Cosine,
            SchedulerArg::Linear => Self::Linear,
            SchedulerArg::Constant => Self::Constant,
        }
    }
}

#[derive(Debug, Clone, Copy, ValueEnum)]
pub enum PairsArg {
    All,
    First,
}

impl From<PairsArg> for TruthfulPairs {
    fn from(arg: PairsArg) -> Self {
        match arg {
            PairsArg::All => Self::All,
            PairsArg::First => Self::First,
        }
    }
}

/// `--response-prefix` as the encoder wants it.
pub fn response_prefix(text: &str) -> ResponsePrefix {
    match text {
        "auto" => ResponsePrefix::Auto,
        text => ResponsePrefix::Text(text.to_owned()),
    }
}

#[derive(Debug, Args)]
pub struct SteerArgs {
    #[command(flatten)]
    pub model: ModelArgs,
    /// Add this vector, times SCALE if given; repeat to add several [default: bipo_output/steering_vector.safetensors].
    #[arg(long, value_name = "FILE[:SCALE]")]
    pub vector: Vec<String>,
    /// Steer the output of this block instead of the file's.
    #[arg(long)]
    pub layer: Option<usize>,
    /// Add the vector at these tokens, whatever its file says: all, prompt, response (what is generated), or last (the
    /// prompt's last token alone) [default: the file's].
    #[arg(long, value_name = "all|prompt|response|last")]
    pub positions: Option<Positions>,
    /// Add it at tokens of this role's messages alone; what is generated is the assistant's [default: the file's, or any
    /// where --positions is given].
    #[arg(long, value_name = "user|assistant")]
    pub spans: Option<Spans>,
    /// Generate at these factors: a list -2,0,2 or a range -2..2:0.5.
    #[arg(long, default_value = "-2,0,2", allow_hyphen_values = true, value_name = "LIST")]
    pub magnitudes: Magnitudes,
    /// Answer this prompt; repeat for several.
    #[arg(long, allow_hyphen_values = true, value_name = "TEXT")]
    pub prompt: Vec<String>,
    /// Answer each line of this file, or of standard input (-).
    #[arg(long, value_name = "FILE", conflicts_with = "prompt")]
    pub prompts: Option<PathBuf>,
    /// Generate at most this many tokens.
    #[arg(long, default_value_t = 128, value_parser = positive)]
    pub max_new_tokens: usize,
    /// Sample at this temperature; 0 takes the likeliest token.
    #[arg(long, default_value_t = 0.0, value_parser = temperature)]
    pub temperature: f64,
    /// Sample from the likeliest tokens up to this probability [default: all].
    #[arg(long, value_parser = probability)]
    pub top_p: Option<f64>,
    /// Sample from this many of the likeliest tokens [default: all].
    #[arg(long, value_parser = positive)]
    pub top_k: Option<usize>,
    /// Divide the logits of tokens seen before; 1 is none.
    #[arg(long, default_value_t = 1.0, value_parser = positive_number)]
    pub repeat_penalty: f64,
    /// Seed the sampler.
    #[arg(long, default_value_t = 11)]
    pub seed: u64,
    /// Write the result, as JSON, to this file too.
    #[arg(long, value_name = "FILE")]
    pub output: Option<PathBuf>,
    /// Write a self-contained HTML page to this file too: the texts side by side, settings, and the command.
    #[arg(long, value_name = "FILE")]
    pub report: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub struct EvalArgs {
    #[command(flatten)]
    pub model: ModelArgs,
    /// Measure this vector, times SCALE if given; repeat to add several [default: bipo_output/steering_vector.safetensors].
    #[arg(long, value_name = "FILE[:SCALE]")]
    pub vector: Vec<String>,
    /// Steer the output of this block instead of the files'.
    #[arg(long)]
    pub layer: Option<usize>,
    /// Add the vector at these tokens, whatever its file says: all, prompt, response or last [default: the file's].
    #[arg(long, value_name = "all|prompt|response|last")]
    pub positions: Option<Positions>,
    /// Add it at tokens of this role's messages alone [default: the file's, or any where --positions is given].
    #[arg(long, value_name = "user|assistant")]
    pub spans: Option<Spans>,
    /// Measure at these factors: a list -2,0,2 or a range -2..2:0.5.
    #[arg(long, default_value = "-2..2:1", allow_hyphen_values = true, value_name = "LIST")]
    pub magnitudes: Magnitudes,
    /// Measure preference on these held-out pairs, named as for train [default: none].
    #[arg(long)]
    pub dataset: Option<String>,
    /// Use the first N rows of each data set and question file only [default: all].
    #[arg(long, value_name = "N", value_parser = positive)]
    pub limit: Option<usize>,
    /// Refuse a data set with a row that would be skipped.
    #[arg(long)]
    pub strict: bool,
    /// Pair TruthfulQA's best answer with all of its incorrect ones, or with the first.
    #[arg(long, default_value = "all")]
    pub pairs: PairsArg,
    /// Put this text between prompt and response; auto is a space unless the template ends in white space.
    #[arg(long, default_value = "auto", allow_hyphen_values = true, value_name = "auto|TEXT")]
    pub response_prefix: String,
    /// Truncate longer pairs to this many tokens.
    #[arg(long, default_value_t = 2048, value_name = "TOKENS", value_parser = positive)]
    pub max_length: usize,
    /// Set the strength of the preference [default: the vector's, else 0.1].
    #[arg(long, value_parser = positive_number)]
    pub beta: Option<f64>,
    /// Ask these multiple-choice questions: TruthfulQA, A/B items or lettered options; repeat for several files.
    #[arg(long, value_name = "FILE")]
    pub mc: Vec<PathBuf>,
    /// Read this neutral text for perplexity and KL divergence [default: a bundled one].
    #[arg(long, value_name = "FILE")]
    pub text: Option<PathBuf>,
    /// Answer this prompt, to count repetitions; repeat for several [default: eight bundled ones].
    #[arg(long, allow_hyphen_values = true, value_name = "TEXT")]
    pub prompt: Vec<String>,
    /// Answer each line of this file, or of standard input (-).
    #[arg(long, value_name = "FILE", conflicts_with = "prompt")]
    pub prompts: Option<PathBuf>,
    /// Generate at most this many tokens.
    #[arg(long, default_value_t = 64, value_parser = positive)]
    pub max_new_tokens: usize,
    /// Leave the neutral text or the generated texts out; separate several by commas.
    #[arg(long, value_delimiter = ',')]
    pub skip: Vec<SkipArg>,
    /// Compare with random (a direction), prompt (see --baseline-system) or another vector file; repeat for several.
    #[arg(long, value_name = "random|prompt|FILE")]
    pub baseline: Vec<String>,
    /// Tell the model this, in place of --system, for the baseline prompt.
    #[arg(long, value_name = "TEXT")]
    pub baseline_system: Option<String>,
    /// Draw this many resamples for an interval.
    #[arg(long, default_value_t = 1000, value_name = "N", value_parser = resamples)]
    pub bootstrap: usize,
    /// Seed resamples and the random direction.
    #[arg(long, default_value_t = 11)]
    pub seed: u64,
    /// Write the log-probabilities of every pair at every magnitude to this file, one JSON line each.
    #[arg(long, value_name = "FILE")]
    pub per_pair: Option<PathBuf>,
    /// Write the table to this CSV file too.
    #[arg(long, value_name = "FILE")]
    pub csv: Option<PathBuf>,
    /// Draw effect and damage against magnitude into this file, .svg or .png; repeat for both.
    #[arg(long, value_name = "FILE")]
    pub plot: Vec<PathBuf>,
    /// Write settings, tables, curves and texts to this file too, as one web page that needs no other.
    #[arg(long, value_name = "FILE")]
    pub report: Option<PathBuf>,
    #[command(flatten, next_help_heading = "Judge")]
    pub judge: JudgeArgs,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum SkipArg {
    Text,
    Generation,
}

#[derive(Debug, Args)]
// One list for inputs and output: with two, clap takes the name before a flag for OUT in `convert IN --normalize OUT`.
#[command(override_usage = "bipo convert [OPTIONS] <IN[:WEIGHT]>... <OUT>")]
pub struct ConvertArgs {
    /// Read these vectors, in any format, and add them up, each times WEIGHT [default: 1]; write the last file, OUT.
    #[arg(required = true, value_name = "FILE")]
    pub files: Vec<String>,
    /// Say which layer the vector of an input that does not say so steers; move a single input there.
    #[arg(long)]
    pub layer: Option<usize>,
    /// Bring each input to norm 1, all of its layers together, before its weight is applied.
    #[arg(long)]
    pub normalize: bool,
    /// Take the component along this vector out of each input, layer by layer; repeat for several.
    #[arg(long, value_name = "FILE")]
    pub orthogonal_to: Vec<PathBuf>,
    /// Replace OUT if it exists.
    #[arg(long)]
    pub force: bool,
    #[command(flatten)]
    pub report: ReportArgs,
}

#[derive(Debug, Args)]
// An empty name is no model.
#[command(mut_arg("model", |model| {
    model.default_value("").hide_default_value(true).help("Measure residuals and rank tokens on this model, named as for train [default: none]")
}))]
pub struct InspectArgs {
    /// Look at these vector files.
    #[arg(required = true, value_name = "FILE")]
    pub files: Vec<PathBuf>,
    #[command(flatten)]
    pub model: ModelArgs,
    /// Say which layer a file steers that does not say it itself.
    #[arg(long)]
    pub layer: Option<usize>,
    /// Show this many promoted and suppressed tokens.
    #[arg(long, default_value_t = 10, value_name = "N", value_parser = positive)]
    pub top: usize,
}

#[derive(Debug, Args)]
pub struct MergeArgs {
    /// Choose the model: an alias, a hub id owner/name[@revision], or a local directory.
    #[arg(long, default_value = "smollm2")]
    pub model: String,
    /// Carry this vector, times SCALE if given; repeat to add several [default: bipo_output/steering_vector.safetensors].
    #[arg(long, value_name = "FILE[:SCALE]")]
    pub vector: Vec<String>,
    /// Steer the output of this block instead of the file's.
    #[arg(long)]
    pub layer: Option<usize>,
    /// Multiply the vector by this.
    #[arg(long, default_value_t = 1.0, allow_hyphen_values = true, value_parser = finite)]
    pub magnitude: f64,
    /// Write the model to this directory, which must not exist or be empty.
    #[arg(short, long, value_name = "DIR")]
    pub output_dir: PathBuf,
    /// Never touch the network (also HF_HUB_OFFLINE=1).
    #[arg(long)]
    pub offline: bool,
    #[command(flatten)]
    pub report: ReportArgs,
}

#[derive(Debug, Args)]
// An empty name is no model; no text is read.
#[command(
    mut_arg("model", |model| model.default_value("").hide_default_value(true).help("Measure this model, named as for train")),
    mut_arg("system", |arg| arg.hide(true)),
    mut_arg("template", |arg| arg.hide(true))
)]
pub struct BenchArgs {
    #[command(flatten)]
    pub model: ModelArgs,
    /// Measure a model of this shape with random weights, which needs no file.
    #[arg(long, value_name = "llama-2-7b|mistral-7b|smollm2-135m|tiny", conflicts_with = "model")]
    pub shape: Option<Shape>,
    /// Take this many pairs a step.
    #[arg(long, default_value_t = 4, value_name = "N", value_parser = up_to_4096)]
    pub batch_size: usize,
    /// Give each prompt this many tokens.
    #[arg(long, default_value_t = 50, value_name = "N", value_parser = up_to_4096)]
    pub prompt_tokens: usize,
    /// Give each response this many tokens.
    #[arg(long, default_value_t = 50, value_name = "N", value_parser = up_to_4096)]
    pub response_tokens: usize,
    /// Generate this many tokens at each magnitude.
    #[arg(long, default_value_t = 64, value_name = "N", value_parser = up_to_4096)]
    pub new_tokens: usize,
    /// Sweep this many magnitudes at once; separate several by commas.
    #[arg(long, default_value = "1,5,9", value_name = "LIST", value_delimiter = ',', value_parser = up_to_4096)]
    pub sweeps: Vec<usize>,
    /// Repeat matrix products, and then steps, for this long each.
    #[arg(long, default_value_t = 5.0, value_name = "SECONDS", value_parser = seconds)]
    pub seconds: f64,
}

#[derive(Debug, Args)]
// An empty name is no model.
#[command(
    mut_arg("model", |model| {
        model.default_value("").hide_default_value(true).help("Repeat 48 training steps of this model too, named as for train [default: none]")
    }),
    mut_arg("dtype", |dtype| dtype.help("Compare the device's work in this type alone [default: in each]").hide_default_value(true)),
    mut_arg("weights", |arg| arg.hide(true)),
    mut_arg("system", |arg| arg.hide(true))
)]
pub struct CheckArgs {
    #[command(flatten)]
    pub model: ModelArgs,
    /// Compare those steps with the authors' run, recorded in this folder, instead of with the CPU.
    #[arg(long, value_name = "DIR")]
    pub golden: Option<PathBuf>,
}

/// A language model that grades texts; `commands::judge` makes sense of it.
#[derive(Debug, Args)]
pub struct JudgeArgs {
    /// Ask the OpenAI-compatible chat endpoint at this URL; its key comes from BIPO_JUDGE_KEY or OPENAI_API_KEY.
    #[arg(long, value_name = "URL")]
    pub judge: Option<String>,
    /// Let this model grade, named as the endpoint knows it.
    #[arg(long, value_name = "NAME")]
    pub judge_model: Option<String>,
    /// Grade by this text on what the scores 1 to 4 mean: a file, or cheerful, formal, concise, power-seeking,
    /// wealth-seeking or hallucination.
    #[arg(long, value_name = "FILE|NAME")]
    pub rubric: Option<String>,
    /// Ask this many questions at a time.
    #[arg(long, default_value_t = 4, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=256))]
    pub judge_concurrency: u16,
    /// Give one request this many seconds, then try again.
    #[arg(long, default_value_t = 120.0, value_name = "SECONDS", value_parser = seconds)]
    pub judge_timeout: f64,
    /// Append each score to this file, and ask for none that it has [default: none].
    #[arg(long, value_name = "FILE")]
    pub judge_results: Option<PathBuf>,
    /// Print what the judge would be asked, and ask nothing.
    #[arg(long, conflicts_with = "json")]
    pub judge_dry_run: bool,
}

#[derive(Debug, Args)]
pub struct JudgeTextsArgs {
    /// Grade the texts of this file, as `bipo steer --output` writes it: JSON with prompt, magnitude and text each.
    #[arg(value_name = "FILE")]
    pub texts: PathBuf,
    #[command(flatten)]
    pub judge: JudgeArgs,
    #[command(flatten)]
    pub report: ReportArgs,
}

/// The command line; where it is none, says so in one line and ends the process.
pub fn parse() -> Cli {
    Cli::try_parse().unwrap_or_else(|error| {
        let asks_for_help = error.kind() == ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand;
        if error.use_stderr() && !asks_for_help {
            output::usage_error(&one_line(&error.to_string()));
            std::process::exit(2);
        }
        error.exit()
    })
}

/// What is wrong and what would be right, without the usage and the pointer to the help below.
fn one_line(message: &str) -> String {
    let lines = message.trim_start_matches("error: ").lines().map(str::trim);
    let own = lines.take_while(|line| !line.starts_with("Usage:") && !line.starts_with("For more information"));
    let words: Vec<&str> = own.filter(|line| !line.is_empty()).collect();
    format!("{} (see --help)", words.join("; ").replace(":;", ":"))
}

/// A flag that the user wrote, with its values.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Given {
    /// `--max-steps`.
    pub flag: String,
    /// None where the flag takes none.
    pub values: Vec<String>,
}

/// The flags of the subcommand that the program was started with, as the user wrote them, without what was left to its
/// default.
pub fn given() -> Vec<Given> {
    given_in(&Cli::command().get_matches())
}

fn given_in(matches: &ArgMatches) -> Vec<Given> {
    let cli = Cli::command();
    let Some((command, matches)) = matches.subcommand().and_then(|(name, matches)| Some((cli.find_subcommand(name)?, matches)))
    else {
        return Vec::new();
    };
    let arguments = command.get_arguments().filter_map(|argument| Some((argument, argument.get_long()?)));
    let given = arguments.filter(|(argument, _)| {
        let id = argument.get_id().as_str();
        matches.try_contains_id(id).unwrap_or(false) && matches.value_source(id) == Some(ValueSource::CommandLine)
    });
    let with_values = |(argument, long): (&clap::Arg, &str)| {
        let raw = matches.get_raw(argument.get_id().as_str()).into_iter().flatten();
        let takes_values = argument.get_action().takes_values();
        let values = raw.filter(|_| takes_values).map(|value| value.to_string_lossy().into_owned()).collect();
        Given { flag: format!("--{long}"), values }
    };
    given.map(with_values).collect()
}

fn positive(text: &str) -> Result<usize, String> {
    text.parse().ok().filter(|n| *n > 0).ok_or_else(|| "expected a whole number above 0".into())
}

fn up_to_4096(text: &str) -> Result<usize, String> {
    text.parse().ok().filter(|n| (1..=4096).contains(n)).ok_or_else(|| "expected a whole number from 1 to 4096".into())
}

fn resamples(text: &str) -> Result<usize, String> {
    text.parse().ok().filter(|n| (1..=1_000_000).contains(n)).ok_or_else(|| "expected a whole number from 1 to 1000000".into())
}

fn number(text: &str, expected: &str, fits: fn(f64) -> bool) -> Result<f64, String> {
    // What is computed with is f32: there, no number may become infinite.
    let finite = |x: &f64| (*x as f32).is_finite() && fits(*x);
    text.parse().ok().filter(finite).ok_or_else(|| format!("expected {expected}"))
}

fn positive_number(text: &str) -> Result<f64, String> {
    number(text, "a number above 0 and below 3.4e38", |x| x as f32 > 0.0)
}

fn not_negative(text: &str) -> Result<f64, String> {
    number(text, "a number of at least 0 and below 3.4e38", |x| x >= 0.0)
}

fn seconds(text: &str) -> Result<f64, String> {
    number(text, "a number of seconds from 0.1 to 86400", |x| (0.1..=86400.0).contains(&x))
}

fn finite(text: &str) -> Result<f64, String> {
    number(text, "a finite number", |_| true)
}

fn probability(text: &str) -> Result<f64, String> {
    number(text, "a number above 0, at most 1", |x| x as f32 > 0.0 && x <= 1.0)
}

/// Logits are divided by it: a smaller one would make them infinite.
fn temperature(text: &str) -> Result<f64, String> {
    number(text, "0, or a number from 0.000001 and below 3.4e38", |x| x == 0.0 || x >= 1e-6)
}

/// Splits `FILE[:SCALE]`; a file whose own name ends so wins.
pub fn vector_and_scale(text: &str) -> Result<(PathBuf, f32), Error> {
    let whole = PathBuf::from(text);
    match text.rsplit_once(':') {
        Some((file, scale)) if !whole.exists() => match scale.parse::<f32>() {
            Ok(scale) if scale.is_finite() => Ok((file.into(), scale)),
            _ => Err(Error::Argument(format!(
                "{text}: no such file, and {scale:?} is not a factor; expected FILE or FILE:FACTOR"
            ))),
        },
        _ => Ok((whole, 1.0)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wrong_command_line_is_told_in_one_line_with_what_would_be_right() {
        let told = |words: &[&str]| one_line(&Cli::try_parse_from(words).unwrap_err().to_string());
        assert_eq!(
            told(&["bipo", "train", "--layr", "1"]),
            "unexpected argument '--layr' found; tip: a similar argument exists: '--layer' (see --help)"
        );
        assert_eq!(told(&["bipo", "inspect"]), "the following required arguments were not provided: <FILE>... (see --help)");
        assert_eq!(
            told(&["bipo", "train", "--dtype", "f8"]),
            "invalid value 'f8' for '--dtype <DTYPE>'; [possible values: auto, f32, bf16, f16] (see --help)"
        );
    }

    #[test]
    fn flags_are_given_when_the_user_wrote_them() {
        let words = ["bipo", "layers", "--dataset", "a b.csv", "-q", "--strict", "--system", "", "--epochs", "1"];
        let matches = Cli::command().try_get_matches_from(words).unwrap();
        let given: Vec<(String, Vec<String>)> =
            given_in(&matches).into_iter().map(|given| (given.flag, given.values)).collect();
        let expected = [
            ("--dataset", vec!["a b.csv"]),
            ("--epochs", vec!["1"]),
            ("--quiet", vec![]),
            ("--strict", vec![]),
            ("--system", vec![""]),
        ];
        let mut given: Vec<(&str, Vec<&str>)> =
            given.iter().map(|(flag, values)| (flag.as_str(), values.iter().map(String::as_str).collect())).collect();
        given.sort();
        assert_eq!(given, expected);
    }
}

//! All of clap: what the user may write, and its conversion into the library's settings. No work is done here.

mod machine;
mod texts;
mod train;
mod values;
mod vectors;

use bipo::session::{DTypeChoice, WeightsChoice};
use clap::error::ErrorKind;
use clap::parser::ValueSource;
use clap::{ArgMatches, Args, CommandFactory, Parser, Subcommand, ValueEnum};

use crate::terminal;

pub use machine::{BenchArgs, CheckArgs};
pub use texts::{EvalArgs, JudgeArgs, JudgeTextsArgs, SkipArg, SteerArgs};
pub use train::{LayersArgs, MethodArg, RunArgs, TrainArgs, response_prefix};
pub use values::vector_and_scale;
pub use vectors::{ConvertArgs, InspectArgs, MergeArgs};

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

/// What every command that loads a model takes.
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

impl From<DTypeArg> for DTypeChoice {
    fn from(arg: DTypeArg) -> Self {
        match arg {
            DTypeArg::Auto => Self::Auto,
            DTypeArg::F32 => Self::F32,
            DTypeArg::Bf16 => Self::Bf16,
            DTypeArg::F16 => Self::F16,
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum WeightsArg {
    Auto,
    Dense,
    Quantized,
}

impl From<WeightsArg> for WeightsChoice {
    fn from(arg: WeightsArg) -> Self {
        match arg {
            WeightsArg::Auto => Self::Auto,
            WeightsArg::Dense => Self::Dense,
            WeightsArg::Quantized => Self::Quantized,
        }
    }
}

/// The command line; where it is none, says so in one line and ends the process.
pub fn parse() -> Cli {
    Cli::try_parse().unwrap_or_else(|error| {
        let asks_for_help = error.kind() == ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand;
        if error.use_stderr() && !asks_for_help {
            terminal::usage_error(&one_line(&error.to_string()));
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

#[cfg(test)]
mod tests;

//! All of clap: what the user may write, and its conversion into the library's settings. No work is done here.

mod calibrate;
mod data;
mod help;
mod machine;
mod model;
#[cfg(feature = "serve")]
mod serve;
mod texts;
mod train;
mod values;
mod vectors;

use clap::error::ErrorKind;
use clap::parser::ValueSource;
use clap::{ArgMatches, CommandFactory, Parser, Subcommand};

use crate::terminal;

pub use calibrate::CalibrateArgs;
pub use data::DataArgs;
pub use machine::{BenchArgs, CheckArgs};
pub use model::{ModelArgs, ReportArgs};
#[cfg(feature = "serve")]
pub use serve::ServeArgs;
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
    /// Show what training would see of a data set: its pairs, what each column became, and what is skipped.
    ///
    /// No model is needed. With --model, the first pairs are shown as that model sees them.
    #[command(
        after_help = "Examples:\n  bipo data pairs.csv\n  bipo data hf:Anthropic/hh-rlhf --limit 100 --model smollm2\n  bipo data ranked.jsonl --rank all --json\n  bipo data --mc questions.jsonl"
    )]
    Data(Box<DataArgs>),
    /// Find the layer to steer: a short run at each layer, ranked by held-out pairs.
    #[command(
        after_help = "Examples:\n  bipo layers --layers 8..20 --dataset cheerful --eval-dataset cheerful-heldout\n  bipo layers --model mistral --layers 10,13,16 --dataset pairs.csv --max-steps 100 --json"
    )]
    Layers(Box<LayersArgs>),
    /// Generate text at a sweep of magnitudes.
    #[command(
        after_help = "Examples:\n  bipo steer --prompt \"How was your day?\"\n  bipo steer --vector out/steering_vector.safetensors --magnitudes -2..2:0.5 --prompts questions.txt --json\n  bipo steer --prompt \"How was your day?\" --report sweep.html"
    )]
    Steer(Box<SteerArgs>),
    /// Serve OpenAI's HTTP API; each request chooses its own vectors and magnitudes.
    ///
    /// Open the address that is printed in a browser for a page on which to try vectors.
    #[cfg(feature = "serve")]
    #[command(
        after_help = "Examples:\n  bipo serve --vector cheerful=out/steering_vector.safetensors\n  bipo serve --model mistral --vector formal=formal.safetensors --port 9000 --api-key secret",
        after_long_help = help::SERVE
    )]
    Serve(Box<ServeArgs>),
    /// Measure what a vector does (preference, multiple choice, damage), and compare it with baselines.
    #[command(
        after_help = "Examples:\n  bipo eval --dataset cheerful-heldout\n  bipo eval --vector out/steering_vector.safetensors --dataset held-out.csv --magnitudes -2..2:0.5 --mc TruthfulQA.csv --baseline random --csv curve.csv",
        after_long_help = help::EVAL
    )]
    Eval(Box<EvalArgs>),
    /// Find the largest magnitudes of a vector within a budget of damage.
    ///
    /// With the default budget, kl=1, prompts are answered under steering, and at each generated token the steered model is compared
    /// with the untouched one. Other budgets measure the perplexity of a text or the margin of pairs. The negative and the positive
    /// direction have a limit each.
    #[command(
        after_help = "Examples:\n  bipo calibrate --save\n  bipo calibrate --vector out/steering_vector.safetensors --budget ppl=1.1 --json"
    )]
    Calibrate(Box<CalibrateArgs>),
    /// Let a language model grade generated texts by a rubric.
    ///
    /// Each text gets a score from 1 to 4; the mean score of each magnitude is shown with its 95 % interval.
    #[command(
        after_help = "Examples:\n  bipo judge sweep.json --rubric cheerful --judge-dry-run\n  bipo judge sweep.json --judge https://api.openai.com/v1 --judge-model gpt-4o --rubric mine.txt --judge-results scores.jsonl",
        after_long_help = help::JUDGE
    )]
    Judge(Box<JudgeTextsArgs>),
    /// Change a vector's format, or add several vectors up.
    ///
    /// The output's extension names its format: .safetensors, .pt, .gguf (llama.cpp), .svec, .npy or .json.
    #[command(
        after_help = "Examples:\n  bipo convert bipo_output/steering_vector.safetensors vector.gguf\n  bipo convert formal.safetensors:1 concise.safetensors:-0.5 both.safetensors --normalize"
    )]
    Convert(Box<ConvertArgs>),
    /// Show what vector files hold, how they were made, and which tokens they promote in a model.
    #[command(
        after_help = "Examples:\n  bipo inspect bipo_output/steering_vector.safetensors\n  bipo inspect a.safetensors b.gguf c.pt --layer 13 --model mistral --top 20",
        after_long_help = help::INSPECT
    )]
    Inspect(Box<InspectArgs>),
    /// Write a copy of a model that has a vector built in, as a bias of one MLP.
    #[command(
        after_help = "Examples:\n  bipo merge --vector bipo_output/steering_vector.safetensors --output-dir merged/\n  bipo merge --model llama-2 --vector v.safetensors --magnitude 1.5 -o merged/",
        after_long_help = help::MERGE
    )]
    Merge(Box<MergeArgs>),
    /// List the models that have a short name, the layer that is steered in each, and what its download needs.
    #[command(after_help = "Examples:\n  bipo models\n  bipo models --json")]
    Models(ReportArgs),
    /// Measure how fast this machine trains and generates, compared with its fastest matrix product.
    #[command(
        after_help = "Examples:\n  bipo bench --shape smollm2-135m --seconds 2\n  bipo bench --shape mistral-7b --device cuda --json",
        after_long_help = help::BENCH
    )]
    Bench(Box<BenchArgs>),
    /// Compare a device with the CPU: logits, gradients and training steps of tiny models of every architecture.
    #[command(
        after_help = "Examples:\n  bipo check --device cuda\n  bipo check --device cpu --dtype bf16 --json",
        after_long_help = help::CHECK
    )]
    Check(Box<CheckArgs>),
}

impl Command {
    /// What the user said of the model, where the command loads one.
    pub fn model(&self) -> Option<&ModelArgs> {
        match self {
            Self::Train(args) => Some(&args.run.model),
            Self::Layers(args) => Some(&args.run.model),
            Self::Steer(args) => Some(&args.model),
            Self::Eval(args) => Some(&args.model),
            Self::Calibrate(args) => Some(&args.model),
            Self::Inspect(args) => Some(&args.model),
            Self::Bench(args) => Some(&args.model),
            Self::Check(args) => Some(&args.model),
            #[cfg(feature = "serve")]
            Self::Serve(args) => Some(&args.model),
            Self::Data(_) | Self::Judge(_) | Self::Convert(_) | Self::Merge(_) | Self::Models(_) => None,
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

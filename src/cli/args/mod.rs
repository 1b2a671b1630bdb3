//! All of clap: what the user may write, and its conversion into the library's settings. No work is done here.
//!
//! Begin with [`Command`], which lists the commands; each file holds the flags of a few of them, and `help` their examples.

mod calibrate;
mod chat;
mod compare;
mod data;
mod headings;
mod help;
mod machine;
mod misuse;
mod model;
mod pairs;
#[cfg(feature = "serve")]
mod serve;
mod texts;
mod train;
mod values;
mod vectors;

use std::ffi::OsString;

use bipo::report::shell::quote;
use clap::error::ErrorKind;
use clap::parser::ValueSource;
use clap::{ArgMatches, CommandFactory, Parser, Subcommand};

pub use calibrate::CalibrateArgs;
pub use chat::ChatArgs;
pub use compare::{CompareArgs, OF_METHODS};
pub use data::DataArgs;
pub use machine::{BenchArgs, CheckArgs, CompletionsArgs, DoctorArgs, ManArgs};
pub use model::{DEFAULT_MODEL, ModelArgs, OF_MODEL, ReportArgs};
pub use pairs::{OF_OWN_ANSWERS, PairsArgs};
#[cfg(feature = "serve")]
pub use serve::ServeArgs;
pub use texts::{EvalArgs, JudgeArgs, JudgeTextsArgs, PromptArgs, SkipArg, SteerArgs, SteeringArgs, Use, VectorArgs};
pub use train::{LayersArgs, MethodArg, RunArgs, TrainArgs, response_prefix};
pub use values::{MagnitudeArg, condition_and_threshold, vector_and_scale};
pub use vectors::{ConvertArgs, ExportArgs, InspectArgs, MergeArgs};

/// Personalise a frozen large language model with one steering vector.
#[derive(Debug, Parser)]
#[command(version, max_term_width = 110, after_help = help::PROGRAM, mut_subcommands(headings::with_help_flag), mut_subcommands(values::with_negative_numbers))]
pub struct Cli {
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Learn a steering vector from pairs of responses.
    #[command(
        after_help = "Examples:\n  bipo train\n  bipo train --model mistral --layer 13 --dataset pairs.csv --output-dir out/"
    )]
    Train(Box<TrainArgs>),
    /// Show what training would see of a data set: its pairs, what each column became, and what is skipped.
    #[command(after_help = help::DATA)]
    Data(Box<DataArgs>),
    /// Make pairs from a description of the behaviour, by asking a language model for questions and answers.
    #[command(after_help = help::PAIRS)]
    Pairs(Box<PairsArgs>),
    /// Find the layer to steer: a short run at each layer, ranked by held-out pairs.
    #[command(
        after_help = "Examples:\n  bipo layers --layers 8..20 --dataset cheerful --eval-dataset cheerful-heldout\n  bipo layers --model mistral --layers 10,13,16 --dataset pairs.csv --json"
    )]
    Layers(Box<LayersArgs>),
    /// Generate text at a sweep of magnitudes.
    #[command(
        after_help = "Examples:\n  bipo steer --prompt \"How was your day?\"\n  bipo steer --prompt \"How was your day?\" --magnitudes -2..2:0.5 --report sweep.html\n  bipo steer --vector out/steering_vector.safetensors --prompts questions.txt --json"
    )]
    Steer(Box<SteerArgs>),
    /// Talk with a steered model in the terminal; strength and vector can be changed between two questions.
    #[command(after_help = help::CHAT)]
    Chat(Box<ChatArgs>),
    /// Serve OpenAI's HTTP API; each request chooses its own vectors and magnitudes.
    #[cfg(feature = "serve")]
    #[command(after_help = help::SERVE)]
    Serve(Box<ServeArgs>),
    /// Measure what a vector does (preference, multiple choice, damage), and compare it with baselines.
    #[command(after_help = help::EVAL)]
    Eval(Box<EvalArgs>),
    /// Compare methods on your pairs and model: a vector by each, all at the same damage, in one table.
    #[command(after_help = help::COMPARE)]
    Compare(Box<CompareArgs>),
    /// Find the largest magnitudes of a vector within a budget of damage.
    #[command(after_help = help::CALIBRATE)]
    Calibrate(Box<CalibrateArgs>),
    /// Let a language model grade generated texts by a rubric.
    #[command(after_help = help::JUDGE)]
    Judge(Box<JudgeTextsArgs>),
    /// Change a vector's format, or add several vectors up.
    #[command(after_help = help::CONVERT)]
    Convert(Box<ConvertArgs>),
    /// Write what another engine needs to steer by a vector, and a README with the commands to run.
    #[command(after_help = help::EXPORT)]
    Export(Box<ExportArgs>),
    /// Show what vector files hold, how they were made, and which tokens they promote in a model.
    #[command(after_help = help::INSPECT)]
    Inspect(Box<InspectArgs>),
    /// Write a copy of a model that has a vector built in, as a bias of one MLP.
    #[command(after_help = help::MERGE)]
    Merge(Box<MergeArgs>),
    /// List the models that have a short name, the layer that is steered in each, and what its download needs.
    #[command(after_help = "Examples:\n  bipo models\n  bipo models --json")]
    Models(ReportArgs),
    /// Measure how fast this machine trains and generates, compared with its fastest matrix product.
    #[command(after_help = help::BENCH)]
    Bench(Box<BenchArgs>),
    /// Compare a device with the CPU: logits, gradients and training steps of tiny models of every architecture.
    #[command(after_help = help::CHECK)]
    Check(Box<CheckArgs>),
    /// Tell what a bug report needs of this machine: build, processor, memory, GPUs, caches, hub and models.
    #[command(after_help = help::DOCTOR)]
    Doctor(DoctorArgs),
    /// Write the script by which a shell completes bipo's commands, flags and values.
    #[command(after_help = help::COMPLETIONS)]
    Completions(CompletionsArgs),
    /// Write the manual page of the program, or the pages of all commands.
    #[command(after_help = help::MAN)]
    Man(ManArgs),
}

impl Command {
    /// Makes the command one of a rank that is not the first: it says nothing, writes nothing, asks no hub, and takes this device
    /// where the user names none.
    pub fn stand_back(&mut self, device: impl FnOnce() -> String) {
        match self {
            Self::Train(args) => args.test_generation = false,
            Self::Layers(args) => args.plot.clear(),
            Self::Eval(args) => {
                (args.csv, args.per_pair, args.report, args.judge.judge_results) = (None, None, None, None);
                args.plot.clear();
            }
            Self::Calibrate(args) => args.save = false,
            Self::Compare(args) => (args.report, args.plot) = (None, Vec::new()),
            Self::Judge(args) => {
                (args.report.quiet, args.report.verbose, args.judge.judge_results) = (true, false, None);
            }
            _ => {}
        }
        let model = match self {
            Self::Train(args) => &mut args.run.model,
            Self::Layers(args) => &mut args.run.model,
            Self::Eval(args) => &mut args.model,
            Self::Calibrate(args) => &mut args.model,
            Self::Compare(args) => &mut args.run.model,
            _ => return,
        };
        (model.quiet, model.verbose, model.offline) = (true, false, true);
        if model.device == "auto" {
            model.device = device();
        }
    }

    /// What the user said of the model, where the command loads one.
    pub fn model(&self) -> Option<&ModelArgs> {
        match self {
            Self::Train(args) => Some(&args.run.model),
            Self::Pairs(args) => Some(&args.model),
            Self::Layers(args) => Some(&args.run.model),
            Self::Steer(args) => Some(&args.model),
            Self::Chat(args) => Some(&args.model),
            Self::Eval(args) => Some(&args.model),
            Self::Calibrate(args) => Some(&args.model),
            Self::Compare(args) => Some(&args.run.model),
            Self::Inspect(args) => Some(&args.model),
            Self::Bench(args) => Some(&args.model),
            Self::Check(args) => Some(&args.model),
            #[cfg(feature = "serve")]
            Self::Serve(args) => Some(&args.model),
            Self::Data(_) | Self::Judge(_) | Self::Convert(_) | Self::Export(_) | Self::Merge(_) | Self::Models(_) => None,
            Self::Doctor(_) | Self::Completions(_) | Self::Man(_) => None,
        }
    }
}

/// The command line. Without any word, the help is the result, which ends the process.
///
/// # Errors
/// The command line is wrong; the error is one line that says how.
pub fn parse() -> Result<Cli, String> {
    Cli::try_parse_from(asked(std::env::args_os().collect())).map_err(|error| {
        if error.kind() == ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand {
            // Nothing can be done about a closed standard output.
            let _ = Cli::command().print_help();
            std::process::exit(0);
        }
        if error.use_stderr() {
            return misuse::told(&error, &std::env::args_os().skip(1).collect::<Vec<_>>());
        }
        error.exit()
    })
}

/// The words of a command line. Behind `help` stands a command alone: `bipo help -h` is `bipo help`.
fn asked(mut words: Vec<OsString>) -> Vec<OsString> {
    if words.get(1).is_some_and(|word| word == "help") {
        words.retain(|word| word != "-h" && word != "--help");
    }
    words
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
    /// Values of the flag; none where it takes none.
    pub values: Vec<String>,
}

impl Given {
    /// Returns the flag with its values as a shell reads them, one word each.
    pub fn words(&self) -> Vec<String> {
        let Self { flag, values } = self;
        // A value of its own word could pass for a flag where it begins with a minus sign.
        let with = |value: &String| format!("{flag}{}{}", if value.starts_with('-') { "=" } else { " " }, quote(value));
        if values.is_empty() { vec![flag.clone()] } else { values.iter().map(with).collect() }
    }
}

/// The flags of the subcommand that the program was started with, as the user wrote them, without what was left to its
/// default.
pub fn given() -> Vec<Given> {
    given_in(&Cli::command().get_matches())
}

/// Returns those of the flags with these ids that the user wrote: `max_steps` is `--max-steps`.
pub fn given_of(ids: &[&str]) -> Vec<String> {
    let is_one = |flag: &str| ids.contains(&flag.trim_start_matches('-').replace('-', "_").as_str());
    given().into_iter().map(|given| given.flag).filter(|flag| is_one(flag)).collect()
}

/// Refuses flags with these ids, which would change nothing; `why` says so.
///
/// # Errors
/// The user wrote one of them.
pub fn refuse_idle(ids: &[&str], why: &str) -> bipo::Result<()> {
    let idle = given_of(ids);
    match idle.as_slice() {
        [] => Ok(()),
        [flag] => Err(bipo::Error::Argument(format!("{flag}: {why}: leave it out"))),
        flags => Err(bipo::Error::Argument(format!("{}: {why}: leave them out", flags.join(", ")))),
    }
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

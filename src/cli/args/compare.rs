//! Flags of `compare`.

use std::path::PathBuf;

use bipo::eval::Budget;
use bipo::train::Method;
use clap::builder::{NonEmptyStringValueParser, PossibleValuesParser};
use clap::{Arg, Args};
use strum::VariantNames;

use super::headings::{GENERATION, MEASUREMENT, OUTPUT, VECTOR};
use super::train::RunArgs;
use super::values::{damage, positive, resamples};

/// Settings of a run that each method has of its own: flags of `train` that `compare` does not take.
pub const OF_METHODS: [&str; 15] = [
    "lr",
    "objective",
    "beta",
    "gamma",
    "direction",
    "factors",
    "learn_factor",
    "factor_scale",
    "factor_lr",
    "init_scale",
    "max_grad_norm",
    "positions",
    "spans",
    "weight_decay",
    "scheduler",
];

fn hide(arg: Arg) -> Arg {
    let is_of_methods = OF_METHODS.contains(&arg.get_id().as_str());
    arg.hide(is_of_methods)
}

fn methods() -> PossibleValuesParser {
    let names: Vec<&str> = Method::VARIANTS.iter().copied().chain(["prompt", "random"]).collect();
    PossibleValuesParser::new(names)
}

#[derive(Debug, Args)]
#[command(
    mut_args(hide),
    mut_arg("eval_dataset", |arg| arg.help("Measure on these pairs [default: a fifth of the dataset, drawn with the seed]")),
    mut_arg("warmup_steps", |arg| arg.help("Raise the learning rate from 0 over this many steps [default: 100; reps and prosv have no warmup]")),
    mut_arg("seed", |arg| arg.help("Seed shuffles, directions, factors, random starts, the random direction and the resamples"))
)]
pub struct CompareArgs {
    /// Steer the output of this block, 0-based [default: by model, as for train].
    #[arg(long, help_heading = VECTOR)]
    pub layer: Option<usize>,
    /// Compare these methods, separated by commas; docs/methods.md describes each. prompt tells the model what to do, by
    /// --baseline-system; random is a direction without meaning.
    #[arg(long, help_heading = VECTOR, value_delimiter = ',', default_value = "bipo,reps,simpo,lm,prosv,caa,pca,random", value_name = "LIST", value_parser = methods())]
    pub methods: Vec<String>,
    /// Steer only prompts whose score passes the condition in this file, made by `bipo train --method condition`, with every vector;
    /// the others get the untouched model. ":>0.2" or ":<0.2" behind it, in quotes, replaces its threshold [default: steer all prompts].
    #[arg(long, help_heading = VECTOR, value_name = "FILE[:>NUMBER]", value_parser = NonEmptyStringValueParser::new())]
    pub when: Option<String>,
    /// Measure every vector at its own largest magnitudes within this budget of damage: kl=1 (nats a generated token, 95th percentile)
    /// or ppl=1.1 (perplexity of a neutral text, as a multiple).
    #[arg(long, help_heading = MEASUREMENT, default_value = "kl=1", value_name = "NAME=VALUE", value_parser = damage)]
    pub at: Budget,
    /// Tell the model this, for the method prompt.
    #[arg(long, help_heading = MEASUREMENT, value_name = "TEXT")]
    pub baseline_system: Option<String>,
    /// Generate at most this many tokens, to count repetitions.
    #[arg(long, help_heading = GENERATION, default_value_t = 64, value_parser = positive)]
    pub max_new_tokens: usize,
    /// Draw this many resamples for an interval.
    #[arg(long, help_heading = MEASUREMENT, default_value_t = 1000, value_name = "N", value_parser = resamples)]
    pub bootstrap: usize,
    #[command(flatten)]
    pub run: RunArgs,
    /// Keep each method's vector in this directory, as METHOD.safetensors: the same command takes what is there and goes on.
    #[arg(long, help_heading = OUTPUT, default_value = "bipo_compare", value_name = "DIR")]
    pub output_dir: PathBuf,
    /// Learn again what is in the directory.
    #[arg(long, help_heading = OUTPUT)]
    pub overwrite: bool,
    /// Draw the margin that each method reaches in each direction into this file, .svg or .png; repeat for both.
    #[arg(long, help_heading = OUTPUT, value_name = "FILE")]
    pub plot: Vec<PathBuf>,
    /// Write the table, curves and texts to this file too, as one web page that needs no other.
    #[arg(long, help_heading = OUTPUT, value_name = "FILE")]
    pub report: Option<PathBuf>,
}

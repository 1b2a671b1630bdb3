//! Flags of `pairs`.

use std::path::PathBuf;

use clap::Args;
use clap::builder::NonEmptyStringValueParser;

use super::headings::{DATA, ENDPOINT, GENERATION, OUTPUT};
use super::model::ModelArgs;
use super::texts::SamplingArgs;
use super::values::{positive, price, seconds, temperature};

/// Ids of the flags that say which model will be steered and how it answers, which have an effect beside `--on-policy` alone, as those
/// of [`super::model::OF_MODEL`] do.
pub const OF_OWN_ANSWERS: [&str; 5] = ["model", "temperature", "top_p", "top_k", "repeat_penalty"];

#[derive(Debug, Args)]
#[command(
    mut_arg("model", |arg| arg.help("With --on-policy: choose the model that will be steered, named as for train")),
    mut_arg("temperature", |arg| arg.help("With --on-policy: sample its answers at this temperature; 0 takes the likeliest token")),
    mut_arg("seed", |arg| arg.help("Seed the replies, where the endpoint takes a seed, and the sampler of --on-policy"))
)]
pub struct PairsArgs {
    /// Describe the behaviour as what the model does, such as "answers like a pirate".
    #[arg(value_name = "DESCRIPTION", value_parser = NonEmptyStringValueParser::new())]
    pub description: String,
    /// Make this many pairs.
    #[arg(long, help_heading = DATA, default_value_t = 100, value_name = "N", value_parser = positive)]
    pub n: usize,
    /// Describe what the rejected answers show, in place of plain answers, such as "answers like a lawyer".
    #[arg(long, help_heading = DATA, value_name = "DESCRIPTION", value_parser = NonEmptyStringValueParser::new())]
    pub opposite: Option<String>,
    /// Take the rejected answers from the model that will be steered (--model), which runs here.
    #[arg(long, help_heading = DATA, conflicts_with = "opposite")]
    pub on_policy: bool,
    /// Ask the OpenAI-compatible chat endpoint at this URL, which `bipo serve` also is; its key comes from BIPO_PAIRS_KEY or
    /// OPENAI_API_KEY.
    #[arg(long, help_heading = ENDPOINT, value_name = "URL", required_unless_present = "dry_run")]
    pub model_url: Option<String>,
    /// Choose the model that is asked, by the name that the endpoint has for it [default: the only one that the server has].
    #[arg(long, help_heading = ENDPOINT, value_name = "NAME")]
    pub model_name: Option<String>,
    /// Ask for replies at this temperature.
    #[arg(long, help_heading = ENDPOINT, default_value_t = 0.7, value_name = "T", value_parser = temperature)]
    pub model_temperature: f64,
    /// Let an answer have at most this many tokens; the endpoint is told half as many words.
    #[arg(long, help_heading = GENERATION, default_value_t = 200, value_parser = positive)]
    pub max_new_tokens: usize,
    /// Make this many requests at a time.
    #[arg(long, help_heading = ENDPOINT, default_value_t = 4, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=256))]
    pub concurrency: u16,
    /// Wait this many seconds for a reply before asking again.
    #[arg(long, help_heading = ENDPOINT, default_value_t = 120.0, value_name = "SECONDS", value_parser = seconds)]
    pub timeout: f64,
    /// Tell the price too: of a million tokens that the model reads, and of a million that it writes, separated by a comma; one
    /// number is for both [default: tokens alone].
    #[arg(long, help_heading = ENDPOINT, value_name = "PRICE[,PRICE]", value_parser = price)]
    pub price: Option<[f64; 2]>,
    /// Show what would be asked and what it would cost, and ask nothing.
    #[arg(long, help_heading = ENDPOINT)]
    pub dry_run: bool,
    #[command(flatten)]
    pub sampling: SamplingArgs,
    #[command(flatten)]
    pub model: ModelArgs,
    /// Append each pair to this file, as JSON lines that `bipo train --dataset` reads; the same command goes on where it was.
    #[arg(long, help_heading = OUTPUT, value_name = "FILE", required_unless_present = "dry_run")]
    pub output: Option<PathBuf>,
}

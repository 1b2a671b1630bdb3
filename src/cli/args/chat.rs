//! Flags of `chat`.

use clap::Args;
use clap::builder::NonEmptyStringValueParser;

use super::headings::{GENERATION, VECTOR};
use super::model::ModelArgs;
use super::texts::{DecodingArgs, SamplingArgs, VectorArgs};
use super::values::{finite, positive};

#[derive(Debug, Args)]
#[command(
    mut_arg("vector", |arg| arg.help(
        "Steer with this vector, times SCALE if given; repeat to add several up \
         [default: bipo_output/steering_vector.safetensors, if it exists]"
    )),
    mut_arg("json", |arg| arg.help("Print each answer as one line of JSON on standard output, when it is complete"))
)]
pub struct ChatArgs {
    #[command(flatten)]
    pub vector: VectorArgs,
    /// Steer an answer only where the score of the conversation up to it passes the condition in
    /// this file, made by `bipo train --method condition`;
    /// others get the untouched model. ":>0.2" or ":<0.2" behind it, in quotes, replaces its threshold [default: steer all answers].
    #[arg(long, help_heading = VECTOR, value_name = "FILE[:>NUMBER]", value_parser = NonEmptyStringValueParser::new())]
    pub when: Option<String>,
    /// Multiply the vector by this factor, until /m gives another.
    #[arg(long, help_heading = VECTOR, default_value_t = 1.0, allow_hyphen_values = true, value_parser = finite)]
    pub magnitude: f64,
    /// Generate at most this many tokens an answer.
    #[arg(long, help_heading = GENERATION, default_value_t = 512, value_parser = positive)]
    pub max_new_tokens: usize,
    #[command(flatten)]
    pub sampling: SamplingArgs,
    #[command(flatten)]
    pub decoding: DecodingArgs,
    /// Let a conversation grow to this many tokens [default: the model's context, at most 4096, or fewer where memory is short].
    #[arg(long, help_heading = GENERATION, value_name = "N", value_parser = positive)]
    pub context: Option<usize>,
    #[command(flatten)]
    pub model: ModelArgs,
}

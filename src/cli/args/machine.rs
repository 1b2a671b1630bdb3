//! Flags of what measures this machine, `bench` and `check`, and of what sets the program up on it: `doctor`, `completions` and
//! `man`.

use std::path::PathBuf;

use bipo::model::shapes::Shape;
use clap::Args;
use clap_complete::Shell;

use super::headings::{MACHINE, MEASUREMENT, MODEL, OUTPUT};
use super::model::ModelArgs;
use super::values::{one_of, seconds, up_to_4096};

#[derive(Debug, Args)]
// An empty name is no model; no text is read.
#[command(
    mut_arg("model", |model| model.default_value("").hide_default_value(true).help("Measure this model, named as for train")),
    mut_arg("system", |arg| arg.hide(true)),
    mut_arg("system_in_user", |arg| arg.hide(true)),
    mut_arg("template", |arg| arg.hide(true)),
    mut_arg("template_var", |arg| arg.hide(true))
)]
pub struct BenchArgs {
    /// Take this many pairs a step.
    #[arg(long, help_heading = MEASUREMENT, default_value_t = 4, value_name = "N", value_parser = up_to_4096)]
    pub batch_size: usize,
    /// Give each prompt this many tokens.
    #[arg(long, help_heading = MEASUREMENT, default_value_t = 50, value_name = "N", value_parser = up_to_4096)]
    pub prompt_tokens: usize,
    /// Give each response this many tokens.
    #[arg(long, help_heading = MEASUREMENT, default_value_t = 50, value_name = "N", value_parser = up_to_4096)]
    pub response_tokens: usize,
    /// Generate this many tokens at each magnitude.
    #[arg(long, help_heading = MEASUREMENT, default_value_t = 64, value_name = "N", value_parser = up_to_4096)]
    pub new_tokens: usize,
    /// Time a sweep of this many magnitudes at once; separate several numbers by commas.
    #[arg(long, help_heading = MEASUREMENT, default_value = "1,5,9", value_name = "LIST", value_delimiter = ',', value_parser = up_to_4096)]
    pub sweeps: Vec<usize>,
    /// Repeat matrix products for this long, and then training steps for as long.
    #[arg(long, help_heading = MEASUREMENT, default_value_t = 5.0, value_name = "SECONDS", value_parser = seconds)]
    pub seconds: f64,
    /// Measure a model of this shape with random weights, which needs no file.
    #[arg(long, help_heading = MODEL, value_parser = one_of::<Shape>(), conflicts_with = "model")]
    pub shape: Option<Shape>,
    #[command(flatten)]
    pub model: ModelArgs,
}

#[derive(Debug, Args)]
// An empty name is no model.
#[command(
    mut_arg("model", |model| {
        model.default_value("").hide_default_value(true).help("Repeat 48 training steps of this model too, named as for train [default: none]")
    }),
    mut_arg("dtype", |dtype| dtype.help("Compare the device's work in this type alone [default: in each]").hide_default_value(true)),
    mut_arg("split", |arg| arg.hide(true)),
    mut_arg("weights", |arg| arg.hide(true)),
    mut_arg("system", |arg| arg.hide(true)),
    mut_arg("system_in_user", |arg| arg.hide(true))
)]
pub struct CheckArgs {
    /// Compare those steps with the authors' run, recorded in this folder, instead of with the CPU.
    #[arg(long, help_heading = MEASUREMENT, value_name = "DIR")]
    pub golden: Option<PathBuf>,
    #[command(flatten)]
    pub model: ModelArgs,
}

#[derive(Debug, Args)]
pub struct DoctorArgs {
    /// Never use the network (also HF_HUB_OFFLINE=1).
    #[arg(long, help_heading = MACHINE)]
    pub offline: bool,
    /// Print a machine-readable result on standard output, and nothing else there.
    #[arg(long, help_heading = OUTPUT)]
    pub json: bool,
}

#[derive(Debug, Args)]
pub struct CompletionsArgs {
    /// Write the script of this shell.
    pub shell: Shell,
}

#[derive(Debug, Args)]
pub struct ManArgs {
    /// Write the pages of the program and of each command to this directory [default: the program's page to standard output].
    #[arg(short, long, help_heading = OUTPUT, value_name = "DIR")]
    pub output_dir: Option<PathBuf>,
}

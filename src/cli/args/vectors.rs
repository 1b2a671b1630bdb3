//! Flags of what handles vectors: `convert`, `inspect` and `merge`.

use std::path::PathBuf;

use clap::Args;
use clap::builder::NonEmptyStringValueParser;

use super::model::{ModelArgs, ReportArgs};
use super::values::{finite, positive};

#[derive(Debug, Args)]
// One list for inputs and output: with two, clap takes the name before a flag for OUT in `convert IN --normalize OUT`.
#[command(override_usage = "bipo convert [OPTIONS] <IN[:WEIGHT]>... <OUT>")]
pub struct ConvertArgs {
    /// Read these vectors, in any format, and add them up, each times WEIGHT [default: 1]; write the last file, OUT.
    #[arg(required = true, value_name = "FILE", value_parser = NonEmptyStringValueParser::new())]
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
    /// Show this many of the most promoted and of the most suppressed tokens.
    #[arg(long, default_value_t = 10, value_name = "N", value_parser = positive)]
    pub top: usize,
}

#[derive(Debug, Args)]
pub struct MergeArgs {
    /// Choose the model: an alias, a hub id owner/name[@revision], or a local directory.
    #[arg(long, default_value = "smollm2")]
    pub model: String,
    /// Carry this vector, times SCALE if given; repeat to add several [default: bipo_output/steering_vector.safetensors].
    #[arg(long, value_name = "FILE[:SCALE]", value_parser = NonEmptyStringValueParser::new())]
    pub vector: Vec<String>,
    /// Steer the output of this block, 0-based [default: the file's].
    #[arg(long)]
    pub layer: Option<usize>,
    /// Multiply the vector by this factor.
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

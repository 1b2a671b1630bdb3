//! Flags of what handles vectors: `convert`, `export`, `inspect` and `merge`.

use std::path::PathBuf;

use bipo::report::export::ExportTarget;
use bipo::steering::Operation;
use clap::Args;
use clap::builder::NonEmptyStringValueParser;

use super::headings::{MACHINE, MODEL, OUTPUT, VECTOR};
use super::model::{DEFAULT_MODEL, ModelArgs, ReportArgs};
use super::values::{MagnitudeArg, finite, magnitude, one_of, operation, positive, whole};

#[derive(Debug, Args)]
// One list for inputs and output: with two, clap takes the name before a flag for OUT in `convert IN --normalize OUT`.
#[command(override_usage = "bipo convert [OPTIONS] <IN[:WEIGHT]>... <OUT>")]
pub struct ConvertArgs {
    /// Read the vectors IN, in any format, add them up, each times its WEIGHT [default: 1], and write the sum to OUT.
    #[arg(required = true, value_name = "FILE", value_parser = NonEmptyStringValueParser::new())]
    pub files: Vec<String>,
    /// Give this layer to inputs whose file names none; move a single input to it.
    #[arg(long, help_heading = VECTOR, value_parser = whole::<usize>)]
    pub layer: Option<usize>,
    /// Scale each input to norm 1, taken over all of its layers together, before its weight is applied.
    #[arg(long, help_heading = VECTOR)]
    pub normalize: bool,
    /// Remove from each input its component along this vector, layer by layer; repeat for several.
    #[arg(long, help_heading = VECTOR, value_name = "FILE")]
    pub orthogonal_to: Vec<PathBuf>,
    /// Record in OUT that the vector is added (add), or that what lies along it is taken out of the residual (ablate), which is
    /// then what steer, eval, chat and serve do with it [default: the inputs'].
    #[arg(long, help_heading = VECTOR, value_parser = operation())]
    pub operation: Option<Operation>,
    /// Replace OUT if it exists.
    #[arg(long, help_heading = OUTPUT)]
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
    /// Give this layer to files that name none.
    #[arg(long, help_heading = VECTOR, value_parser = whole::<usize>)]
    pub layer: Option<usize>,
    #[command(flatten)]
    pub model: ModelArgs,
    /// Show this many of the most promoted and of the most suppressed tokens.
    #[arg(long, help_heading = OUTPUT, default_value_t = 10, value_name = "N", value_parser = positive)]
    pub top: usize,
}

#[derive(Debug, Args)]
pub struct ExportArgs {
    /// Export this vector, times SCALE if given [default: bipo_output/steering_vector.safetensors].
    #[arg(value_name = "VECTOR[:SCALE]", value_parser = NonEmptyStringValueParser::new())]
    pub vector: Option<String>,
    /// Multiply the vector by this factor; auto is the largest one above 0 that `bipo calibrate --save` found.
    #[arg(long, help_heading = VECTOR, default_value = "1", allow_hyphen_values = true, value_name = "M|auto", value_parser = magnitude)]
    pub magnitude: MagnitudeArg,
    /// Name this model in the commands, and for vllm-merged build the vector into it: an alias, a hub id owner/name[@revision], or
    /// a local directory [default: the one that the vector was trained on].
    #[arg(long, help_heading = MODEL, value_parser = NonEmptyStringValueParser::new())]
    pub model: Option<String>,
    /// Steer the output of this block, 0-based [default: the file's].
    #[arg(long, help_heading = VECTOR, value_parser = whole::<usize>)]
    pub layer: Option<usize>,
    /// Never use the network (also HF_HUB_OFFLINE=1).
    #[arg(long, help_heading = MACHINE)]
    pub offline: bool,
    /// Choose the engine.
    #[arg(long, help_heading = OUTPUT, value_name = "ENGINE", value_parser = one_of::<ExportTarget>())]
    pub to: ExportTarget,
    /// Write to this directory, which is made if it does not exist.
    #[arg(short, long, help_heading = OUTPUT, alias = "out", value_name = "DIR")]
    pub output_dir: PathBuf,
    /// Replace files of an earlier export; a merged model is never replaced.
    #[arg(long, help_heading = OUTPUT)]
    pub overwrite: bool,
    #[command(flatten)]
    pub report: ReportArgs,
}

#[derive(Debug, Args)]
pub struct MergeArgs {
    /// Build in this vector, times SCALE if given; repeat to add several up [default: bipo_output/steering_vector.safetensors].
    #[arg(long, help_heading = VECTOR, value_name = "FILE[:SCALE]", value_parser = NonEmptyStringValueParser::new())]
    pub vector: Vec<String>,
    /// Steer the output of this block, 0-based [default: the file's].
    #[arg(long, help_heading = VECTOR, value_parser = whole::<usize>)]
    pub layer: Option<usize>,
    /// Multiply the vector by this factor.
    #[arg(long, help_heading = VECTOR, default_value_t = 1.0, allow_hyphen_values = true, value_parser = finite)]
    pub magnitude: f64,
    /// Choose the model, whose weights must be safetensors: an alias, a hub id owner/name[@revision], or a local directory.
    #[arg(long, help_heading = MODEL, default_value = DEFAULT_MODEL)]
    pub model: String,
    /// Never use the network (also HF_HUB_OFFLINE=1).
    #[arg(long, help_heading = MACHINE)]
    pub offline: bool,
    /// Write the model to this directory, which must be empty or not exist.
    #[arg(short, long, help_heading = OUTPUT, value_name = "DIR")]
    pub output_dir: PathBuf,
    #[command(flatten)]
    pub report: ReportArgs,
}

//! Flags that most commands take: the model and how it computes, and how a command reports.

use bipo::machine::device;
use bipo::session::{DTypeChoice, WeightsChoice};
use candle_core::DType;
use clap::Args;
use serde_json::Value;

use super::headings::{LAST, MACHINE, MODEL, OUTPUT};
use super::values::{between, one_of, variable, whole};

/// The model of a command that is told none.
pub const DEFAULT_MODEL: &str = "smollm2";

/// Ids of the flags that say how a model computes, and what it is asked, which change nothing where none is loaded.
pub const OF_MODEL: [&str; 8] = ["device", "split", "dtype", "weights", "system", "system_in_user", "template", "template_var"];

/// What a command that loads no model takes to say how it reports.
#[derive(Debug, Args)]
pub struct ReportArgs {
    /// Print a machine-readable result on standard output, and nothing else there.
    #[arg(long, help_heading = OUTPUT, display_order = LAST)]
    pub json: bool,
    /// Say more on standard error.
    #[arg(short, long, help_heading = OUTPUT, display_order = LAST, conflicts_with = "quiet")]
    pub verbose: bool,
    /// Say nothing on standard error but errors.
    #[arg(short, long, help_heading = OUTPUT, display_order = LAST)]
    pub quiet: bool,
}

/// How messages become text.
#[derive(Debug, Args)]
#[command(next_help_heading = MODEL)]
pub struct TemplateArgs {
    /// Set the system prompt; "" for none [default: none].
    #[arg(long, allow_hyphen_values = true)]
    pub system: Option<String>,
    /// Put the system prompt, also that of a row, into the first user turn, followed by an empty line: for chat templates that
    /// have no place for it.
    #[arg(long)]
    pub system_in_user: bool,
    /// Choose the chat template: auto (the tokenizer's own), a built-in name, or a Jinja file.
    #[arg(long, default_value = "auto")]
    pub template: String,
    /// Pass this variable to the chat template, such as enable_thinking=false; repeat for several.
    #[arg(long, value_name = "NAME=VALUE", value_parser = variable)]
    pub template_var: Vec<(String, Value)>,
}

/// What every command that loads a model takes.
#[derive(Debug, Args)]
#[command(next_help_heading = MODEL)]
pub struct ModelArgs {
    /// Choose the model: an alias, a hub id owner/name[@revision], a local directory, or a .gguf file.
    #[arg(long, default_value = DEFAULT_MODEL)]
    pub model: String,
    /// Set the type of weights and activations; auto is f32 on the CPU, bf16 elsewhere.
    #[arg(long, default_value = "auto", value_parser = one_of::<DTypeChoice>())]
    pub dtype: DTypeChoice,
    /// Hold the weights on the CPU: dense unpacks them at load, quantized decodes them on use, and auto is dense if that takes at
    /// most half of the memory.
    #[arg(long, default_value = "auto", value_parser = one_of::<WeightsChoice>())]
    pub weights: WeightsChoice,
    #[command(flatten)]
    pub chat: TemplateArgs,
    /// Choose where to compute: auto, cpu, cuda[:N] or metal; cuda:0,1 or cuda:all divides the model's blocks between GPUs by their
    /// free memory, and cpu:0,1 tries a division on the CPU.
    #[arg(long, help_heading = MACHINE, default_value = "auto", value_name = "auto|cpu|cuda[:N,...]|cuda:all|metal")]
    pub device: String,
    /// Put so many blocks on each of several devices, such as 40,40; they add up to the model's number of blocks [default: by free
    /// memory; evenly on the CPU].
    #[arg(long, help_heading = MACHINE, value_name = "N,N,...", value_delimiter = ',', value_parser = whole::<usize>)]
    pub split: Option<Vec<usize>>,
    /// Never use the network (also HF_HUB_OFFLINE=1).
    #[arg(long, help_heading = MACHINE)]
    pub offline: bool,
    /// Use this many threads [default: the number of physical cores; under mpirun, each rank of this machine takes an equal share of them].
    #[arg(long, help_heading = MACHINE, value_name = "N", value_parser = between(1, 512))]
    pub threads: Option<u16>,
    /// Print a machine-readable result on standard output, and nothing else there.
    #[arg(long, help_heading = OUTPUT, display_order = LAST)]
    pub json: bool,
    /// Say more on standard error.
    #[arg(short, long, help_heading = OUTPUT, display_order = LAST, conflicts_with = "quiet")]
    pub verbose: bool,
    /// Say nothing on standard error but errors.
    #[arg(short, long, help_heading = OUTPUT, display_order = LAST)]
    pub quiet: bool,
}

impl ModelArgs {
    /// Whether the model computes in f32; opens the device, to be asked where no session is at hand.
    pub fn is_f32(&self) -> bool {
        device::open_all(&self.device).is_ok_and(|devices| self.dtype.on(&devices[0]) == DType::F32)
    }
}

//! Flags of `serve`.

use std::net::IpAddr;

use bipo::machine::bytes::Bytes;
use bipo::serve::AllowedOrigin;
use bipo::steering::Operation;
use clap::Args;

use super::headings::{SERVER, VECTOR};
use super::model::ModelArgs;
use super::texts::DecodingArgs;
use super::values::{between, host, operation, whole};

#[derive(Debug, Args)]
#[command(mut_arg("json", |arg| arg.help("Print the address as a line of JSON on standard output, when the server listens")))]
pub struct ServeArgs {
    /// Register this vector, times SCALE if given, under NAME, or else as "default"; repeat for several. Requests that name no vector
    /// use the first [default: bipo_output/steering_vector.safetensors, if it exists].
    #[arg(long, help_heading = VECTOR, value_name = "[NAME=]FILE[:SCALE]")]
    pub vector: Vec<String>,
    /// Steer the output of this block, 0-based [default: the files'].
    #[arg(long, help_heading = VECTOR, value_parser = whole::<usize>)]
    pub layer: Option<usize>,
    /// Steer only prompts whose score passes this condition, made by `bipo train --method condition`, unless a request says otherwise;
    /// with NAME, only where a request names it; repeat for several. ":>0.2" or ":<0.2" behind it, in quotes, replaces its threshold [default: steer all prompts].
    #[arg(long, help_heading = VECTOR, value_name = "[NAME=]FILE[:>NUMBER]")]
    pub when: Vec<String>,
    /// Add the vectors (add), or take out the part of the residual that lies along them (ablate), unless a request says otherwise
    /// [default: as each file says].
    #[arg(long, help_heading = VECTOR, value_parser = operation())]
    pub operation: Option<Operation>,
    #[command(flatten)]
    pub decoding: DecodingArgs,
    /// Show this output of `bipo eval --json` on the page, for the vector NAME or else the first one; repeat for several.
    #[arg(long, help_heading = SERVER, value_name = "[NAME=]FILE")]
    pub eval: Vec<String>,
    /// Listen at this address of the machine.
    #[arg(long, help_heading = SERVER, default_value = "127.0.0.1", value_parser = host)]
    pub host: IpAddr,
    /// Listen at this port; 0 lets the system choose one.
    #[arg(long, help_heading = SERVER, default_value_t = 8080, value_parser = between(0, u16::MAX))]
    pub port: u16,
    /// Require this key of every request except /health.
    #[arg(long, help_heading = SERVER, env = "BIPO_API_KEY", hide_env_values = true)]
    pub api_key: Option<String>,
    /// Allow an address other than this machine's own without a key.
    #[arg(long, help_heading = SERVER)]
    pub insecure: bool,
    /// Allow requests from web pages of this origin, such as https://example.org; "*" is any [default: none].
    #[arg(long, help_heading = SERVER, value_name = "ORIGIN")]
    pub cors: Option<AllowedOrigin>,
    /// Generate at most this many texts at once; the others wait.
    #[arg(long, help_heading = SERVER, default_value_t = 16, value_parser = between(1, 512))]
    pub slots: u16,
    /// Let at most this many texts wait; more are refused with status 429.
    #[arg(long, help_heading = SERVER, default_value_t = 64, value_parser = between(0, u16::MAX))]
    pub queue: u16,
    /// Use at most this much memory for keys and values, such as 4GB [default: a quarter of what is free where the model computes].
    #[arg(long, help_heading = SERVER, value_name = "SIZE")]
    pub kv_memory: Option<Bytes>,
    /// Allow this many tokens for a prompt and its answer together [default: the model's context, at most 4096].
    #[arg(long, help_heading = SERVER, value_name = "N", value_parser = whole::<usize>)]
    pub context: Option<usize>,
    #[command(flatten)]
    pub model: ModelArgs,
}

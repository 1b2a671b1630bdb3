//! Sizes and architecture of a model, read from `config.json` or GGUF metadata. Sizes and their relations are checked here,
//! once: the decoder trusts a `Config`. No tensors, except the rope factors that GGUF files store.

mod gguf;
mod json;

use std::path::Path;

use candle_core::{DType, Device};

pub(crate) use json::{Object, parse_object};

use super::architecture::{Architecture, FAMILIES, Family};
use super::checkpoint::Checkpoint;
use super::weights::Weights;
use crate::error::{Error, Result};
use crate::machine::files::read_text;
pub use crate::ops::rope::RopeScaling;

/// No width, vocabulary or context of this family comes near; a larger number is a broken file.
const MAX_SIZE: usize = 1 << 24;

/// Likewise for the number of blocks.
const MAX_LAYERS: usize = 4096;

/// Sizes of a decoder, and how it is built.
#[derive(Debug, Clone, PartialEq)]
pub struct Config {
    /// Its family: `llama`, `mistral`, `qwen2` or `qwen3`.
    pub model_type: String,
    /// Width of the residual stream.
    pub hidden_size: usize,
    /// Width of the MLP.
    pub intermediate_size: usize,
    /// Number of token ids.
    pub vocab_size: usize,
    /// Number of decoder blocks.
    pub num_hidden_layers: usize,
    /// Query heads.
    pub num_attention_heads: usize,
    /// Key-value heads; divides the query heads.
    pub num_key_value_heads: usize,
    /// Width of a head, even.
    pub head_dim: usize,
    /// Added to the mean square in every RMSNorm.
    pub rms_norm_eps: f64,
    /// Base of the rotary frequencies.
    pub rope_theta: f64,
    /// Scaling of the rotary frequencies.
    pub rope_scaling: RopeScaling,
    /// Longest sequence in tokens.
    pub max_position_embeddings: usize,
    /// How its blocks are built.
    pub architecture: Architecture,
}

impl Config {
    /// Reads the configuration of a checkpoint whose weights are open: `config.json`, or the GGUF file's metadata.
    pub fn load(checkpoint: &Checkpoint, weights: &Weights) -> Result<Self> {
        let path = match checkpoint {
            Checkpoint::Safetensors { config, .. } => return Self::read(config),
            Checkpoint::Gguf { path, .. } => path,
        };
        let metadata = weights.gguf_metadata().ok_or_else(|| Error::malformed(path, "not opened as a GGUF file"))?;
        let mut config = Self::from_gguf(metadata, |name| weights.gguf_shape(name), path)?;
        if weights.contains("rope_freqs.weight") {
            if config.rope_scaling != RopeScaling::None {
                return Err(Error::malformed(path, "both `rope_freqs.weight` and a rope scaling: expected one of them"));
            }
            let factors = weights.load("rope_freqs.weight", &[config.head_dim / 2], DType::F32, &Device::Cpu)?;
            config.rope_scaling = RopeScaling::Factors(factors.to_vec1()?);
            config.validate(path)?;
        }
        Ok(config)
    }

    /// Reads a `config.json`.
    pub fn read(path: &Path) -> Result<Self> {
        let text = read_text(path)?;
        Self::from_json(&text, path)
    }

    /// Checks what the decoder relies on. Each size by itself was checked as it was read, where its key is known.
    fn validate(&self, path: &Path) -> Result<()> {
        let refuse = |problem: String| Err(Error::malformed(path, problem));
        if self.num_hidden_layers > MAX_LAYERS {
            return refuse(format!("{} blocks, expected at most {MAX_LAYERS}", self.num_hidden_layers));
        }
        if !self.num_attention_heads.is_multiple_of(self.num_key_value_heads) {
            return refuse(format!(
                "{} attention heads cannot share {} key-value heads: expected a divisor (`num_key_value_heads`)",
                self.num_attention_heads, self.num_key_value_heads
            ));
        }
        if !self.head_dim.is_multiple_of(2) {
            return refuse(format!("head_dim {} is odd: rotary embeddings need an even one", self.head_dim));
        }
        if !(self.rms_norm_eps.is_finite() && self.rms_norm_eps > 0.0) {
            return refuse(format!("rms_norm_eps {} is not a positive number", self.rms_norm_eps));
        }
        if !(self.rope_theta.is_finite() && self.rope_theta > 0.0) {
            return refuse(format!("rope_theta {} is not a positive number", self.rope_theta));
        }
        if self.architecture.windows.len() != self.num_hidden_layers {
            let (found, expected) = (self.architecture.windows.len(), self.num_hidden_layers);
            return refuse(format!("layer_types has {found} entries, expected one for each of {expected} blocks"));
        }
        self.rope_scaling.validate(path)
    }
}

/// The family of this name.
fn family(name: &str, path: &Path) -> Result<&'static Family> {
    Family::of(name).ok_or_else(|| {
        let names = FAMILIES.map(|family| family.name).join(", ");
        Error::malformed(path, format!("model type `{name}` is not supported: expected one of {names}"))
    })
}

impl RopeScaling {
    fn validate(&self, path: &Path) -> Result<()> {
        let refuse = |problem: String| Err(Error::malformed(path, format!("rope scaling: {problem}")));
        let positive = |value: f64| value.is_finite() && value > 0.0;
        match self {
            Self::Linear { factor } | Self::Dynamic { factor, .. } | Self::Llama3 { factor, .. } if !positive(*factor) => {
                refuse(format!("`factor` {factor} is not a positive number"))
            }
            Self::Llama3 { low_freq_factor: low, high_freq_factor: high, .. }
                if !(positive(*low) && positive(*high) && low < high) =>
            {
                refuse(format!("expected 0 < low_freq_factor < high_freq_factor, found {low} and {high}"))
            }
            Self::Factors(factors) if !factors.iter().all(|&factor| positive(factor.into())) => {
                refuse("`rope_freqs.weight` holds a factor that is not a positive number".to_owned())
            }
            _ => Ok(()),
        }
    }
}

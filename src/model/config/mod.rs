//! Sizes and architecture of a model, read from `config.json` or GGUF metadata. Sizes and their relations are checked here,
//! once: the decoder trusts a `Config`. No tensors: the rope factors that GGUF files store as such are `stored_config`'s business.
//!
//! Begin with [`Config`]; `json` and `gguf` read it, each from its own format, and `Config::validate` checks it.

mod gguf;
mod json;

use std::path::Path;

pub(crate) use json::{Object, parse_object};

use super::architecture::{Architecture, QkNorm};
use super::family::{FAMILIES, Family};
use super::refused;
use crate::machine::files::read_text;
pub use crate::ops::rope::{RopeParameters, RopeScaling};
use crate::{Error, Result};

/// No width, vocabulary or context of this family comes near; a larger number is a broken file.
const MAX_SIZE: usize = 1 << 24;

/// Largest number of blocks; a larger one is a broken file.
const MAX_LAYERS: usize = 4096;

/// Sizes of a decoder, and how it is built.
#[derive(Debug, Clone, PartialEq)]
pub struct Config {
    /// Family of the model, as the file names it: `llama`, `gemma2`, ….
    pub model_type: String,
    /// Width of the residual stream.
    pub hidden_size: usize,
    /// Width of the MLP.
    pub intermediate_size: usize,
    /// Number of token ids.
    pub vocab_size: usize,
    /// Number of decoder blocks.
    pub num_hidden_layers: usize,
    /// Number of query heads.
    pub num_attention_heads: usize,
    /// Key-value heads; divides the query heads.
    pub num_key_value_heads: usize,
    /// Width of a head, even.
    pub head_dim: usize,
    /// Added to the mean square in every RMSNorm.
    pub rms_norm_eps: f64,
    /// The rotary embeddings of its blocks: one, or two where some blocks have another than the rest.
    /// [`Architecture::ropes`] says which block has which.
    pub ropes: Vec<RopeParameters>,
    /// Longest sequence in tokens.
    pub max_position_embeddings: usize,
    /// How the model's blocks are built.
    pub architecture: Architecture,
}

impl Config {
    /// Reads a `config.json`.
    ///
    /// # Errors
    /// The file cannot be read, is broken, or is of a model that is not supported.
    pub fn read(path: &Path) -> Result<Self> {
        let text = read_text(path)?;
        Self::from_json(&text, path)
    }

    /// Checks what the decoder relies on. Each size by itself was checked as it was read, where its key is known.
    pub(super) fn validate(&self, path: &Path) -> Result<()> {
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
        let architecture = &self.architecture;
        let experts = architecture.experts.as_ref();
        let lists = [
            ("layer_types", architecture.windows.len()),
            ("no_rope_layers", architecture.ropes.len()),
            ("the list of blocks with experts", experts.map_or(self.num_hidden_layers, |experts| experts.blocks.len())),
        ];
        for (list, found) in lists {
            if found != self.num_hidden_layers {
                let expected = self.num_hidden_layers;
                return refuse(format!("{list} has {found} entries, expected one for each of {expected} blocks"));
            }
        }
        let rotary_dim = self.ropes.first().map_or(0, |rope| rope.rotary_dim);
        if rotary_dim != self.head_dim && architecture.qk_norm != QkNorm::Absent {
            return refuse(format!(
                "{rotary_dim} rotated dimensions of {} beside norms of heads are not supported",
                self.head_dim
            ));
        }
        if let Some(experts) = experts.filter(|experts| experts.per_token > experts.count) {
            return refuse(format!("{} experts for each token, of {}", experts.per_token, experts.count));
        }
        let factors = [
            ("the factor of attention scores", architecture.attention_scale),
            ("the softcap of attention scores", architecture.attention_softcap),
            ("the softcap of logits", architecture.logit_softcap),
            ("the factor of embeddings", Some(architecture.embedding_multiplier)),
            ("the factor of residuals", Some(architecture.residual_multiplier)),
            ("the factor of logits", Some(architecture.logit_multiplier)),
        ];
        if let Some((what, Some(found))) = factors.into_iter().find(|(_, factor)| factor.is_some_and(|x| !is_positive(x))) {
            return refuse(format!("{what}, {found}, is not a positive number"));
        }
        self.ropes.iter().try_for_each(|rope| rope.validate(self.head_dim, path))
    }
}

/// The error for a family that is not implemented: why, where that is known, else `names`, those that are.
fn unknown_family(name: &str, reason: Option<&str>, names: &[&str], path: &Path) -> Error {
    let unknown = || format!("model type `{name}` is not supported: expected one of {}", names.join(", "));
    Error::malformed(path, refused::problem(name, reason).unwrap_or_else(unknown))
}

/// The family whose `config.json` has this `model_type`. `reason` is why another is refused, where the file says so.
fn family(name: &str, reason: Option<&str>, path: &Path) -> Result<&'static Family> {
    Family::of(name).ok_or_else(|| unknown_family(name, reason, &FAMILIES.map(|family| family.name), path))
}

/// The family of this name in GGUF files.
fn family_of_gguf(name: &str, path: &Path) -> Result<&'static Family> {
    Family::of_gguf(name).ok_or_else(|| unknown_family(name, None, &FAMILIES.map(|family| family.gguf_name), path))
}

fn is_positive(x: f64) -> bool {
    x.is_finite() && x > 0.0
}

impl RopeParameters {
    fn validate(&self, head_dim: usize, path: &Path) -> Result<()> {
        let refuse = |problem: String| Err(Error::malformed(path, problem));
        if !is_positive(self.theta) {
            return refuse(format!("rope_theta {} is not a positive number", self.theta));
        }
        let rotary_dim = self.rotary_dim;
        if rotary_dim == 0 || rotary_dim > head_dim || !rotary_dim.is_multiple_of(2) {
            return refuse(format!(
                "{rotary_dim} rotated dimensions: expected an even number up to {head_dim}, the head's width"
            ));
        }
        let refuse = |problem: String| Err(Error::malformed(path, format!("rope scaling: {problem}")));
        let is_positive_f32 = |factor: &f32| is_positive((*factor).into());
        let pairs = rotary_dim / 2;
        match &self.scaling {
            RopeScaling::Linear { factor }
            | RopeScaling::Dynamic { factor, .. }
            | RopeScaling::Llama3 { factor, .. }
            | RopeScaling::Yarn { factor, .. }
                if !is_positive(*factor) =>
            {
                refuse(format!("`factor` {factor} is not a positive number"))
            }
            RopeScaling::Yarn { attention_factor, .. } | RopeScaling::LongRope { attention_factor, .. }
                if !is_positive(*attention_factor) =>
            {
                refuse(format!("`attention_factor` {attention_factor} is not a positive number"))
            }
            RopeScaling::Llama3 { low_freq_factor: low, high_freq_factor: high, .. }
                if !(is_positive(*low) && is_positive(*high) && low < high) =>
            {
                refuse(format!("expected 0 < low_freq_factor < high_freq_factor, found {low} and {high}"))
            }
            RopeScaling::Yarn { beta_fast: fast, beta_slow: slow, .. }
                if !(is_positive(*fast) && is_positive(*slow) && slow <= fast) =>
            {
                refuse(format!("expected 0 < beta_slow <= beta_fast, found {slow} and {fast}"))
            }
            RopeScaling::Factors(factors) if !factors.iter().all(is_positive_f32) => {
                refuse("`rope_freqs.weight` holds a factor that is not a positive number".to_owned())
            }
            RopeScaling::LongRope { short_factor, long_factor, .. } => {
                for (name, factors) in [("short_factor", short_factor), ("long_factor", long_factor)] {
                    if factors.len() != pairs || !factors.iter().all(is_positive_f32) {
                        let found = factors.len();
                        return refuse(format!("expected {pairs} positive numbers in `{name}`, found {found} numbers"));
                    }
                }
                Ok(())
            }
            _ => Ok(()),
        }
    }
}

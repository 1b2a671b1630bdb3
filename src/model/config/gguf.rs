//! A `Config` from GGUF metadata: keys that begin with the architecture's name, and the presence of tensors where the format
//! has no key (biases, query and key norms, tied embeddings).

use std::collections::HashMap;
use std::path::Path;

use candle_core::quantized::gguf_file::Value;

use super::{Config, MAX_SIZE, RopeScaling, family};
use crate::error::{Error, Result};
use crate::model::architecture::{Architecture, Family, Sliding};
use crate::model::gguf::GgufMetadata;

impl Config {
    /// Reads GGUF metadata. `shape` gives the shape of a tensor by its GGUF name, outermost dimension first, and `None` where
    /// the file has no such tensor; `path` is for messages. `rope_freqs.weight` is a tensor: [`Config::load`] reads it.
    pub fn from_gguf(
        metadata: &HashMap<String, Value>,
        shape: impl Fn(&str) -> Option<Vec<usize>>,
        path: &Path,
    ) -> Result<Self> {
        let metadata = GgufMetadata::new(metadata, path);
        let arch = metadata.required_text("general.architecture")?;
        let keys = Keys { metadata, arch, family: family(arch, path)? };
        if keys.size_or("expert_count", 0)? > 0 {
            return Err(Error::malformed(
                path,
                format!("`{arch}` with a mixture of experts is not supported: expected a dense model"),
            ));
        }

        let hidden_size = keys.size("embedding_length")?;
        let num_hidden_layers = keys.size("block_count")?;
        let num_attention_heads = keys.size("attention.head_count")?;
        let has = |name: &str| shape(name).is_some();
        let window = keys.sliding_window()?;
        let config = Self {
            model_type: arch.to_owned(),
            hidden_size,
            intermediate_size: keys.size("feed_forward_length")?,
            vocab_size: vocab_size(shape("token_embd.weight"), path)?,
            num_hidden_layers,
            num_attention_heads,
            num_key_value_heads: keys.size_or("attention.head_count_kv", num_attention_heads)?,
            head_dim: keys.head_dim(hidden_size, num_attention_heads)?,
            rms_norm_eps: keys.number("attention.layer_norm_rms_epsilon")?.ok_or_else(|| {
                Error::malformed(path, format!("missing key `{}`", keys.name("attention.layer_norm_rms_epsilon")))
            })?,
            rope_theta: keys.number("rope.freq_base")?.unwrap_or(10_000.0),
            rope_scaling: keys.rope_scaling()?,
            max_position_embeddings: keys.size("context_length")?,
            architecture: Architecture {
                qkv_bias: has("blk.0.attn_q.bias"),
                qk_norm: has("blk.0.attn_q_norm.weight"),
                windows: vec![window; num_hidden_layers.min(super::MAX_LAYERS + 1)],
                o_bias: has("blk.0.attn_output.bias"),
                mlp_bias: has("blk.0.ffn_down.bias"),
                tie_word_embeddings: !has("output.weight"),
            },
        };
        config.validate(path)?;
        Ok(config)
    }
}

/// The rows of the embedding: some files list fewer tokens than it has.
fn vocab_size(embedding: Option<Vec<usize>>, path: &Path) -> Result<usize> {
    match embedding.as_deref() {
        Some(&[rows, _]) if (1..=MAX_SIZE).contains(&rows) => Ok(rows),
        Some(shape) => {
            Err(Error::malformed(path, format!("tensor `token_embd.weight`: expected two dimensions, found {shape:?}")))
        }
        None => Err(Error::malformed(path, "missing tensor `token_embd.weight`")),
    }
}

/// Metadata below the architecture's name.
struct Keys<'a> {
    metadata: GgufMetadata<'a>,
    arch: &'a str,
    family: &'static Family,
}

impl Keys<'_> {
    fn name(&self, key: &str) -> String {
        format!("{}.{key}", self.arch)
    }

    /// A size that must be there, from 1 to `MAX_SIZE`.
    fn size(&self, key: &str) -> Result<usize> {
        let name = self.name(key);
        let size = self.metadata.size(&name)?;
        let size = size.ok_or_else(|| Error::malformed(self.metadata.path, format!("missing key `{name}`")))?;
        if (1..=MAX_SIZE).contains(&size) {
            return Ok(size);
        }
        let problem = format!("key `{name}`: expected a whole number from 1 to {MAX_SIZE}, found {size}");
        Err(Error::malformed(self.metadata.path, problem))
    }

    fn size_or(&self, key: &str, default: usize) -> Result<usize> {
        let given = self.metadata.contains(&self.name(key));
        // Zero experts is how a dense model may say so.
        if !given || self.metadata.size(&self.name(key))? == Some(0) && default == 0 {
            return Ok(default);
        }
        self.size(key)
    }

    fn number(&self, key: &str) -> Result<Option<f64>> {
        self.metadata.number(&self.name(key))
    }

    fn head_dim(&self, hidden_size: usize, heads: usize) -> Result<usize> {
        let refuse = |problem: String| Err(Error::malformed(self.metadata.path, problem));
        let key_length = self.name("attention.key_length");
        if !self.metadata.contains(&key_length) && !hidden_size.is_multiple_of(heads) {
            return refuse(format!("embedding length {hidden_size} is not a multiple of {heads} heads, and no `{key_length}`"));
        }
        let head_dim = self.size_or("attention.key_length", hidden_size / heads)?;
        for key in ["attention.value_length", "rope.dimension_count"] {
            let found = self.size_or(key, head_dim)?;
            if found != head_dim {
                return refuse(format!(
                    "key `{}`: {found} is not supported: expected {head_dim}, the head's width",
                    self.name(key)
                ));
            }
        }
        Ok(head_dim)
    }

    fn sliding_window(&self) -> Result<Option<usize>> {
        let name = self.name("attention.sliding_window");
        match self.metadata.size(&name)? {
            None | Some(0) => Ok(None),
            Some(window) if self.family.sliding == Sliding::NamedBlocks => Err(Error::malformed(
                self.metadata.path,
                format!("key `{name}`: a sliding window of {window} does not say for which blocks: use the safetensors model"),
            )),
            Some(_) => self.size("attention.sliding_window").map(Some),
        }
    }

    fn rope_scaling(&self) -> Result<RopeScaling> {
        let kind_name = self.name("rope.scaling.type");
        let legacy = self.number("rope.scale_linear")?;
        match self.metadata.text(&kind_name)? {
            Some("linear") => match self.number("rope.scaling.factor")? {
                Some(factor) => Ok(RopeScaling::Linear { factor }),
                None => {
                    Err(Error::malformed(self.metadata.path, format!("missing key `{}`", self.name("rope.scaling.factor"))))
                }
            },
            Some("none") => Ok(RopeScaling::None),
            Some(other) => Err(Error::malformed(
                self.metadata.path,
                format!("key `{kind_name}`: rope scaling `{other}` is not supported: expected none or linear"),
            )),
            None => Ok(match legacy {
                Some(factor) if factor != 1.0 => RopeScaling::Linear { factor },
                _ => RopeScaling::None,
            }),
        }
    }
}

#[cfg(test)]
#[path = "gguf_tests.rs"]
mod tests;

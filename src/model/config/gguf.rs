//! A `Config` from GGUF metadata: keys that begin with the architecture's name, and the presence of tensors where the format
//! has no key (biases, query and key norms, tied embeddings).

use std::collections::HashMap;
use std::path::Path;

use candle_core::quantized::gguf_file::Value;

use super::{Config, MAX_SIZE, RopeParameters, RopeScaling, family_of_gguf};
use crate::model::architecture::{Architecture, Experts, QkNorm};
use crate::model::family::{AttentionScale, Family, OLMO2, OLMO3, RopeOfBlocks, Sliding};
use crate::model::gguf::GgufMetadata;
use crate::{Error, Result};

impl Config {
    /// Reads GGUF metadata. `shape` gives the shape of a tensor by its GGUF name, outermost dimension first, and `None` where
    /// the file has no such tensor; `path` is for messages. Rotary factors are tensors: [`Config::load`] reads them.
    pub(crate) fn from_gguf(
        metadata: &HashMap<String, Value>,
        shape: impl Fn(&str) -> Option<Vec<usize>>,
        path: &Path,
    ) -> Result<Self> {
        let metadata = GgufMetadata::new(metadata, path);
        let arch = metadata.required_text("general.architecture")?;
        let window = metadata.size(&format!("{arch}.attention.sliding_window")).ok().flatten();
        // llama.cpp gives both the name of OLMo 2.
        let is_olmo3 = arch == OLMO2.gguf_name && window.is_some_and(|window| window > 0);
        let family = family_of_gguf(if is_olmo3 { OLMO3.gguf_name } else { arch }, path)?;
        let keys = Keys { metadata, arch, family };
        let hidden_size = keys.size("embedding_length")?;
        let num_hidden_layers = keys.size("block_count")?;
        let num_attention_heads = keys.size("attention.head_count")?;
        let layers = num_hidden_layers.min(super::MAX_LAYERS + 1);
        let has = |name: &str| shape(name).is_some();
        let (head_dim, rotary_dim) = keys.head_dim(hidden_size, num_attention_heads)?;
        let windows = keys.windows(layers)?;
        let full = RopeParameters {
            theta: keys.number("rope.freq_base")?.unwrap_or(family.rope_theta),
            rotary_dim,
            scaling: keys.rope_scaling(rotary_dim, has("rope_factors_long.weight"))?,
        };
        let (ropes, ropes_of_blocks) = match family.rope {
            RopeOfBlocks::One => (vec![full], vec![0; layers]),
            RopeOfBlocks::OwnOfSliding { theta } => {
                let theta = keys.number("rope.freq_base_swa")?.or(theta).unwrap_or(full.theta);
                let own = RopeParameters { theta, rotary_dim, scaling: RopeScaling::None };
                (vec![full, own], windows.iter().map(|window| usize::from(window.is_some())).collect())
            }
            RopeOfBlocks::SomeWithout { interval } => {
                let none = RopeParameters { scaling: RopeScaling::NoRotation, ..full.clone() };
                (vec![full, none], (1..=layers).map(|block| usize::from(block.is_multiple_of(interval))).collect())
            }
        };
        let experts = keys.experts(|block| has(&format!("blk.{block}.ffn_gate_inp.weight")), layers)?;
        let softcap = |key: &str, at: usize| -> Result<Option<f64>> {
            let Some(absent) = family.softcaps else { return Ok(None) };
            Ok(keys.number(key)?.or(absent[at]).filter(|softcap| *softcap != 0.0))
        };
        let multiplier = |key: &str| -> Result<f64> { Ok(keys.number(key)?.filter(|_| family.multipliers).unwrap_or(1.0)) };
        let config = Self {
            model_type: arch.to_owned(),
            hidden_size,
            intermediate_size: match &experts {
                Some(experts) => keys.size_or("feed_forward_length", experts.intermediate_size)?,
                None => keys.size("feed_forward_length")?,
            },
            vocab_size: vocab_size(shape("token_embd.weight"), path)?,
            num_hidden_layers,
            num_attention_heads,
            num_key_value_heads: keys.size_or("attention.head_count_kv", num_attention_heads)?,
            head_dim,
            rms_norm_eps: keys.number("attention.layer_norm_rms_epsilon")?.ok_or_else(|| {
                Error::malformed(path, format!("missing key `{}`", keys.name("attention.layer_norm_rms_epsilon")))
            })?,
            ropes,
            max_position_embeddings: keys.size("context_length")?,
            architecture: Architecture {
                norms: family.norms,
                qkv_bias: has("blk.0.attn_q.bias"),
                qk_norm: match family.qk_norm {
                    // A file of any family may have norms of heads.
                    QkNorm::Absent if has("blk.0.attn_q_norm.weight") => QkNorm::Head,
                    of_family if has("blk.0.attn_q_norm.weight") => of_family,
                    _ => QkNorm::Absent,
                },
                attention_scale: keys.attention_scale([hidden_size, num_attention_heads, head_dim], num_hidden_layers)?,
                attention_softcap: softcap("attn_logit_softcapping", 0)?,
                windows,
                ropes: ropes_of_blocks,
                o_bias: has("blk.0.attn_output.bias"),
                mlp_bias: has("blk.0.ffn_down.bias"),
                activation: family.activation,
                experts,
                embedding_multiplier: match family.scaled_embeddings {
                    true => (hidden_size as f64).sqrt(),
                    false => multiplier("embedding_scale")?,
                },
                residual_multiplier: multiplier("residual_scale")?,
                logit_multiplier: 1.0 / multiplier("logit_scale")?,
                logit_softcap: softcap("final_logit_softcapping", 1)?,
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

    /// Width of a head, and how much of it is rotated.
    fn head_dim(&self, hidden_size: usize, heads: usize) -> Result<(usize, usize)> {
        let refuse = |problem: String| Err(Error::malformed(self.metadata.path, problem));
        let key_length = self.name("attention.key_length");
        if !self.metadata.contains(&key_length) && !hidden_size.is_multiple_of(heads) {
            return refuse(format!("embedding length {hidden_size} is not a multiple of {heads} heads, and no `{key_length}`"));
        }
        let head_dim = self.size_or("attention.key_length", hidden_size / heads)?;
        let (values, rotary_dim) =
            (self.size_or("attention.value_length", head_dim)?, self.size_or("rope.dimension_count", head_dim)?);
        for (key, found) in [("attention.value_length", values), ("rope.dimension_count", rotary_dim)] {
            if found != head_dim && !(self.family.partial_rotary && key == "rope.dimension_count") {
                return refuse(format!(
                    "key `{}`: {found} is not supported: expected {head_dim}, the head's width",
                    self.name(key)
                ));
            }
        }
        Ok((head_dim, rotary_dim))
    }

    /// Factor of the attention scores, where it is not one over the square root of a head's width.
    fn attention_scale(&self, [hidden_size, heads, head_dim]: [usize; 3], layers: usize) -> Result<Option<f64>> {
        match self.family.attention_scale {
            AttentionScale::HeadWidth => Ok(None),
            AttentionScale::Multiplier => {
                Ok(Some(self.number("attention.scale")?.filter(|scale| *scale != 0.0).unwrap_or(1.0)))
            }
            AttentionScale::QueryPreAttnScalar { blocks_of_27b } if layers == blocks_of_27b => {
                Ok(Some((hidden_size as f64 / heads as f64).powf(-0.5)))
            }
            AttentionScale::QueryPreAttnScalar { .. } => Ok(Some((head_dim as f64).powf(-0.5))),
        }
    }

    /// The mixture of experts, where there is one. llama.cpp divides the probabilities of a token's experts by their sum in
    /// every family here.
    fn experts(&self, has_experts: impl Fn(usize) -> bool, layers: usize) -> Result<Option<Experts>> {
        let count = self.size_or("expert_count", 0)?;
        if count == 0 {
            return Ok(None);
        }
        let width = match self.metadata.contains(&self.name("expert_feed_forward_length")) {
            true => self.size("expert_feed_forward_length")?,
            false => self.size("feed_forward_length")?,
        };
        Ok(Some(Experts {
            count,
            per_token: self.size("expert_used_count")?,
            intermediate_size: width,
            normalised: true,
            blocks: (0..layers).map(has_experts).collect(),
        }))
    }

    /// The sliding window of each block.
    fn windows(&self, layers: usize) -> Result<Vec<Option<usize>>> {
        let name = self.name("attention.sliding_window");
        let window = match (self.metadata.size(&name)?, self.family.sliding) {
            (None, Sliding::Pattern { absent_in_gguf: Some(window), .. }) => window,
            (None | Some(0), _) => return Ok(vec![None; layers]),
            (Some(_), _) => self.size("attention.sliding_window")?,
        };
        let pattern_name = self.name("attention.sliding_window_pattern");
        if let Some(slides) = self.metadata.flags(&pattern_name) {
            if slides.len() != layers {
                let problem =
                    format!("key `{pattern_name}`: {} entries, expected one for each of {layers} blocks", slides.len());
                return Err(Error::malformed(self.metadata.path, problem));
            }
            return Ok(slides.into_iter().map(|slides| slides.then_some(window)).collect());
        }
        let pattern = match self.family.sliding {
            _ if self.metadata.contains(&pattern_name) => match self.metadata.size(&pattern_name) {
                Ok(Some(pattern)) if pattern > 0 && self.metadata.count(&pattern_name).is_none() => pattern,
                _ => {
                    return Err(self
                        .metadata
                        .wrong(&pattern_name, "a whole number above 0, or a list of flags, one for each block"));
                }
            },
            Sliding::Pattern { pattern, .. } => pattern,
            Sliding::NamedBlocks | Sliding::WithoutRope => {
                let problem = format!(
                    "key `{name}`: a sliding window of {window} does not say for which blocks: use the safetensors model"
                );
                return Err(Error::malformed(self.metadata.path, problem));
            }
            Sliding::NoBlock | Sliding::EveryBlock { .. } | Sliding::EveryBlockIfUsed => return Ok(vec![Some(window); layers]),
        };
        Ok((1..=layers).map(|block| (!block.is_multiple_of(pattern)).then_some(window)).collect())
    }

    /// The scaling of the rotary frequencies. `is_long` says whether the file has LongRoPE's factors: they are 1 here, and
    /// [`Config::load`] reads them.
    fn rope_scaling(&self, rotary_dim: usize, is_long: bool) -> Result<RopeScaling> {
        let kind_name = self.name("rope.scaling.type");
        let context = self.size("context_length")?;
        let original_max_position_embeddings = self.size_or("rope.scaling.original_context_length", context)?;
        let required = |key: &str| -> Result<f64> {
            let missing = || Error::malformed(self.metadata.path, format!("missing key `{}`", self.name(key)));
            self.number(key)?.ok_or_else(missing)
        };
        if is_long {
            return Ok(RopeScaling::LongRope {
                short_factor: vec![1.0; rotary_dim / 2],
                long_factor: vec![1.0; rotary_dim / 2],
                original_max_position_embeddings,
                attention_factor: self.number("rope.scaling.attn_factor")?.unwrap_or(1.0),
            });
        }
        match self.metadata.text(&kind_name)? {
            Some("linear") => Ok(RopeScaling::Linear { factor: required("rope.scaling.factor")? }),
            Some("yarn") => self.yarn(required("rope.scaling.factor")?, original_max_position_embeddings),
            Some("none") => Ok(RopeScaling::None),
            Some(other) => Err(Error::malformed(
                self.metadata.path,
                format!("key `{kind_name}`: rope scaling `{other}` is not supported: expected none, linear or yarn"),
            )),
            None => Ok(match self.number("rope.scale_linear")? {
                Some(factor) if factor != 1.0 => RopeScaling::Linear { factor },
                _ => RopeScaling::None,
            }),
        }
    }

    /// YaRN by this factor.
    fn yarn(&self, factor: f64, original_max_position_embeddings: usize) -> Result<RopeScaling> {
        let extrapolated = self.number("rope.scaling.yarn_ext_factor")?;
        // A negative number is llama.cpp's for an absent one.
        if let Some(found) = extrapolated.filter(|found| *found >= 0.0 && *found != 1.0) {
            let problem = format!("key `{}`: {found} is not supported: expected 1", self.name("rope.scaling.yarn_ext_factor"));
            return Err(Error::malformed(self.metadata.path, problem));
        }
        let grown = |by: f64| if factor <= 1.0 { 1.0 } else { 0.1 * by * factor.ln() + 1.0 };
        let of_all_dims = self.number("rope.scaling.yarn_log_multiplier")?.unwrap_or(0.0);
        // llama.cpp's converter writes the `attention_factor` of `config.json`, which is all of it, under this name; 1 is
        // what llama.cpp itself writes where there was none.
        let written = self.number("rope.scaling.yarn_attn_factor")?.filter(|written| *written != 1.0);
        let older = self.number("rope.scaling.attn_factor")?.filter(|written| *written != 1.0);
        let computed = grown(1.0) / grown(of_all_dims);
        let attention_factor = match self.family.name == OLMO3.name {
            // The converter wrote all of it under the older name before there was the newer one.
            true => written.or(older).unwrap_or(computed),
            // To llama.cpp the older one is a factor beside it.
            false => written.unwrap_or(computed) * older.unwrap_or(1.0),
        };
        Ok(RopeScaling::Yarn {
            factor,
            beta_fast: self.number("rope.scaling.yarn_beta_fast")?.unwrap_or(32.0),
            beta_slow: self.number("rope.scaling.yarn_beta_slow")?.unwrap_or(1.0),
            truncate: true,
            original_max_position_embeddings,
            attention_factor,
        })
    }
}

#[cfg(test)]
#[path = "gguf_tests.rs"]
mod tests;

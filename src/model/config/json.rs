//! `config.json` of a Hugging Face model, with the defaults that `transformers` gives to each family. `Object` is how any of
//! the JSON files beside it is read too: by key, with errors that name the key.

use std::path::Path;

use serde_json::{Map, Value};

use super::{Config, MAX_SIZE, RopeParameters, RopeScaling, family};
use crate::model::architecture::{Activation, Architecture, Experts};
use crate::model::family::{AttentionScale, Family, Flag, RopeOfBlocks, Sliding};
use crate::model::refused;
use crate::{Error, Result};

/// Model types whose language model is described under `text_config`.
const WITH_TEXT_CONFIG: [&str; 1] = ["gemma3"];

impl Config {
    /// Reads the text of a `config.json`; `path` is for messages.
    pub fn from_json(text: &str, path: &Path) -> Result<Self> {
        let root = parse_object(text, path)?;
        let keys = Object { map: &root, path };
        let model_type = keys.text("model_type")?.ok_or_else(|| keys.missing("model_type"))?;
        if WITH_TEXT_CONFIG.contains(&model_type) {
            keys.refuse_what_is_not_built()?;
            return Self::of_text_model(keys.object("text_config")?.ok_or_else(|| keys.missing("text_config"))?);
        }
        Self::of_text_model(keys)
    }

    /// Reads the configuration of a language model.
    fn of_text_model(keys: Object) -> Result<Self> {
        let model_type = keys.text("model_type")?.ok_or_else(|| keys.missing("model_type"))?;
        // A model that reads pictures may be an encoder and a decoder as well.
        let is_encoder_decoder = keys.get("is_encoder_decoder") == Some(&Value::Bool(true));
        let reason = keys.get("vision_config").map(|_| refused::VISION_TOWER);
        let reason = reason.or(is_encoder_decoder.then_some(refused::ENCODER_AND_DECODER));
        let family = family(model_type, reason, keys.path)?;
        keys.refuse_what_is_not_built()?;

        let num_hidden_layers = keys.size("num_hidden_layers")?;
        let num_attention_heads = keys.size_of("num_attention_heads", family.num_attention_heads)?;
        let hidden_size = keys.size("hidden_size")?;
        let max_position_embeddings = keys.size_or("max_position_embeddings", family.max_position_embeddings)?;
        let head_dim = keys.head_dim(family, hidden_size, num_attention_heads)?;
        let experts = keys.experts(family, num_hidden_layers)?;
        let intermediate_size = match &experts {
            // A file whose blocks all have experts may leave out the width of a dense MLP.
            Some(experts) => keys.size_or("intermediate_size", experts.intermediate_size)?,
            None => keys.size("intermediate_size")?,
        };
        let windows = keys.windows(family, num_hidden_layers)?;
        let (ropes, ropes_of_blocks) = keys.ropes(family, &windows, [head_dim, max_position_embeddings])?;
        let [attention_softcap, logit_softcap] = keys.softcaps(family)?;
        let multiplier = |key| if family.multipliers { keys.number_or(key, 1.0) } else { Ok(1.0) };
        let config = Self {
            model_type: model_type.to_owned(),
            hidden_size,
            intermediate_size,
            vocab_size: keys.size_of("vocab_size", family.vocab_size)?,
            num_hidden_layers,
            num_attention_heads,
            num_key_value_heads: keys.key_value_heads(family, num_attention_heads)?,
            head_dim,
            rms_norm_eps: keys.number_or("rms_norm_eps", family.rms_norm_eps)?,
            ropes,
            max_position_embeddings,
            architecture: Architecture {
                norms: family.norms,
                qkv_bias: keys.of_family(family.qkv_bias)?,
                qk_norm: family.qk_norm,
                attention_scale: keys.attention_scale(family)?,
                attention_softcap,
                windows,
                ropes: ropes_of_blocks,
                o_bias: keys.of_family(family.o_bias)?,
                mlp_bias: keys.of_family(family.mlp_bias)?,
                activation: keys.activation(family)?,
                experts,
                embedding_multiplier: match family.scaled_embeddings {
                    true => (hidden_size as f64).sqrt(),
                    false => multiplier("embedding_multiplier")?,
                },
                residual_multiplier: multiplier("residual_multiplier")?,
                logit_multiplier: 1.0 / multiplier("logits_scaling")?,
                logit_softcap,
                tie_word_embeddings: keys.flag_or("tie_word_embeddings", family.tie_word_embeddings)?,
            },
        };
        config.validate(keys.path)?;
        Ok(config)
    }
}

/// Parses a text that must be one JSON object.
pub(crate) fn parse_object(text: &str, path: &Path) -> Result<Map<String, Value>> {
    match serde_json::from_str(text) {
        Ok(Value::Object(map)) => Ok(map),
        Ok(_) => Err(Error::malformed(path, "expected a JSON object")),
        Err(error) => Err(Error::malformed(path, format!("broken JSON: {error}"))),
    }
}

/// A JSON object of a file; `null` counts as absent.
#[derive(Clone, Copy)]
pub(crate) struct Object<'a> {
    pub map: &'a Map<String, Value>,
    pub path: &'a Path,
}

impl<'a> Object<'a> {
    pub fn get(&self, key: &str) -> Option<&'a Value> {
        self.map.get(key).filter(|value| !value.is_null())
    }

    pub fn text(&self, key: &str) -> Result<Option<&'a str>> {
        self.get(key).map(|value| value.as_str().ok_or_else(|| self.wrong(key, "a string", value))).transpose()
    }

    fn object(&self, key: &str) -> Result<Option<Object<'a>>> {
        let Some(value) = self.get(key) else { return Ok(None) };
        let map = value.as_object().ok_or_else(|| self.wrong(key, "an object", value))?;
        Ok(Some(Object { map, path: self.path }))
    }

    fn size(&self, key: &str) -> Result<usize> {
        let value = self.get(key).ok_or_else(|| self.missing(key))?;
        let size = value.as_u64().and_then(|size| usize::try_from(size).ok());
        size.filter(|size| (1..=MAX_SIZE).contains(size))
            .ok_or_else(|| self.wrong(key, &format!("a whole number from 1 to {MAX_SIZE}"), value))
    }

    fn size_or(&self, key: &str, default: usize) -> Result<usize> {
        if self.get(key).is_some() { self.size(key) } else { Ok(default) }
    }

    /// A size that may be left out where there is a default.
    fn size_of(&self, key: &str, default: Option<usize>) -> Result<usize> {
        default.map_or_else(|| self.size(key), |default| self.size_or(key, default))
    }

    fn number(&self, key: &str) -> Result<f64> {
        let value = self.get(key).ok_or_else(|| self.missing(key))?;
        value.as_f64().ok_or_else(|| self.wrong(key, "a number", value))
    }

    fn number_or(&self, key: &str, default: f64) -> Result<f64> {
        if self.get(key).is_some() { self.number(key) } else { Ok(default) }
    }

    pub fn flag_or(&self, key: &str, default: bool) -> Result<bool> {
        let Some(value) = self.get(key) else { return Ok(default) };
        value.as_bool().ok_or_else(|| self.wrong(key, "true or false", value))
    }

    fn missing(&self, key: &str) -> Error {
        Error::malformed(self.path, format!("missing key `{key}`"))
    }

    pub fn wrong(&self, key: &str, expected: &str, found: &Value) -> Error {
        let mut found = found.to_string();
        if found.chars().count() > 60 {
            found = found.chars().take(60).chain(['…']).collect();
        }
        Error::malformed(self.path, format!("key `{key}`: expected {expected}, found {found}"))
    }

    /// Whether a model has what all, none or some of its family have.
    fn of_family(&self, flag: Flag) -> Result<bool> {
        match flag {
            Flag::Never => Ok(false),
            Flag::Always => Ok(true),
            Flag::Key(key) => self.flag_or(key, false),
        }
    }

    fn key_value_heads(&self, family: &Family, heads: usize) -> Result<usize> {
        let absent = family.num_key_value_heads.unwrap_or(heads);
        // An explicit null means one for each query head.
        let default = if self.map.contains_key("num_key_value_heads") { heads } else { absent };
        self.size_or("num_key_value_heads", default)
    }

    fn head_dim(&self, family: &Family, hidden_size: usize, heads: usize) -> Result<usize> {
        if self.get("head_dim").is_some() {
            return self.size("head_dim");
        }
        if let Some(head_dim) = family.head_dim {
            return Ok(head_dim);
        }
        if !hidden_size.is_multiple_of(heads) {
            let problem =
                format!("hidden_size {hidden_size} is not a multiple of num_attention_heads {heads}, and no `head_dim`");
            return Err(Error::malformed(self.path, problem));
        }
        Ok(hidden_size / heads)
    }

    /// Factor of the attention scores, where it is not one over the square root of a head's width.
    fn attention_scale(&self, family: &Family) -> Result<Option<f64>> {
        match family.attention_scale {
            AttentionScale::HeadWidth => Ok(None),
            AttentionScale::QueryPreAttnScalar { .. } => Ok(Some(self.number_or("query_pre_attn_scalar", 256.0)?.powf(-0.5))),
            AttentionScale::Multiplier => self.number_or("attention_multiplier", 1.0).map(Some),
        }
    }

    /// Softcaps of the attention scores and of the logits.
    fn softcaps(&self, family: &Family) -> Result<[Option<f64>; 2]> {
        let Some([of_scores, of_logits]) = family.softcaps else { return Ok([None, None]) };
        let softcap = |key: &str, absent: Option<f64>| match self.map.get(key) {
            Some(Value::Null) => Ok(None),
            Some(_) => self.number(key).map(Some),
            None => Ok(absent),
        };
        Ok([softcap("attn_logit_softcapping", of_scores)?, softcap("final_logit_softcapping", of_logits)?])
    }

    fn activation(&self, family: &Family) -> Result<Activation> {
        // Where Gemma's configurations have both keys, the older one is wrong.
        let key = if family.activation == Activation::GeluTanh { "hidden_activation" } else { "hidden_act" };
        let Some(name) = self.text(key)? else { return Ok(family.activation) };
        match name {
            "silu" | "swish" => Ok(Activation::Silu),
            "gelu_pytorch_tanh" => Ok(Activation::GeluTanh),
            _ => {
                let problem = format!("{key} `{name}` is not supported: expected silu or gelu_pytorch_tanh");
                Err(Error::malformed(self.path, problem))
            }
        }
    }

    /// The mixture of experts of a family that has one.
    fn experts(&self, family: &Family, layers: usize) -> Result<Option<Experts>> {
        let Some(keys) = &family.experts else { return Ok(None) };
        let count_key = keys.count.into_iter().find(|key| self.get(key).is_some()).unwrap_or(keys.count[0]);
        if self.get(count_key).is_some_and(|count| count.as_u64() == Some(0)) {
            return Ok(None);
        }
        let (width_key, width) = keys.intermediate_size;
        let step = self.size_or("decoder_sparse_step", 1)?;
        let layers = layers.min(super::MAX_LAYERS + 1);
        let mut blocks: Vec<bool> = (1..=layers).map(|block| block.is_multiple_of(step)).collect();
        for dense in self.block_numbers("mlp_only_layers")? {
            blocks.get_mut(dense).into_iter().for_each(|has_experts| *has_experts = false);
        }
        Ok(Some(Experts {
            count: self.size_or(count_key, keys.defaults[0])?,
            per_token: self.size_or("num_experts_per_tok", keys.defaults[1])?,
            intermediate_size: self.size_of(width_key, width)?,
            normalised: self.of_family(keys.normalised)?,
            blocks,
        }))
    }

    /// A list of numbers of blocks; none where it is absent.
    fn block_numbers(&self, key: &str) -> Result<Vec<usize>> {
        let Some(list) = self.get(key) else { return Ok(Vec::new()) };
        let numbers = list.as_array().map(|list| list.iter().map(|x| Some(x.as_u64()? as usize)).collect());
        numbers.flatten().ok_or_else(|| self.wrong(key, "a list of whole numbers", list))
    }

    /// The sliding window of each block.
    fn windows(&self, family: &Family, layers: usize) -> Result<Vec<Option<usize>>> {
        let layers = layers.min(super::MAX_LAYERS + 1); // one too many is refused later, after a small allocation
        let (used, absent) = match family.sliding {
            Sliding::NoBlock => (false, None),
            Sliding::EveryBlock { absent } => (true, absent),
            Sliding::Pattern { .. } => (true, Some(4096)),
            Sliding::NamedBlocks | Sliding::EveryBlockIfUsed => (self.flag_or("use_sliding_window", false)?, Some(4096)),
            Sliding::WithoutRope => (self.flag_or("use_sliding_window", false)?, None),
        };
        let window = match self.map.get("sliding_window") {
            Some(Value::Null) => None,
            Some(_) => Some(self.size("sliding_window")?),
            None => absent,
        };
        let Some(window) = window.filter(|_| used) else {
            if matches!(family.rope, RopeOfBlocks::OwnOfSliding { .. }) {
                let problem = "key `sliding_window`: expected a whole number, which says which blocks have a rope of their own";
                return Err(Error::malformed(self.path, problem));
            }
            return Ok(vec![None; layers]);
        };
        let slides = match family.sliding {
            Sliding::NoBlock | Sliding::EveryBlock { .. } | Sliding::EveryBlockIfUsed => vec![true; layers],
            Sliding::NamedBlocks => match self.layer_types()? {
                Some(slides) => slides,
                None => {
                    let full = match self.get("max_window_layers") {
                        None => 28,
                        Some(value) => {
                            value.as_u64().ok_or_else(|| self.wrong("max_window_layers", "a whole number", value))?
                        }
                    };
                    (0..layers).map(|layer| layer as u64 >= full).collect()
                }
            },
            Sliding::WithoutRope => match self.layer_types()? {
                Some(slides) => slides,
                None => self.blocks_with_rope(family, layers)?.into_iter().map(|with| !with).collect(),
            },
            Sliding::Pattern { pattern, .. } => match self.layer_types()? {
                Some(slides) => slides,
                None => {
                    let pattern = self.size_or("sliding_window_pattern", pattern)?;
                    (0..layers).map(|layer| !(layer + 1).is_multiple_of(pattern)).collect()
                }
            },
        };
        Ok(slides.into_iter().map(|slides| slides.then_some(window)).collect())
    }

    /// Whether each block has the sliding window, where `layer_types` says.
    fn layer_types(&self) -> Result<Option<Vec<bool>>> {
        let Some(types) = self.get("layer_types") else { return Ok(None) };
        let wrong = |found: &Value| self.wrong("layer_types", "a list of `full_attention` and `sliding_attention`", found);
        let types = types.as_array().ok_or_else(|| wrong(types))?;
        let sliding = |kind: &Value| match kind.as_str() {
            Some("full_attention") => Ok(false),
            Some("sliding_attention") => Ok(true),
            _ => Err(wrong(kind)),
        };
        types.iter().map(sliding).collect::<Result<_>>().map(Some)
    }

    /// The rotary embeddings of a model, and which of them each block has.
    fn ropes(
        &self,
        family: &Family,
        windows: &[Option<usize>],
        [head_dim, context]: [usize; 2],
    ) -> Result<(Vec<RopeParameters>, Vec<usize>)> {
        let (older, newer) =
            (self.object("rope_scaling")?.filter(|keys| !keys.map.is_empty()), self.object("rope_parameters")?);
        let theta = self.number_or("rope_theta", family.rope_theta)?;
        let sizes = [head_dim, context];
        let blocks = windows.len();
        match family.rope {
            RopeOfBlocks::One => Ok((vec![self.rope(family, older.or(newer), theta, sizes)?], vec![0; blocks])),
            RopeOfBlocks::OwnOfSliding { theta: of_sliding } => {
                // A scaling beside these parameters is of the blocks without a window.
                let of_kind = |kind| newer.map_or(Ok(None), |keys| keys.object(kind));
                let full = of_kind("full_attention")?;
                let theta = full.map_or(Ok(theta), |keys| keys.number_or("rope_theta", theta))?;
                let full = self.rope(family, older.or(full), theta, sizes)?;
                let theta = self.number_or("rope_local_base_freq", of_sliding.unwrap_or(theta))?;
                let own = self.rope(family, of_kind("sliding_attention")?, theta, sizes)?;
                Ok((vec![full, own], windows.iter().map(|window| usize::from(window.is_some())).collect()))
            }
            RopeOfBlocks::SomeWithout { .. } => {
                let full = self.rope(family, older.or(newer), theta, sizes)?;
                let with = self.blocks_with_rope(family, blocks)?;
                let none = RopeParameters { scaling: RopeScaling::NoRotation, ..full.clone() };
                Ok((vec![full, none], with.into_iter().map(|with| usize::from(!with)).collect()))
            }
        }
    }

    /// Whether each block has a rotary embedding.
    fn blocks_with_rope(&self, family: &Family, blocks: usize) -> Result<Vec<bool>> {
        let RopeOfBlocks::SomeWithout { interval } = family.rope else { return Ok(vec![true; blocks]) };
        if self.get("no_rope_layers").is_some() {
            // Against its name, the list says 1 where a block has one.
            return Ok(self.block_numbers("no_rope_layers")?.into_iter().map(|with| with != 0).collect());
        }
        let interval = self.size_or("no_rope_layer_interval", interval)?;
        Ok((0..blocks).map(|block| !(block + 1).is_multiple_of(interval)).collect())
    }

    /// Base and scaling of the rotary frequencies that `keys` describe; `theta` is the base where they do not say.
    fn rope(
        &self,
        family: &Family,
        keys: Option<Object>,
        theta: f64,
        [head_dim, context]: [usize; 2],
    ) -> Result<RopeParameters> {
        let fraction = match keys.filter(|keys| keys.get("partial_rotary_factor").is_some()) {
            Some(keys) => keys.number("partial_rotary_factor")?,
            None => self.number_or("partial_rotary_factor", 1.0)?,
        };
        if fraction != 1.0 && !family.partial_rotary {
            let problem = format!("partial_rotary_factor {fraction} is not supported: expected 1, the whole head");
            return Err(Error::malformed(self.path, problem));
        }
        let rotary_dim = (head_dim as f64 * fraction) as usize;
        let Some(keys) = keys else { return Ok(RopeParameters { theta, rotary_dim, scaling: RopeScaling::None }) };
        let theta = keys.number_or("rope_theta", theta)?;
        Ok(RopeParameters { theta, rotary_dim, scaling: self.rope_scaling(family, keys, context)? })
    }

    /// The scaling that `keys` describe. `context` is the longest sequence in tokens.
    fn rope_scaling(&self, family: &Family, keys: Object, context: usize) -> Result<RopeScaling> {
        let kind = match keys.text("rope_type")? {
            Some(kind) => kind,
            None => keys.text("type")?.unwrap_or("default"),
        };
        // Phi-3's first files call LongRoPE by other names.
        let kind = if family.partial_rotary && matches!(kind, "su" | "yarn") { "longrope" } else { kind };
        // Where it stands beside the scaling, that wins.
        let trained = |default| match self.get("original_max_position_embeddings") {
            Some(_) => self.size("original_max_position_embeddings"),
            // Phi-3's configuration has a default there, which wins as well.
            None if family.partial_rotary => Ok(family.max_position_embeddings),
            None => keys.size_or("original_max_position_embeddings", default),
        };
        match kind {
            "default" | "none" => Ok(RopeScaling::None),
            "linear" => Ok(RopeScaling::Linear { factor: keys.number("factor")? }),
            "dynamic" => Ok(RopeScaling::Dynamic { factor: keys.number("factor")?, original_max_position_embeddings: context }),
            "llama3" => Ok(RopeScaling::Llama3 {
                factor: keys.number("factor")?,
                low_freq_factor: keys.number("low_freq_factor")?,
                high_freq_factor: keys.number("high_freq_factor")?,
                original_max_position_embeddings: trained(context)?,
            }),
            "yarn" => {
                let original_max_position_embeddings = trained(context)?;
                let factor = keys.number_or("factor", context as f64 / original_max_position_embeddings as f64)?;
                let grown = |by: f64| if factor <= 1.0 { 1.0 } else { 0.1 * by * factor.ln() + 1.0 };
                let [mscale, of_all_dims] = [keys.number_or("mscale", 0.0)?, keys.number_or("mscale_all_dim", 0.0)?];
                let grown = if mscale != 0.0 && of_all_dims != 0.0 { grown(mscale) / grown(of_all_dims) } else { grown(1.0) };
                Ok(RopeScaling::Yarn {
                    factor,
                    beta_fast: keys.number_or("beta_fast", 32.0)?,
                    beta_slow: keys.number_or("beta_slow", 1.0)?,
                    truncate: keys.flag_or("truncate", true)?,
                    original_max_position_embeddings,
                    attention_factor: keys.number_or("attention_factor", grown)?,
                })
            }
            "longrope" => {
                let original_max_position_embeddings = trained(context)?;
                let trained = original_max_position_embeddings as f64;
                let factor = keys.number_or("factor", context as f64 / trained)?;
                let grown = if factor <= 1.0 { 1.0 } else { (1.0 + factor.ln() / trained.ln()).sqrt() };
                Ok(RopeScaling::LongRope {
                    short_factor: keys.numbers("short_factor")?,
                    long_factor: keys.numbers("long_factor")?,
                    original_max_position_embeddings,
                    attention_factor: keys.number_or("attention_factor", grown)?,
                })
            }
            other => {
                let expected = "default, linear, dynamic, llama3, yarn or longrope";
                let problem = format!("rope scaling `{other}` is not supported: expected {expected}");
                Err(Error::malformed(self.path, problem))
            }
        }
    }

    /// A list of numbers that must be there.
    fn numbers(&self, key: &str) -> Result<Vec<f32>> {
        let list = self.get(key).ok_or_else(|| self.missing(key))?;
        let numbers = list.as_array().map(|list| list.iter().map(|x| Some(x.as_f64()? as f32)).collect());
        numbers.flatten().ok_or_else(|| self.wrong(key, "a list of numbers", list))
    }

    fn refuse_what_is_not_built(&self) -> Result<()> {
        if self.flag_or("use_bidirectional_attention", false)? {
            return Err(Error::malformed(self.path, "bidirectional attention is not supported: expected a causal model"));
        }
        let Some(quantization) = self.object("quantization_config")? else { return Ok(()) };
        let method = quantization.text("quant_method")?.unwrap_or("an unnamed method");
        let problem = format!("weights quantised with {method} are not supported: use the original model, or a GGUF file");
        Err(Error::malformed(self.path, problem))
    }
}

#[cfg(test)]
#[path = "json_tests.rs"]
mod tests;

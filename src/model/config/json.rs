//! `config.json` of a Hugging Face model, with the defaults that `transformers` gives to each family. `Object` is how any of
//! the JSON files beside it is read too: by key, with errors that name the key.

use std::path::Path;

use serde_json::{Map, Value};

use super::{Config, MAX_SIZE, RopeScaling, family};
use crate::error::{Error, Result};
use crate::model::architecture::{Architecture, Family, Flag, Sliding};

impl Config {
    /// Reads the text of a `config.json`; `path` is for messages.
    pub fn from_json(text: &str, path: &Path) -> Result<Self> {
        let root = parse_object(text, path)?;
        let keys = Object { map: &root, path };
        let model_type = keys.text("model_type")?.ok_or_else(|| keys.missing("model_type"))?;
        let family = family(model_type, path)?;
        keys.refuse_what_is_not_built()?;

        let num_hidden_layers = keys.size("num_hidden_layers")?;
        let num_attention_heads = keys.size("num_attention_heads")?;
        let hidden_size = keys.size("hidden_size")?;
        let max_position_embeddings = keys.size_or("max_position_embeddings", family.max_position_embeddings)?;
        let (rope_theta, rope_scaling) = keys.rope(max_position_embeddings)?;
        let config = Self {
            model_type: model_type.to_owned(),
            hidden_size,
            intermediate_size: keys.size("intermediate_size")?,
            vocab_size: keys.size("vocab_size")?,
            num_hidden_layers,
            num_attention_heads,
            num_key_value_heads: keys.key_value_heads(family, num_attention_heads)?,
            head_dim: keys.head_dim(family, hidden_size, num_attention_heads)?,
            rms_norm_eps: keys.number_or("rms_norm_eps", 1e-6)?,
            rope_theta,
            rope_scaling,
            max_position_embeddings,
            architecture: Architecture {
                qkv_bias: keys.of_family(family.qkv_bias)?,
                qk_norm: family.qk_norm,
                windows: keys.windows(family, num_hidden_layers)?,
                o_bias: keys.of_family(family.o_bias)?,
                mlp_bias: keys.of_family(family.mlp_bias)?,
                tie_word_embeddings: keys.flag_or("tie_word_embeddings", false)?,
            },
        };
        config.validate(path)?;
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

    /// The sliding window of each block.
    fn windows(&self, family: &Family, layers: usize) -> Result<Vec<Option<usize>>> {
        let layers = layers.min(super::MAX_LAYERS + 1); // one too many is refused later, after a small allocation
        let used = match family.sliding {
            Sliding::NoBlock => false,
            Sliding::EveryBlock => true,
            Sliding::NamedBlocks => self.flag_or("use_sliding_window", false)?,
        };
        if !used || self.map.get("sliding_window").is_some_and(Value::is_null) {
            return Ok(vec![None; layers]);
        }
        let window = self.size_or("sliding_window", 4096)?;
        if family.sliding == Sliding::EveryBlock {
            return Ok(vec![Some(window); layers]);
        }
        let slides = self.named_blocks(layers)?;
        Ok(slides.into_iter().map(|slides| slides.then_some(window)).collect())
    }

    /// Whether each block has the sliding window.
    fn named_blocks(&self, layers: usize) -> Result<Vec<bool>> {
        let Some(types) = self.get("layer_types") else {
            let full = match self.get("max_window_layers") {
                None => 28,
                Some(value) => value.as_u64().ok_or_else(|| self.wrong("max_window_layers", "a whole number", value))?,
            };
            return Ok((0..layers).map(|layer| layer as u64 >= full).collect());
        };
        let wrong = |found: &Value| self.wrong("layer_types", "a list of `full_attention` and `sliding_attention`", found);
        let types = types.as_array().ok_or_else(|| wrong(types))?;
        let sliding = |kind: &Value| match kind.as_str() {
            Some("full_attention") => Ok(false),
            Some("sliding_attention") => Ok(true),
            _ => Err(wrong(kind)),
        };
        types.iter().map(sliding).collect()
    }

    /// Base and scaling of the rotary frequencies, from `rope_parameters` or the older `rope_theta` and `rope_scaling`.
    fn rope(&self, max_position_embeddings: usize) -> Result<(f64, RopeScaling)> {
        let theta = self.number_or("rope_theta", 10_000.0)?;
        let newer = self.object("rope_parameters")?;
        let older = self.object("rope_scaling")?.filter(|keys| !keys.map.is_empty());
        let Some(keys) = older.or(newer) else { return Ok((theta, RopeScaling::None)) };
        let theta = keys.number_or("rope_theta", newer.map_or(Ok(theta), |keys| keys.number_or("rope_theta", theta))?)?;
        let kind = match keys.text("rope_type")? {
            Some(kind) => kind,
            None => keys.text("type")?.unwrap_or("default"),
        };
        keys.refuse_partial_rotary()?;
        let scaling = match kind {
            "default" | "none" => RopeScaling::None,
            "linear" => RopeScaling::Linear { factor: keys.number("factor")? },
            "dynamic" => RopeScaling::Dynamic {
                factor: keys.number("factor")?,
                original_max_position_embeddings: max_position_embeddings,
            },
            "llama3" => RopeScaling::Llama3 {
                factor: keys.number("factor")?,
                low_freq_factor: keys.number("low_freq_factor")?,
                high_freq_factor: keys.number("high_freq_factor")?,
                original_max_position_embeddings: keys.size_or("original_max_position_embeddings", max_position_embeddings)?,
            },
            other => {
                let problem = format!("rope scaling `{other}` is not supported: expected default, linear, dynamic or llama3");
                return Err(Error::malformed(self.path, problem));
            }
        };
        Ok((theta, scaling))
    }

    fn refuse_partial_rotary(&self) -> Result<()> {
        let fraction = self.number_or("partial_rotary_factor", 1.0)?;
        if fraction == 1.0 {
            return Ok(());
        }
        let problem = format!("partial_rotary_factor {fraction} is not supported: expected 1, the whole head");
        Err(Error::malformed(self.path, problem))
    }

    fn refuse_what_is_not_built(&self) -> Result<()> {
        self.refuse_partial_rotary()?;
        if let Some(activation) = self.text("hidden_act")?.filter(|name| !matches!(*name, "silu" | "swish")) {
            return Err(Error::malformed(self.path, format!("hidden_act `{activation}` is not supported: expected silu")));
        }
        if let Some(quantization) = self.object("quantization_config")? {
            let method = quantization.text("quant_method")?.unwrap_or("an unnamed method");
            let problem = format!("weights quantised with {method} are not supported: use the original model, or a GGUF file");
            return Err(Error::malformed(self.path, problem));
        }
        Ok(())
    }
}

#[cfg(test)]
#[path = "json_tests.rs"]
mod tests;

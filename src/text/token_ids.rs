//! The ids that open a sequence and end a response, as the model's own files give them. Knows no tokenizer: whoever has one
//! passes the function that finds the id of a token.

use std::collections::HashMap;
use std::path::Path;

use candle_core::quantized::gguf_file;
use serde_json::Value;

use crate::error::{Error, Result};
use crate::machine::files::read_text;
use crate::model::checkpoint::Checkpoint;
use crate::model::config::{Object, parse_object};
use crate::model::gguf::GgufMetadata;
use crate::model::weights::Weights;

/// Special token ids of a model.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TokenIds {
    /// Put in front of a sequence; `None` where the model's tokenizer puts none.
    pub bos: Option<u32>,
    /// Generation stops at any of these. The first is the tokenizer's own end of sequence, which closes a response in training.
    pub eos: Vec<u32>,
}

impl TokenIds {
    /// Reads them from the files of a checkpoint. `id_of` finds a token's id by its text.
    pub fn load(checkpoint: &Checkpoint, weights: &Weights, id_of: impl Fn(&str) -> Option<u32>) -> Result<Self> {
        match checkpoint {
            Checkpoint::Gguf { path, .. } => match weights.gguf_metadata() {
                Some(metadata) => Self::from_gguf(metadata, path),
                None => Err(Error::malformed(path, "not opened as a GGUF file")),
            },
            Checkpoint::Safetensors { config, tokenizer_config, generation_config, .. } => {
                let files = [Some(config), generation_config.as_ref(), tokenizer_config.as_ref()];
                let mut texts = [const { None }; 3];
                for (text, path) in texts.iter_mut().zip(files) {
                    let Some(path) = path else { continue };
                    let content = read_text(path)?;
                    *text = Some((content, path.as_path()));
                }
                Self::from_json(texts, id_of)
            }
        }
    }

    /// From the texts of `config.json`, `generation_config.json` and `tokenizer_config.json`, in this order, each with its path.
    pub fn from_json(files: [Option<(String, &Path)>; 3], id_of: impl Fn(&str) -> Option<u32>) -> Result<Self> {
        let mut ids = Self::default();
        let [config, generation_config, tokenizer_config] = files;
        let mut tokenizer_says_bos = false;
        if let Some((text, path)) = tokenizer_config {
            let root = parse_object(&text, path)?;
            let keys = Object { map: &root, path };
            ids.eos.extend(token(keys, "eos_token")?.and_then(&id_of));
            tokenizer_says_bos = root.contains_key("bos_token") || root.contains_key("add_bos_token");
            if keys.flag_or("add_bos_token", true)? {
                ids.bos = token(keys, "bos_token")?.and_then(&id_of);
                tokenizer_says_bos = ids.bos.is_some() || root.get("bos_token").is_some_and(Value::is_null);
            }
        }
        for (text, path) in [generation_config, config].into_iter().flatten() {
            let root = parse_object(&text, path)?;
            let keys = Object { map: &root, path };
            for id in id_list(keys, "eos_token_id")? {
                if !ids.eos.contains(&id) {
                    ids.eos.push(id);
                }
            }
            if !tokenizer_says_bos && ids.bos.is_none() {
                ids.bos = id_list(keys, "bos_token_id")?.first().copied();
            }
        }
        Ok(ids)
    }

    /// From GGUF metadata; `path` is for messages.
    pub fn from_gguf(metadata: &HashMap<String, gguf_file::Value>, path: &Path) -> Result<Self> {
        let metadata = GgufMetadata::new(metadata, path);
        let tokens = metadata.count("tokenizer.ggml.tokens").unwrap_or(usize::MAX);
        let id = |key: &str| match metadata.size(key)? {
            None => Ok(None),
            Some(id) if id < tokens => u32::try_from(id).map(Some).map_err(|_| metadata.wrong(key, "a token id")),
            Some(id) => Err(metadata.wrong(key, &format!("an id below {tokens}, the number of tokens, found {id}"))),
        };
        let mut ids = Self::default();
        if metadata.flag("tokenizer.ggml.add_bos_token")? != Some(false) {
            ids.bos = id("tokenizer.ggml.bos_token_id")?;
        }
        for key in ["tokenizer.ggml.eos_token_id", "tokenizer.ggml.eot_token_id", "tokenizer.ggml.eom_token_id"] {
            ids.eos.extend(id(key)?.filter(|id| !ids.eos.contains(id)));
        }
        Ok(ids)
    }
}

/// A token of `tokenizer_config.json`: its text, or an object that holds it.
fn token<'a>(keys: Object<'a>, key: &str) -> Result<Option<&'a str>> {
    match keys.get(key) {
        None => Ok(None),
        Some(Value::String(text)) => Ok(Some(text)),
        Some(value) => match value.get("content").and_then(Value::as_str) {
            Some(text) => Ok(Some(text)),
            None => Err(keys.wrong(key, "a token, or an object with its `content`", value)),
        },
    }
}

/// One id, or a list of them.
fn id_list(keys: Object, key: &str) -> Result<Vec<u32>> {
    let Some(value) = keys.get(key) else { return Ok(Vec::new()) };
    let one = |value: &Value| {
        let id = value.as_u64().and_then(|id| u32::try_from(id).ok());
        id.ok_or_else(|| keys.wrong(key, "a token id, or a list of them", value))
    };
    match value {
        Value::Array(values) => values.iter().map(one).collect(),
        value => one(value).map(|id| vec![id]),
    }
}

#[cfg(test)]
#[path = "token_ids_tests.rs"]
mod tests;

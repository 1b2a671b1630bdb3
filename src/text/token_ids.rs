//! The ids that open a sequence and end a response, as the model's own files give them. Knows no tokenizer: whoever has one
//! passes the function that finds the id of a token.

use std::collections::HashMap;
use std::path::Path;

use candle_core::quantized::gguf_file;
use serde_json::Value;

use crate::machine::files::read_text;
use crate::model::checkpoint::Checkpoint;
use crate::model::config::{Object, parse_object};
use crate::model::gguf::GgufMetadata;
use crate::model::weights::Weights;
use crate::{Error, Result};

/// Control tokens that end an answer in the models that have them, whatever their file names; llama.cpp stops at these, too.
const ENDS_OF_TURN: [&str; 10] = [
    "<|eot_id|>",
    "<|im_end|>",
    "<|end|>",
    "<end_of_turn>",
    "<|endoftext|>",
    "<|end_of_text|>",
    "<|eom_id|>",
    "<EOT>",
    "<end_of_utterance>",
    "<\u{ff5c}end\u{2581}of\u{2581}sentence\u{ff5c}>",
];

/// llama.cpp's number of the kind of those tokens.
const CONTROL: i32 = 3;

/// Special token ids of a model.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TokenIds {
    /// Put in front of a sequence; `None` where the model's tokenizer puts none.
    pub bos: Option<u32>,
    /// The BOS token that the files name, which a chat template may write whether or not the tokenizer puts it in front.
    pub named_bos: Option<u32>,
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

    /// Reads the ids from the texts of `config.json`, `generation_config.json` and `tokenizer_config.json`, in this order, each
    /// with its path.
    pub fn from_json(files: [Option<(String, &Path)>; 3], id_of: impl Fn(&str) -> Option<u32>) -> Result<Self> {
        let mut ids = Self::default();
        let [config, generation_config, tokenizer_config] = files;
        let mut tokenizer_says_bos = false;
        if let Some((text, path)) = tokenizer_config {
            let root = parse_object(&text, path)?;
            let keys = Object { map: &root, path };
            ids.eos.extend(token(keys, "eos_token")?.and_then(&id_of));
            tokenizer_says_bos = root.contains_key("bos_token") || root.contains_key("add_bos_token");
            ids.named_bos = token(keys, "bos_token")?.and_then(&id_of);
            if keys.flag_or("add_bos_token", true)? {
                ids.bos = ids.named_bos;
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

    /// Reads the ids from GGUF metadata; `path` is for messages.
    pub(crate) fn from_gguf(all: &HashMap<String, gguf_file::Value>, path: &Path) -> Result<Self> {
        let metadata = GgufMetadata::new(all, path);
        let tokens = metadata.count("tokenizer.ggml.tokens").unwrap_or(usize::MAX);
        let id = |key: &str| match metadata.size(key)? {
            None => Ok(None),
            Some(id) if id < tokens => u32::try_from(id).map(Some).map_err(|_| metadata.wrong(key, "a token id")),
            Some(id) => Err(metadata.wrong(key, &format!("an id below {tokens}, the number of tokens, found {id}"))),
        };
        let mut ids = Self { named_bos: id("tokenizer.ggml.bos_token_id")?, ..Self::default() };
        if metadata.flag("tokenizer.ggml.add_bos_token")? != Some(false) {
            ids.bos = ids.named_bos;
        }
        for key in ["tokenizer.ggml.eos_token_id", "tokenizer.ggml.eot_token_id", "tokenizer.ggml.eom_token_id"] {
            ids.eos.extend(id(key)?.filter(|id| !ids.eos.contains(id)));
        }
        for id in known_ends_of_turn(all) {
            ids.eos.extend(Some(id).filter(|id| !ids.eos.contains(id)));
        }
        Ok(ids)
    }
}

/// The ids of [`ENDS_OF_TURN`] in a GGUF vocabulary. What is no list of tokens and kinds is refused where the tokenizer is made.
fn known_ends_of_turn(metadata: &HashMap<String, gguf_file::Value>) -> Vec<u32> {
    let list = |key: &str| metadata.get(key).and_then(|value| value.to_vec().ok());
    let Some((tokens, kinds)) = list("tokenizer.ggml.tokens").zip(list("tokenizer.ggml.token_type")) else { return Vec::new() };
    let is_end = |token: &gguf_file::Value| token.to_string().is_ok_and(|token| ENDS_OF_TURN.contains(&token.as_str()));
    let is_control = |kind: &gguf_file::Value| {
        matches!(kind, gguf_file::Value::I32(CONTROL)) || matches!(kind, gguf_file::Value::U32(kind) if *kind == CONTROL as u32)
    };
    let ends = (0..).zip(tokens.iter().zip(kinds)).filter(|(_, (token, kind))| is_end(token) && is_control(kind));
    ends.map(|(id, _)| id).collect()
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

//! Which files a model consists of. Where they come from is the business of `hub`; what is in them is read by `weights` and
//! `config`.

use std::path::{Path, PathBuf};

/// The files of a model.
#[derive(Debug, Clone, PartialEq)]
pub enum Checkpoint {
    /// A model as `transformers` saves it.
    Safetensors {
        /// `config.json`.
        config: PathBuf,
        /// The weights, one file or several.
        shards: Vec<PathBuf>,
        /// `tokenizer.json`.
        tokenizer: PathBuf,
        /// `tokenizer_config.json`: special tokens, chat template.
        tokenizer_config: Option<PathBuf>,
        /// `generation_config.json`: tokens that end a response.
        generation_config: Option<PathBuf>,
        /// `chat_template.jinja`, where the template has a file of its own.
        chat_template: Option<PathBuf>,
    },
    /// A llama.cpp model, its tokenizer inside.
    Gguf {
        /// The file, or the first of the parts that it is split into.
        path: PathBuf,
        /// `tokenizer.json` beside it, if there is one.
        tokenizer: Option<PathBuf>,
    },
}

impl Checkpoint {
    /// Returns the files beside those of the weights.
    pub(crate) fn beside_weights(&self) -> Vec<&Path> {
        match self {
            Self::Safetensors { config, shards: _, tokenizer, tokenizer_config, generation_config, chat_template } => {
                let optional = [tokenizer_config, generation_config, chat_template].into_iter().flatten();
                [config, tokenizer].into_iter().chain(optional).map(PathBuf::as_path).collect()
            }
            Self::Gguf { path: _, tokenizer } => tokenizer.iter().map(PathBuf::as_path).collect(),
        }
    }
}

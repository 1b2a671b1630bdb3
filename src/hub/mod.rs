//! Where files come from: aliases of known models, the Hugging Face hub, and the cache directory. This room finds and downloads
//! files; it does not read weights or tokenizers from them.
//!
//! Begin with [`resolve`], which turns the value of `--model` into the files of a model.

pub mod cache_dir;
mod download;
pub(crate) mod failure;
mod folder;
pub mod options;
pub mod presets;
pub(crate) mod repo;
pub(crate) mod repo_id;
pub mod resolve;
pub mod status;

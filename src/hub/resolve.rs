//! From the user's name for a model (an alias, a hub id, a folder, a GGUF file) to the files of its checkpoint. It is checked
//! that the files exist and that bipo can run a model with such a `config.json`; no weights are read.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use super::folder::{CONFIG, TOKENIZER, file_name, folder, split_model};
use super::options::FetchOptions;
use super::presets::{self, PRESETS, Preset};
use super::repo::Hub;
use super::repo_id::RepoId;
use crate::hub::cache_dir::cache_dir;
use crate::machine::error::{Error, Result, closest_name};
use crate::machine::files::{is_sha256, sha256};
use crate::model::checkpoint::Checkpoint;
use crate::model::gguf_parts::GgufPart;

/// A model whose files were found.
#[derive(Debug, Clone, PartialEq)]
pub struct ModelFiles {
    /// Repository id, or name of the folder or file; the metadata of a vector gives it as the base model.
    pub name: String,
    /// Files of the model.
    pub checkpoint: Checkpoint,
}

/// Finds the files of a model: an existing path, an alias, or a hub id `owner/name[@revision]`, tried in this order. A folder
/// with the name of an alias takes precedence only if it has a `config.json`. Files that are not in the hub's cache are
/// downloaded, unless `offline` or `HF_HUB_OFFLINE` is set.
///
/// # Errors
/// The name is no path, alias or hub id; the model lacks a file that is needed; or a file cannot be downloaded.
pub fn resolve(model: &str, options: &FetchOptions) -> Result<ModelFiles> {
    resolve_with(model, cache_dir().ok().as_deref(), || Hub::from_env(options))
}

fn resolve_with(model: &str, cache: Option<&Path>, hub: impl FnOnce() -> Result<Hub>) -> Result<ModelFiles> {
    let path = Path::new(model);
    let preset = PRESETS.iter().find(|preset| preset.alias.eq_ignore_ascii_case(model));
    if let Some(first) = split_model(path).filter(|_| preset.is_none()) {
        return gguf_file(&first);
    }
    if path.is_dir() && (preset.is_none() || path.join(CONFIG).is_file()) {
        return Ok(ModelFiles { name: file_name(path), checkpoint: folder(path)? });
    }
    if path.is_file() {
        return gguf_file(path);
    }
    if let Some(preset) = preset {
        return from_preset(preset, cache, hub);
    }
    if looks_like_a_path(model) {
        return Err(Error::read(path, std::io::Error::new(std::io::ErrorKind::NotFound, "no such file or folder")));
    }
    let id = RepoId::parse(model).ok_or_else(|| unknown(model))?;
    Ok(ModelFiles { name: id.repo.clone(), checkpoint: hub()?.fetch(&id)? })
}

/// Returns the SHA-256 of a model's file in hex. Large files of the hub's cache have it as the name of their content, against which
/// it was checked when it came, and are not read again.
///
/// # Errors
/// The file cannot be read.
pub fn content_hash(path: &Path) -> Result<String> {
    let content = path.canonicalize().unwrap_or_else(|_| path.to_path_buf());
    let is_blob = content.parent().and_then(Path::file_name).is_some_and(|folder| folder == "blobs");
    let name = content.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    if is_blob && is_sha256(name) { Ok(name.to_ascii_lowercase()) } else { sha256(path) }
}

/// Returns the files of a known model, if they are on this machine, in bipo's cache directory or in the hub's cache.
pub fn cached(preset: &Preset) -> Option<ModelFiles> {
    from_preset(preset, cache_dir().ok().as_deref(), || Hub::from_env(&FetchOptions::offline())).ok()
}

fn from_preset(preset: &Preset, cache: Option<&Path>, hub: impl FnOnce() -> Result<Hub>) -> Result<ModelFiles> {
    let name = preset.repo.to_owned();
    let fetched = cache.zip(preset.fetched).map(|(cache, (file, _))| cache.join(file));
    if let Some(path) = fetched.filter(|path| path.is_file()) {
        return Ok(ModelFiles { name, checkpoint: Checkpoint::Gguf { path, tokenizer: None } });
    }
    let id = RepoId { repo: name.clone(), revision: None };
    Ok(ModelFiles { name, checkpoint: hub()?.fetch(&id)? })
}

fn gguf_file(path: &Path) -> Result<ModelFiles> {
    let mut head = [0; 4];
    let named = path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("gguf"));
    let read = File::open(path).and_then(|mut file| file.read_exact(&mut head));
    if !named && (read.is_err() || head != *b"GGUF") {
        let problem = "not a model: expected a .gguf file, or the folder of a model (config.json, safetensors, tokenizer.json)";
        return Err(Error::malformed(path, problem));
    }
    // Any part of a model stands for all of them.
    let first = GgufPart::of(path).map(|part| part.first()).filter(|first| first.is_file());
    let path = first.as_deref().unwrap_or(path);
    let tokenizer = path.parent().map(|folder| folder.join(TOKENIZER)).filter(|tokenizer| tokenizer.is_file());
    Ok(ModelFiles { name: file_name(path), checkpoint: Checkpoint::Gguf { path: path.to_path_buf(), tokenizer } })
}

fn looks_like_a_path(model: &str) -> bool {
    model.starts_with(['/', '.', '~']) || model.matches('/').count() > 1 && !model.contains('@') || {
        let lower = model.to_ascii_lowercase();
        lower.ends_with(".gguf") || model.contains('\\')
    }
}

fn unknown(model: &str) -> Error {
    let aliases = PRESETS.iter().map(|preset| preset.alias);
    let name = presets::find(model).map_or(model, |preset| preset.alias).to_ascii_lowercase();
    let hint = closest_name(&name, aliases).map_or_else(String::new, |alias| format!(", did you mean `{alias}`?"));
    Error::Argument(format!(
        "unknown model `{model}`{hint} (expected a folder, a .gguf file, a hub id owner/name[@revision], or an alias)"
    ))
}

#[cfg(test)]
#[path = "resolve_tests.rs"]
mod tests;

//! From what the user calls a model (an alias, a hub id, a folder, a GGUF file) to the files of its checkpoint. Checks that the
//! files are there; opens none of the weights.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::Read;
use std::path::{Component, Path, PathBuf};

use serde_json::Value;

use super::presets::{self, PRESETS, Preset};
use super::repo::{Hub, RepoId};
use crate::error::{Error, Result};
use crate::hub::cache_dir::cache_dir;
use crate::machine::files::read_text;
use crate::model::checkpoint::Checkpoint;
use crate::model::config::parse_object;

/// How to resolve a model.
#[derive(Debug, Clone, Copy, Default)]
pub struct ResolveOptions {
    /// Never touch the network.
    pub offline: bool,
    /// Show no progress of downloads.
    pub quiet: bool,
}

/// A model that was found.
#[derive(Debug, Clone, PartialEq)]
pub struct ModelFiles {
    /// Repository id, or the name of the folder or file: what a vector's metadata calls its base model.
    pub name: String,
    /// The files.
    pub checkpoint: Checkpoint,
}

/// The names of the files of a model as `transformers` saves it.
pub(super) const CONFIG: &str = "config.json";
pub(super) const TOKENIZER: &str = "tokenizer.json";
pub(super) const WEIGHTS: &str = "model.safetensors";
pub(super) const INDEX: &str = "model.safetensors.index.json";
pub(super) const OPTIONAL: [&str; 3] = ["tokenizer_config.json", "generation_config.json", "chat_template.jinja"];

/// The model behind `smollm2` as `scripts/fetch-smollm2.sh` leaves it in bipo's cache directory.
const SMOLLM2_GGUF: &str = "SmolLM2-135M-Instruct.Q4_1.gguf";

/// Finds the files of a model: an existing path, an alias, or a hub id `owner/name[@revision]`, in this order. Only a folder
/// that holds a `config.json` hides an alias. Downloads what the hub's cache does not hold, unless `offline` (or
/// `HF_HUB_OFFLINE`) says no.
pub fn resolve(model: &str, options: &ResolveOptions) -> Result<ModelFiles> {
    resolve_with(model, cache_dir().ok().as_deref(), || Hub::from_env(options))
}

fn resolve_with(model: &str, cache: Option<&Path>, hub: impl FnOnce() -> Result<Hub>) -> Result<ModelFiles> {
    let path = Path::new(model);
    let preset = PRESETS.iter().find(|preset| preset.alias.eq_ignore_ascii_case(model));
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

fn from_preset(preset: &Preset, cache: Option<&Path>, hub: impl FnOnce() -> Result<Hub>) -> Result<ModelFiles> {
    let name = preset.repo.to_owned();
    let fetched = cache.map(|cache| cache.join(SMOLLM2_GGUF)).filter(|path| path.is_file());
    if let Some(path) = fetched.filter(|_| preset.alias == "smollm2") {
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
    let tokenizer = path.parent().map(|folder| folder.join(TOKENIZER)).filter(|tokenizer| tokenizer.is_file());
    Ok(ModelFiles { name: file_name(path), checkpoint: Checkpoint::Gguf { path: path.to_path_buf(), tokenizer } })
}

/// The checkpoint in a folder that `transformers`, or the hub's cache, filled.
pub(super) fn folder(path: &Path) -> Result<Checkpoint> {
    let file = |name: &str| Some(path.join(name)).filter(|file| file.is_file());
    let missing = |name: &str, advice: &str| Error::malformed(path, format!("missing {name}: {advice}"));
    let Some(config) = file(CONFIG) else {
        return Err(match first_with_extension(path, "gguf") {
            Some(found) => missing(CONFIG, &format!("give the GGUF file itself, {}", found.display())),
            None => missing(CONFIG, "expected a model as `transformers` saves it, or a .gguf file"),
        });
    };
    let shards = match (file(WEIGHTS), file(INDEX)) {
        (Some(weights), _) => vec![weights],
        (None, Some(index)) => {
            let shards: Vec<_> = read_index(&index)?.iter().map(|name| path.join(name)).collect();
            if let Some(shard) = shards.iter().find(|shard| !shard.is_file()) {
                return Err(missing(&file_name(shard), "the index names it; download it again"));
            }
            shards
        }
        (None, None) => return Err(missing(WEIGHTS, &advice_on_weights(path))),
    };
    let Some(tokenizer) = file(TOKENIZER) else {
        return Err(missing(
            TOKENIZER,
            "make one with `AutoTokenizer.from_pretrained(DIR).save_pretrained(DIR)` of transformers, or copy the original's",
        ));
    };
    let [tokenizer_config, generation_config, chat_template] = OPTIONAL.map(file);
    Ok(Checkpoint::Safetensors { config, shards, tokenizer, tokenizer_config, generation_config, chat_template })
}

fn advice_on_weights(path: &Path) -> String {
    let pytorch = ["pytorch_model.bin", "pytorch_model.bin.index.json"].iter().any(|name| path.join(name).is_file());
    if pytorch {
        return "pytorch_model.bin is not read; convert it with `AutoModelForCausalLM.from_pretrained(DIR).save_pretrained(DIR, \
                safe_serialization=True)` of transformers"
            .to_owned();
    }
    match first_with_extension(path, "safetensors") {
        Some(found) => format!("or {INDEX}; {} has another name", file_name(&found)),
        None => format!("or {INDEX} with its shards"),
    }
}

/// The shards that an index names, in order.
pub(super) fn read_index(path: &Path) -> Result<BTreeSet<String>> {
    let text = read_text(path)?;
    let root = parse_object(&text, path)?;
    let Some(Value::Object(map)) = root.get("weight_map") else {
        return Err(Error::malformed(path, "missing key `weight_map`: expected the shard of each tensor"));
    };
    let plain = |name: &str| {
        let mut components = Path::new(name).components();
        matches!((components.next(), components.next()), (Some(Component::Normal(_)), None))
    };
    let shard = |(tensor, name): (&String, &Value)| match name.as_str() {
        Some(name) if plain(name) => Ok(name.to_owned()),
        _ => Err(Error::malformed(path, format!("key `weight_map`, tensor `{tensor}`: expected a file name, found {name}"))),
    };
    let shards: BTreeSet<String> = map.iter().map(shard).collect::<Result<_>>()?;
    if shards.is_empty() {
        return Err(Error::malformed(path, "key `weight_map` is empty: expected the shard of each tensor"));
    }
    Ok(shards)
}

fn first_with_extension(folder: &Path, extension: &str) -> Option<PathBuf> {
    let entries = std::fs::read_dir(folder).ok()?.filter_map(|entry| Some(entry.ok()?.path()));
    entries.filter(|path| path.extension().is_some_and(|found| found.eq_ignore_ascii_case(extension))).min()
}

/// The last name of a path, also of `.` and `..`.
fn file_name(path: &Path) -> String {
    let name = |path: &Path| path.file_name().map(|name| name.to_string_lossy().into_owned());
    let resolved = || path.canonicalize().ok().as_deref().and_then(name);
    name(path).or_else(resolved).unwrap_or_else(|| path.display().to_string())
}

fn looks_like_a_path(model: &str) -> bool {
    model.starts_with(['/', '.', '~']) || model.matches('/').count() > 1 && !model.contains('@') || {
        let lower = model.to_ascii_lowercase();
        lower.ends_with(".gguf") || model.contains('\\')
    }
}

fn unknown(model: &str) -> Error {
    let aliases: Vec<_> = PRESETS.iter().map(|preset| preset.alias).collect();
    let name = presets::find(model).map_or(model, |preset| preset.alias).to_ascii_lowercase();
    let closest = aliases.iter().map(|alias| (edit_distance(&name, alias), *alias)).min();
    let hint = match closest {
        Some((distance, alias)) if distance <= alias.len() / 2 => format!(", did you mean `{alias}`?"),
        _ => String::new(),
    };
    Error::Argument(format!(
        "unknown model `{model}`{hint} (expected a folder, a .gguf file, a hub id owner/name[@revision], or one of {})",
        aliases.join(", ")
    ))
}

/// Levenshtein's distance.
fn edit_distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, from) in a.chars().enumerate() {
        let mut last = i + 1;
        let mut next = vec![last];
        for (to, above) in b.iter().zip(row.windows(2)) {
            let &[diagonal, above] = above else { break };
            last = (last + 1).min(above + 1).min(diagonal + usize::from(from != *to));
            next.push(last);
        }
        row = next;
    }
    row.last().copied().unwrap_or_default()
}

#[cfg(test)]
#[path = "resolve_tests.rs"]
mod tests;

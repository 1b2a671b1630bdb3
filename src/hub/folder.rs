//! The files of a model in a folder, as `transformers` saves it: their names, which of them are required, and what to do if one
//! is missing.

use std::collections::BTreeSet;
use std::path::{Component, Path, PathBuf};

use serde_json::Value;

use crate::machine::files::read_text;
use crate::model::checkpoint::Checkpoint;
use crate::model::config::{Config, parse_object};
use crate::model::gguf_parts::GgufPart;
use crate::{Error, Result};

/// Name of the configuration file of a model as `transformers` saves it.
pub(super) const CONFIG: &str = "config.json";
pub(super) const TOKENIZER: &str = "tokenizer.json";
pub(super) const WEIGHTS: &str = "model.safetensors";
pub(super) const INDEX: &str = "model.safetensors.index.json";
pub(super) const OPTIONAL: [&str; 3] = ["tokenizer_config.json", "generation_config.json", "chat_template.jinja"];

/// Returns the checkpoint in a folder that `transformers` or the hub's cache wrote. A model that bipo cannot run is refused before
/// another of its files is asked for.
pub(super) fn folder(path: &Path) -> Result<Checkpoint> {
    let file = |name: &str| Some(path.join(name)).filter(|file| file.is_file());
    let missing = |name: &str, advice: &str| Error::malformed(path, format!("missing {name}: {advice}"));
    let Some(config) = file(CONFIG) else {
        return Err(match first_with_extension(path, "gguf") {
            Some(found) => missing(CONFIG, &format!("give the GGUF file itself, {}", found.display())),
            None => missing(CONFIG, "expected a model as `transformers` saves it, or a .gguf file"),
        });
    };
    Config::read(&config)?;
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

/// Returns the names of the shards in an index, in order.
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

/// Returns the first part of the split GGUF model in a folder that holds no other model. The numbers of the parts have the same
/// number of digits, so that the first part has the first name. That it is missing is said when the others are opened.
pub(super) fn split_model(folder: &Path) -> Option<PathBuf> {
    let first = first_with_extension(folder, "gguf")?;
    let model = GgufPart::of(&first)?.first();
    let is_alone = with_extension(folder, "gguf").all(|path| GgufPart::of(&path).is_some_and(|part| part.first() == model));
    let has_other = [WEIGHTS, INDEX].iter().any(|name| folder.join(name).is_file());
    (is_alone && !has_other).then_some(first)
}

fn first_with_extension(folder: &Path, extension: &str) -> Option<PathBuf> {
    with_extension(folder, extension).min()
}

fn with_extension(folder: &Path, extension: &str) -> impl Iterator<Item = PathBuf> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path());
    entries.filter(move |path| path.extension().is_some_and(|found| found.eq_ignore_ascii_case(extension)))
}

/// Returns the last name of a path; `.` and `..` are resolved first.
pub(super) fn file_name(path: &Path) -> String {
    let name = |path: &Path| path.file_name().map(|name| name.to_string_lossy().into_owned());
    let resolved = || path.canonicalize().ok().as_deref().and_then(name);
    name(path).or_else(resolved).unwrap_or_else(|| path.display().to_string())
}

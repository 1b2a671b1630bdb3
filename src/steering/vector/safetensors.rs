//! bipo's own format: a safetensors file with an f32 tensor `layer.{L}` of `[hidden]` for each layer, and metadata as strings.
//! The header is written here in sorted order, since the crate's serializer orders metadata by a hash map, differently in each
//! run.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;

use half::{bf16, f16};
use safetensors::{Dtype, SafeTensors, tensor::TensorView};
use serde_json::{Value, json};

use super::contents::FileVectors;
use super::{Metadata, SteeringVector};
use crate::{Error, Result};

pub(super) fn to_bytes(vector: &SteeringVector) -> Vec<u8> {
    let mut header = serde_json::Map::new();
    header.insert("__metadata__".into(), json!(metadata(vector)));
    let mut data = Vec::new();
    for (layer, v) in &vector.layers {
        let start = data.len();
        data.extend(v.iter().flat_map(|x| x.to_le_bytes()));
        let entry = json!({"dtype": "F32", "shape": [v.len()], "data_offsets": [start, data.len()]});
        header.insert(format!("layer.{layer}"), entry);
    }
    let mut header = Value::Object(header).to_string().into_bytes();
    header.resize(header.len().next_multiple_of(8), b' ');
    [&(header.len() as u64).to_le_bytes()[..], &header, &data].concat()
}

/// Returns the strings of the header in a fixed order.
fn metadata(vector: &SteeringVector) -> BTreeMap<&'static str, String> {
    let layers: Vec<usize> = vector.layers.keys().copied().collect();
    let mut out = vector.metadata.to_strings();
    out.insert("format", "bipo".to_owned());
    out.insert("hidden_size", vector.hidden_size().to_string());
    out.insert("layers", json!(layers).to_string());
    out
}

pub(super) fn read(path: &Path, bytes: &[u8]) -> Result<(FileVectors, Metadata)> {
    let broken = |error: safetensors::SafeTensorError| {
        Error::malformed(path, format!("not a safetensors file that bipo reads: {error}; is it truncated?"))
    };
    let (_, header) = SafeTensors::read_metadata(bytes).map_err(broken)?;
    let tensors = SafeTensors::deserialize(bytes).map_err(broken)?;
    let strings = header.metadata().clone().unwrap_or_default();
    if strings.get("format").is_some_and(|format| format == "bipo") {
        return read_own(path, &tensors, &strings);
    }
    let names = tensors.names();
    refuse_modules(path, &names, &strings)?;
    let placed: Option<Vec<(usize, &str)>> = names.iter().map(|name| Some((layer_of(name)?, *name))).collect();
    let vector = |name: &str| floats(path, name, &tensors.tensor(name).map_err(broken)?);
    let vectors = match (placed, names.as_slice()) {
        (Some(placed), [_, ..]) => {
            FileVectors::Placed(placed.into_iter().map(|(layer, name)| Ok((layer, vector(name)?))).collect::<Result<_>>()?)
        }
        (_, [name]) => FileVectors::Unplaced(vector(name)?),
        (_, names) => {
            let count = names.len();
            let problem = format!("holds {count} tensors, none a steering vector: expected layer.N alone, or one tensor");
            return Err(Error::malformed(path, problem));
        }
    };
    Ok((vectors, Metadata::default()))
}

/// Refuses a vector for a module inside a block. Programs that steer any module (psyctl) give its name in the tensor or the
/// metadata.
fn refuse_modules(path: &Path, names: &[&str], strings: &HashMap<String, String>) -> Result<()> {
    let part = |c: char| !c.is_alphanumeric() && c != '_';
    let module = |word: &str| ["mlp", "attn", "_proj", "norm"].iter().any(|end| word.ends_with(end));
    let inside = |text: &&str| text.split(part).any(module);
    // Metadata can be prose, in which these words mean no module.
    let values = strings.values().map(String::as_str).filter(|text| text.contains("layers"));
    let Some(text) = names.iter().copied().chain(values).find(inside) else { return Ok(()) };
    let shown: String = text.chars().take(80).collect();
    let problem = format!(
        "{shown:?} is the output of a module inside a block, but bipo adds vectors to blocks' outputs: extract it at the block"
    );
    Err(Error::malformed(path, problem))
}

fn read_own(path: &Path, tensors: &SafeTensors, strings: &HashMap<String, String>) -> Result<(FileVectors, Metadata)> {
    let metadata = Metadata::from_strings(path, |key| strings.get(key).map(String::as_str))?;
    let get = |key: &str| strings.get(key).ok_or_else(|| Error::malformed(path, format!("metadata key {key:?} is missing")));
    let bad = |key: &str, value: &str| Error::malformed(path, format!("metadata key {key:?} is {value:?}"));
    let hidden: usize = get("hidden_size")?.parse().map_err(|_| bad("hidden_size", &strings["hidden_size"]))?;
    let layers: Vec<usize> = serde_json::from_str(get("layers")?).map_err(|_| bad("layers", &strings["layers"]))?;
    let mut out = BTreeMap::new();
    for layer in layers {
        let name = format!("layer.{layer}");
        let tensor = tensors.tensor(&name).map_err(|_| Error::malformed(path, format!("tensor {name:?} is missing")))?;
        let v = floats(path, &name, &tensor)?;
        if v.len() != hidden {
            let len = v.len();
            return Err(Error::malformed(path, format!("tensor {name:?} has {len} elements, metadata says {hidden}")));
        }
        out.insert(layer, v);
    }
    if out.len() != tensors.len() {
        let names = tensors.names().join(", ");
        return Err(Error::malformed(path, format!("metadata lists layers {:?}, but its tensors are {names}", out.keys())));
    }
    Ok((FileVectors::Placed(out), metadata))
}

fn layer_of(name: &str) -> Option<usize> {
    name.strip_prefix("layer.")?.parse().ok()
}

fn floats(path: &Path, name: &str, tensor: &TensorView) -> Result<Vec<f32>> {
    let shape = tensor.shape();
    if shape.iter().filter(|n| **n != 1).count() > 1 {
        return Err(Error::malformed(path, format!("tensor {name:?} has shape {shape:?}, expected [hidden]")));
    }
    let data = tensor.data();
    match tensor.dtype() {
        Dtype::F32 => Ok(data.as_chunks::<4>().0.iter().map(|b| f32::from_le_bytes(*b)).collect()),
        Dtype::F16 => Ok(data.as_chunks::<2>().0.iter().map(|b| f16::from_le_bytes(*b).to_f32()).collect()),
        Dtype::BF16 => Ok(data.as_chunks::<2>().0.iter().map(|b| bf16::from_le_bytes(*b).to_f32()).collect()),
        other => Err(Error::malformed(path, format!("tensor {name:?} is {other:?}, expected F32, F16 or BF16"))),
    }
}

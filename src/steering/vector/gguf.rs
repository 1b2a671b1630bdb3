//! GGUF control vectors of llama.cpp and repeng: f32 tensors `direction.N` of `[hidden]`, where N is the steered block.
//! llama.cpp refuses other tensors but skips unknown keys, so bipo's metadata is stored under keys `bipo.…`.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Cursor;
use std::path::Path;

use candle_core::quantized::gguf_file::{self, Value};
use candle_core::quantized::{GgmlDType, QTensor};
use candle_core::{Device, Tensor};

use super::contents::{FileVectors, UNKNOWN_MODEL_TYPE};
use super::metadata::recorded;
use super::{Metadata, SteeringVector};
use crate::model::gguf::Gguf;
use crate::{Error, Result};

const ARCHITECTURE: &str = "controlvector";
const MODEL_HINT: &str = "controlvector.model_hint";
const LAYER_COUNT: &str = "controlvector.layer_count";

const OPERATION: &str = "controlvector.operation";

/// Keys by which files say how a vector is used, and the words for what bipo does: a file with another word is refused.
const USES: [(&str, &[&str]); 2] = [
    (OPERATION, &["add", "additive", "addition", "ablate"]),
    ("controlvector.hook", &["residual", "resid_post", "l_out", "block_out", "block_output"]),
];

pub(super) fn to_bytes(vector: &SteeringVector, path: &Path) -> Result<Vec<u8>> {
    if vector.layers.contains_key(&0) {
        return Err(Error::Argument(format!(
            "{}: layer 0 cannot be expressed in a GGUF control vector, whose directions begin at block 1: write another format",
            path.display()
        )));
    }
    let hint = vector.metadata.model_type.as_deref().unwrap_or(UNKNOWN_MODEL_TYPE);
    let mut keys = vec![
        ("general.architecture".to_owned(), Value::String(ARCHITECTURE.into())),
        (MODEL_HINT.to_owned(), Value::String(hint.into())),
        (LAYER_COUNT.to_owned(), Value::U32(vector.layers.len() as u32)),
    ];
    keys.extend(vector.metadata.recorded_operation().map(|operation| (OPERATION.to_owned(), Value::String(operation))));
    // These are stated by keys of the format's own.
    let strings = vector.metadata.to_strings().into_iter().filter(|(key, _)| !["model_type", "operation"].contains(key));
    keys.extend(strings.map(|(key, value)| (format!("bipo.{key}"), Value::String(value))));
    let keys: Vec<(&str, &Value)> = keys.iter().map(|(key, value)| (key.as_str(), value)).collect();
    let mut tensors = Vec::new();
    for (layer, v) in &vector.layers {
        let tensor = Tensor::new(v.as_slice(), &Device::Cpu)?;
        tensors.push((format!("direction.{layer}"), QTensor::quantize(&tensor, GgmlDType::F32)?));
    }
    let tensors: Vec<(&str, &QTensor)> = tensors.iter().map(|(name, tensor)| (name.as_str(), tensor)).collect();
    let mut out = Cursor::new(Vec::new());
    gguf_file::write(&mut out, &keys, &tensors)?;
    Ok(out.into_inner())
}

pub(super) fn read(path: &Path) -> Result<(FileVectors, Metadata)> {
    let file = Gguf::open(path)?;
    let text = |key: &str| file.metadata().get(key).and_then(|value| value.to_string().ok()).map(String::as_str);
    let architecture = text("general.architecture").unwrap_or("none");
    if architecture != ARCHITECTURE {
        return Err(Error::malformed(path, format!("general.architecture is {architecture:?}, expected {ARCHITECTURE:?}")));
    }
    for (key, ours) in USES {
        if let Some(value) = file.metadata().get(key)
            && !text(key).is_some_and(|name| ours.contains(&name))
        {
            return Err(other_use(path, key, value));
        }
    }
    let mut layers = BTreeMap::new();
    for name in file.names() {
        // llama.cpp refuses direction.0, so a file with that tensor numbers its layers by another rule.
        let layer = name.strip_prefix("direction.").and_then(|layer| layer.parse::<usize>().ok()).filter(|layer| *layer > 0);
        let Some(layer) = layer else {
            return Err(Error::malformed(path, format!("tensor {name:?}: expected direction.N alone, N from 1")));
        };
        let shape = file.shape(name).unwrap_or_default();
        if shape.len() != 1 {
            return Err(Error::malformed(path, format!("tensor {name:?} has shape {shape:?}, expected [hidden]")));
        }
        let v = file.load(name)?.to_vec1::<f32>()?;
        if layers.insert(layer, v).is_some() {
            return Err(Error::malformed(path, format!("two tensors for layer {layer}")));
        }
    }
    let own = |key: &str| text(&format!("bipo.{key}"));
    let known = own("format_version").map(|_| Metadata::from_strings(path, own)).transpose()?;
    let model_type = text(MODEL_HINT).filter(|hint| *hint != UNKNOWN_MODEL_TYPE).map(str::to_owned);
    let is_known = |key: &str| [MODEL_HINT, LAYER_COUNT].contains(&key) || USES.iter().any(|(known, _)| *known == key);
    let unknown = file.metadata().keys().filter(|key| key.starts_with("controlvector.") && !is_known(key));
    let unknown_keys = unknown.cloned().collect::<BTreeSet<String>>().into_iter().collect();
    let operation = text(OPERATION).and_then(recorded).unwrap_or_default();
    Ok((FileVectors::Placed(layers), Metadata { model_type, operation, unknown_keys, ..known.unwrap_or_default() }))
}

/// The error of a file that is meant to be used in a way that bipo does not have.
fn other_use(path: &Path, key: &str, value: &Value) -> Error {
    let value = value.to_string().map_or_else(|_| format!("{value:?}"), Clone::clone);
    let problem = format!(
        "{key} is {value:?}, but bipo can only add a vector to the output of a block, or ablate it there: use the program that the file is for"
    );
    Error::malformed(path, problem)
}

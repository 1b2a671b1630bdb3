//! bipo's own format: a safetensors file with one f32 tensor `layer.{L}` of `[hidden]` a layer and string metadata. The
//! header is written here, sorted, since the crate's serializer keeps metadata in a hash map and would not repeat its bytes.

use std::collections::BTreeMap;
use std::path::Path;

use half::{bf16, f16};
use safetensors::{Dtype, SafeTensors, tensor::TensorView};
use serde_json::{Value, json};

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

fn metadata(vector: &SteeringVector) -> BTreeMap<&'static str, String> {
    let known = &vector.metadata;
    let layers: Vec<usize> = vector.layers.keys().copied().collect();
    let mut out = BTreeMap::from([
        ("format", "bipo".to_owned()),
        ("format_version", "1".to_owned()),
        ("hidden_size", vector.hidden_size().to_string()),
        ("layers", json!(layers).to_string()),
        ("positions", known.positions.to_string()),
        ("bipo_version", env!("CARGO_PKG_VERSION").to_owned()),
    ]);
    out.extend(known.spans.map(|spans| ("spans", spans.to_string())));
    out.extend(known.base_model.clone().map(|name| ("base_model", name)));
    out.extend(known.model_type.clone().map(|name| ("model_type", name)));
    out.extend(known.num_hidden_layers.map(|n| ("num_hidden_layers", n.to_string())));
    out.extend(known.training.as_ref().map(|training| ("training", training.to_string())));
    out
}

pub(super) fn read(path: &Path, bytes: &[u8], layer: Option<usize>) -> Result<SteeringVector> {
    let broken = |error: safetensors::SafeTensorError| {
        Error::malformed(path, format!("not a steering vector that bipo reads (safetensors, .pt, GGUF): {error}"))
    };
    let (_, header) = SafeTensors::read_metadata(bytes).map_err(broken)?;
    let tensors = SafeTensors::deserialize(bytes).map_err(broken)?;
    let strings = header.metadata().clone().unwrap_or_default();
    if strings.get("format").is_some_and(|format| format == "bipo") {
        return read_own(path, &tensors, &strings);
    }
    let names = tensors.names();
    let [name] = names.as_slice() else {
        return Err(Error::malformed(path, format!("holds {} tensors, none a steering vector of bipo", names.len())));
    };
    if name.contains("mlp") || name.contains("self_attn") {
        let problem = format!("{name:?} is added inside a block, not to its output: bipo cannot steer with it");
        return Err(Error::malformed(path, problem));
    }
    let Some(layer) = layer.or_else(|| layer_of(name)) else {
        return Err(Error::malformed(path, "does not say which layer it steers: give --layer"));
    };
    let v = floats(path, name, &tensors.tensor(name).map_err(broken)?)?;
    Ok(SteeringVector { layers: BTreeMap::from([(layer, v)]), metadata: Metadata::default() })
}

fn read_own(path: &Path, tensors: &SafeTensors, strings: &std::collections::HashMap<String, String>) -> Result<SteeringVector> {
    let missing = |key: &str| Error::malformed(path, format!("metadata key {key:?} is missing"));
    let get = |key: &str| strings.get(key).ok_or_else(|| missing(key));
    let version = get("format_version")?;
    if version != "1" {
        let problem = format!("format_version {version:?}, but this bipo reads 1: use a newer bipo");
        return Err(Error::malformed(path, problem));
    }
    let bad = |key: &str, value: &str| Error::malformed(path, format!("metadata key {key:?} is {value:?}"));
    let number = |key: &str| -> Result<usize> {
        let value = get(key)?;
        value.parse().map_err(|_| bad(key, value))
    };
    let hidden = number("hidden_size")?;
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
    let training = strings.get("training").map(|text| serde_json::from_str(text).map_err(|_| bad("training", text)));
    let metadata = Metadata {
        base_model: strings.get("base_model").cloned(),
        model_type: strings.get("model_type").cloned(),
        num_hidden_layers: strings.contains_key("num_hidden_layers").then(|| number("num_hidden_layers")).transpose()?,
        positions: get("positions")?.parse().map_err(|_| bad("positions", &strings["positions"]))?,
        spans: strings.get("spans").map(|text| text.parse().map_err(|_| bad("spans", text))).transpose()?,
        training: training.transpose()?,
    };
    Ok(SteeringVector { layers: out, metadata })
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

//! GGUF control vectors of llama.cpp and repeng: f32 tensors `direction.N` of `[hidden]`, N the steered block.

use std::collections::BTreeMap;
use std::path::Path;

use super::{Metadata, SteeringVector};
use crate::model::gguf::Gguf;
use crate::{Error, Result};

pub(super) fn read(path: &Path) -> Result<SteeringVector> {
    let file = Gguf::open(path)?;
    let architecture = file.metadata().get("general.architecture").and_then(|value| value.to_string().ok());
    if architecture.map(String::as_str) != Some("controlvector") {
        let found = architecture.map_or("none", String::as_str);
        return Err(Error::malformed(path, format!("general.architecture is {found:?}, expected \"controlvector\"")));
    }
    let mut layers = BTreeMap::new();
    for name in file.names() {
        // llama.cpp refuses direction.0, so a file that has it was made for other rules.
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
    let hint = file.metadata().get("controlvector.model_hint").and_then(|value| value.to_string().ok());
    Ok(SteeringVector { layers, metadata: Metadata { model_type: hint.cloned(), ..Metadata::default() } })
}

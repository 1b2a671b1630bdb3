//! A steering vector and where it is added. Its file formats are in the files beside; it knows tensors, not models.

mod gguf;
mod pt;
mod safetensors;

use std::collections::BTreeMap;
use std::path::Path;

pub use crate::positions::{Positions, Spans};
use crate::{Error, Result};

/// What is known of a vector beside its numbers; a foreign file leaves most of it out.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Metadata {
    /// Model that it was trained on.
    pub base_model: Option<String>,
    /// The model's `model_type`.
    pub model_type: Option<String>,
    /// The model's number of blocks.
    pub num_hidden_layers: Option<usize>,
    /// Where it is added.
    pub positions: Positions,
    /// Whose words it is added at; anybody's and the template's where none.
    pub spans: Option<Spans>,
    /// How it was trained.
    pub training: Option<serde_json::Value>,
}

/// One vector a steered layer.
#[derive(Debug, Clone, PartialEq)]
pub struct SteeringVector {
    /// Layer to vector; all of one length, at least one. `(H)` each
    pub layers: BTreeMap<usize, Vec<f32>>,
    /// What is known of it.
    pub metadata: Metadata,
}

impl SteeringVector {
    /// Reads a vector: bipo's safetensors, a foreign one with a single tensor, a `.pt` file of the Python scripts, or a
    /// GGUF control vector. `layer` says or overrides which layer a file with one vector steers.
    ///
    /// # Errors
    /// The file cannot be read, is of another kind, broken, or does not say its layer and `layer` does not either.
    pub fn read(path: &Path, layer: Option<usize>) -> Result<Self> {
        let bytes = read_limited(path)?;
        let vector = match bytes.get(..4) {
            Some(b"GGUF") => gguf::read(path)?,
            Some(b"PK\x03\x04") => pt::read(path, &bytes, layer)?,
            _ if path.extension().is_some_and(|e| e == "pt" || e == "pth" || e == "bin") => return Err(pt::legacy(path)),
            _ => safetensors::read(path, &bytes, layer)?,
        };
        vector.check(path)?;
        vector.at_layer(path, layer)
    }

    /// Writes bipo's format: the same vector gives the same bytes.
    pub fn write(&self, path: &Path) -> Result<()> {
        crate::files::write_atomic(path, &safetensors::to_bytes(self))
    }

    /// Length of each vector.
    pub fn hidden_size(&self) -> usize {
        self.layers.values().next().map_or(0, Vec::len)
    }

    /// Adds `scale` times another vector, layer by layer.
    ///
    /// # Errors
    /// Hidden sizes, positions or spans differ.
    pub fn add(&mut self, other: &Self, scale: f32) -> Result<()> {
        let (a, b) = (self.hidden_size(), other.hidden_size());
        if a != b {
            return Err(Error::Argument(format!("vectors of hidden size {a} and {b} do not add up")));
        }
        let (a, b) = (self.metadata.positions, other.metadata.positions);
        if a != b {
            return Err(Error::Argument(format!("a vector for positions {a} and one for {b} do not add up")));
        }
        let name = |spans: Option<Spans>| spans.map_or("no spans".to_owned(), |spans| format!("spans {spans}"));
        let (a, b) = (self.metadata.spans, other.metadata.spans);
        if a != b {
            return Err(Error::Argument(format!("a vector for {} and one for {} do not add up", name(a), name(b))));
        }
        for (layer, v) in &other.layers {
            let sum = self.layers.entry(*layer).or_insert_with(|| vec![0.0; v.len()]);
            sum.iter_mut().zip(v).for_each(|(sum, x)| *sum += scale * x);
        }
        Ok(())
    }

    /// Multiplies every element.
    pub fn scale(&mut self, by: f32) {
        self.layers.values_mut().flatten().for_each(|x| *x *= by);
    }

    /// Checks that it fits a model.
    ///
    /// # Errors
    /// Another hidden size, or a layer that the model does not have.
    pub fn check_model(&self, hidden_size: usize, num_hidden_layers: usize) -> Result<()> {
        let own = self.hidden_size();
        if own != hidden_size {
            return Err(Error::Argument(format!(
                "the vector has hidden size {own}, but the model has {hidden_size}: choose the --model it was trained on{}",
                self.metadata.base_model.as_ref().map_or(String::new(), |name| format!(" ({name})"))
            )));
        }
        match self.layers.keys().next_back() {
            Some(layer) if *layer >= num_hidden_layers => {
                Err(Error::Argument(format!("layer {layer} out of range: model has {num_hidden_layers} layers")))
            }
            _ => Ok(()),
        }
    }

    fn check(&self, path: &Path) -> Result<()> {
        let hidden = self.hidden_size();
        if hidden == 0 {
            return Err(Error::malformed(path, "holds no vector"));
        }
        for (layer, v) in &self.layers {
            if v.len() != hidden {
                let len = v.len();
                return Err(Error::malformed(path, format!("layer {layer} has {len} elements, another has {hidden}")));
            }
            if v.iter().any(|x| !x.is_finite()) {
                return Err(Error::malformed(path, format!("layer {layer} has an element that is not finite")));
            }
        }
        Ok(())
    }

    /// Moves a single vector to `layer`.
    fn at_layer(mut self, path: &Path, layer: Option<usize>) -> Result<Self> {
        let Some(layer) = layer else { return Ok(self) };
        if self.layers.len() > 1 {
            let found: Vec<String> = self.layers.keys().map(usize::to_string).collect();
            let found = found.join(", ");
            return Err(Error::malformed(path, format!("holds vectors for layers {found}: --layer cannot move several")));
        }
        self.layers = self.layers.into_values().map(|v| (layer, v)).collect();
        Ok(self)
    }
}

/// The most that a vector file may take: 200 layers of hidden size 16384 and room to spare.
const LARGEST_FILE: u64 = 64 << 20;

fn read_limited(path: &Path) -> Result<Vec<u8>> {
    let size = std::fs::metadata(path).map_err(|source| Error::read(path, source))?.len();
    if size > LARGEST_FILE {
        return Err(Error::malformed(path, format!("{size} bytes is too large for a steering vector: is it a model?")));
    }
    std::fs::read(path).map_err(|source| Error::read(path, source))
}

#[cfg(test)]
mod tests;

//! A steering vector and where it is added. Its file formats are in the files beside, how vectors become one in `combine`;
//! it knows tensors, not models.

mod combine;
mod file;
mod gguf;
mod json;
mod metadata;
mod numpy;
mod pt;
mod pt_writer;
mod safetensors;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

pub use combine::{CombineOptions, Input, combine};
pub use file::{Encoded, Format, VectorFile};
pub use metadata::{Combination, Metadata, Part};

pub use crate::steering::positions::{Positions, Spans};
use crate::{Error, Result};

/// One vector a steered layer.
#[derive(Debug, Clone, PartialEq)]
pub struct SteeringVector {
    /// Layer to vector; all of one length, at least one. `(H)` each
    pub layers: BTreeMap<usize, Vec<f32>>,
    /// What is known of it.
    pub metadata: Metadata,
}

impl SteeringVector {
    /// Reads a vector from a file of any format that bipo knows ([`Format`]; the content decides, not the name). `layer` says
    /// or overrides which layer a file with one vector steers.
    ///
    /// # Errors
    /// The file cannot be read, is of another kind, broken, or does not say its layer and `layer` does not either; an element is
    /// not finite.
    pub fn read(path: &Path, layer: Option<usize>) -> Result<Self> {
        let file = VectorFile::read(path)?;
        file.check_finite()?;
        file.at(layer)
    }

    /// As [`SteeringVector::read`], but elements may be NaN or infinite: to look at a file, not to steer with it.
    pub fn read_any(path: &Path, layer: Option<usize>) -> Result<Self> {
        VectorFile::read(path)?.at(layer)
    }

    /// Writes bipo's format: the same vector gives the same bytes.
    pub fn write(&self, path: &Path) -> Result<()> {
        crate::machine::files::write_atomic(path, &safetensors::to_bytes(self))
    }

    /// Length of each vector.
    pub fn hidden_size(&self) -> usize {
        self.layers.values().next().map_or(0, Vec::len)
    }

    /// Length of all layers' vectors taken together as one.
    pub fn norm(&self) -> f64 {
        self.layers.values().flatten().map(|x| f64::from(*x).powi(2)).sum::<f64>().sqrt()
    }

    /// Checks that it fits a model.
    ///
    /// # Errors
    /// Another hidden size, a layer that the model does not have, or a model of another depth, where a layer's number means
    /// another place.
    pub fn check_model(&self, hidden_size: usize, num_hidden_layers: usize) -> Result<()> {
        let own = self.hidden_size();
        let trained_on = || match self.base_models().into_iter().collect::<Vec<_>>().join(", ") {
            names if names.is_empty() => names,
            names => format!(" ({names})"),
        };
        if own != hidden_size {
            return Err(Error::Argument(format!(
                "the vector has hidden size {own}, but the model has {hidden_size}: choose the model that it was trained on{}",
                trained_on()
            )));
        }
        match self.layers.keys().next_back() {
            Some(layer) if *layer >= num_hidden_layers => {
                return Err(Error::Argument(format!("layer {layer} out of range: model has {num_hidden_layers} layers")));
            }
            _ => {}
        }
        match self.metadata.num_hidden_layers {
            Some(depth) if depth != num_hidden_layers => Err(Error::Argument(format!(
                "the vector is for a model of {depth} layers{}, but this one has {num_hidden_layers}",
                trained_on()
            ))),
            _ => Ok(()),
        }
    }

    /// What to tell the user where the vector, or a part of it, was trained on another model than the one named.
    pub fn transfer_note(&self, model: &str) -> Option<String> {
        let others: Vec<&str> = self.base_models().into_iter().filter(|name| *name != model).collect();
        (!others.is_empty())
            .then(|| format!("the vector was trained on {}, the model is {model}: it is added all the same", others.join(", ")))
    }

    /// Models that it, or its parts, were trained on.
    fn base_models(&self) -> BTreeSet<&str> {
        let mut names: BTreeSet<&str> = self.metadata.base_model.as_deref().into_iter().collect();
        if let Some(combination) = &self.metadata.combination {
            combination.collect_base_models(&mut names);
        }
        names
    }
}

#[cfg(test)]
mod combine_tests;
#[cfg(test)]
mod format_tests;
#[cfg(test)]
mod tests;

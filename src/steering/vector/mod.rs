//! Steering vectors: what they are, their file formats, and sums of several (`combine`). This room does not run models.
//!
//! Begin with [`SteeringVector`]; [`VectorFile`] is a file of any known format whose layer may not be known yet.

mod combine;
mod condition;
mod contents;
mod file;
mod format;
mod gguf;
mod json;
mod metadata;
mod numpy;
mod pt;
pub(crate) mod pt_writer;
mod safetensors;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

pub use combine::{CombineOptions, Summand, combine};
pub use condition::{Condition, FiringSide, PromptReading};
pub use file::{Encoded, VectorFile};
pub use format::Format;
pub use metadata::{Calibration, Combination, CombinationPart, Metadata};

use crate::model::family::is_same_family;
pub use crate::steering::Operation;
use crate::steering::layers::check_layer;
pub use crate::steering::positions::Positions;
use crate::text::spans::Spans;
use crate::{Error, Result};

/// A steering vector: one vector for each steered layer.
#[derive(Debug, Clone, PartialEq)]
pub struct SteeringVector {
    /// Vector `(H)` of each steered layer. There is at least one, and all have the same length.
    pub layers: BTreeMap<usize, Vec<f32>>,
    /// What is known of the vector beside its numbers.
    pub metadata: Metadata,
}

impl SteeringVector {
    /// Reads a vector from a file of any [`Format`]; the content decides which, not the name. If the file has one vector,
    /// `layer` gives or overrides the layer that it steers.
    ///
    /// # Errors
    /// The file cannot be read, is broken or of another kind; neither the file nor `layer` says which layer is steered; or an
    /// element is not finite.
    pub fn read(path: &Path, layer: Option<usize>) -> Result<Self> {
        let file = VectorFile::read(path)?;
        file.check_finite()?;
        file.at(layer)
    }

    /// Reads a vector like [`SteeringVector::read`], but accepts NaN and infinite elements, so that such a file can be
    /// inspected.
    ///
    /// # Errors
    /// As [`SteeringVector::read`], but for elements that are not finite.
    pub fn read_any(path: &Path, layer: Option<usize>) -> Result<Self> {
        VectorFile::read(path)?.at(layer)
    }

    /// Writes the vector in bipo's own format. The same vector always gives the same bytes.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn write(&self, path: &Path) -> Result<()> {
        crate::machine::files::write_atomic(path, &safetensors::to_bytes(self))
    }

    /// Returns the length of each layer's vector.
    pub fn hidden_size(&self) -> usize {
        self.layers.values().next().map_or(0, Vec::len)
    }

    /// Returns the norm of the vectors of all layers, concatenated.
    pub fn norm(&self) -> f64 {
        self.layers.values().flatten().map(|x| f64::from(*x).powi(2)).sum::<f64>().sqrt()
    }

    /// Checks that the vector is one to steer with, and fits a model.
    ///
    /// # Errors
    /// The vector is that of a condition, the hidden size differs, the model lacks a layer, or the vector is for a model of another depth, in which the same layer
    /// number means another place.
    pub fn check_model(&self, hidden_size: usize, num_hidden_layers: usize) -> Result<()> {
        self.check_steers()?;
        self.check_shape(hidden_size, num_hidden_layers)
    }

    /// Checks that the vector is one to steer with.
    ///
    /// # Errors
    /// The vector is the direction of a condition.
    pub fn check_steers(&self) -> Result<()> {
        match self.metadata.condition {
            None => Ok(()),
            Some(_) => Err(Error::Argument("it is a condition, which says when to steer".into())),
        }
    }

    /// Whether it fits, a condition or not.
    pub(super) fn check_shape(&self, hidden_size: usize, num_hidden_layers: usize) -> Result<()> {
        let own = self.hidden_size();
        let trained_on = || match self.base_models().into_iter().collect::<Vec<_>>().join(", ") {
            names if names.is_empty() => names,
            names => format!(" ({names})"),
        };
        if own != hidden_size {
            return Err(Error::Argument(format!(
                "the {} has hidden size {own}, but the model has {hidden_size}: choose the model that it was trained on{}",
                self.kind(),
                trained_on()
            )));
        }
        if let Some(layer) = self.layers.keys().next_back() {
            check_layer(*layer, num_hidden_layers, "model")?;
        }
        match self.metadata.num_hidden_layers {
            Some(depth) if depth != num_hidden_layers => Err(Error::Argument(format!(
                "the {} is for a model of {depth} layers{}, but this one has {num_hidden_layers}",
                self.kind(),
                trained_on()
            ))),
            _ => Ok(()),
        }
    }

    /// What it is, for messages.
    fn kind(&self) -> &'static str {
        if self.metadata.condition.is_some() { "condition" } else { "vector" }
    }

    /// Returns the note of [`SteeringVector::family_note`], else one that says that the vector was trained for another model.
    pub fn origin_note(&self, model: &str, model_type: &str) -> Option<String> {
        self.family_note(model_type).or_else(|| self.transfer_note(model))
    }

    /// Returns a note for the user if the vector, or a part of it, was trained on another model than `model`.
    pub(crate) fn transfer_note(&self, model: &str) -> Option<String> {
        let others: Vec<&str> = self.base_models().into_iter().filter(|name| *name != model).collect();
        (!others.is_empty()).then(|| {
            let (kind, others) = (self.kind(), others.join(", "));
            format!(
                "the {kind} was trained on {others}, the model is {model}: unless they are one model, it means little there"
            )
        })
    }

    /// Returns a note for the user if the vector was made for another family of models than that with this `model_type`.
    pub fn family_note(&self, model_type: &str) -> Option<String> {
        let own = self.metadata.model_type.as_deref()?;
        (!is_same_family(own, model_type)).then(|| {
            let kind = self.kind();
            format!("the {kind} is for models of type {own}, the model is of type {model_type}: it means nothing there, take its own model")
        })
    }

    /// Returns a note for the user if the vector's calibration was measured on another model than `model`.
    pub fn calibration_note(&self, model: &str) -> Option<String> {
        let known = self.metadata.calibration.as_ref().filter(|known| known.model != model)?;
        Some(format!(
            "the vector's magnitudes within {} were measured on {}: measure them on this model",
            known.budget, known.model
        ))
    }

    /// Returns a note for the user if the vector's file has keys that bipo does not know.
    pub fn unknown_keys_note(&self) -> Option<String> {
        let keys = &self.metadata.unknown_keys;
        (!keys.is_empty()).then(|| {
            format!(
                "bipo does not know {}: what the file says there is not followed; a newer bipo may know it",
                keys.join(", ")
            )
        })
    }

    /// Returns the models that the vector or its parts were trained on.
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

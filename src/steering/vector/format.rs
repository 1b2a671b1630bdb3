//! The formats of vector files: their extensions, which metadata each cannot hold, and how the program that a format belongs to uses a
//! vector differently.

use std::path::Path;

use serde::Serialize;

use super::contents::UNKNOWN_MODEL_TYPE;
use super::{Metadata, Operation, Positions, SteeringVector};
use crate::{Error, Result};

/// File formats that bipo reads and writes; docs/formats.md describes each.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    /// bipo's own format, or a plain tensor: `.safetensors`.
    Safetensors,
    /// PyTorch's zip archive: `.pt`.
    Pt,
    /// The control vector of llama.cpp, repeng and EasySteer: `.gguf`.
    Gguf,
    /// IBM activation-steering's JSON: `.svec`.
    Svec,
    /// NumPy's array file: `.npy`.
    Npy,
    /// A vector with all of its metadata as JSON, or a bare list of numbers: `.json`.
    Json,
}

/// How a model type comes to be known.
const NAMED: &str = "a file that bipo learned says it: convert that one";

impl Format {
    const ALL: [(Self, &str); 6] = [
        (Self::Safetensors, "safetensors"),
        (Self::Pt, "pt"),
        (Self::Gguf, "gguf"),
        (Self::Svec, "svec"),
        (Self::Npy, "npy"),
        (Self::Json, "json"),
    ];

    /// Returns the format in which a file of this name is written.
    ///
    /// # Errors
    /// The extension is not known.
    pub fn of(path: &Path) -> Result<Self> {
        let extension = path.extension().and_then(|extension| extension.to_str()).unwrap_or_default().to_lowercase();
        let known = Self::ALL.iter().find(|(_, name)| *name == extension);
        known.map(|(format, _)| *format).ok_or_else(|| {
            let names: Vec<String> = Self::ALL.iter().map(|(_, name)| format!(".{name}")).collect();
            let names = names.join(", ");
            Error::Argument(format!("{}: no format has this extension; the output must end in {names}", path.display()))
        })
    }

    /// Returns the extension of the format's files, without the dot.
    pub fn name(self) -> &'static str {
        Self::ALL.iter().find(|(format, _)| *format == self).map_or("", |(_, name)| name)
    }

    /// Describes how the program that the format belongs to will use the vector differently from bipo, although the file is
    /// correct.
    pub fn caveats(self, vector: &SteeringVector) -> Vec<String> {
        let Metadata { model_type, positions, spans, operation, condition, .. } = &vector.metadata;
        let ruled = *positions != Positions::default() || spans.is_some();
        let unknown = model_type.is_none();
        let ablated = !operation.is_addition();
        let is_condition = condition.is_some();
        let caveats = match self {
            Self::Gguf => vec![
                (is_condition, "it is a condition, which steers nothing, but llama.cpp adds it".to_owned()),
                (ablated, format!("llama.cpp adds it all the same, for it does not read that the operation is {operation}")),
                (ruled, "llama.cpp adds it at every position; where bipo adds it is kept for bipo alone".to_owned()),
                (unknown, format!("the model type is not known: controlvector.model_hint is {UNKNOWN_MODEL_TYPE:?}; {NAMED}")),
            ],
            Self::Svec => vec![
                (is_condition, reader_steers()),
                (ablated, reader_adds(*operation)),
                (true, "activation-steering adds direction N to the input of block N, bipo to its output".to_owned()),
                (unknown, format!("the model type is not known: model_type is {UNKNOWN_MODEL_TYPE:?}; {NAMED}")),
            ],
            Self::Pt | Self::Npy => vec![(is_condition, reader_steers()), (ablated, reader_adds(*operation))],
            Self::Safetensors | Self::Json => Vec::new(),
        };
        caveats.into_iter().filter(|(applies, _)| *applies).map(|(_, text)| text).collect()
    }

    /// Returns the metadata keys of the vector that a file of this format cannot hold.
    pub(super) fn lost(self, vector: &SteeringVector) -> Vec<&'static str> {
        let Metadata {
            base_model,
            model_type,
            num_hidden_layers,
            operation,
            positions,
            spans,
            training,
            combination,
            condition,
            calibration,
            ..
        } = &vector.metadata;
        let bare = matches!(self, Self::Pt | Self::Npy);
        let keys = [
            ("layer", bare),
            ("model_type", bare && model_type.is_some()),
            ("base_model", base_model.is_some()),
            ("num_hidden_layers", num_hidden_layers.is_some()),
            ("operation", !operation.is_addition()),
            ("positions", *positions != Positions::default()),
            ("spans", spans.is_some()),
            ("training", training.is_some()),
            ("combination", combination.is_some()),
            ("condition", condition.is_some()),
            ("calibration", calibration.is_some()),
        ];
        match self {
            Self::Safetensors | Self::Gguf | Self::Json => Vec::new(),
            Self::Pt | Self::Svec | Self::Npy => keys.into_iter().filter(|(_, lost)| *lost).map(|(key, _)| key).collect(),
        }
    }
}

/// What becomes of a condition in a format that holds none.
fn reader_steers() -> String {
    "it is a condition, which steers nothing, but without its threshold readers take it for a vector that steers".to_owned()
}

/// What becomes of a vector that is not added, in a format that cannot say so.
fn reader_adds(operation: Operation) -> String {
    format!("whoever reads it adds it: the format cannot say that the operation is {operation}")
}

//! The metadata of a vector, and its form as strings in the header of a safetensors or GGUF file.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use serde::{Deserialize, Serialize};
use serde_json::json;

use super::condition::{CONDITION, Condition};
use super::{Operation, Positions, Spans};
use crate::{Error, Result};

/// What is known of a vector beside its numbers. A file of another program leaves most of it unknown.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Metadata {
    /// Name of the model that the vector was trained on.
    pub base_model: Option<String>,
    /// `model_type` of that model's configuration.
    pub model_type: Option<String>,
    /// Number of blocks of the model that the vector was trained on.
    pub num_hidden_layers: Option<usize>,
    /// How the vector is used, unless its user says otherwise: it is added, or taken out. No file says that it is added.
    pub operation: Operation,
    /// Positions that the vector is added at.
    pub positions: Positions,
    /// Role whose messages the vector is added at; `None` means all text, the template's included.
    pub spans: Option<Spans>,
    /// Settings and outcome of the training.
    pub training: Option<serde_json::Value>,
    /// How the vector was made from others, if it was.
    pub combination: Option<Combination>,
    /// The prompts that the vector stands for, if it is the direction of a condition, which steers nothing.
    pub condition: Option<Condition>,
    /// The largest magnitudes within a budget, if they were searched.
    pub calibration: Option<Calibration>,
    /// Keys `controlvector.…` of a GGUF file that bipo does not know, and so does not follow. No file is written with them.
    pub unknown_keys: Vec<String>,
}

/// The largest magnitudes of a vector within a budget of damage or effect, as `bipo calibrate` found them.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Calibration {
    /// What was bounded: `kl=1`.
    pub budget: String,
    /// The magnitude below 0; none where the budget was never reached, or exceeded by all that was tried.
    pub minus: Option<f32>,
    /// The magnitude above 0.
    pub plus: Option<f32>,
    /// Name of the model that it was measured on.
    pub model: String,
}

impl Calibration {
    /// Calibration of the vector times `factor`, which is not 0: magnitudes shrink as the vector grows.
    pub fn scaled(&self, factor: f32) -> Self {
        let over = |magnitude: Option<f32>| magnitude.map(|magnitude| magnitude / factor).filter(|over| over.is_finite());
        let (minus, plus) = (over(self.minus), over(self.plus));
        let (minus, plus) = if factor < 0.0 { (plus, minus) } else { (minus, plus) };
        Self { minus, plus, ..self.clone() }
    }

    /// The magnitude on the side of 0 that `magnitude` is on.
    pub(crate) fn on_side_of(&self, magnitude: f32) -> Option<f32> {
        if magnitude < 0.0 { self.minus } else { self.plus }
    }

    /// The limit that a magnitude is beyond, if it is.
    pub fn exceeded(&self, magnitude: f32) -> Option<f32> {
        self.on_side_of(magnitude).filter(|limit| magnitude.abs() > limit.abs())
    }

    /// Whether the magnitudes are numbers on their side of 0, as those of another's file may not be.
    pub(crate) fn is_sound(&self) -> bool {
        self.minus.is_none_or(|minus| minus.is_finite() && minus < 0.0)
            && self.plus.is_none_or(|plus| plus.is_finite() && plus > 0.0)
    }

    /// The magnitude below 0, 0, and that above it, as far as they are known.
    pub fn magnitudes(&self) -> Vec<f32> {
        [self.minus, Some(0.0), self.plus].into_iter().flatten().collect()
    }
}

/// How a vector was made from others.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Combination {
    /// Whether each part was brought to norm 1 before its weight was applied.
    pub normalize: bool,
    /// Vectors that were added up.
    pub parts: Vec<CombinationPart>,
    /// Vectors that were projected out of each part.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub orthogonal_to: Vec<CombinationPart>,
}

/// One vector of a combination.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct CombinationPart {
    /// Name of the vector's file, without the directory.
    pub file: String,
    /// SHA-256 of the file's bytes in hex.
    pub sha256: String,
    /// Factor on the vector.
    pub weight: f32,
    /// Layers that the vector steers.
    pub layers: Vec<usize>,
    /// Norm of the vector as it was read, over all layers together.
    pub norm: f64,
    /// Name of the model that the vector was trained on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub base_model: Option<String>,
    /// Settings and outcome of the training.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub training: Option<serde_json::Value>,
    /// How the vector was made from others, if it was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub combination: Option<Combination>,
}

impl Combination {
    pub(super) fn collect_base_models<'a>(&'a self, names: &mut BTreeSet<&'a str>) {
        for part in &self.parts {
            names.extend(part.base_model.as_deref());
            part.combination.iter().for_each(|inner| inner.collect_base_models(names));
        }
    }
}

/// What the key has, for messages.
pub(super) const CALIBRATION: &str = "budget, model, and magnitudes minus below 0 and plus above";

/// Largest size in bytes of JSON inside a header; parsed, it takes many times as much memory.
const MAX_JSON_BYTES: usize = 1 << 20;

impl Metadata {
    /// Returns the metadata as strings by key, in a fixed order.
    pub(super) fn to_strings(&self) -> BTreeMap<&'static str, String> {
        let mut out = BTreeMap::from([
            ("format_version", "1".to_owned()),
            ("positions", self.positions.to_string()),
            ("bipo_version", env!("CARGO_PKG_VERSION").to_owned()),
        ]);
        out.extend(self.recorded_operation().map(|operation| ("operation", operation)));
        out.extend(self.spans.map(|spans| ("spans", spans.to_string())));
        out.extend(self.base_model.clone().map(|name| ("base_model", name)));
        out.extend(self.model_type.clone().map(|name| ("model_type", name)));
        out.extend(self.num_hidden_layers.map(|n| ("num_hidden_layers", n.to_string())));
        out.extend(self.training.as_ref().map(|training| ("training", training.to_string())));
        out.extend(self.combination.as_ref().map(|combination| ("combination", json!(combination).to_string())));
        out.extend(self.condition.as_ref().map(|condition| ("condition", json!(condition).to_string())));
        // Written from the struct itself: as a `Value`, an f32 has the digits of an f64.
        let calibration = self.calibration.as_ref().and_then(|calibration| serde_json::to_string(calibration).ok());
        out.extend(calibration.map(|text| ("calibration", text)));
        out
    }

    /// The operation as a file says it: a file without it means that the vector is added.
    pub(super) fn recorded_operation(&self) -> Option<String> {
        Some(self.operation).filter(|operation| !operation.is_addition()).map(|operation| operation.to_string())
    }

    /// Parses the strings that [`Metadata::to_strings`] makes.
    ///
    /// # Errors
    /// The format version is not known, `positions` is missing, or a value cannot be parsed. The message names the file and the
    /// key.
    pub(super) fn from_strings<'a>(path: &Path, get: impl Fn(&str) -> Option<&'a str>) -> Result<Self> {
        let required = |key: &str| get(key).ok_or_else(|| Error::malformed(path, format!("metadata key {key:?} is missing")));
        check_version(path, required("format_version")?)?;
        let bad = |key: &str, expected: &str| {
            let value: String = get(key).unwrap_or_default().chars().take(60).collect();
            Error::malformed(path, format!("metadata key {key:?} is {value:?}, expected {expected}"))
        };
        let depth = get("num_hidden_layers").map(|n| n.parse().map_err(|_| bad("num_hidden_layers", "a whole number")));
        Ok(Self {
            base_model: get("base_model").map(str::to_owned),
            model_type: get("model_type").map(str::to_owned),
            num_hidden_layers: depth.transpose()?,
            operation: get("operation")
                .map(|text| recorded(text).ok_or_else(|| bad("operation", OPERATIONS)))
                .transpose()?
                .unwrap_or_default(),
            positions: required("positions")?.parse().map_err(|_| bad("positions", "a position rule that this bipo knows"))?,
            spans: get("spans").map(|text| text.parse().map_err(|_| bad("spans", "user or assistant"))).transpose()?,
            training: get("training").map(|text| from_json(text).ok_or_else(|| bad("training", "JSON"))).transpose()?,
            combination: get("combination")
                .map(|text| from_json(text).ok_or_else(|| bad("combination", "JSON with normalize and parts")))
                .transpose()?,
            condition: get("condition")
                .map(|text| from_json(text).filter(Condition::is_sound).ok_or_else(|| bad("condition", CONDITION)))
                .transpose()?,
            calibration: get("calibration")
                .map(|text| from_json(text).filter(Calibration::is_sound).ok_or_else(|| bad("calibration", CALIBRATION)))
                .transpose()?,
            unknown_keys: Vec::new(),
        })
    }
}

/// The words that a file may have for how its vector is used, for messages.
pub(super) const OPERATIONS: &str = "add or ablate";

/// The operation that a file names. That of a training step alone is none that a vector is used by.
pub(super) fn recorded(name: &str) -> Option<Operation> {
    name.parse().ok().filter(|operation| *operation != Operation::Null)
}

/// Refuses a file that a later bipo wrote in a newer format version.
pub(super) fn check_version(path: &Path, version: &str) -> Result<()> {
    if version == "1" {
        return Ok(());
    }
    let problem = format!("format_version {version:?}, but this bipo reads 1: use a newer bipo");
    Err(Error::malformed(path, problem))
}

fn from_json<T: serde::de::DeserializeOwned>(text: &str) -> Option<T> {
    (text.len() <= MAX_JSON_BYTES).then(|| serde_json::from_str(text).ok()).flatten()
}

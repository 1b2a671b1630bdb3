//! Vectors as JSON: bipo's own document with metadata and the numbers of each layer, IBM activation-steering's `.svec`, or a
//! bare list of numbers. Numbers are written as the f64 that equals them, so that every reader gets the same f32 back.

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;
use std::str::FromStr;

use serde::de::{Deserializer, Error as _, MapAccess, Visitor};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::condition::{CONDITION, Condition};
use super::contents::{FileVectors, UNKNOWN_MODEL_TYPE};
use super::format::Format;
use super::metadata::{CALIBRATION, Calibration, Combination, OPERATIONS, check_version, recorded};
use super::{Metadata, SteeringVector};
use crate::{Error, Result};

/// Largest number of layers in a file, more than any model has.
const MAX_LAYERS: usize = 4096;

/// Explained variance in a `.svec` if it is not known. activation-steering writes the same number for methods without a
/// variance.
const NO_VARIANCE: f64 = 1.0;

#[derive(Serialize)]
struct Own<'a> {
    format: &'static str,
    format_version: u32,
    bipo_version: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    base_model: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    model_type: Option<&'a str>,
    hidden_size: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    num_hidden_layers: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    operation: Option<String>,
    positions: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    spans: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    training: Option<&'a Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    combination: Option<&'a Combination>,
    #[serde(skip_serializing_if = "Option::is_none")]
    condition: Option<&'a Condition>,
    #[serde(skip_serializing_if = "Option::is_none")]
    calibration: Option<&'a Calibration>,
    layers: BTreeMap<usize, Vec<f64>>,
}

#[derive(Serialize)]
struct Svec<'a> {
    model_type: &'a str,
    directions: BTreeMap<usize, Vec<f64>>,
    explained_variances: BTreeMap<usize, f64>,
}

pub(super) fn to_bytes(vector: &SteeringVector) -> Vec<u8> {
    let known = &vector.metadata;
    lines(&Own {
        format: "bipo",
        format_version: 1,
        bipo_version: env!("CARGO_PKG_VERSION"),
        base_model: known.base_model.as_deref(),
        model_type: known.model_type.as_deref(),
        hidden_size: vector.hidden_size(),
        num_hidden_layers: known.num_hidden_layers,
        operation: known.recorded_operation(),
        positions: known.positions.to_string(),
        spans: known.spans.map(|spans| spans.to_string()),
        training: known.training.as_ref(),
        combination: known.combination.as_ref(),
        condition: known.condition.as_ref(),
        calibration: known.calibration.as_ref(),
        layers: widened(vector),
    })
}

pub(super) fn to_svec(vector: &SteeringVector) -> Vec<u8> {
    lines(&Svec {
        model_type: vector.metadata.model_type.as_deref().unwrap_or(UNKNOWN_MODEL_TYPE),
        directions: widened(vector),
        explained_variances: vector.layers.keys().map(|layer| (*layer, NO_VARIANCE)).collect(),
    })
}

fn widened(vector: &SteeringVector) -> BTreeMap<usize, Vec<f64>> {
    vector.layers.iter().map(|(layer, v)| (*layer, v.iter().copied().map(f64::from).collect())).collect()
}

fn lines(document: &impl Serialize) -> Vec<u8> {
    // Serialisation cannot fail for structs of strings, numbers and maps whose keys are numbers.
    let mut bytes = serde_json::to_vec(document).unwrap_or_default();
    bytes.push(b'\n');
    bytes
}

/// Whether the first character is one that a JSON object or list begins with.
pub(super) fn is_json(bytes: &[u8]) -> bool {
    matches!(bytes.trim_ascii_start(), [b'{' | b'[', ..])
}

/// A document of bipo or an `.svec`. Unknown keys are skipped.
#[derive(Deserialize)]
struct Document {
    format: Option<String>,
    format_version: Option<u32>,
    base_model: Option<String>,
    model_type: Option<String>,
    hidden_size: Option<usize>,
    num_hidden_layers: Option<usize>,
    operation: Option<String>,
    positions: Option<String>,
    spans: Option<String>,
    training: Option<Value>,
    combination: Option<Combination>,
    condition: Option<Condition>,
    calibration: Option<Calibration>,
    layers: Option<LayerDocuments>,
    directions: Option<LayerDocuments>,
}

pub(super) fn read(path: &Path, bytes: &[u8]) -> Result<(Format, (FileVectors, Metadata))> {
    let broken = |error: serde_json::Error| Error::malformed(path, format!("not a steering vector in JSON: {error}"));
    if bytes.trim_ascii_start().first() == Some(&b'[') {
        let v: Vec<f32> = serde_json::from_slice(bytes).map_err(broken)?;
        return Ok((Format::Json, (FileVectors::Unplaced(v), Metadata::default())));
    }
    let document: Document = serde_json::from_slice(bytes).map_err(broken)?;
    match (document.layers, document.directions) {
        (None, Some(LayerDocuments(directions))) => {
            let model_type = document.model_type.filter(|name| name != UNKNOWN_MODEL_TYPE);
            Ok((Format::Svec, (FileVectors::Placed(directions), Metadata { model_type, ..Metadata::default() })))
        }
        (Some(LayerDocuments(layers)), None) if document.format.as_deref() == Some("bipo") => {
            check_version(path, &document.format_version.map(|version| version.to_string()).unwrap_or_default())?;
            let hidden = layers.values().next().map_or(0, Vec::len);
            if document.hidden_size.is_some_and(|stated| stated != hidden) {
                return Err(Error::malformed(path, format!("hidden_size does not agree with the {hidden} numbers of a layer")));
            }
            if document.calibration.as_ref().is_some_and(|calibration| !calibration.is_sound()) {
                return Err(Error::malformed(path, format!("key \"calibration\": expected {CALIBRATION}")));
            }
            if document.condition.as_ref().is_some_and(|condition| !condition.is_sound()) {
                return Err(Error::malformed(path, format!("key \"condition\": expected {CONDITION}")));
            }
            let operation = document.operation.as_deref();
            if let Some(name) = operation.filter(|name| recorded(name).is_none()) {
                return Err(Error::malformed(path, format!("key \"operation\" is {name:.60?}, expected {OPERATIONS}")));
            }
            let metadata = Metadata {
                operation: operation.and_then(recorded).unwrap_or_default(),
                base_model: document.base_model,
                model_type: document.model_type,
                num_hidden_layers: document.num_hidden_layers,
                positions: parsed(path, "positions", document.positions)?.unwrap_or_default(),
                spans: parsed(path, "spans", document.spans)?,
                training: document.training,
                combination: document.combination,
                condition: document.condition,
                calibration: document.calibration,
                unknown_keys: Vec::new(),
            };
            Ok((Format::Json, (FileVectors::Placed(layers), metadata)))
        }
        _ => Err(Error::malformed(
            path,
            "not a steering vector in JSON: expected \"format\": \"bipo\" with \"layers\", an .svec with \"directions\", or a list of numbers",
        )),
    }
}

/// Parses the value of a key; returns `None` if the key is missing.
fn parsed<T: FromStr>(path: &Path, key: &str, text: Option<String>) -> Result<Option<T>> {
    let unknown = |text: &str| Error::malformed(path, format!("key {key:?} is {text:.60?}, which this bipo does not know"));
    text.map(|text| text.parse().map_err(|_| unknown(&text))).transpose()
}

/// Numbers by layer. A layer that occurs twice is refused.
struct LayerDocuments(BTreeMap<usize, Vec<f32>>);

impl<'de> Deserialize<'de> for LayerDocuments {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(LayersVisitor)
    }
}

struct LayersVisitor;

impl<'de> Visitor<'de> for LayersVisitor {
    type Value = LayerDocuments;

    fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str("an object of layer numbers with a list of numbers each")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<LayerDocuments, A::Error> {
        let mut layers = BTreeMap::new();
        while let Some(key) = map.next_key::<String>()? {
            let layer = key.parse().map_err(|_| A::Error::custom(format!("key {key:?}: expected a layer's number")))?;
            let v: Vec<f32> = map.next_value()?;
            if layers.insert(layer, v).is_some() {
                return Err(A::Error::custom(format!("layer {layer} comes twice")));
            }
            if layers.len() > MAX_LAYERS {
                return Err(A::Error::custom(format!("more than {MAX_LAYERS} layers")));
            }
        }
        Ok(LayerDocuments(layers))
    }
}

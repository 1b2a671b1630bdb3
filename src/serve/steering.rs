//! The vectors that requests can name, and the field `steering` of a request: a number, an expression, or EasySteer's object.

use std::collections::BTreeMap;
use std::sync::Arc;

use candle_core::Device;
use serde_json::{Value, json};

use super::error::ApiError;
use crate::steering::condition::When;
use crate::steering::magnitudes::calibrated;
use crate::steering::positions::Positions;
use crate::steering::vector::{Calibration, SteeringVector};
use crate::steering::{Operation, Steering};
use crate::text::spans::Spans;
use crate::{Error, Result};

/// Most vectors that clients can register, those of the start included, and the most that their numbers may take.
const MOST_VECTORS: usize = 256;
const MOST_BYTES: usize = 256 << 20;

/// Vectors by name. The first that was registered is the default.
#[derive(Debug, Default)]
pub(super) struct Registry {
    vectors: Vec<Registered>,
    conditions: Vec<NamedCondition>,
}

/// A vector that requests can name.
#[derive(Debug, Clone)]
pub(super) struct Registered {
    pub name: String,
    pub vector: Arc<SteeringVector>,
    /// SHA-256 of the vector's file.
    pub sha256: String,
    steering: Arc<Steering>,
}

/// How much of a vector a request means.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum VectorScale {
    /// The given magnitude.
    Of(f32),
    /// `auto`: so many times the magnitude that the vector's calibration has on the side of 0 that the number is on.
    Auto(f32),
}

/// What is applied to one request.
#[derive(Debug, Clone)]
pub(super) struct Applied {
    /// The vectors with their magnitudes.
    pub parts: Vec<(String, f32, Vec<usize>)>,
    pub steering: Arc<Steering>,
    /// Factor on all vectors of `steering`.
    pub magnitude: f32,
    pub positions: Positions,
    pub spans: Option<Spans>,
    /// Condition that says which prompts are steered; all are where it is none.
    pub when: Option<Arc<When>>,
}

/// A condition that requests can name; without a name it is that of all requests that say nothing.
#[derive(Debug, Clone)]
pub struct NamedCondition {
    /// Name of the condition, as requests give it.
    pub name: Option<String>,
    /// The condition that prompts are asked by.
    pub when: Arc<When>,
}

impl Applied {
    /// Returns what is applied as an answer repeats it.
    pub fn to_json(&self, dose: Option<f64>) -> Value {
        let part = |(vector, magnitude, layers): &(String, f32, Vec<usize>)| json!({"vector": vector, "magnitude": magnitude, "layers": layers});
        let parts: Vec<Value> = self.parts.iter().map(part).collect();
        let mut told = json!({"applied": parts, "dose": dose.filter(|dose| dose.is_finite())});
        if !self.steering.operation().is_addition() {
            told["operation"] = json!(self.steering.operation());
        }
        told
    }

    /// Returns the same vectors, each times `factor`.
    pub fn times(&self, factor: f32) -> Self {
        let parts = self.parts.iter().map(|(name, m, layers)| (name.clone(), m * factor, layers.clone())).collect();
        Self { parts, magnitude: self.magnitude * factor, ..self.clone() }
    }

    /// Returns an expression that means the same.
    pub fn expression(&self) -> String {
        let mut text = String::new();
        for (index, (name, magnitude, _)) in self.parts.iter().enumerate() {
            let sign = match (index, *magnitude < 0.0) {
                (0, false) => "",
                (0, true) => "-",
                (_, false) => " + ",
                (_, true) => " - ",
            };
            text += &format!("{sign}{name}:{}", magnitude.abs());
        }
        text
    }
}

impl Registry {
    /// A registry without vectors.
    pub fn new(conditions: Vec<NamedCondition>) -> Self {
        Self { vectors: Vec::new(), conditions }
    }

    /// Names of the conditions that have one.
    pub fn conditions(&self) -> Vec<&str> {
        self.conditions.iter().filter_map(|condition| condition.name.as_deref()).collect()
    }

    /// The condition that a request's `when` means: that of a name, none for null, and the server's where nothing is said.
    fn condition(&self, when: Option<&Value>) -> Result<Option<Arc<When>>, ApiError> {
        let named = match when {
            Some(Value::Null) => return Ok(None),
            Some(Value::String(name)) => Some(name.as_str()),
            Some(_) => return Err(ApiError::of_field("steering", "steering.when: expected the name of a condition, or null")),
            None => None,
        };
        match self.conditions.iter().find(|condition| condition.name.as_deref() == named) {
            Some(condition) => Ok(Some(Arc::clone(&condition.when))),
            None if named.is_none() => Ok(None),
            None => {
                let known = self.conditions();
                let known =
                    if known.is_empty() { "none has a name".to_owned() } else { format!("known: {}", known.join(", ")) };
                let problem = format!("no condition {:?}: {known}", named.unwrap_or_default());
                Err(ApiError::of_field("steering", problem))
            }
        }
    }

    /// Registers a vector.
    pub fn add(&mut self, name: &str, vector: SteeringVector, sha256: String, device: &Device) -> Result<Registered, ApiError> {
        if name.is_empty() || !name.chars().all(|c| c.is_ascii_alphanumeric() || "_.-".contains(c)) || name.starts_with('-') {
            let problem = format!("vector name {name:?}: use letters, digits, '_', '.' and '-', not '-' in front");
            return Err(ApiError::of_field("name", problem));
        }
        if name.parse::<f32>().is_ok() || name == "auto" {
            return Err(ApiError::of_field("name", format!("vector name {name:?} would be read as a magnitude")));
        }
        if self.find(name).is_some() {
            let problem = format!("a vector is already registered as {name}: remove it first, or take another name");
            return Err(ApiError { param: Some("name".into()), ..ApiError::new(axum::http::StatusCode::CONFLICT, problem) });
        }
        let steering = Arc::new(Steering::by(vector.metadata.operation, &vector.layers, device)?);
        self.vectors.push(Registered { name: name.to_owned(), vector: Arc::new(vector), sha256, steering });
        Ok(self.vectors[self.vectors.len() - 1].clone())
    }

    /// Checks that a client may add a vector.
    pub fn check_room(&self, vector: &SteeringVector) -> Result<(), ApiError> {
        let bytes = |vector: &SteeringVector| vector.layers.values().map(|v| 4 * v.len()).sum::<usize>();
        let all = self.vectors.iter().map(|registered| bytes(&registered.vector)).sum::<usize>() + bytes(vector);
        if self.vectors.len() < MOST_VECTORS && all <= MOST_BYTES {
            return Ok(());
        }
        let most = crate::machine::bytes::Bytes(MOST_BYTES as u64);
        let problem = format!("the server holds at most {MOST_VECTORS} vectors of {most} together: remove one first");
        Err(ApiError::new(axum::http::StatusCode::CONFLICT, problem))
    }

    /// Removes a vector; requests that use it go on. → whether it was there.
    pub fn remove(&mut self, name: &str) -> bool {
        let before = self.vectors.len();
        self.vectors.retain(|registered| registered.name != name);
        self.vectors.len() < before
    }

    pub fn find(&self, name: &str) -> Option<&Registered> {
        self.vectors.iter().find(|registered| registered.name == name)
    }

    pub fn iter(&self) -> impl Iterator<Item = &Registered> {
        self.vectors.iter()
    }

    fn named(&self, name: &str) -> Result<&Registered, ApiError> {
        self.find(name).ok_or_else(|| {
            let known: Vec<&str> = self.vectors.iter().map(|registered| registered.name.as_str()).collect();
            let known = if known.is_empty() { "none is registered".to_owned() } else { format!("known: {}", known.join(", ")) };
            ApiError::of_field("steering", format!("no vector {name:?}: {known}"))
        })
    }

    /// The vector that a request means by its name, or the default.
    pub fn chosen(&self, name: Option<&str>) -> Result<&Registered, ApiError> {
        match name {
            Some(name) => self.named(name),
            None => self.vectors.first().ok_or_else(|| ApiError::of_field("steering", "no vector is registered")),
        }
    }

    /// The magnitudes of `auto`, which multiply what is applied: those that the calibration of its one vector has.
    pub fn calibrated(&self, applied: &Applied) -> Result<Vec<f32>, ApiError> {
        let [(name, factor, _)] = applied.parts.as_slice() else {
            return Err(ApiError::of_field(
                "magnitudes",
                "the magnitudes auto are for one vector: name it by vector or steering",
            ));
        };
        let known = self.named(name)?.calibration(applied.steering.operation())?;
        Ok(known.scaled(*factor).magnitudes())
    }

    /// What a request's `steering` means; `default` is the vector that its model names.
    pub fn resolve(&self, steering: &Value, default: Option<&str>, device: &Device) -> Result<Applied, ApiError> {
        let (mut operation, mut when) = (None, None);
        let parts = match steering {
            Value::Null => default.map(|name| (name.to_owned(), VectorScale::Of(1.0))).into_iter().collect(),
            Value::Number(number) => {
                let magnitude = number.as_f64().unwrap_or(f64::NAN) as f32;
                if magnitude == 0.0 {
                    Vec::new()
                } else {
                    vec![(self.chosen(default)?.name.clone(), VectorScale::Of(magnitude))]
                }
            }
            Value::String(text) if is_auto(text) => {
                vec![(self.chosen(default)?.name.clone(), VectorScale::of_word(text.trim())?)]
            }
            Value::String(text) => expression(text)?,
            Value::Object(object) => {
                operation = object.get("operation").map(operation_of).transpose()?;
                when = object.get("when");
                from_object(object)?
            }
            _ => {
                return Err(ApiError::of_field("steering", "expected a number, a text such as \"cheerful:1.5\", or an object"));
            }
        };
        let condition = self.condition(when)?;
        let applied = self.apply(&parts, operation, device)?;
        let when = condition.filter(|_| !applied.parts.is_empty());
        Ok(Applied { when, ..applied })
    }

    /// Vectors with their magnitudes, added up, used as the request says, else as their files say.
    pub fn apply(
        &self,
        parts: &[(String, VectorScale)],
        operation: Option<Operation>,
        device: &Device,
    ) -> Result<Applied, ApiError> {
        let mut named: Vec<(&Registered, f32)> = Vec::new();
        for (name, scale) in parts {
            let registered = self.named(name)?;
            let magnitude = registered.magnitude(*scale, operation)?;
            match named.iter_mut().find(|(other, _)| other.name == registered.name) {
                Some((_, sum)) => *sum += magnitude,
                None => named.push((registered, magnitude)),
            }
        }
        if let Some((registered, _)) = named.iter().find(|(_, magnitude)| !magnitude.is_finite()) {
            let problem = format!("the magnitude of {} is not a finite number", registered.name);
            return Err(ApiError::of_field("steering", problem));
        }
        named.retain(|(_, magnitude)| *magnitude != 0.0);
        let rules = |(registered, _): &(&Registered, f32)| {
            let metadata = &registered.vector.metadata;
            (operation.unwrap_or(metadata.operation), metadata.positions, metadata.spans)
        };
        let Some((operation, positions, spans)) = named.first().map(rules) else {
            let steering = Arc::new(Steering::new(&BTreeMap::new(), device)?);
            return Ok(Applied {
                parts: Vec::new(),
                steering,
                magnitude: 0.0,
                positions: Positions::All,
                spans: None,
                when: None,
            });
        };
        if let Some((other, _)) = named.iter().find(|part| rules(part) != (operation, positions, spans)) {
            let problem =
                format!("{} and {} are used otherwise or at different tokens: name one of them", named[0].0.name, other.name);
            return Err(ApiError::of_field("steering", problem));
        }
        let parts = named.iter().map(|(vector, m)| (vector.name.clone(), *m, vector.vector.layers.keys().copied().collect()));
        let parts = parts.collect();
        // One vector is shared by all requests that name it, whatever their magnitudes.
        let (steering, magnitude) = match named.as_slice() {
            [(one, magnitude)] if operation == one.steering.operation() => (Arc::clone(&one.steering), *magnitude),
            [(one, magnitude)] => (Arc::new(Steering::by(operation, &one.vector.layers, device)?), *magnitude),
            _ => (Arc::new(Steering::by(operation, &sum(&named), device)?), 1.0),
        };
        Ok(Applied { parts, steering, magnitude, positions, spans, when: None })
    }
}

impl Registered {
    /// What `auto` means for the vector where it is used by `operation`.
    fn calibration(&self, operation: Operation) -> Result<&Calibration, ApiError> {
        let known = calibrated(self.vector.metadata.calibration.as_ref(), operation);
        known.map_err(|error| ApiError::of_field("steering", format!("{}: {error}", self.name)))
    }

    /// The number that a request means; `operation` is how it wants the vector used, if it says so.
    fn magnitude(&self, scale: VectorScale, operation: Option<Operation>) -> Result<f32, ApiError> {
        let factor = match scale {
            VectorScale::Of(magnitude) => return Ok(magnitude),
            VectorScale::Auto(factor) => factor,
        };
        let known = self.calibration(operation.unwrap_or(self.vector.metadata.operation))?;
        let limit = known.on_side_of(factor).ok_or_else(|| {
            let side = if factor < 0.0 { "below" } else { "above" };
            let problem =
                format!("{}: its calibration found no magnitude {side} 0 within {}: give a number", self.name, known.budget);
            ApiError::of_field("steering", problem)
        })?;
        Ok(limit * factor.abs())
    }

    /// Returns the vector as the list of vectors shows it.
    pub fn to_json(&self, is_default: bool) -> Value {
        let metadata = &self.vector.metadata;
        let layers: Vec<usize> = self.vector.layers.keys().copied().collect();
        let mut listed = json!({
            "name": self.name,
            "default": is_default,
            "layers": layers,
            "hidden_size": self.vector.hidden_size(),
            "norm": self.vector.norm(),
            "base_model": metadata.base_model,
            "positions": metadata.positions.to_string(),
            "spans": metadata.spans.map(|spans| spans.to_string()),
            "sha256": self.sha256,
            "calibration": metadata.calibration,
        });
        if !metadata.operation.is_addition() {
            listed["operation"] = json!(metadata.operation);
        }
        listed
    }
}

/// The vectors times their magnitudes, added up at each layer.
fn sum(named: &[(&Registered, f32)]) -> BTreeMap<usize, Vec<f32>> {
    let mut layers: BTreeMap<usize, Vec<f32>> = BTreeMap::new();
    for (registered, magnitude) in named {
        for (layer, v) in &registered.vector.layers {
            let sum = layers.entry(*layer).or_insert_with(|| vec![0.0; v.len()]);
            sum.iter_mut().zip(v).for_each(|(sum, v)| *sum += magnitude * v);
        }
    }
    layers
}

impl VectorScale {
    /// A number, or `auto` with its sign.
    fn of_word(word: &str) -> Result<Self, ApiError> {
        match word {
            "auto" | "+auto" => Ok(Self::Auto(1.0)),
            "-auto" => Ok(Self::Auto(-1.0)),
            number => {
                let refused =
                    |_| ApiError::of_field("steering", format!("{number:?} is no magnitude: expected a number or auto"));
                number.parse().map(Self::Of).map_err(refused)
            }
        }
    }

    fn times(self, factor: f32) -> Self {
        match self {
            Self::Of(magnitude) => Self::Of(magnitude * factor),
            Self::Auto(times) => Self::Auto(times * factor),
        }
    }
}

/// Whether a text is the magnitude `auto` of the default vector.
fn is_auto(text: &str) -> bool {
    matches!(text.trim(), "auto" | "+auto" | "-auto")
}

/// The terms of `cheerful:1.5 - formal:0.5 + terse`, or of `0.3 honest + 0.4 warm`; a name alone has magnitude 1. An empty
/// text is no vector.
pub(super) fn expression(text: &str) -> Result<Vec<(String, VectorScale)>, ApiError> {
    let refused = |problem: String| ApiError::of_field("steering", problem);
    let mut parts = Vec::new();
    let (mut sign, mut expects_term) = (1.0, true);
    let mut factor = None;
    for word in text.split_whitespace() {
        match (word, expects_term) {
            ("+", false) => (sign, expects_term) = (1.0, true),
            ("-", false) => (sign, expects_term) = (-1.0, true),
            ("-", true) if factor.is_none() => sign = -sign,
            (_, true) => {
                if let Some(number) = word.parse::<f32>().ok().filter(|_| factor.is_none()) {
                    factor = Some(number);
                    continue;
                }
                let (word, sign) = match word.strip_prefix('-') {
                    Some(rest) => (rest, -sign),
                    None => (word, sign),
                };
                let (name, scale) = match word.rsplit_once(':') {
                    None => (word, VectorScale::Of(1.0)),
                    Some((name, number)) => (
                        name,
                        VectorScale::of_word(number).map_err(|_| {
                            refused(format!("{word:?}: expected NAME:MAGNITUDE, such as cheerful:1.5 or cheerful:auto"))
                        })?,
                    ),
                };
                parts.push((name.to_owned(), scale.times(sign * factor.take().unwrap_or(1.0))));
                expects_term = false;
            }
            _ => return Err(refused(format!("{word:?}: expected + or - between two vectors, such as \"a:1.5 - b:0.5\""))),
        }
    }
    match (parts.is_empty(), factor, expects_term) {
        (true, None, _) | (false, None, false) => Ok(parts),
        (_, Some(number), _) => Err(refused(format!("{text:?}: a vector's name is missing behind {number}"))),
        (false, None, true) => Err(refused(format!("{text:?}: a vector is missing at the end"))),
    }
}

/// How the vectors of a request are used.
fn operation_of(value: &Value) -> Result<Operation, ApiError> {
    let known = value.as_str().and_then(|name| name.parse().ok()).filter(|operation| *operation != Operation::Null);
    known.ok_or_else(|| ApiError::of_field("steering", format!("steering.operation is {value}: expected add or ablate")))
}

/// EasySteer's object: `{"vectors": [{"source": NAME, "scale": 1.5}]}`, beside which `operation` and `when` may stand. Keys that would mean something else than bipo does are
/// refused, those that name what it does anyway are not.
fn from_object(object: &serde_json::Map<String, Value>) -> Result<Vec<(String, VectorScale)>, ApiError> {
    let refused = |problem: String| ApiError::of_field("steering", problem);
    for (key, value) in object {
        let is_known = ["vectors", "operation", "when"].contains(&key.as_str())
            || (key == "conflict" && matches!(value.as_str(), Some("sum" | "add")));
        if !is_known {
            return Err(refused(format!(
                "unknown key steering.{key}: expected vectors, a list of {{\"source\", \"scale\"}}, operation and when"
            )));
        }
    }
    let Some(vectors) = object.get("vectors").and_then(Value::as_array) else {
        return Err(refused("steering.vectors: expected a list of {\"source\", \"scale\"}".into()));
    };
    vectors.iter().map(|vector| from_entry(vector).map_err(refused)).collect()
}

fn from_entry(vector: &Value) -> std::result::Result<(String, VectorScale), String> {
    let fields = vector.as_object().ok_or("steering.vectors: expected objects with source and scale")?;
    for (key, value) in fields {
        let is_known = match key.as_str() {
            "source" | "scale" => true,
            "algorithm" => value == "direct",
            "normalize" => value == false,
            "apply" => *value == json!({"prompt": "all", "generation": "all"}),
            _ => false,
        };
        if !is_known {
            return Err(format!("steering.vectors: {key} = {value} is not supported: leave it out"));
        }
    }
    let source = fields.get("source").and_then(Value::as_str).ok_or("steering.vectors: source is missing")?;
    let scale = match fields.get("scale") {
        None => VectorScale::Of(1.0),
        Some(Value::String(word)) if is_auto(word) => VectorScale::of_word(word.trim()).map_err(|error| error.message)?,
        Some(scale) => VectorScale::Of(scale.as_f64().ok_or("steering.vectors: scale is neither a number nor auto")? as f32),
    };
    Ok((source.to_owned(), scale))
}

impl From<ApiError> for Error {
    fn from(error: ApiError) -> Self {
        Error::Argument(error.message)
    }
}

#[cfg(test)]
#[path = "steering_tests.rs"]
mod tests;

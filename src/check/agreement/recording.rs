//! A training run with given rows and directions, its losses, gradients and vector, and the distance between two such runs. It
//! is the recorded run of the authors' trainer: 64 pairs, three epochs of batches of four in order, signs +1 −1 −1 +1.

use std::path::Path;

use candle_core::{DType, Device};
use serde_json::Value;

use super::{Check, config, distance};
use crate::machine::error::reason;
use crate::machine::files::read_text;
use crate::model::Model;
use crate::session::Demand;
use crate::text::tokens::{EncodedPair, EncodedResponse};
use crate::train::activations::Activations;
use crate::train::{TrainConfig, Trainer};
use crate::{Error, Result};

/// Signs of the steps, repeated to the end of the run.
const SIGNS: [f64; 4] = [1.0, -1.0, -1.0, 1.0];

/// A run that can be repeated.
#[derive(Debug)]
pub struct Recording {
    pairs: Vec<EncodedPair>,
    config: TrainConfig,
}

/// The numbers of a run that are compared.
#[derive(Debug)]
pub struct Trace {
    /// Loss of each step.
    losses: Vec<f64>,
    /// Gradient of the vector `(H)` at each step.
    gradients: Vec<Vec<f32>>,
    /// Vector `(H)` after the last step.
    v: Vec<f32>,
}

impl Recording {
    /// Creates a run on these pairs.
    pub fn new(pairs: Vec<EncodedPair>, layer: usize, lr: f64) -> Self {
        Self { pairs, config: TrainConfig { lr, ..config(layer, None) } }
    }

    /// Reads the authors' run on SmolLM2-135M-Instruct and its trace from a folder with `pairs64.json`, `train_wd05.json` and
    /// `train_v.safetensors`.
    ///
    /// # Errors
    /// A file is missing, or does not have the expected content.
    pub fn read(folder: &Path) -> Result<(Self, Trace)> {
        let json = |name: &str| -> Result<(std::path::PathBuf, Value)> {
            let path = folder.join(name);
            let value = serde_json::from_str(&read_text(&path)?).map_err(|error| Error::malformed(&path, error.to_string()))?;
            Ok((path, value))
        };
        let (path, recorded) = json("pairs64.json")?;
        let pairs: Option<Vec<EncodedPair>> = recorded.as_array().and_then(|pairs| pairs.iter().map(pair).collect());
        let pairs =
            pairs.ok_or_else(|| Error::malformed(&path, "expected pairs with row, prompt_ids, chosen_ids, rejected_ids"))?;
        let (path, recorded) = json("train_wd05.json")?;
        let settings = &recorded["config"];
        let number = |key: &str| settings[key].as_f64();
        let losses = recorded["steps"].as_array().and_then(|steps| steps.iter().map(|step| step["loss"].as_f64()).collect());
        let (Some(layer), Some(lr), Some(losses)) = (settings["layer"].as_u64(), number("lr"), losses) else {
            return Err(Error::malformed(&path, "expected config.layer, config.lr and the loss of each step"));
        };
        let path = folder.join("train_v.safetensors");
        let failed = |error: candle_core::Error| Error::malformed(&path, reason(&error));
        let tensors = candle_core::safetensors::load(&path, &Device::Cpu).map_err(failed)?;
        let rows = |name: &str| -> Result<Vec<Vec<f32>>> {
            let tensor = tensors.get(name).ok_or_else(|| Error::malformed(&path, format!("no tensor `{name}`")))?;
            tensor.to_vec2().map_err(failed)
        };
        let v = rows("v_after_step_wd05")?.pop().unwrap_or_default();
        let trace = Trace { losses, gradients: rows("grad_at_step_wd05")?, v };
        Ok((Self::new(pairs, layer as usize, lr), trace))
    }

    /// What repeating the run takes of memory.
    pub fn demand(&self) -> Demand {
        Demand::training(&[&self.pairs], self.config.layers.as_slice(), self.config.batch_size)
    }

    /// Repeats the run with a model.
    ///
    /// # Errors
    /// The loss is not finite, or a tensor operation fails.
    pub fn run(&self, model: &Model) -> Result<Trace> {
        let data = Activations::compute(model, &self.pairs, self.config.layers.lowest(), self.config.positions)?;
        let mut trainer = Trainer::new(model, &self.config, &data);
        let rows: Vec<usize> = (0..self.pairs.len()).collect();
        let mut trace = Trace { losses: Vec::new(), gradients: Vec::new(), v: Vec::new() };
        for epoch in 1..=self.config.epochs {
            for batch in rows.chunks(self.config.batch_size) {
                let record = trainer.step(batch, SIGNS[trace.losses.len() % 4], epoch)?;
                trace.losses.push(record.loss);
                trace.gradients.push(trainer.gradient.clone());
            }
        }
        trace.v = trainer.state.v;
        Ok(trace)
    }
}

impl Trace {
    /// Compares this trace with the expected one.
    pub fn compare(&self, model: &str, dtype: DType, expected: &Self) -> Vec<Check> {
        let (loss, other) = match dtype {
            // On the CPU in bf16, SmolLM2's losses differed by 1.8e-2 from the recorded ones, gradients by 5.6 %, the vector by
            // 2.7 %.
            DType::BF16 => (3e-2, 0.1),
            DType::F16 => (5e-3, 2e-2),
            // These are the bounds of the test that compares the CPU with the authors' trainer.
            _ => (2e-5, 1e-3),
        };
        let same_steps = self.losses.len() == expected.losses.len() && self.gradients.len() == expected.gradients.len();
        let none = if same_steps { 0.0 } else { f64::INFINITY };
        // f64::max would ignore NaN.
        let larger = |most: f64, x: f64| if most.is_nan() || x <= most { most } else { x };
        let largest = |differences: &mut dyn Iterator<Item = f64>| differences.fold(none, larger);
        let losses = largest(&mut self.losses.iter().zip(&expected.losses).map(|(a, b)| (a - b).abs()));
        let gradients = largest(&mut self.gradients.iter().zip(&expected.gradients).map(|(a, b)| distance(a, b)));
        vec![
            Check::new(model, dtype, "48 steps: largest difference of a loss", losses, loss),
            Check::new(model, dtype, "48 steps: gradient", gradients, other),
            Check::new(model, dtype, "48 steps: vector", distance(&self.v, &expected.v), other),
        ]
    }
}

fn pair(recorded: &Value) -> Option<EncodedPair> {
    let ids = |key: &str| -> Option<Vec<u32>> {
        recorded[key].as_array()?.iter().map(|id| id.as_u64().and_then(|id| id.try_into().ok())).collect()
    };
    let prompt = ids("prompt_ids").filter(|prompt| !prompt.is_empty())?;
    let response = |key: &str| -> Option<EncodedResponse> {
        let ids = ids(key).filter(|ids| !ids.is_empty())?;
        Some(EncodedResponse { ids: [prompt.clone(), ids].concat(), start: prompt.len(), in_spans: None })
    };
    let row = recorded["row"].as_u64()? as usize;
    Some(EncodedPair { row, chosen: response("chosen_ids")?, rejected: response("rejected_ids")? })
}

#[cfg(test)]
#[path = "recording_tests.rs"]
mod tests;

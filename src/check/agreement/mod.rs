//! Whether a device computes what the CPU does. Tiny random models of every architecture are made with the same weights on
//! both, and compared: logits, log-probabilities, gradients of the vector, greedy tokens, and 48 training steps. The reference
//! is the CPU's f32 path, which is itself tested against `transformers`.
//!
//! Begin with [`tiny_models`]; `recording` compares training runs. How fast a device is belongs to `bench`.

mod architectures;
mod recording;

use std::collections::BTreeMap;

use candle_core::{DType, Device};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde::Serialize;

use crate::Result;
use crate::generate::{GenerateOptions, generate, next_token_logits};
use crate::model::Model;
use crate::model::config::Config;
use crate::model::random::MadeOn;
use crate::model::weights::{WeightStorage, Weights};
use crate::steering::Steering;
use crate::steering::positions::Positions;
use crate::text::tokens::{EncodedPair, EncodedResponse};
use crate::train::activations::Activations;
use crate::train::{TrainConfig, Trainer};

use architectures::chooses_experts;
pub(crate) use architectures::{architectures, wide_heads};
pub use recording::{Recording, Trace};

/// A comparison of a device with the reference.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Check {
    /// Name of the model.
    pub model: String,
    /// Dtype of weights and activations on the device.
    pub dtype: String,
    /// Name of the compared quantity.
    pub what: &'static str,
    /// Distance from the reference: ‖a − b‖/‖b‖ unless `what` names another measure.
    pub difference: f64,
    /// Largest distance that passes.
    pub bound: f64,
    /// Whether the distance is within the bound; false if it is NaN.
    pub passed: bool,
}

impl Check {
    /// Compares a difference with its bound.
    pub fn new(model: &str, dtype: DType, what: &'static str, difference: f64, bound: f64) -> Self {
        let dtype = format!("{dtype:?}").to_lowercase();
        Self { model: model.into(), dtype, what, difference, bound, passed: difference <= bound }
    }
}

/// Number of tokens of the shortest prompt, fewer than a kernel's tile has rows.
const SHORT: usize = 9;
/// Number of tokens of the shortest prompt for sequences that fill several tiles.
const LONG: usize = 150;

/// The numbers of one model that are compared.
#[derive(Debug)]
struct Numbers {
    /// Logits after a prompt, at three magnitudes.
    logits: Vec<f32>,
    /// Changes by a vector of the log-probabilities of the responses of some pairs.
    log_probs: Vec<f32>,
    /// Gradient of the vector when it is added at every token.
    gradient: Vec<f32>,
    /// Gradient of the vector when it is added to the responses alone, so that prompts come from the cache.
    response_gradient: Vec<f32>,
    /// Greedy tokens at three magnitudes.
    tokens: Vec<u32>,
}

/// Compares every architecture on `device` in each of the dtypes, with weights as tensors, with the CPU in f32.
///
/// # Errors
/// A tensor operation fails.
pub fn tiny_models(device: &Device, dtypes: &[DType]) -> Result<Vec<Check>> {
    let mut checks = Vec::new();
    let short = architectures().into_iter().map(|(name, config)| (name, config, SHORT));
    let long = wide_heads().into_iter().map(|(name, config)| (name, config, LONG));
    for (name, config, prompt_tokens) in short.chain(long) {
        let expected = numbers(&random_model(&config, DType::F32, &Device::Cpu, WeightStorage::Dense)?, prompt_tokens)?;
        for dtype in dtypes.iter().filter(|dtype| **dtype == DType::F32 || !chooses_experts(&config)) {
            let found = numbers(&random_model(&config, *dtype, device, WeightStorage::Tensors)?, prompt_tokens)?;
            checks.extend(compare(name, *dtype, &found, &expected));
        }
    }
    Ok(checks)
}

/// Compares 48 training steps of a tiny model on `device` in each of the dtypes with the CPU in f32.
///
/// # Errors
/// A tensor operation fails.
pub fn tiny_training(device: &Device, dtypes: &[DType]) -> Result<Vec<Check>> {
    let (name, config) = &architectures()[0];
    let recording = Recording::new(random_pairs(64, config.vocab_size, SHORT), 1, 0.01);
    let expected = recording.run(&random_model(config, DType::F32, &Device::Cpu, WeightStorage::Dense)?)?;
    let mut checks = Vec::new();
    for dtype in dtypes {
        let found = recording.run(&random_model(config, *dtype, device, WeightStorage::Tensors)?)?;
        checks.extend(found.compare(name, *dtype, &expected));
    }
    Ok(checks)
}

fn random_model(config: &Config, dtype: DType, device: &Device, storage: WeightStorage) -> Result<Model> {
    Model::load_as(&Weights::random(MadeOn::Host(7)), config.clone(), dtype, device, storage)
}

fn numbers(model: &Model, prompt_tokens: usize) -> Result<Numbers> {
    let (layer, hidden) = (1, model.config.hidden_size);
    let mut rng = ChaCha8Rng::seed_from_u64(21);
    let v: Vec<f32> = (0..hidden).map(|_| rng.random_range(-0.3..0.3)).collect();
    let pairs = random_pairs(3, model.config.vocab_size, prompt_tokens);
    let prompt = &pairs[0].chosen.ids;
    let (vectors, magnitudes, options) = (BTreeMap::from([(layer, v.clone())]), [-1.0, 0.0, 1.0], GenerateOptions::greedy(8));
    let logits = next_token_logits(model, prompt, &vectors, &magnitudes, &options)?;
    let texts = generate(model, prompt, &vectors, &magnitudes, &options, &mut |_, _| Ok(()))?;
    let data = Activations::compute(model, &pairs, layer, Positions::All)?;
    let steering = Steering::new(&vectors, model.device())?;
    let changes = data.score(model, &steering)?.into_iter().zip(&data.entries);
    let changes = changes.flat_map(|(score, entry)| [score[0] - entry.reference[0], score[1] - entry.reference[1]]);
    let log_probs = changes.map(|change| change as f32).collect();
    let gradient = |data: &Activations| -> Result<Vec<f32>> {
        let config = config(layer, Some(v.clone()));
        let mut trainer = Trainer::new(model, &config, data);
        trainer.step(&[0, 1, 2], 1.0, 1)?;
        Ok(trainer.gradient)
    };
    let response_data = Activations::compute(model, &pairs, layer, Positions::Response)?;
    Ok(Numbers {
        logits: logits.flatten_all()?.to_vec1()?,
        log_probs,
        gradient: gradient(&data)?,
        response_gradient: gradient(&response_data)?,
        tokens: texts.into_iter().flat_map(|text| text.token_ids).collect(),
    })
}

fn compare(name: &str, dtype: DType, found: &Numbers, expected: &Numbers) -> Vec<Check> {
    // The bounds of bf16 and f16 are eight times their unit roundoff, 2⁻⁸ and 2⁻¹¹, for all operations in three blocks and the
    // head. The bound of f32 is far above its rounding errors but below the change that a wrong formula makes.
    let bound = match dtype {
        DType::BF16 => 3.2e-2,
        DType::F16 => 4e-3,
        _ => 1e-4,
    };
    let within = |bound, what, found: &[f32], expected: &[f32]| Check::new(name, dtype, what, distance(found, expected), bound);
    let check = |what, found: &[f32], expected: &[f32]| within(bound, what, found, expected);
    let mut checks = vec![
        check("logits", &found.logits, &expected.logits),
        // A change of a log-probability is a small difference of two larger sums, each with its own rounding error. It is smallest
        // where norms stand behind the sub-layers: they take back a part of what the vector changed.
        within(4.0 * bound, "log-probs", &found.log_probs, &expected.log_probs),
        check("gradient", &found.gradient, &expected.gradient),
        check("gradient, prompt cached", &found.response_gradient, &expected.response_gradient),
    ];
    // A coarser dtype can choose another token if two are almost equally likely.
    if dtype == DType::F32 {
        let differing = found.tokens.iter().zip(&expected.tokens).filter(|(a, b)| a != b).count();
        checks.push(Check::new(name, dtype, "greedy tokens that differ", differing as f64, 0.0));
    }
    checks
}

/// Returns ‖a − b‖/‖b‖, or infinity if the lengths differ.
fn distance(a: &[f32], b: &[f32]) -> f64 {
    let squares = |numbers: &mut dyn Iterator<Item = f64>| numbers.map(|x| x * x).sum::<f64>().sqrt();
    let wide = |x: &f32| f64::from(*x);
    if a.len() != b.len() {
        return f64::INFINITY;
    }
    squares(&mut a.iter().zip(b).map(|(a, b)| wide(a) - wide(b))) / squares(&mut b.iter().map(wide))
}

/// Returns pairs of different lengths whose prompts begin with the same three tokens; the shortest prompt has `prompt_tokens`.
fn random_pairs(count: usize, vocab_size: usize, prompt_tokens: usize) -> Vec<EncodedPair> {
    let mut rng = ChaCha8Rng::seed_from_u64(22);
    let mut ids = |count: usize| -> Vec<u32> { (0..count).map(|_| rng.random_range(0..vocab_size as u32)).collect() };
    let header = ids(3);
    let pair = |row: usize| {
        let prompt = [header.clone(), ids(prompt_tokens - 3 + 5 * (row % 3))].concat();
        let mut response =
            |len: usize| EncodedResponse { ids: [prompt.clone(), ids(len)].concat(), start: prompt.len(), in_spans: None };
        EncodedPair { row, chosen: response(7 - row % 3), rejected: response(4 + row % 4) }
    };
    (0..count).map(pair).collect()
}

/// Returns the settings of the authors' recorded run.
fn config(layer: usize, init: Option<Vec<f32>>) -> TrainConfig {
    TrainConfig { epochs: 3, max_grad_norm: None, warmup_steps: 10, seed: 0, init, ..TrainConfig::at(layer) }
}

#[cfg(test)]
mod tests;

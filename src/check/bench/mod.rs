//! How fast a model trains and generates on its device, compared with the best matrix product of the same device, dtype and
//! run. Tokens are random, since speed depends on shapes alone. Work on a GPU is queued, so every clock stops after
//! `synchronize`. All work is done once before it is timed, because the first use of a kernel compiles it.
//!
//! Begin with [`steps`] and [`sweep`], which time; [`counted`] computes what a model needs without running one.

mod ceiling;
pub mod counted;
mod peak;

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use candle_core::DType;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde::Serialize;

use crate::Result;
use crate::generate::{GenerateOptions, generate};
use crate::hub::presets;
use crate::model::Model;
use crate::session::Demand;
use crate::steering::positions::Positions;
use crate::text::tokens::{EncodedPair, EncodedResponse};
use crate::train::activations::Activations;
use crate::train::optim::Scheduler;
use crate::train::{TrainConfig, Trainer};

pub use ceiling::matmul_flops_per_s;
pub use peak::PeakMemory;

/// What is measured, and for how long.
#[derive(Debug, Clone)]
pub struct BenchOptions {
    /// Number of pairs of a step.
    pub batch_size: usize,
    /// Number of tokens of a prompt.
    pub prompt_tokens: usize,
    /// Number of tokens of each response, end of turn included.
    pub response_tokens: usize,
    /// Number of tokens to generate at each magnitude.
    pub new_tokens: usize,
    /// Number of magnitudes of each sweep.
    pub sweeps: Vec<usize>,
    /// Time for the training steps; the step that exceeds it is the last.
    pub time: Duration,
}

impl BenchOptions {
    /// What measuring a model of `num_blocks` blocks takes of memory.
    pub fn demand(&self, num_blocks: usize) -> Demand {
        self.training(num_blocks).and_generation(self.most_texts(), self.prompt_tokens, self.new_tokens)
    }

    /// What the training steps take.
    fn training(&self, num_blocks: usize) -> Demand {
        let rows = (self.prompt_tokens + 2 * (self.response_tokens - 1)) as u64;
        let demand = Demand::of_rows(vec![rows; 4 * self.batch_size], 1);
        demand.with_gradient(presets::default_layer(num_blocks), self.batch_size)
    }

    /// Texts of the largest sweep.
    fn most_texts(&self) -> usize {
        self.sweeps.iter().copied().max().unwrap_or(0)
    }
}

/// Speed of training steps.
#[derive(Debug, Clone, Serialize)]
pub struct Steps {
    /// Number of steps that were timed.
    pub steps: usize,
    /// Time of the timed steps in seconds.
    pub seconds: f64,
    /// Number of steps per second.
    pub steps_per_s: f64,
    /// Number of rows of a step that go through the upper blocks.
    pub tokens_a_step: usize,
    /// Useful floating-point operations per second, counted from the shapes.
    pub flops_per_s: f64,
    /// Number of pairs per second while the cache is computed: a forward pass of every block and the head.
    pub cached_pairs_per_s: f64,
    /// Useful floating-point operations per second while the cache is computed, counted from the shapes.
    pub cached_flops_per_s: f64,
}

/// Speed of a sweep.
#[derive(Debug, Clone, Serialize)]
pub struct SweepSpeed {
    /// Number of magnitudes, whose texts are decoded together.
    pub magnitudes: usize,
    /// Number of tokens generated at all magnitudes together.
    pub tokens: usize,
    /// Time from the prompt to the last token in seconds.
    pub seconds: f64,
    /// Number of generated tokens per second, at all magnitudes together.
    pub tokens_per_s: f64,
}

/// Times training steps on random pairs.
///
/// # Errors
/// A tensor operation fails.
pub fn steps(model: &Model, options: &BenchOptions) -> Result<Steps> {
    let layer = presets::default_layer(model.num_blocks());
    let mut rng = ChaCha8Rng::seed_from_u64(11);
    let pairs: Vec<EncodedPair> = (0..4 * options.batch_size).map(|row| random_pair(row, model, options, &mut rng)).collect();
    Activations::compute(model, &pairs[..options.batch_size], layer, Positions::All)?;
    model.synchronize()?;
    let started = Instant::now();
    let data = Activations::compute(model, &pairs, layer, Positions::All)?;
    model.synchronize()?;
    let cached_pairs_per_s = pairs.len() as f64 / started.elapsed().as_secs_f64();

    let counted = counted::count(&model.config, DType::F32, &[model.num_blocks()], options);
    let of_pair: u64 = counted.iter().map(|stage| stage.cached_pair_flops).sum();
    let config = config(layer, options.batch_size);
    let mut trainer = Trainer::new(model, &config, &data);
    let batch = |step: usize| -> Vec<usize> {
        (0..options.batch_size).map(|i| (step * options.batch_size + i) % pairs.len()).collect()
    };
    let sign = |step: usize| if step.is_multiple_of(2) { 1.0 } else { -1.0 };
    let mut tokens_a_step = 0;
    for step in 0..3 {
        tokens_a_step = trainer.step(&batch(step), sign(step), 1)?.tokens;
    }
    model.synchronize()?;
    let (flops, started, mut count) = (trainer.state.timings.flops, Instant::now(), 0);
    while count < 3 || started.elapsed() < options.time {
        trainer.step(&batch(count), sign(count), 1)?;
        count += 1;
    }
    model.synchronize()?;
    let seconds = started.elapsed().as_secs_f64();
    Ok(Steps {
        steps: count,
        seconds,
        steps_per_s: count as f64 / seconds,
        tokens_a_step,
        flops_per_s: (trainer.state.timings.flops - flops) as f64 / seconds,
        cached_pairs_per_s,
        cached_flops_per_s: cached_pairs_per_s * of_pair as f64,
    })
}

/// Times the generation of equally many tokens at each magnitude from a random prompt.
///
/// # Errors
/// A tensor operation fails.
pub fn sweep(model: &Model, magnitudes: usize, options: &BenchOptions) -> Result<SweepSpeed> {
    let mut rng = ChaCha8Rng::seed_from_u64(12);
    let prompt = random_ids(options.prompt_tokens, model, &mut rng);
    let v: Vec<f32> = (0..model.config.hidden_size).map(|_| rng.random_range(-0.01..0.01)).collect();
    let vectors = BTreeMap::from([(presets::default_layer(model.num_blocks()), v)]);
    let factors: Vec<f32> = (0..magnitudes).map(|i| i as f32 - (magnitudes / 2) as f32).collect();
    let run = |max_new_tokens: usize| -> Result<usize> {
        // No token ends a text, so that all texts are equally long.
        let options = GenerateOptions::greedy(max_new_tokens);
        let texts = generate(model, &prompt, &vectors, &factors, &options, &mut |_, _| Ok(()))?;
        Ok(texts.iter().map(|text| text.token_ids.len()).sum())
    };
    run(3)?;
    model.synchronize()?;
    let started = Instant::now();
    let tokens = run(options.new_tokens)?;
    model.synchronize()?;
    let seconds = started.elapsed().as_secs_f64();
    Ok(SweepSpeed { magnitudes, tokens, seconds, tokens_per_s: tokens as f64 / seconds })
}

fn config(layer: usize, batch_size: usize) -> TrainConfig {
    TrainConfig {
        epochs: 1,
        batch_size,
        lr: 1e-4,
        warmup_steps: 0,
        scheduler: Scheduler::Constant,
        seed: 0,
        ..TrainConfig::at(layer)
    }
}

fn random_ids(count: usize, model: &Model, rng: &mut ChaCha8Rng) -> Vec<u32> {
    (0..count).map(|_| rng.random_range(0..model.config.vocab_size as u32)).collect()
}

fn random_pair(row: usize, model: &Model, options: &BenchOptions, rng: &mut ChaCha8Rng) -> EncodedPair {
    let prompt = random_ids(options.prompt_tokens, model, rng);
    let mut response = || {
        let ids = [prompt.clone(), random_ids(options.response_tokens, model, rng)].concat();
        EncodedResponse { ids, start: prompt.len(), in_spans: None }
    };
    EncodedPair { row, chosen: response(), rejected: response() }
}

#[cfg(test)]
mod tests;

//! Benchmarks of whole passes: a training step at the shape of SmolLM2-135M, one block of a 7B model forward and back, and
//! decoding at 1, 5 and 9 magnitudes. A model is made when the first benchmark that needs it runs.

use std::cell::LazyCell;
use std::collections::BTreeMap;

use bipo::generate::{GenerateOptions, generate};
use bipo::model::Model;
use bipo::model::layout::Layout;
use bipo::ops::head::Gradient;
use bipo::steering::positions::Positions;
use bipo::text::tokens::{EncodedPair, EncodedResponse};
use bipo::train::activations::{Activations, CacheOptions};
use bipo::train::optim::Scheduler;
use bipo::train::{Direction, Factor, ObjectiveName, TrainConfig, Trainer};
use criterion::Throughput;

use crate::Bench;
use crate::model::{LLAMA_7B_BLOCK, SMOLLM2, random};
use crate::ops::seen;

const LAYER: usize = 14;
const PAIRS: usize = 4;
const PROMPT: usize = 64;
const RESPONSE: usize = 33; // its last token is predicted, but predicts nothing
const NEW_TOKENS: usize = 32;
const BLOCK_ROWS: usize = 512;

pub fn bench(bench: &mut Bench) {
    let model = LazyCell::new(|| SMOLLM2.model().expect("a random model"));
    training_step(bench, &model);
    decode(bench, &model);
    block_7b(bench);
}

fn training_step(bench: &mut Bench, model: &LazyCell<Model, impl FnOnce() -> Model>) {
    let config = config();
    let data = LazyCell::new(|| {
        let pairs: Vec<EncodedPair> = (0..PAIRS).map(pair).collect();
        Activations::compute(model, &pairs, LAYER, config.positions).expect("activations of valid tokens")
    });
    let mut group = bench.benchmark_group("training step");
    group.throughput(Throughput::Elements(step_flops() as u64));
    group.bench_function("135M, 4 pairs", |b| {
        let mut trainer = Trainer::new(model, &config, &data);
        b.iter(|| trainer.step(&[0, 1, 2, 3], 1.0, 1).expect("a finite step"));
    });
    group.finish();
}

/// Returns a pair whose responses share a prompt and differ after it.
fn pair(row: usize) -> EncodedPair {
    let response = |side: usize| {
        let token = |at: usize| match at < PROMPT {
            true => 7 * at + 1000 * row,
            false => 11 * at + 1000 * row + 20_000 * side,
        };
        EncodedResponse { ids: (0..PROMPT + RESPONSE).map(|at| token(at) as u32).collect(), start: PROMPT, in_spans: None }
    };
    EncodedPair { row, chosen: response(0), rejected: response(1) }
}

/// Counts the operations of a step: the blocks above the layer and the head, forward and back.
fn step_flops() -> usize {
    let tail = RESPONSE - 1;
    let rows = PROMPT + 2 * tail;
    let queries = 1 + 2 * tail; // the prompt's last row predicts the first token of both
    let seen_by_tails = 2 * (tail * PROMPT + tail * (tail + 1) / 2);
    let seen_by_prompt = PROMPT * (PROMPT + 1) / 2;
    let full = SMOLLM2.block_flops(rows);
    let last = SMOLLM2.last_block_flops(rows, queries);
    let blocks = SMOLLM2.blocks - LAYER - 1;
    let products = 2 * ((blocks - 1) * full + last);
    let attention = 3
        * ((blocks - 1) * SMOLLM2.attention_flops(seen_by_prompt + seen_by_tails)
            + SMOLLM2.attention_flops(PROMPT + seen_by_tails));
    let head = 4 * queries * SMOLLM2.hidden * SMOLLM2.vocab;
    PAIRS * (products + attention + head)
}

fn config() -> TrainConfig {
    TrainConfig {
        layers: LAYER.into(),
        epochs: 1,
        max_steps: None,
        schedule_epochs: None,
        batch_size: PAIRS,
        lr: 0.0, // the thousandth step does what the first did
        objective: ObjectiveName::Bipo,
        beta: 0.1,
        gamma: None,
        direction: Direction::Sign,
        max_grad_norm: None,
        positions: Positions::All,
        weight_decay: 0.0,
        warmup_steps: 0,
        scheduler: Scheduler::Constant,
        seed: 11,
        init: None,
        init_scale: 0.0,
        factor: Factor::One,
        cache: CacheOptions::default(),
    }
}

fn decode(bench: &mut Bench, model: &LazyCell<Model, impl FnOnce() -> Model>) {
    let prompt: Vec<u32> = (0..PROMPT as u32).map(|at| 7 * at).collect();
    let vectors = BTreeMap::from([(LAYER, vec![0.01; SMOLLM2.hidden])]);
    let options = GenerateOptions::greedy(NEW_TOKENS);
    let mut group = bench.benchmark_group("decode");
    // Each token takes one pass over the weights for all magnitudes; the prompt's pass gives the first token.
    group.throughput(Throughput::Bytes((NEW_TOKENS * SMOLLM2.weight_bytes()) as u64));
    for magnitudes in [1usize, 5, 9] {
        let at: Vec<f32> = (0..magnitudes).map(|i| i as f32).collect();
        group.bench_function(format!("{NEW_TOKENS} tokens at {magnitudes} magnitudes"), |b| {
            let model = &**model;
            b.iter(|| generate(model, &prompt, &vectors, &at, &options, &mut |_, _| Ok(())).expect("finite logits"));
        });
    }
    group.finish();
}

fn block_7b(bench: &mut Bench) {
    let model = LazyCell::new(|| LLAMA_7B_BLOCK.model().expect("a random model"));
    let mut layout = Layout::default();
    layout.push_sequence(BLOCK_ROWS);
    let flops = 2 * LLAMA_7B_BLOCK.block_flops(BLOCK_ROWS) + 3 * LLAMA_7B_BLOCK.attention_flops(seen(&layout.segments));
    let mut group = bench.benchmark_group("training step");
    group.throughput(Throughput::Elements(flops as u64));
    group.bench_function("one 7B block, 512 rows", |b| {
        let plan = model.plan(&layout).expect("positions");
        let x = random(1, (BLOCK_ROWS, LLAMA_7B_BLOCK.hidden)).expect("a tensor");
        b.iter(|| {
            let (y, saved) = model.run_saving(0..1, &x, &plan, Gradient::Wanted).expect("a forward pass");
            model.vjp(1, saved, &plan, &y).expect("a gradient")
        });
    });
    group.finish();
}

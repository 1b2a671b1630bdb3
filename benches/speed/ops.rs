//! Benchmarks of each op alone, forward and vjp, at the shapes of SmolLM2-135M and 512 rows: four pairs, each with a prompt of
//! 64 tokens and two responses of 32.

use bipo::Result;
use bipo::model::config::RopeParameters;
use bipo::model::layout::{Branches, Layout};
use bipo::ops::attention::{AttentionShape, Segment, Segments};
use bipo::ops::gated::{self, Activation};
use bipo::ops::head::{Gradient, Head, Prediction, Predictions};
use bipo::ops::linear::Products;
use bipo::ops::norm::RmsNorm;
use bipo::ops::rope::{self, Angles, Rope};
use bipo::ops::weight::{HostWeight, Weight};
use candle_core::{DType, Device, Tensor};
use criterion::Throughput;

use crate::Bench;
use crate::ceilings::dense;
use crate::model::{SMOLLM2, random};

const PAIRS: usize = 4;
const BRANCHES: Branches = Branches { shared: 64, first: 32, second: 32 };
const ROWS: usize = 512;

/// Counts the pairs of a query and a key that it sees.
pub fn seen(segments: &[Segment]) -> usize {
    segments.iter().map(|segment| (0..segment.queries.len()).map(|i| segment.visible(i, None).len()).sum::<usize>()).sum()
}

pub fn bench(bench: &mut Bench) -> Result<()> {
    let mut layout = Layout::default();
    (0..PAIRS).for_each(|_| layout.push_branches(&BRANCHES));
    rows(bench, &layout)?;
    attention(bench, &layout.segments)?;
    linear(bench)?;
    head(bench)
}

/// Returns the throughput of an op that moves this many f32 numbers.
fn bytes(floats: usize) -> Throughput {
    Throughput::Bytes(4 * floats as u64)
}

fn flops(flops: usize) -> Throughput {
    Throughput::Elements(flops as u64)
}

/// Runs one benchmark.
fn run(bench: &mut Bench, name: &str, throughput: Throughput, mut body: impl FnMut() -> Result<Tensor>) {
    let (group, function) = name.split_once('/').expect("a group and a function");
    let mut group = bench.benchmark_group(group);
    group.throughput(throughput);
    group.bench_function(function, |b| b.iter(|| body().expect("an op on tensors of its shapes")));
    group.finish();
}

/// Benchmarks the ops that pass over their rows once.
fn rows(bench: &mut Bench, layout: &Layout) -> Result<()> {
    let (hidden, inner) = (SMOLLM2.hidden, SMOLLM2.inner);
    let norm = RmsNorm { weight: Tensor::ones(hidden, DType::F32, &Device::Cpu)?, eps: 1e-5, offset: 0.0 };
    let (x, dy) = (random(1, (ROWS, hidden))?, random(2, (ROWS, hidden))?);
    run(bench, "norm/forward", bytes(2 * ROWS * hidden), || norm.forward(&x));
    run(bench, "norm/vjp", bytes(3 * ROWS * hidden), || norm.vjp(&x, &dy));

    let rope = Rope::new(SMOLLM2.head_dim(), &RopeParameters::plain(1e4, SMOLLM2.head_dim()));
    let angles = Angles::new(&rope, &layout.positions, &layout.lengths, &Device::Cpu)?;
    let inverse = angles.inverse();
    let rope_bytes = || bytes(2 * ROWS * hidden + ROWS * SMOLLM2.head_dim());
    run(bench, "rope/forward", rope_bytes(), || rope::forward(&x, &angles));
    run(bench, "rope/vjp", rope_bytes(), || rope::forward(&dy, &inverse));

    let (gate_up, dy) = (random(3, (ROWS, 2 * inner))?, random(4, (ROWS, inner))?);
    for (name, activation) in [("swiglu", Activation::Silu), ("geglu", Activation::GeluTanh)] {
        let name = |pass| format!("{name}/{pass}");
        run(bench, &name("forward"), bytes(3 * ROWS * inner), || gated::forward(&gate_up, activation));
        run(bench, &name("vjp"), bytes(5 * ROWS * inner), || gated::vjp(&gate_up, &dy, activation));
    }
    Ok(())
}

/// Benchmarks attention. The vjp computes the scores again, and this fifth product is not counted.
fn attention(bench: &mut Bench, segments: &[Segment]) -> Result<()> {
    let (heads, kv_heads, head_dim) = (SMOLLM2.heads, SMOLLM2.kv_heads, SMOLLM2.head_dim());
    let scale = 1.0 / (head_dim as f64).sqrt();
    let attention = AttentionShape { heads, kv_heads, head_dim, sliding_window: None, scale, softcap: None };
    let (q, dy) = (random(1, (ROWS, SMOLLM2.hidden))?, random(2, (ROWS, SMOLLM2.hidden))?);
    let (k, v) = (random(3, (ROWS, SMOLLM2.kv_width()))?, random(4, (ROWS, SMOLLM2.kv_width()))?);
    let forward = SMOLLM2.attention_flops(seen(segments));
    let segments = &Segments::new(segments.to_vec(), ROWS, &Device::Cpu)?;
    run(bench, "attention/forward", flops(forward), || attention.forward(&q, &k, &v, segments));
    run(bench, "attention/vjp", flops(2 * forward), || Ok(attention.vjp(&q, &k, &v, segments, &dy)?.q));
    Ok(())
}

/// Benchmarks projections on many rows, as in training, and on few, as in decoding, where reading the weight takes the time.
fn linear(bench: &mut Bench) -> Result<()> {
    for (name, inputs, outputs) in SMOLLM2.projections() {
        let linear = dense(random(1, (outputs, inputs))?)?;
        let (x, dy) = (random(2, (ROWS, inputs))?, random(3, (ROWS, outputs))?);
        let each = 2 * ROWS * inputs * outputs;
        run(bench, &format!("linear/{name} forward"), flops(each), || linear.forward(&x, Products::Fastest));
        run(bench, &format!("linear/{name} vjp"), flops(each), || linear.vjp(&dy));
    }
    let unembedding = dense(random(1, (SMOLLM2.vocab, SMOLLM2.hidden))?)?;
    for rows in [1, 5, 9] {
        let x = random(2, (rows, SMOLLM2.hidden))?;
        let name = format!("linear/unembedding of {rows} rows");
        run(bench, &name, bytes(SMOLLM2.vocab * SMOLLM2.hidden), || unembedding.forward(&x, Products::Fastest));
    }
    Ok(())
}

/// Benchmarks the head, with one predicted token per row.
fn head(bench: &mut Bench) -> Result<()> {
    let (hidden, vocab, rows) = (SMOLLM2.hidden, SMOLLM2.vocab, ROWS / 2);
    let head = Head { weight: Weight::Host(HostWeight::dense(random(1, (vocab, hidden))?)?), softcap: None };
    let x = random(2, (rows, hidden))?;
    let predictions = (0..rows).map(|row| Prediction { row, target: 191 * row as u32 }).collect();
    let predictions = Predictions::new(predictions, rows, &Device::Cpu)?;
    let gradients = Tensor::full(0.1f32, rows, &Device::Cpu)?;
    let product = 2 * rows * hidden * vocab;
    for (name, gradient, products) in [("alone", Gradient::NotWanted, 1), ("for a gradient", Gradient::Wanted, 2)] {
        run(bench, &format!("head/forward {name}"), flops(products * product), || {
            Ok(head.forward(&x, &predictions, gradient)?.log_probs)
        });
    }
    let saved = head.forward(&x, &predictions, Gradient::Wanted)?;
    run(bench, "head/vjp", bytes(3 * rows * hidden), || head.vjp(&saved, &predictions, &gradients, DType::F32));
    Ok(())
}

//! A whole step through the kernels of a GPU, run on the CPU from their sources, against the step of the CPU.

use std::collections::BTreeMap;

use candle_core::DType;

use super::*;
use crate::model::Model;
use crate::model::fixtures::tiny;
use crate::ops::cuda::emulated;
use crate::steering::Steering;
use crate::steering::positions::Positions;
use crate::text::tokens::{EncodedPair, EncodedResponse};
use crate::train::activations::{Activations, CachedPair};

/// A step: log-probabilities of some pairs' responses with a vector added, and the gradient of the loss.
fn step(model: &Model, positions: Positions, beta: f64) -> (Vec<PairLogProbs>, Vec<f32>) {
    let token = |i: u32| 3 + (i * 7919 + 13) % (model.config.vocab_size as u32 - 3);
    let side = |row: u32, seed: u32, len: u32| {
        let prompt = (0..6).map(token).chain((0..2 + row).map(|i| token(row * 17 + i)));
        let ids: Vec<u32> = prompt.chain((0..len).map(|i| token(seed * 31 + i))).collect();
        EncodedResponse { start: ids.len() - len as usize, ids, in_spans: None }
    };
    let pair =
        |row: u32| EncodedPair { row: row as usize, chosen: side(row, row + 1, 4 - row), rejected: side(row, row + 50, 2) };
    let pairs: Vec<EncodedPair> = (0..3).map(pair).collect();
    let data = Activations::compute(model, &pairs, 0, positions).unwrap();
    let (batch, residual) = data.batch(model, &data.entries.iter().collect::<Vec<_>>()).unwrap();
    let v: Vec<f32> = (0..model.config.hidden_size).map(|i| (i as f32 * 1.7).sin() * 0.1).collect();
    let steering = Steering::new(&BTreeMap::from([(0, v)]), model.device()).unwrap();
    let pass = batch.upper(&residual, 0, &steering, Gradient::Wanted).unwrap();
    // Margins near 0, 1 and −1.
    let off = |(entry, by): (&CachedPair, f64)| PairReference {
        log_probs: [entry.reference[0] + by, entry.reference[1]],
        ..entry.pair_reference()
    };
    let references: Vec<PairReference> = data.entries.iter().zip([0.0, -2.0, 2.0]).map(off).collect();
    let slopes = batch.slopes(&pass, Objective::Bipo { beta }, -1.0, &references).unwrap();
    batch.vjp(pass, &slopes).unwrap()
}

/// Of the log-probabilities and of the gradient, relative to their lengths.
fn distances(a: &(Vec<PairLogProbs>, Vec<f32>), b: &(Vec<PairLogProbs>, Vec<f32>)) -> [f64; 2] {
    let relative = |a: Vec<f64>, b: Vec<f64>| {
        let length = |x: &mut dyn Iterator<Item = f64>| x.map(|x| x * x).sum::<f64>().sqrt();
        length(&mut a.iter().zip(&b).map(|(a, b)| a - b)) / length(&mut b.iter().copied())
    };
    let (log_probs, gradient) = (|x: &[PairLogProbs]| x.concat(), |x: &[f32]| x.iter().map(|x| f64::from(*x)).collect());
    [relative(log_probs(&a.0), log_probs(&b.0)), relative(gradient(&a.1), gradient(&b.1))]
}

#[test]
fn a_step_through_the_kernels_is_that_of_the_cpu() {
    for (name, positions) in [
        ("llama", Positions::All),
        ("llama", Positions::Response),
        ("llama-bias", Positions::All),
        ("mistral", Positions::All),
        ("qwen3", Positions::Response),
    ] {
        let model = tiny(name, DType::F32);
        let (exact, ours) = (step(&model, positions, 0.5), emulated(|| step(&model, positions, 0.5)));
        let [log_probs, gradient] = distances(&ours, &exact);
        assert!(log_probs < 2e-5 && gradient < 2e-5, "{name} {positions:?}: off by {log_probs}, {gradient}");
        if !matches!((name, positions), ("llama", Positions::All) | ("qwen3", _)) {
            continue;
        }
        // In 16 bits weights and residuals are rounded too: as near as candle's own ops come, in the same types.
        let coarse = tiny(name, DType::BF16);
        let composed = distances(&step(&coarse, positions, 0.5), &exact);
        let ours = distances(&emulated(|| step(&coarse, positions, 0.5)), &exact);
        for (ours, composed) in ours.into_iter().zip(composed) {
            assert!(ours < 1.25 * composed + 2e-3, "{name} {positions:?}: off by {ours}, composed ops by {composed}");
        }
    }
}

#[test]
fn small_gradients_keep_their_digits_in_f16() {
    // Slopes of 2e-7, of which f16 has two digits, and none of the products with them.
    let of = |model: &Model| step(model, Positions::All, 1e-6);
    let (exact, model) = (of(&tiny("llama", DType::F32)), tiny("llama", DType::F16));
    for found in [of(&model), emulated(|| of(&model))] {
        let [_, gradient] = distances(&found, &exact);
        assert!(gradient < 0.02, "off by {gradient}");
    }
}

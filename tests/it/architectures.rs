//! Tiny random models of every supported architecture against what `transformers` computed from the same files, and the
//! properties that must hold on each: prompt sharing, packing, gradients, directions.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use bipo::activations::Activations;
use bipo::batch::{Batch, PairRows};
use bipo::generate::generate;
use bipo::loss::bidirectional_dpo;
use bipo::model::Model;
use bipo::model::config::Config;
use bipo::model::layout::Layout;
use bipo::model::resolve::Checkpoint;
use bipo::model::weights::Weights;
use bipo::ops::head::Gradient;
use bipo::tokens::{EncodedPair, EncodedResponse};
use bipo::vector::Positions;
use candle_core::{DType, Device, Tensor};

use crate::common;

const ARCHITECTURES: [&str; 9] =
    ["llama", "llama-bias", "llama-dynamic", "llama-linear", "llama-tied", "llama-tied-bf16", "mistral", "qwen2", "qwen3"];

fn folder(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(name)
}

fn load(name: &str, dtype: DType) -> Model {
    let dir = folder(name);
    let mut shards: Vec<PathBuf> = std::fs::read_dir(&dir).unwrap().map(|entry| entry.unwrap().path()).collect();
    shards.retain(|path| {
        path.file_name().unwrap().to_str().unwrap().starts_with("model") && path.extension().unwrap() == "safetensors"
    });
    shards.sort();
    let checkpoint = Checkpoint::Safetensors {
        config: dir.join("config.json"),
        shards,
        tokenizer: dir.join("tokenizer.json"),
        tokenizer_config: None,
        generation_config: None,
        chat_template: None,
    };
    let weights = Weights::open(&checkpoint).unwrap();
    let config = Config::load(&checkpoint, &weights).unwrap();
    Model::load(&weights, config, dtype, &Device::Cpu).unwrap()
}

struct Recorded(std::collections::HashMap<String, Tensor>);

impl Recorded {
    fn of(name: &str) -> Self {
        Self(candle_core::safetensors::load(folder(name).join("expected.safetensors"), &Device::Cpu).unwrap())
    }

    fn ids(&self, name: &str) -> Vec<u32> {
        self.0[name].flatten_all().unwrap().to_vec1::<i64>().unwrap().into_iter().map(|id| id as u32).collect()
    }

    fn floats(&self, name: &str) -> Vec<f32> {
        self.0[name].flatten_all().unwrap().to_vec1().unwrap()
    }

    fn layer(&self) -> usize {
        self.ids("steered_layer")[0] as usize
    }
}

fn difference(a: &Tensor, b: &Tensor) -> f64 {
    assert_eq!(a.dims(), b.dims());
    let wide = |t: &Tensor| t.to_dtype(DType::F64).unwrap();
    (wide(a) - wide(b)).unwrap().abs().unwrap().flatten_all().unwrap().max(0).unwrap().to_scalar().unwrap()
}

#[test]
fn residuals_logits_and_steered_logits_agree_with_transformers() {
    for name in ARCHITECTURES {
        let (model, recorded) = (load(name, DType::F32), Recorded::of(name));
        let ids = recorded.ids("input_ids");
        let mut layout = Layout::default();
        layout.push_sequence(ids.len());
        let plan = model.plan(&layout).unwrap();
        let mut x = model.embed(&ids).unwrap();
        let mut steered = x.clone();
        for block in 0..model.num_blocks() {
            x = model.run(block..block + 1, &x, &plan).unwrap();
            steered = model.run(block..block + 1, &steered, &plan).unwrap();
            let worst = difference(&x, &recorded.0[&format!("hidden.{block}")]);
            assert!(worst < 1e-4, "{name}: residual after block {block} differs by {worst}");
            if block == recorded.layer() {
                steered = steered.broadcast_add(&(&recorded.0["v"] * 2.0).unwrap()).unwrap();
            }
        }
        for (x, what) in [(&x, "logits"), (&steered, "steered_logits")] {
            let worst = difference(&model.logits(x).unwrap(), &recorded.0[what]);
            assert!(worst < 1e-4, "{name}: {what} differ by {worst}");
        }
    }
}

#[test]
fn cached_greedy_tokens_agree_with_full_forward_passes_of_transformers() {
    for name in ARCHITECTURES {
        let recorded = Recorded::of(name);
        if name == "llama-dynamic" {
            assert!(!recorded.0.contains_key("greedy_ids"), "not recorded: depends on how keys are cached");
            continue;
        }
        let model = load(name, DType::F32);
        let vectors = BTreeMap::from([(recorded.layer(), recorded.floats("v"))]);
        let options = common::greedy(12, &[]);
        let texts = generate(&model, &recorded.ids("input_ids"), &vectors, &[-1.0, 2.0], &options, &mut |_, _| Ok(())).unwrap();
        assert_eq!(texts[1].token_ids, recorded.ids("greedy_ids"), "{name}");
    }
}

/// The recorded sequence as chosen, with its last five tokens as the response, and another response as rejected.
fn recorded_pair(recorded: &Recorded) -> EncodedPair {
    let ids = recorded.ids("input_ids");
    let start = ids.len() - 5;
    let other = [&ids[..start], &[ids[0], ids[2], ids[1]]].concat();
    EncodedPair { row: 0, chosen: EncodedResponse { ids, start }, rejected: EncodedResponse { ids: other, start } }
}

#[test]
fn response_log_prob_and_its_gradient_agree_with_autograd() {
    for name in ARCHITECTURES {
        let (model, recorded) = (load(name, DType::F32), Recorded::of(name));
        let rows = PairRows::new(&recorded_pair(&recorded), &model);
        assert_eq!(rows.fork.shared == 0, name == "llama-dynamic", "{name}: prompt sharing");
        let batch = Batch::new(&model, &[&rows], Positions::All).unwrap();
        let residual = batch.lower(&rows.ids, recorded.layer()).unwrap();
        let pass = batch.upper(&residual, recorded.layer(), Gradient::Wanted).unwrap();
        let expected = f64::from(recorded.floats("response_logprob")[0]);
        assert!((pass.log_probs[0][0] - expected).abs() < 1e-4, "{name}: {} is not {expected}", pass.log_probs[0][0]);
        let gradient = batch.vjp(pass, &[[1.0, 0.0]]).unwrap();
        let worst = gradient.iter().zip(recorded.floats("grad_v")).map(|(a, b)| (a - b).abs()).fold(0f32, f32::max);
        let size = recorded.floats("grad_v").iter().fold(0f32, |m, x| m.max(x.abs()));
        assert!(worst < 1e-4 * size.max(1.0), "{name}: gradient differs by {worst} of {size}");
    }
}

fn pairs(model: &Model, count: usize) -> Vec<EncodedPair> {
    let vocab = model.config.vocab_size as u32;
    let token = |i: usize| 3 + (i as u32 * 7919 + 13) % (vocab - 3);
    let response = |prompt: &[u32], seed: usize, len: usize| EncodedResponse {
        ids: prompt.iter().copied().chain((0..len).map(|i| token(seed * 31 + i))).collect(),
        start: prompt.len(),
    };
    let pair = |row: usize| {
        let prompt: Vec<u32> = (0..3 + row % 4).map(|i| token(row * 17 + i)).collect();
        EncodedPair {
            row,
            chosen: response(&prompt, row + 1, 1 + row % 5),
            rejected: response(&prompt, row + 100, 2 + row % 3),
        }
    };
    (0..count).map(pair).collect()
}

#[test]
fn sharing_the_prompt_and_packing_pairs_equal_separate_sequences() {
    for name in ["llama", "mistral", "qwen2", "qwen3"] {
        let model = load(name, DType::F32);
        let pairs = pairs(&model, 6);
        let together = Activations::compute(&model, &pairs, 0, |_, _| Ok(())).unwrap();
        for (entry, pair) in together.entries.iter().zip(&pairs) {
            let alone = Activations::compute(&model, std::slice::from_ref(pair), 0, |_, _| Ok(())).unwrap();
            for (side, response) in [&pair.chosen, &pair.rejected].into_iter().enumerate() {
                let separate = separate_log_prob(&model, response);
                assert!((entry.reference[side] - separate).abs() < 1e-4, "{name}: shared and separate");
                assert!((entry.reference[side] - alone.entries[0].reference[side]).abs() < 1e-5, "{name}: packed and alone");
            }
        }
    }
}

fn separate_log_prob(model: &Model, response: &EncodedResponse) -> f64 {
    let mut layout = Layout::default();
    layout.push_sequence(response.ids.len());
    let x = model.embed(&response.ids).unwrap();
    let x = model.run(0..model.num_blocks(), &x, &model.plan(&layout).unwrap()).unwrap();
    let log_p = candle_nn::ops::log_softmax(&model.logits(&x).unwrap(), 1).unwrap().to_vec2::<f32>().unwrap();
    (response.start..response.ids.len()).map(|at| f64::from(log_p[at - 1][response.ids[at] as usize])).sum()
}

/// Loss of all pairs at d·v, and its gradient at v.
fn loss_at(model: &Model, data: &Activations, v: &[f32], d: f64, positions: Positions) -> (f64, Vec<f32>) {
    let rows: Vec<&PairRows> = data.entries.iter().map(|entry| &entry.rows).collect();
    let batch = Batch::new(model, &rows, positions).unwrap();
    let residuals: Vec<&Tensor> = data.entries.iter().map(|entry| &entry.residual).collect();
    let shift = Tensor::from_iter(v.iter().map(|x| d as f32 * x), &Device::Cpu).unwrap();
    let residual = batch.steer(&Tensor::cat(&residuals, 0).unwrap(), &shift).unwrap();
    let pass = batch.upper(&residual, data.layer, Gradient::Wanted).unwrap();
    let reference: Vec<_> = data.entries.iter().map(|entry| entry.reference).collect();
    let loss = bidirectional_dpo(0.5, d, &pass.log_probs, &reference);
    let gradient = batch.vjp(pass, &loss.gradients).unwrap().into_iter().map(|g| d as f32 * g).collect();
    (loss.value, gradient)
}

fn some_vector(len: usize, seed: usize) -> Vec<f32> {
    (0..len).map(|i| (((i + seed) * 37 % 101) as f32 - 50.0) / 100.0).collect()
}

#[test]
fn the_gradient_of_the_whole_loss_agrees_with_finite_differences() {
    for name in ARCHITECTURES {
        let model = load(name, DType::F32);
        let hidden = model.config.hidden_size;
        for layer in [0, model.num_blocks() - 1] {
            let data = Activations::compute(&model, &pairs(&model, 5), layer, |_, _| Ok(())).unwrap();
            for (positions, d) in [(Positions::All, 1.0), (Positions::Prompt, -1.0), (Positions::Response, 0.4)] {
                let v = some_vector(hidden, 5);
                let (_, gradient) = loss_at(&model, &data, &v, d, positions);
                let u = some_vector(hidden, 11);
                let at = |by: f32| {
                    let moved: Vec<f32> = v.iter().zip(&u).map(|(v, u)| v + by * u).collect();
                    loss_at(&model, &data, &moved, d, positions).0
                };
                let central = |eps: f32| (at(eps) - at(-eps)) / (2.0 * f64::from(eps));
                let numeric = (4.0 * central(5e-3) - central(1e-2)) / 3.0;
                let analytic: f64 = gradient.iter().zip(&u).map(|(g, u)| f64::from(*g) * f64::from(*u)).sum();
                let size = |x: &[f32]| x.iter().map(|x| f64::from(*x).powi(2)).sum::<f64>().sqrt();
                let error = (numeric - analytic).abs() / (size(&gradient) * size(&u)).max(1e-3);
                assert!(error < 2e-3, "{name}, layer {layer}, {positions}: {numeric} is not {analytic}");
            }
        }
    }
}

#[test]
fn the_negative_direction_equals_swapped_responses_with_the_vector_negated() {
    let model = load("llama", DType::F32);
    let pairs = pairs(&model, 5);
    let swapped: Vec<EncodedPair> = pairs
        .iter()
        .map(|pair| EncodedPair { chosen: pair.rejected.clone(), rejected: pair.chosen.clone(), row: pair.row })
        .collect();
    let v = some_vector(model.config.hidden_size, 3);
    let negated: Vec<f32> = v.iter().map(|x| -x).collect();
    let loss_of = |pairs: &[EncodedPair], v: &[f32], d: f64| {
        let data = Activations::compute(&model, pairs, 1, |_, _| Ok(())).unwrap();
        loss_at(&model, &data, v, d, Positions::All)
    };
    let (loss, gradient) = loss_of(&pairs, &v, -1.0);
    let (swapped_loss, swapped_gradient) = loss_of(&swapped, &negated, 1.0);
    assert!((loss - swapped_loss).abs() < 1e-6);
    for (a, b) in gradient.iter().zip(&swapped_gradient) {
        assert!((a + b).abs() < 1e-5);
    }
}

#[test]
fn half_precision_runs_and_stays_near_f32() {
    let recorded = Recorded::of("llama");
    for (dtype, tolerance) in [(DType::F16, 0.05), (DType::BF16, 0.5)] {
        let (model, exact) = (load("llama", dtype), load("llama", DType::F32));
        let data = |model: &Model| Activations::compute(model, &[recorded_pair(&recorded)], 1, |_, _| Ok(())).unwrap();
        let (rough, exact_data) = (data(&model), data(&exact));
        for side in [0, 1] {
            let error = (rough.entries[0].reference[side] - exact_data.entries[0].reference[side]).abs();
            assert!(error < tolerance, "{dtype:?}: log-prob differs by {error}");
        }
        let v = some_vector(model.config.hidden_size, 2);
        let (_, gradient) = loss_at(&model, &rough, &v, 1.0, Positions::All);
        let (_, expected) = loss_at(&exact, &exact_data, &v, 1.0, Positions::All);
        let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum::<f64>();
        let cosine = dot(&gradient, &expected) / (dot(&gradient, &gradient) * dot(&expected, &expected)).sqrt();
        assert!(cosine > 0.99, "{dtype:?}: gradient cosine {cosine}");
        let vectors = BTreeMap::from([(1, v)]);
        let ids = recorded.ids("input_ids");
        let texts = generate(&model, &ids, &vectors, &[0.0, 1.0], &common::greedy(4, &[]), &mut |_, _| Ok(())).unwrap();
        assert_eq!(texts[1].token_ids.len(), 4);
    }
}

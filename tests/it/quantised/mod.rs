//! Training and sweeping from quantised GGUF files, weights left in the file, against the same numbers decoded to f32. What
//! the numbers are is proved beside the encodings, against candle.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use bipo::generate::{Engine, EngineLimits, EventKind, GenerateOptions, Request, generate, next_token_logits};
use bipo::model::checkpoint::Checkpoint;
use bipo::model::config::Config;
use bipo::model::weights::{WeightStorage, Weights};
use bipo::model::{Decoding, Model};
use bipo::steering::positions::Positions;
use bipo::steering::{Operation, Steering};
use bipo::text::tokens::{EncodedPair, EncodedPrompt, EncodedResponse};
use bipo::train::activations::{Activations, CacheOptions};
use bipo::train::optim::Scheduler;
use bipo::train::{Direction, Factor, ObjectiveName, TrainConfig, Trainer};
use candle_core::quantized::GgmlDType;
use candle_core::{DType, Device, Tensor};

use crate::common;
use files::{Contents, FAMILIES, VOCAB};

mod files;

const HIDDEN: usize = 256; // a block of the K formats

/// A Llama of random weights whose matrices are of one type.
fn gguf(dir: &Path, dtype: GgmlDType) -> PathBuf {
    Contents::new("llama", HIDDEN, dtype).write(dir, &format!("{dtype:?}.gguf"))
}

fn open(path: &Path) -> (Weights, Config) {
    let checkpoint = Checkpoint::Gguf { path: path.to_owned(), tokenizer: None };
    let weights = Weights::open(&checkpoint).unwrap();
    let config = Config::load(&checkpoint, &weights).unwrap();
    (weights, config)
}

fn load(path: &Path, storage: WeightStorage) -> Model {
    let (weights, config) = open(path);
    Model::load_as(&weights, config, DType::F32, &Device::Cpu, storage).unwrap()
}

fn pair(row: usize) -> EncodedPair {
    let response = |side: usize| {
        let token = |at: usize| ((at * 7 + row * 31 + if at < 9 { 0 } else { side * 101 }) % VOCAB) as u32;
        EncodedResponse { ids: (0..18 + row).map(token).collect(), start: 9, in_spans: None }
    };
    EncodedPair { row, chosen: response(1), rejected: response(2) }
}

/// v after a few steps.
fn trained(model: &Model) -> Vec<f32> {
    let config = TrainConfig {
        layers: 0.into(),
        epochs: 1,
        max_steps: None,
        schedule_epochs: None,
        batch_size: 2,
        lr: 0.05,
        objective: ObjectiveName::Bipo,
        beta: 0.1,
        gamma: None,
        direction: Direction::Sign,
        max_grad_norm: None,
        positions: Positions::All,
        weight_decay: 0.0,
        warmup_steps: 0,
        scheduler: Scheduler::Constant,
        seed: 3,
        init: None,
        init_scale: 0.0,
        factor: Factor::One,
        cache: CacheOptions::default(),
    };
    let pairs: Vec<EncodedPair> = (0..4).map(pair).collect();
    let data = Activations::compute(model, &pairs, 0, Positions::All).unwrap();
    let mut trainer = Trainer::new(model, &config, &data);
    for (batch, d) in [([0, 1], 1.0), ([2, 3], -1.0), ([1, 2], 1.0)] {
        trainer.step(&batch, d, 1).unwrap();
    }
    trainer.state.v.clone()
}

#[test]
fn texts_in_whole_numbers_are_close_to_exact_ones_and_the_same_alone_and_in_a_sweep() {
    let dir = tempfile::tempdir().unwrap();
    let vectors = BTreeMap::from([(0, (0..HIDDEN).map(|i| (i as f32 * 1.7).sin()).collect())]);
    let (prompt, options) = (vec![5, 40, 7, 300, 12], common::greedy(6, &[]));
    for dtype in [GgmlDType::Q4K, GgmlDType::Q6K, GgmlDType::Q8_0, GgmlDType::Q5_0, GgmlDType::Q4_1] {
        let mut model = load(&gguf(dir.path(), dtype), WeightStorage::Stored);
        let exact = second_token(&model, &vectors, 1.0, &prompt);
        model.decoding = Decoding::Integer;
        let rounded = second_token(&model, &vectors, 1.0, &prompt);
        // Two roundings of 127 steps in five products a block change a log-prob of about ln(320) by little, but they change it.
        let difference = (rounded - exact).abs();
        assert!(
            (difference > 0.0) == bipo::ops::integer_kernel().is_some() && difference < 0.03,
            "{dtype:?}: {rounded} is not {exact}"
        );
        let untouched = BTreeMap::from([(0, vec![0.0; HIDDEN])]);
        let bits = |vectors, magnitude| second_token(&model, vectors, magnitude, &prompt).to_bits();
        assert_eq!(bits(&vectors, 0.0), bits(&untouched, 1.0), "{dtype:?}");

        let texts = generate(&model, &prompt, &vectors, &[-2.0, 0.0, 2.0], &options, &mut |_, _| Ok(())).unwrap();
        for (text, alone) in texts.iter().zip([-2.0, 0.0, 2.0]) {
            let single = generate(&model, &prompt, &vectors, &[alone], &options, &mut |_, _| Ok(())).unwrap();
            assert_eq!(text.token_ids, single[0].token_ids, "{dtype:?} at {alone}");
        }
    }
}

/// The log-prob of the token behind the first generated one, which is the first that is decoded.
fn second_token(model: &Model, vectors: &BTreeMap<usize, Vec<f32>>, magnitude: f32, prompt: &[u32]) -> f32 {
    let mut engine = Engine::new(model, EngineLimits { tokens: 64, streams: 1 }).unwrap();
    let steering = Arc::new(Steering::by(Operation::Add, vectors, &Device::Cpu).unwrap());
    let options = GenerateOptions { top_log_probs: Some(1), ..common::greedy(2, &[]) };
    let prompt = EncodedPrompt { ids: prompt.to_vec(), spans: None };
    engine.submit(Request::new(&prompt, &steering, magnitude, &options)).unwrap();
    let mut found = Vec::new();
    while !engine.is_idle() {
        for event in engine.step().unwrap() {
            if let EventKind::Token { log_probs, .. } = event.kind {
                found.push(log_probs.unwrap().chosen);
            }
        }
    }
    found[1]
}

#[test]
fn exact_keeps_the_text_of_dense_weights() {
    let model = common::smollm2_path();
    let dir = tempfile::tempdir().unwrap();
    let vector = dir.path().join("v.json");
    let direction: Vec<f64> = (0..576).map(|i| 0.2 * (f64::from(i) * 1.7).sin()).collect();
    std::fs::write(&vector, serde_json::json!({"model_type": "llama", "directions": {"14": direction}}).to_string()).unwrap();
    let texts = |flags: &[&str]| {
        let output = Command::new(env!("CARGO_BIN_EXE_bipo"))
            .args(["steer", "--quiet", "--json", "--offline", "--model", model.to_str().unwrap(), "--vector"])
            .arg(&vector)
            .args(["--magnitudes=0,1", "--max-new-tokens", "12", "--prompt", "What is a river?"])
            .args(flags)
            .output()
            .unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let document: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        let ids = |result: &serde_json::Value| result["token_ids"].clone();
        let all: Vec<_> = document["results"].as_array().unwrap().iter().map(ids).collect();
        (document["run"]["decoding"]["exact"].as_bool().unwrap(), all)
    };
    let (dense, exact) = (texts(&["--weights", "dense"]), texts(&["--weights", "quantized", "--exact"]));
    assert_eq!(exact, dense);
    assert!(exact.0);
    let (is_exact, rounded) = texts(&["--weights", "quantized"]);
    assert_eq!(is_exact, bipo::ops::integer_kernel().is_none());
    // The first token comes from the prompt, which is computed exactly.
    assert_eq!(rounded.iter().map(|ids| &ids[0]).collect::<Vec<_>>(), dense.1.iter().map(|ids| &ids[0]).collect::<Vec<_>>());
}

#[test]
fn quantised_files_train_and_sweep_as_their_decoded_numbers_do() {
    let dir = tempfile::tempdir().unwrap();
    for dtype in [GgmlDType::Q4K, GgmlDType::Q6K, GgmlDType::Q8_0, GgmlDType::Q4_0, GgmlDType::Q4_1] {
        let path = gguf(dir.path(), dtype);
        let (stored, dense) = (load(&path, WeightStorage::Stored), load(&path, WeightStorage::Dense));
        let (in_memory, mapped) = stored.weight_bytes();
        let file = std::fs::metadata(&path).unwrap().len() as usize;
        assert!(in_memory == 0 && mapped < file, "{dtype:?}: {in_memory} bytes copied, {mapped} mapped of {file}");
        assert_alike(&format!("{dtype:?}"), &stored, &dense);
    }
}

#[test]
fn every_family_trains_and_sweeps_from_encoded_blocks_as_from_the_same_numbers_in_f32() {
    let dir = tempfile::tempdir().unwrap();
    for family in FAMILIES {
        let encoded = Contents::new(family, 64, GgmlDType::Q8_0);
        let (decoded, path) = (encoded.decoded().write(dir.path(), "f32.gguf"), encoded.write(dir.path(), "q8_0.gguf"));
        let (stored, expected) = (load(&path, WeightStorage::Stored), load(&decoded, WeightStorage::Dense));
        let (in_memory, mapped) = stored.weight_bytes();
        let file = std::fs::metadata(&path).unwrap().len() as usize;
        assert!(
            in_memory == 0 && mapped < file && 2 * mapped > file,
            "{family}: {in_memory} copied, {mapped} mapped of {file}"
        );
        assert_alike(family, &stored, &expected);
        let unpacked = load(&path, WeightStorage::Dense);
        assert!(unpacked.weight_bytes().0 > 3 * mapped, "{family}: {:?}", unpacked.weight_bytes());
        assert!(difference(&first_logits(&unpacked), &first_logits(&expected)) < 1e-4, "{family}, unpacked");
    }
}

/// What is counted before a model is loaded is what loading takes, where rows in another order are copied and others are not.
#[test]
fn rows_that_are_copied_into_their_order_are_counted_among_the_memory_of_the_weights() {
    let dir = tempfile::tempdir().unwrap();
    for (family, copied) in [("llama", true), ("granite", true), ("phi3", true), ("qwen3", false), ("gemma3", false)] {
        for (dtype, of_file) in [(DType::BF16, GgmlDType::BF16), (DType::F16, GgmlDType::F16), (DType::F32, GgmlDType::F32)] {
            let path = Contents::new(family, 64, of_file).write(dir.path(), "m.gguf");
            let (weights, config) = open(&path);
            let counted = weights.converted_bytes(&config, dtype, WeightStorage::Dense);
            let model = Model::load_as(&weights, config.clone(), dtype, &Device::Cpu, WeightStorage::Dense).unwrap();
            assert_eq!(counted, model.weight_bytes().0 as u64, "{family} in {dtype:?}");
            // Queries of width 64 and keys of 32, from 64 inputs, in two blocks.
            let rows = if copied { 2 * (64 + 32) * 64 } else { 0 };
            assert_eq!(counted, (rows * dtype.size_in_bytes()) as u64, "{family} in {dtype:?}");
            assert_eq!(weights.converted_bytes(&config, dtype, WeightStorage::Stored), 0);
        }
    }
}

fn difference(a: &Tensor, b: &Tensor) -> f32 {
    (a - b).unwrap().abs().unwrap().flatten_all().unwrap().max(0).unwrap().to_scalar().unwrap()
}

const PROMPT: [u32; 5] = [5, 40, 7, 300, 12];

fn first_logits(model: &Model) -> Tensor {
    let vectors = BTreeMap::from([(0, vec![0.1; model.config.hidden_size])]);
    next_token_logits(model, &PROMPT[..], &vectors, &[1.0], &common::greedy(1, &[])).unwrap()
}

/// Asserts that a model learns the vector of another and speaks as it does with that vector, alone and in a sweep.
fn assert_alike(what: &str, model: &Model, other: &Model) {
    let (v, expected) = (trained(model), trained(other));
    let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum::<f64>();
    let cosine = dot(&v, &expected) / (dot(&v, &v) * dot(&expected, &expected)).sqrt();
    assert!(cosine > 0.999_999, "{what}: cosine {cosine}");

    let (vectors, magnitudes, options) = (BTreeMap::from([(0, expected)]), [-2.0, 0.0, 2.0], common::greedy(6, &[]));
    let logits = |model: &Model| next_token_logits(model, &PROMPT[..], &vectors, &magnitudes, &options).unwrap();
    let apart = difference(&logits(model), &logits(other));
    assert!(apart < 1e-4, "{what}: {apart}");
    let texts = generate(model, &PROMPT[..], &vectors, &magnitudes, &options, &mut |_, _| Ok(())).unwrap();
    for (text, alone) in texts.iter().zip(magnitudes) {
        let single = generate(model, &PROMPT[..], &vectors, &[alone], &options, &mut |_, _| Ok(())).unwrap();
        assert_eq!(text.token_ids, single[0].token_ids, "{what} at {alone}");
    }
}

//! Training and sweeping from quantised GGUF files, weights left in the file, against the same numbers decoded to f32. What
//! the numbers are is proved beside the encodings, against candle.

use std::collections::BTreeMap;
use std::fs::File;
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
use candle_core::quantized::gguf_file::{self, Value};
use candle_core::quantized::{GgmlDType, QTensor};
use candle_core::{DType, Device, Tensor};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::common;

const HIDDEN: usize = 256; // a block of the K formats
const INNER: usize = 512;
const VOCAB: usize = 320;
const KV_WIDTH: usize = 128; // 4 heads, 2 of keys and values, of width 64
const BLOCKS: usize = 2;

/// A Llama of random weights whose matrices are of one type.
fn gguf(dir: &Path, dtype: GgmlDType) -> PathBuf {
    let mut rng = ChaCha8Rng::seed_from_u64(7);
    let mut matrix = |rows: usize, cols: usize| {
        let data: Vec<f32> = (0..rows * cols).map(|_| rng.random_range(-0.12..0.12)).collect();
        QTensor::quantize(&Tensor::from_vec(data, (rows, cols), &Device::Cpu).unwrap(), dtype).unwrap()
    };
    let ones = || QTensor::quantize(&Tensor::ones(HIDDEN, DType::F32, &Device::Cpu).unwrap(), GgmlDType::F32).unwrap();
    let mut tensors = vec![("token_embd.weight".to_owned(), matrix(VOCAB, HIDDEN)), ("output_norm.weight".to_owned(), ones())];
    for block in 0..BLOCKS {
        let shapes = [
            ("attn_q", HIDDEN, HIDDEN),
            ("attn_k", KV_WIDTH, HIDDEN),
            ("attn_v", KV_WIDTH, HIDDEN),
            ("attn_output", HIDDEN, HIDDEN),
            ("ffn_gate", INNER, HIDDEN),
            ("ffn_up", INNER, HIDDEN),
            ("ffn_down", HIDDEN, INNER),
        ];
        tensors.extend(shapes.map(|(name, rows, cols)| (format!("blk.{block}.{name}.weight"), matrix(rows, cols))));
        tensors.extend(["attn_norm", "ffn_norm"].map(|name| (format!("blk.{block}.{name}.weight"), ones())));
    }
    let number = |n: usize| Value::U32(n as u32);
    let metadata = [
        ("general.architecture", Value::String("llama".into())),
        ("llama.embedding_length", number(HIDDEN)),
        ("llama.block_count", number(BLOCKS)),
        ("llama.feed_forward_length", number(INNER)),
        ("llama.context_length", number(128)),
        ("llama.attention.head_count", number(4)),
        ("llama.attention.head_count_kv", number(2)),
        ("llama.attention.layer_norm_rms_epsilon", Value::F32(1e-5)),
    ];
    let metadata: Vec<(&str, &Value)> = metadata.iter().map(|(key, value)| (*key, value)).collect();
    let tensors: Vec<(&str, &QTensor)> = tensors.iter().map(|(name, tensor)| (name.as_str(), tensor)).collect();
    let path = dir.join(format!("{dtype:?}.gguf"));
    gguf_file::write(&mut File::create(&path).unwrap(), &metadata, &tensors).unwrap();
    path
}

fn load(path: &Path, storage: WeightStorage) -> Model {
    let checkpoint = Checkpoint::Gguf { path: path.to_owned(), tokenizer: None };
    let weights = Weights::open(&checkpoint).unwrap();
    let config = Config::load(&checkpoint, &weights).unwrap();
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
            (difference > 0.0) == bipo::ops::integer_kernel().is_some() && difference < 0.02,
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

        let (v, expected) = (trained(&stored), trained(&dense));
        let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum::<f64>();
        let cosine = dot(&v, &expected) / (dot(&v, &v) * dot(&expected, &expected)).sqrt();
        assert!(cosine > 0.999_999, "{dtype:?}: cosine {cosine}");

        let (vectors, prompt) = (BTreeMap::from([(0, expected)]), vec![5, 40, 7, 300, 12]);
        let options = common::greedy(6, &[]);
        let logits = |model: &Model| next_token_logits(model, &prompt, &vectors, &[-2.0, 0.0, 2.0], &options).unwrap();
        let difference = (logits(&stored) - logits(&dense)).unwrap().abs().unwrap().flatten_all().unwrap().max(0).unwrap();
        assert!(difference.to_scalar::<f32>().unwrap() < 1e-4, "{dtype:?}: {difference}");
        let texts = generate(&stored, &prompt, &vectors, &[-2.0, 0.0, 2.0], &options, &mut |_, _| Ok(())).unwrap();
        for (text, alone) in texts.iter().zip([-2.0, 0.0, 2.0]) {
            let single = generate(&stored, &prompt, &vectors, &[alone], &options, &mut |_, _| Ok(())).unwrap();
            assert_eq!(text.token_ids, single[0].token_ids, "{dtype:?} at {alone}");
        }
    }
}

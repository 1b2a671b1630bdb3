//! Tiny random models of the families beyond Llama's: training runs as PyTorch made them, and GGUF files by llama.cpp's own
//! converter. Their logits and gradients are tested in `architectures`.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use bipo::generate::generate;
use bipo::hub::options::FetchOptions;
use bipo::hub::resolve::resolve;
use bipo::model::Model;
use bipo::model::checkpoint::Checkpoint;
use bipo::model::config::Config;
use bipo::model::layout::Layout;
use bipo::model::weights::{WeightStorage, Weights};
use bipo::ops::linear::Products;
use bipo::train::activations::{Activations, CachePlan};
use bipo::train::optim::Scheduler;
use bipo::train::{Direction, Factor, ObjectiveName, TrainConfig, Trainer};
use candle_core::quantized::{QTensor, gguf_file};
use candle_core::{DType, Device, Tensor};
use serde_json::Value;

use crate::architectures::{ARCHITECTURES, difference, load};
use crate::common::{greedy, ids};
use crate::golden_training::{norm, pairs_of, recorded_config};

/// The fixtures that have this file, of which there must be `count`.
fn fixtures_with(file: &str, count: usize) -> Vec<&'static str> {
    let found: Vec<_> = ARCHITECTURES.into_iter().filter(|name| fixture(name, file).is_file()).collect();
    assert_eq!(found.len(), count, "{file}: {found:?}");
    found
}

fn fixture(name: &str, file: &str) -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(name).join(file)
}

fn load_gguf(name: &str, storage: WeightStorage) -> Model {
    let checkpoint = Checkpoint::Gguf { path: fixture(name, "model.gguf"), tokenizer: None };
    let weights = Weights::open(&checkpoint).unwrap();
    let config = Config::load(&checkpoint, &weights).unwrap();
    Model::load_as(&weights, config, DType::F32, &Device::Cpu, storage).unwrap()
}

fn logits(model: &Model, tokens: &[u32]) -> Tensor {
    let mut layout = Layout::default();
    layout.push_sequence(tokens.len());
    let x = model.embed(tokens).unwrap();
    let x = model.run(0..model.num_blocks(), &x, &model.plan(&layout).unwrap()).unwrap();
    model.logits(&x, Products::Fastest).unwrap()
}

/// Repeats a recorded run of six steps of two pairs.
fn assert_steps(what: &str, trainer: &mut Trainer, steps: &Value) {
    let steps = steps.as_array().unwrap();
    assert_eq!(steps.len(), 6);
    for (index, step) in steps.iter().enumerate() {
        let rows: Vec<usize> = ids(&step["rows"]).into_iter().map(|row| row as usize).collect();
        let number = |key: &str| step[key].as_f64().unwrap();
        let factors = factors_of(&step["factors"], rows.len());
        let record = trainer.step_by(&rows, step["d"].as_f64().unwrap_or(1.0), &factors, 1 + index / 2).unwrap();
        let apart = (record.loss - number("loss")).abs();
        assert!(apart < 1e-4 * number("loss").max(1.0), "{what}, step {index}: loss {}", record.loss);
        assert!((record.lr - number("lr")).abs() < 1e-9, "{what}, step {index}: lr {}", record.lr);
        let worst = (record.grad_norm - number("grad_norm")).abs();
        assert!(worst <= 1e-4 * number("grad_norm"), "{what}, step {index}: gradient norm {}", record.grad_norm);
        let expected: Vec<f32> = step["v"].as_array().unwrap().iter().map(|x| x.as_f64().unwrap() as f32).collect();
        if let Some(factor) = step["factor"].as_f64() {
            let found = f64::from(record.factor.unwrap());
            assert!((found - factor).abs() < 1e-4 * factor, "{what}, step {index}: factor {found}");
        }
        let apart: Vec<f32> = trainer.state.v.iter().zip(&expected).map(|(a, b)| a - b).collect();
        assert!(norm(&apart) <= 1e-4 * norm(&expected), "{what}, step {index}: v is {} away", norm(&apart));
    }
}

/// The factors of each pair's responses; 1 where none are recorded.
fn factors_of(recorded: &Value, pairs: usize) -> Vec<[f32; 2]> {
    let Some(recorded) = recorded.as_array() else { return vec![[1.0; 2]; pairs] };
    recorded.iter().map(|pair| [0, 1].map(|side| pair[side].as_f64().unwrap() as f32)).collect()
}

fn json(name: &str, file: &str) -> Value {
    serde_json::from_str(&std::fs::read_to_string(fixture(name, file)).unwrap()).unwrap()
}

/// The settings of such a run.
fn two_pairs_a_step(recorded: &Value) -> TrainConfig {
    let max_grad_norm = recorded["config"]["max_grad_norm"].as_f64();
    TrainConfig { batch_size: 2, max_grad_norm, ..recorded_config(&recorded["config"]) }
}

#[test]
fn six_training_steps_equal_those_of_pytorch() {
    for name in fixtures_with("replay.json", 14) {
        let (model, recorded) = (load(name, DType::F32), json(name, "replay.json"));
        let (pairs, reference) = pairs_of(&recorded["pairs"]);
        let config = two_pairs_a_step(&recorded);
        let data = Activations::compute(&model, &pairs, config.layers.lowest(), config.positions).unwrap();
        for (entry, expected) in data.entries.iter().zip(&reference) {
            let worst = (0..2).map(|side| (entry.reference[side] - expected[side]).abs()).fold(0.0, f64::max);
            assert!(worst < 1e-4, "{name}, row {}: {:?} is not {expected:?}", entry.rows.row, entry.reference);
        }
        assert_steps(name, &mut Trainer::new(&model, &config, &data), &recorded["steps"]);
    }
}

#[test]
fn six_steps_by_each_objective_equal_those_of_pytorch() {
    let (model, recorded) = (load("llama", DType::F32), json("llama", "objectives.json"));
    let (pairs, _) = pairs_of(&recorded["pairs"]);
    for (name, objective) in [("dpo", ObjectiveName::Dpo), ("simpo", ObjectiveName::SimPo), ("lm", ObjectiveName::Lm)] {
        let run = &recorded["runs"][name];
        let config = TrainConfig {
            objective,
            beta: run["beta"].as_f64().unwrap(),
            gamma: run["gamma"].as_f64(),
            direction: Direction::Positive,
            ..two_pairs_a_step(&recorded)
        };
        let data = Activations::compute(&model, &pairs, config.layers.lowest(), config.positions).unwrap();
        assert_steps(name, &mut Trainer::new(&model, &config, &data), &run["steps"]);
    }
}

#[test]
fn six_steps_by_reps_and_by_drawn_and_learned_factors_equal_those_of_pytorch() {
    let (model, recorded) = (load("llama", DType::F32), json("llama", "objectives.json"));
    let (pairs, _) = pairs_of(&recorded["pairs"]);
    let numbers = |values: &Value| values.as_array().map(|x| x.iter().map(|x| x.as_f64().unwrap() as f32).collect());
    for (name, objective) in
        [("reps", ObjectiveName::Reps), ("simpo-factors", ObjectiveName::SimPo), ("simpo-learned", ObjectiveName::SimPo)]
    {
        let run = &recorded["runs"][name];
        let root = (model.config.hidden_size as f64).sqrt();
        let factor = match (run["alpha"].as_f64(), run["factors"].is_array()) {
            (Some(alpha), _) => Factor::Learned { scale: alpha / root, lr: run["alpha_lr"].as_f64().unwrap() },
            (None, true) => Factor::Drawn(vec![1.0]), // the steps say which
            (None, false) => Factor::One,
        };
        let alpha = run["alpha"].as_f64().unwrap_or(1.0) as f32;
        let mut config = TrainConfig {
            objective,
            beta: run["beta"].as_f64().unwrap(),
            gamma: run["gamma"].as_f64(),
            direction: objective.default_direction(),
            // A run starts at its vector: v times the factor.
            init: numbers(&run["init"]).map(|v: Vec<f32>| v.into_iter().map(|v| v * alpha).collect()),
            factor,
            ..two_pairs_a_step(&recorded)
        };
        if config.init.is_some() {
            (config.weight_decay, config.warmup_steps, config.scheduler) = (0.0, 0, Scheduler::Linear);
        }
        let places = (config.positions, config.sharing());
        let plan = CachePlan::new(&model, &[&pairs], config.layers.lowest(), places, &config.cache).unwrap();
        let data = plan.compute(|_, _| Ok(())).unwrap().remove(0);
        let mut steps = run["steps"].clone();
        for (step, factors) in steps.as_array_mut().unwrap().iter_mut().zip(run["factors"].as_array().into_iter().flatten()) {
            step["factors"] = factors.clone();
        }
        assert_steps(name, &mut Trainer::new(&model, &config, &data), &steps);
    }
}

#[test]
fn a_text_does_not_grow_past_the_context_at_which_longrope_turns_all_keys() {
    let model = load("phi3-short", DType::F32); // trained on 16 tokens
    let steer = |prompt: usize, new: usize| {
        let (vectors, tokens) = (BTreeMap::from([(0, vec![0.1; 16])]), vec![5; prompt]);
        generate(&model, &tokens, &vectors, &[1.0], &greedy(new, &[]), &mut |_, _| Ok(()))
    };
    assert_eq!(steer(12, 4).unwrap()[0].token_ids.len(), 4);
    assert_eq!(steer(17, 4).unwrap()[0].token_ids.len(), 4);
    let message = steer(12, 5).unwrap_err().to_string();
    assert!(message.contains("LongRoPE") && message.contains("at most 4 tokens"), "{message}");
}

#[test]
fn gguf_files_give_the_logits_of_transformers() {
    for name in fixtures_with("model.gguf", 10) {
        let recorded = candle_core::safetensors::load(fixture(name, "expected.safetensors"), &Device::Cpu).unwrap();
        let tokens: Vec<u32> =
            recorded["input_ids"].flatten_all().unwrap().to_vec1::<i64>().unwrap().iter().map(|id| *id as u32).collect();
        // Gemma's files lack the factor of the scores and the pattern of windows: these logits are with llama.cpp's.
        let expected = recorded.get("gguf_logits").unwrap_or(&recorded["logits"]);
        for storage in [WeightStorage::Dense, WeightStorage::Stored, WeightStorage::Tensors] {
            let worst = difference(&logits(&load_gguf(name, storage), &tokens), expected);
            assert!(worst < 1e-4, "{name}, {storage:?}: logits differ by {worst}");
        }
    }
}

/// Splits a fixture into `count` parts in `dir`, as llama.cpp's `gguf-split` does; `change` may alter a part's keys.
fn split(name: &str, dir: &Path, count: u16, change: impl Fn(u16, &mut Vec<(String, gguf_file::Value)>)) -> Vec<PathBuf> {
    let mut whole = std::fs::File::open(fixture(name, "model.gguf")).unwrap();
    let content = gguf_file::Content::read(&mut whole).unwrap();
    let mut tensors: Vec<(String, QTensor)> = Vec::new();
    for tensor in content.tensor_infos.keys() {
        tensors.push((tensor.clone(), content.tensor(&mut whole, tensor, &Device::Cpu).unwrap()));
    }
    tensors.sort_by(|(a, _), (b, _)| a.cmp(b));
    let of_part = tensors.len().div_ceil(count.into());
    let write = |(number, tensors): (u16, &[(String, QTensor)])| {
        let mut keys = vec![
            ("split.no".to_owned(), gguf_file::Value::U16(number)),
            ("split.count".to_owned(), gguf_file::Value::U16(count)),
            ("split.tensors.count".to_owned(), gguf_file::Value::I32(content.tensor_infos.len() as i32)),
        ];
        if number == 0 {
            keys.extend(content.metadata.clone());
        }
        change(number, &mut keys);
        let keys: Vec<_> = keys.iter().map(|(key, value)| (key.as_str(), value)).collect();
        let tensors: Vec<_> = tensors.iter().map(|(name, tensor)| (name.as_str(), tensor)).collect();
        let path = dir.join(format!("m-{:05}-of-{count:05}.gguf", number + 1));
        gguf_file::write(&mut std::fs::File::create(&path).unwrap(), &keys, &tensors).unwrap();
        path
    };
    (0..count).zip(tensors.chunks(of_part)).map(write).collect()
}

fn open_model(path: &Path) -> Result<Model, bipo::Error> {
    let name = path.to_str().unwrap();
    let checkpoint = resolve(name, &FetchOptions::offline())?.checkpoint;
    let weights = Weights::open(&checkpoint)?;
    let config = Config::load(&checkpoint, &weights)?;
    Model::load_as(&weights, config, DType::F32, &Device::Cpu, WeightStorage::Stored)
}

#[test]
fn a_split_gguf_file_is_the_whole_one_by_any_of_its_parts_and_by_their_folder() {
    let dir = tempfile::tempdir().unwrap();
    let parts = split("phi3", dir.path(), 3, |_, _| {});
    let whole = logits(&load_gguf("phi3", WeightStorage::Stored), &[1, 5, 9, 2]);
    for path in parts.iter().map(PathBuf::as_path).chain([dir.path()]) {
        let logits = logits(&open_model(path).unwrap(), &[1, 5, 9, 2]);
        assert_eq!(difference(&logits, &whole), 0.0, "{}", path.display());
    }
}

#[test]
fn parts_that_are_missing_or_not_those_of_their_names_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let refused = |path: &Path, words: &str| {
        let Err(error) = open_model(path) else { panic!("not refused: {words}") };
        assert_eq!(error.exit_code(), 2);
        assert!(error.to_string().contains(words), "{error}");
    };
    let parts = split("phi3", dir.path(), 3, |_, _| {});
    std::fs::rename(&parts[1], dir.path().join("away")).unwrap();
    for path in [&parts[0], &parts[2], &dir.path().to_path_buf()] {
        refused(path, "part 2 of 3 is missing: expected m-00002-of-00003.gguf beside it");
    }
    // Another part in its place.
    std::fs::copy(&parts[2], &parts[1]).unwrap();
    refused(&parts[0], "key `split.no` is 2, but the file's name says 1");
    std::fs::rename(dir.path().join("away"), &parts[1]).unwrap();
    std::fs::rename(&parts[0], dir.path().join("model.gguf")).unwrap();
    refused(&dir.path().join("model.gguf"), "one of 3 parts: expected a name");
    for (key, value, words) in [
        ("split.count", gguf_file::Value::U16(2), "key `split.count` is 2, but the file's name says 3"),
        ("split.tensors.count", gguf_file::Value::I32(99), "tensors, expected 99"),
    ] {
        let parts = split("phi3", dir.path(), 3, |number, keys| {
            if (number == 1) == (key == "split.count") {
                keys.iter_mut().filter(|(name, _)| name == key).for_each(|(_, old)| *old = value.clone());
            }
        });
        refused(&parts[0], words);
    }
}

//! What `bipo inspect` says: residual lengths against those of `transformers`, the logit lens against its formula, and the
//! program's text and JSON for whole, odd and broken files.

use std::fs;
use std::path::Path;

use bipo::model::Model;
use bipo::model::config::Config;
use bipo::model::weights::Weights;
use bipo::steering::lens::{LogitLens, logit_lens, residual_norms};
use bipo::steering::vector::{Metadata, SteeringVector};
use candle_core::{DType, Device, Tensor};
use serde_json::Value;

use crate::cli::{Place, assert_ok, assert_refused, fixture, text};
use crate::common;

fn load(name: &str) -> Model {
    let checkpoint = common::checkpoint(Path::new(&fixture(name)));
    let weights = Weights::open(&checkpoint).unwrap();
    let config = Config::load(&checkpoint, &weights).unwrap();
    Model::load(&weights, config, DType::F32, &Device::Cpu).unwrap()
}

fn tensors(name: &str, file: &str) -> std::collections::HashMap<String, Tensor> {
    candle_core::safetensors::load(Path::new(&fixture(name)).join(file), &Device::Cpu).unwrap()
}

fn rows(tensor: &Tensor) -> Vec<Vec<f32>> {
    tensor.to_vec2().unwrap()
}

fn length(x: &[f32]) -> f64 {
    x.iter().map(|x| f64::from(*x).powi(2)).sum::<f64>().sqrt()
}

#[test]
fn residual_lengths_are_those_of_transformers() {
    for name in ["llama", "mistral", "qwen2", "qwen3"] {
        let (model, recorded) = (load(name), tensors(name, "expected.safetensors"));
        let ids: Vec<u32> =
            recorded["input_ids"].flatten_all().unwrap().to_vec1::<i64>().unwrap().iter().map(|id| *id as u32).collect();
        // The same sequence three times has the same mean and median as once.
        let norms = residual_norms(&model, &[ids.clone(), ids.clone(), ids], model.num_blocks(), &mut || Ok(())).unwrap();
        assert_eq!(norms.len(), model.num_blocks());
        for (block, norm) in norms.iter().enumerate() {
            let mut expected: Vec<f64> = rows(&recorded[&format!("hidden.{block}")]).iter().map(|row| length(row)).collect();
            expected.sort_unstable_by(f64::total_cmp);
            let mean = expected.iter().sum::<f64>() / expected.len() as f64;
            assert!((norm.mean - mean).abs() < 1e-4 * mean, "{name}: {} is not {mean}", norm.mean);
            let median = expected[expected.len() / 2];
            assert!((norm.median - median).abs() < 1e-4 * median, "{name}: {} is not {median}", norm.median);
        }
    }
}

fn some_vector(len: usize) -> Vec<f32> {
    (0..len).map(|i| ((i * 37 % 101) as f32 - 50.0) / 100.0).collect()
}

fn lens(model: &Model, v: &[f32], top: usize) -> LogitLens {
    logit_lens(model, v, top, |_| true).unwrap().unwrap()
}

#[test]
fn token_scores_follow_the_formula() {
    for (name, unembedding) in [("llama", "lm_head.weight"), ("qwen2", "model.embed_tokens.weight")] {
        let (model, weights) = (load(name), tensors(name, "model.safetensors"));
        let gamma: Vec<f32> = weights["model.norm.weight"].to_vec1().unwrap();
        let v = some_vector(gamma.len());
        let rms = length(&v) / (v.len() as f64).sqrt();
        let normed: Vec<f64> = v.iter().zip(&gamma).map(|(x, g)| f64::from(*x) / rms * f64::from(*g)).collect();
        let u: Vec<f64> = rows(&weights[unembedding])
            .iter()
            .map(|row| row.iter().zip(&normed).map(|(w, x)| f64::from(*w) * x).sum())
            .collect();
        let mean = u.iter().sum::<f64>() / u.len() as f64;
        let mut ranked: Vec<(f64, usize)> = u.iter().enumerate().map(|(id, u)| (u - mean, id)).collect();
        ranked.sort_unstable_by(|a, b| b.0.total_cmp(&a.0));
        let lens = lens(&model, &v, 5);
        let expected_ends = [ranked[..5].to_vec(), ranked.iter().rev().take(5).copied().collect()];
        for (found, expected) in [lens.promoted, lens.suppressed].iter().zip(expected_ends) {
            assert_eq!(found.len(), 5);
            for (token, (score, id)) in found.iter().zip(expected) {
                assert_eq!(token.id as usize, id, "{name}");
                assert!((f64::from(token.score) - score).abs() < 1e-4, "{name}: {} is not {score}", token.score);
            }
        }
    }
}

#[test]
fn a_negated_vector_swaps_the_ends_and_a_scaled_one_changes_nothing() {
    let model = load("llama");
    let v = some_vector(model.config.hidden_size);
    let scaled = |by: f32| lens(&model, &v.iter().map(|x| by * x).collect::<Vec<_>>(), 4);
    let (plain, negated) = (scaled(1.0), scaled(-1.0));
    let ids = |tokens: &[bipo::steering::lens::TokenScore]| tokens.iter().map(|token| token.id).collect::<Vec<_>>();
    assert_eq!(ids(&plain.promoted), ids(&negated.suppressed));
    assert_eq!(ids(&plain.suppressed), ids(&negated.promoted));
    for by in [1e-6, 1e4] {
        for (a, b) in plain.promoted.iter().zip(&scaled(by).promoted) {
            assert!(a.id == b.id && (a.score - b.score).abs() < 1e-4, "{by}: {a:?} is not {b:?}");
        }
    }
    assert_eq!(logit_lens(&model, &vec![0.0; v.len()], 4, |_| true).unwrap(), None);
    let known = logit_lens(&model, &v, 1000, |id| id < 7).unwrap().unwrap();
    assert_eq!(known.promoted.len(), 7);
}

fn json(place: &Place, args: &[&str]) -> Value {
    let output = place.bipo(&[&["inspect", "--json"], args].concat());
    assert_ok(&output);
    serde_json::from_slice(&output.stdout).unwrap()
}

fn write(place: &Place, name: &str, layers: &[(usize, Vec<f32>)]) {
    let vector = SteeringVector { layers: layers.iter().cloned().collect(), metadata: Metadata::default() };
    vector.write(&place.path(name)).unwrap();
}

#[test]
fn a_trained_vector_shows_its_settings_and_without_a_model_nothing_else() {
    let place = Place::new();
    let trained = place.train("out", &["--eval-dataset", "pairs.csv"]);
    assert_ok(&trained);
    let line = text(&trained.stdout).lines().find(|line| line.starts_with("held out, best epoch ")).unwrap().to_owned();
    assert!(line.matches(" % [").count() == 2 && line.matches("] right)").count() == 2, "{line}");
    let file = "out/steering_vector.safetensors";
    let output = place.bipo(&["inspect", file]);
    assert_ok(&output);
    let next = "try it, with the path of the model llama in place of MODEL: bipo steer --model MODEL --vector \
                out/steering_vector.safetensors --prompt \"How was your day?\"\n";
    assert_eq!(text(&output.stderr), next);
    let stdout = text(&output.stdout);
    // Long lines are wrapped.
    let words = stdout.split_whitespace().collect::<Vec<_>>().join(" ");
    for expected in [
        "bipo safetensors",
        "base model llama (llama, 3 layers), hidden size 32",
        "pairs.csv, 5 pairs",
        "learning rate 0.05",
        "6 steps, loss",
        "held out epoch",
        "] right) on pairs.csv,",
    ] {
        assert!(words.contains(expected), "{expected}: {stdout}");
    }
    let report = json(&place, &[file]);
    assert_eq!((&report["schema_version"], &report["model"]), (&1.into(), &Value::Null));
    let vector = &report["vectors"][0];
    assert_eq!((&vector["format"], &vector["positions"]), (&"bipo safetensors".into(), &"all".into()));
    assert_eq!(vector["training"]["batch_size"], 2);
    assert_eq!((&vector["layers"][0]["layer"], &vector["warnings"]), (&1.into(), &serde_json::json!([])));
    let v = &SteeringVector::read(&place.path(file), None).unwrap().layers[&1];
    assert!((vector["layers"][0]["norm"].as_f64().unwrap() - length(v)).abs() < 1e-9);
    assert_eq!(vector["layers"][0]["residual"], Value::Null);
}

#[test]
fn with_a_model_ratios_and_tokens_are_shown() {
    let place = Place::new();
    write(&place, "a.safetensors", &[(0, some_vector(32)), (2, vec![1e4; 32])]);
    let llama = fixture("llama");
    let report = json(&place, &["a.safetensors", "--model", &llama, "--top", "3"]);
    assert_eq!((&report["model"]["name"], &report["model"]["prompts"]), (&"llama".into(), &8.into()));
    for layer in report["vectors"][0]["layers"].as_array().unwrap() {
        let norm = layer["norm"].as_f64().unwrap();
        for which in ["median", "mean"] {
            let residual = layer["residual"][which].as_f64().unwrap();
            let ratio = layer["residual"][format!("ratio_to_{which}")].as_f64().unwrap();
            assert!(residual > 0.0 && (ratio * residual - norm).abs() < 1e-9 * norm);
        }
        for end in ["promoted", "suppressed"] {
            let tokens = layer[end].as_array().unwrap();
            assert_eq!(tokens.len(), 3);
            assert!(tokens.iter().all(|t| t["token"].is_string() && t["id"].is_u64() && t["score"].is_f64()));
        }
    }
    let warnings = report["vectors"][0]["warnings"].as_array().unwrap();
    assert_eq!(warnings.len(), 1, "{warnings:?}");
    assert!(
        warnings[0].as_str().unwrap().starts_with("layer 2: ") && warnings[0].as_str().unwrap().contains("median residual")
    );
    let output = place.bipo(&["inspect", "a.safetensors", "--model", &llama, "--quiet"]);
    assert_ok(&output);
    let stdout = text(&output.stdout);
    for expected in ["residual median", "promotes", "suppresses", "  warning     layer 2", "over all", "8 neutral prompts"] {
        assert!(stdout.contains(expected), "{expected}: {stdout}");
    }
}

#[test]
fn a_vector_of_another_model_is_measured_with_a_note() {
    let place = Place::new();
    assert_ok(&place.train("out", &[]));
    let bytes = place.vector("out");
    let at = bytes.windows(20).position(|w| w == br#""base_model":"llama""#).unwrap();
    let renamed = [&bytes[..at], br#""base_model":"lhama""#, &bytes[at + 20..]].concat();
    fs::write(place.path("other.safetensors"), renamed).unwrap();
    let report = json(&place, &["other.safetensors", "--model", &fixture("llama")]);
    let warning = "made for lhama, measured on llama: name its own model with --model, unless they are one";
    assert_eq!(report["vectors"][0]["warnings"], serde_json::json!([warning]));
}

#[test]
fn zero_and_not_finite_vectors_are_shown_with_a_warning_and_never_steered_with() {
    let place = Place::new();
    write(&place, "zero.safetensors", &[(1, vec![0.0; 32])]);
    let mut broken = some_vector(32);
    (broken[3], broken[9]) = (f32::NAN, f32::NEG_INFINITY);
    write(&place, "broken.safetensors", &[(1, broken)]);
    let llama = fixture("llama");
    let report = json(&place, &["zero.safetensors", "broken.safetensors", "--model", &llama]);
    let warning = |i: usize| report["vectors"][i]["warnings"][0].as_str().unwrap().to_owned();
    assert_eq!(warning(0), "layer 1: every element is zero, and it steers nothing: train again with more steps");
    assert_eq!(
        warning(1),
        "layer 1: 2 of 32 elements are not finite, and no command steers with it: train again with a lower --lr"
    );
    let layer = &report["vectors"][1]["layers"][0];
    assert_eq!((&layer["norm"], &layer["not_finite"], &layer["promoted"]), (&Value::Null, &2.into(), &Value::Null));
    assert_eq!(report["cosines"][0]["cosines"], serde_json::json!([[null, null], [null, null]]));
    let output = place.bipo(&["inspect", "broken.safetensors"]);
    assert_ok(&output);
    assert!(text(&output.stdout).contains("not finite"), "{}", text(&output.stdout));
    let steer = ["steer", "--model", &llama, "--vector", "broken.safetensors", "--prompt", "Hello"];
    assert_refused(&place.bipo(&steer), &steer, "not finite");
    let merge = ["merge", "--model", &llama, "--vector", "broken.safetensors", "-o", "merged"];
    assert_refused(&place.bipo(&merge), &merge, "not finite");
}

#[test]
fn several_files_are_compared_layer_by_layer() {
    let place = Place::new();
    write(&place, "a.safetensors", &[(1, vec![1.0, 0.0, 0.0]), (2, vec![1.0, 2.0, 2.0])]);
    write(&place, "b.safetensors", &[(1, vec![0.6, 0.8, 0.0])]);
    let report = json(&place, &["a.safetensors", "b.safetensors"]);
    let cosines = report["cosines"].as_array().unwrap();
    assert_eq!((cosines.len(), &cosines[0]["layer"], &cosines[0]["vectors"]), (1, &1.into(), &serde_json::json!([0, 1])));
    assert!((cosines[0]["cosines"][0][1].as_f64().unwrap() - 0.6).abs() < 1e-6);
    let stdout = text(&place.bipo(&["inspect", "a.safetensors", "b.safetensors"]).stdout);
    assert!(stdout.contains("[1] a.safetensors") && stdout.contains("cosine, layer 1"), "{stdout}");
    assert!(stdout.contains("  [1]   +1.000   +0.600   a.safetensors\n  [2]   +0.600   +1.000   b.safetensors\n"), "{stdout}");
}

#[test]
fn a_torch_file_that_does_not_say_its_layer_is_shown_all_the_same() {
    let place = Place::new();
    let bare = fixture("vectors/bare.pt");
    let layer = |report: &Value| report["vectors"][0]["layers"][0].clone();
    let unknown = layer(&json(&place, &[&bare]));
    assert_eq!(unknown["layer"], Value::Null);
    // 1, -2, 0.5, 3.
    assert!((unknown["norm"].as_f64().unwrap() - 14.25f64.sqrt()).abs() < 1e-9);
    assert_eq!(layer(&json(&place, &[&bare, "--layer", "13"]))["layer"], 13);
    let own = fixture("vectors/dict.pt");
    assert_eq!(layer(&json(&place, &[&own, "--layer", "13"]))["layer"], 5, "a file that says its layer keeps it");
}

#[test]
fn wrong_uses_of_inspect_are_one_line() {
    let place = Place::new();
    fs::write(place.path("text.safetensors"), "hello").unwrap();
    write(&place, "wide.safetensors", &[(1, vec![1.0; 33])]);
    write(&place, "deep.safetensors", &[(3, vec![1.0; 32])]);
    let llama = fixture("llama");
    let legacy = fixture("vectors/legacy.pt");
    let cases: [(&[&str], &str); 6] = [
        (&["nowhere.safetensors"], "cannot read nowhere.safetensors"),
        (&["text.safetensors"], "text.safetensors: not a steering vector"),
        (&[&legacy], "legacy"),
        (&["wide.safetensors", "--model", &llama], "wide.safetensors: the vector has hidden size 33"),
        (&["deep.safetensors", "--model", &llama], "deep.safetensors: layer 3 out of range: model has 3 layers"),
        (&["wide.safetensors", "--model", "no-such-model"], "no-such-model"),
    ];
    for (args, expected) in cases {
        assert_refused(&place.bipo(&[&["inspect"], args].concat()), args, expected);
    }
}

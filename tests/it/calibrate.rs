//! `bipo calibrate`: on the real small model against what transformers gives (tests/fixtures/calibrate.py), and on a tiny one for
//! what it keeps, what uses it, and what it says of wrong flags.

use std::fs;

use bipo::steering::vector::SteeringVector;
use serde_json::Value;

use crate::cli::{Place, assert_ok, fixture, json, text};
use crate::common;
use crate::eval::{trained, write_sine};

const VECTOR: &str = "out/steering_vector.safetensors";

fn on_tiny(place: &Place, command: &str, vector: &str, more: &[&str]) -> std::process::Output {
    place.bipo(&[&[command, "--quiet", "--model", &fixture("llama"), "--vector", vector], more].concat())
}

/// The magnitude in both directions.
fn found(document: &Value) -> [f64; 2] {
    ["minus", "plus"].map(|name| document[name]["magnitude"].as_f64().unwrap())
}

#[test]
fn what_a_magnitude_of_the_real_model_costs_is_what_transformers_gives() {
    let expected: Value = serde_json::from_slice(&fs::read(fixture("calibrate.json")).unwrap()).unwrap();
    let place = Place::new();
    write_sine(&place.path("sine.safetensors"), expected["layer"].as_u64().unwrap() as usize);
    let (model, tokens) = (common::smollm2_path(), expected["new_tokens"].to_string());
    let mut args = vec!["calibrate", "--quiet", "--json", "--model", model.to_str().unwrap(), "--vector", "sine.safetensors"];
    args.extend(["--max-new-tokens", &tokens]);
    for prompt in expected["prompts"].as_array().unwrap() {
        args.extend(["--prompt", prompt.as_str().unwrap()]);
    }
    let document = json(&place.bipo(&args));
    assert_eq!(document["budget"], "kl=1");
    for (name, expected) in ["minus", "plus"].iter().zip(expected["costs"].as_array().unwrap()) {
        let near = |key: &str, expected: &Value, tolerance: f64| {
            let (found, expected) = (document[name][key].as_f64().unwrap(), expected.as_f64().unwrap());
            assert!((found / expected - 1.0).abs() < tolerance, "{name} {key}: {found}, expected {expected}");
        };
        near("magnitude", &expected["magnitude"], 3e-3);
        near("value", &expected["kl"], 1e-2);
        assert!(document[name]["evaluations"].as_u64().unwrap() <= 12);
    }
}

#[test]
fn saved_magnitudes_are_those_that_auto_takes_also_of_a_scaled_vector_and_in_other_formats() {
    let place = trained();
    let before = SteeringVector::read(&place.path(VECTOR), None).unwrap();
    let document = json(&on_tiny(&place, "calibrate", VECTOR, &["--budget", "kl=0.01", "--save", "--json"]));
    let [minus, plus] = found(&document);
    assert!(minus < 0.0 && plus > 0.0 && document["saved"] == VECTOR);
    let after = SteeringVector::read(&place.path(VECTOR), None).unwrap();
    let known = after.metadata.calibration.clone().unwrap();
    assert_eq!((known.budget.as_str(), known.minus, known.plus), ("kl=0.01", Some(minus as f32), Some(plus as f32)));
    assert_eq!((&after.layers, &after.metadata.training), (&before.layers, &before.metadata.training));
    for name in ["v.gguf", "v.json"] {
        assert_ok(&place.bipo(&["convert", VECTOR, name]));
    }
    let swept = |vector: &str| -> Vec<f64> {
        let more = ["--magnitudes", "auto", "--prompt", "Hi", "--max-new-tokens", "2", "--json"];
        let document = json(&on_tiny(&place, "steer", vector, &more));
        document["results"].as_array().unwrap().iter().map(|text| text["magnitude"].as_f64().unwrap()).collect()
    };
    for vector in [VECTOR, "v.gguf", "v.json"] {
        assert_eq!(swept(vector), [minus, 0.0, plus], "{vector}");
    }
    let scaled = swept(&format!("{VECTOR}:-2"));
    let expected = [plus as f32 / -2.0, 0.0, minus as f32 / -2.0].map(f64::from);
    assert!(scaled.iter().zip(expected).all(|(found, expected)| (found - expected).abs() < 1e-6), "{scaled:?} {expected:?}");
}

#[test]
fn a_search_that_finds_nothing_saves_nothing_and_says_so() {
    let place = trained();
    assert_ok(&on_tiny(&place, "calibrate", VECTOR, &["--budget", "kl=0.01", "--save"]));
    let before = fs::read(place.path(VECTOR)).unwrap();
    let model = fixture("llama");
    let output = place.bipo(&["calibrate", "--model", &model, "--vector", VECTOR, "--budget", "kl=1000", "--save"]);
    assert_ok(&output);
    assert!(text(&output.stdout).contains("  none: at +"), "{}", text(&output.stdout));
    assert!(text(&output.stderr).contains("nothing is saved"), "{}", text(&output.stderr));
    assert_eq!(fs::read(place.path(VECTOR)).unwrap(), before);
}

#[test]
fn magnitudes_that_another_model_was_measured_with_are_told() {
    let place = trained();
    assert_ok(&on_tiny(&place, "calibrate", VECTOR, &["--budget", "kl=0.01", "--save"]));
    let mut vector = SteeringVector::read(&place.path(VECTOR), None).unwrap();
    let known = vector.metadata.calibration.as_mut().unwrap();
    known.model = "owner/other".into();
    vector.write(&place.path("other.safetensors")).unwrap();
    let args = ["--vector", "other.safetensors", "--magnitudes", "auto", "--prompt", "Hi", "--max-new-tokens", "1"];
    let output = place.bipo(&[&["steer", "--model", &fixture("llama")], &args[..]].concat());
    assert_ok(&output);
    assert!(text(&output.stderr).contains("were measured on owner/other"), "{}", text(&output.stderr));
    vector.metadata.calibration.as_mut().unwrap().minus = Some(5.0);
    vector.write(&place.path("other.safetensors")).unwrap();
    let output = place.bipo(&[&["steer", "--model", &fixture("llama")], &args[..]].concat());
    assert_eq!(output.status.code(), Some(2));
    assert!(text(&output.stderr).contains("\"calibration\""), "{}", text(&output.stderr));
}

#[test]
fn more_than_a_vector_was_measured_to_bear_and_another_layer_are_warned_of_once() {
    let place = trained();
    let said = |more: &[&str]| {
        let args = ["steer", "--vector", VECTOR, "--prompt", "Hi", "--prompt", "Why?", "--max-new-tokens", "2"];
        let output = place.bipo(&[&args[..], &["--model", &fixture("llama")], more].concat());
        assert_ok(&output);
        let stderr = text(&output.stderr);
        stderr.lines().filter(|line| line.starts_with("warning: ")).map(str::to_owned).collect::<Vec<_>>()
    };
    let once = |more: &[&str]| match &said(more)[..] {
        [line] => line.clone(),
        lines => panic!("{more:?}: {lines:?}"),
    };
    let high = once(&["--magnitudes", "-300000,0,1"]);
    assert!(high.contains("at magnitude -300000 what is added is") && high.contains("bipo calibrate"), "{high}");
    assert!(said(&["--magnitudes", "1"]).is_empty());
    assert_ok(&on_tiny(&place, "calibrate", VECTOR, &["--budget", "kl=0.01", "--save"]));
    let beyond = once(&["--magnitudes", "-300000,0,1"]);
    assert!(beyond.contains("magnitude -300000 is beyond -") && beyond.contains("within kl=0.01"), "{beyond}");
    assert!(said(&["--magnitudes", "auto"]).is_empty());
    let moved = once(&["--magnitudes", "1", "--layer", "0"]);
    assert!(moved.contains("learned at layer 1 and added at layer 0"), "{moved}");
    assert!(said(&["--magnitudes", "1", "--layer", "1"]).is_empty());
    // Limits of the two sides differ, and doses do not.
    let mut vector = SteeringVector::read(&place.path(VECTOR), None).unwrap();
    let known = vector.metadata.calibration.as_mut().unwrap();
    (known.minus, known.plus) = (Some(-1.0), Some(5.0));
    vector.write(&place.path(VECTOR)).unwrap();
    let beyond = once(&["--magnitudes", "-2,0,2"]);
    assert!(beyond.contains("magnitude -2 is beyond -1"), "{beyond}");
    // What holds at its own layer holds where that layer is named.
    assert!(said(&["--magnitudes", "auto", "--layer", "1"]).is_empty());
    assert_ok(&place.bipo(&["convert", VECTOR, "same.json", "--layer", "1"]));
    assert_ok(&place.bipo(&["convert", VECTOR, "moved.json", "--layer", "2"]));
    let kept = ["same.json", "moved.json"].map(|name| SteeringVector::read(&place.path(name), None).unwrap().metadata);
    assert_eq!(kept.map(|metadata| metadata.calibration.is_some()), [true, false]);
}

#[test]
fn auto_needs_a_calibration_that_holds_for_what_is_steered() {
    let place = trained();
    let auto = |more: &[&str]| on_tiny(&place, "steer", VECTOR, &[&["--magnitudes", "auto", "--prompt", "Hi"], more].concat());
    let refused = |more: &[&str], expected: &str| {
        let output = auto(more);
        assert_eq!(output.status.code(), Some(2));
        assert!(text(&output.stderr).contains(expected), "{}", text(&output.stderr));
    };
    refused(&[], "(`bipo calibrate --save` with its file alone)");
    assert_ok(&on_tiny(&place, "calibrate", VECTOR, &["--budget", "kl=0.01", "--save"]));
    assert_ok(&auto(&["--max-new-tokens", "1"]));
    refused(&["--layer", "2"], "(`bipo calibrate --save` with its file alone)");
    refused(&["--positions", "prompt"], "(`bipo calibrate --save` with its file alone)");
    refused(&["--operation", "ablate"], "is for a vector that is added");
}

#[test]
fn vectors_are_compared_at_the_same_damage() {
    let place = trained();
    let more =
        ["--at", "kl=0.01", "--baseline", "random", "--skip", "text", "--max-new-tokens", "4", "--json", "--bootstrap", "10"];
    let report = json(&on_tiny(&place, "eval", VECTOR, &more));
    let rows: Vec<(&str, f64)> = report["rows"]
        .as_array()
        .unwrap()
        .iter()
        .map(|row| (row["subject"].as_str().unwrap(), row["magnitude"].as_f64().unwrap()))
        .collect();
    let [(first, minus), (_, 0.0), (last, plus), (other, other_minus), (_, other_plus)] = rows.as_slice() else {
        panic!("{rows:?}");
    };
    assert_eq!((*first, *last, *other), ("vector", "vector", "random"));
    assert!(*minus < 0.0 && *plus > 0.0 && *other_minus < 0.0 && *other_plus > 0.0);
    assert_eq!(report["settings"]["at"], "kl=0.01");
    // The same search as that of the command.
    let alone = json(&on_tiny(&place, "calibrate", VECTOR, &["--budget", "kl=0.01", "--json"]));
    assert_eq!(found(&alone), [*minus, *plus]);
}

#[test]
fn a_budget_gets_its_own_flags_and_a_file_that_cannot_keep_it_is_refused_before_a_model_is_read() {
    let place = trained();
    assert_ok(&place.bipo(&["convert", VECTOR, "v.npy"]));
    let cases: [(&str, &[&str], &str); 8] = [
        (VECTOR, &["--budget", "ppl=0.9"], "expected kl=NATS, ppl=RATIO above 1"),
        (VECTOR, &["--dataset", "pairs.csv"], "--dataset is for --budget margin=…"),
        (VECTOR, &["--budget", "ppl=1.1", "--prompt", "Hi"], "--prompt is for --budget kl=…"),
        (VECTOR, &["--budget", "margin=1"], "give --dataset"),
        (VECTOR, &["--save", "--layer", "1"], "leave --operation, --layer, --positions and --spans out"),
        ("out/steering_vector.safetensors:2", &["--save"], "leave the scale out"),
        ("v.npy", &["--save"], "write .safetensors with `bipo convert`"),
        ("nowhere.safetensors", &["--save"], "nowhere.safetensors"),
    ];
    for (vector, more, expected) in cases {
        let output = place.bipo(&[&["calibrate", "--model", "no-such-model", "--vector", vector], more].concat());
        let said = text(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{said}");
        assert!(said.contains(expected) && said.lines().count() == 1, "{said}");
    }
    let output = on_tiny(&place, "eval", VECTOR, &["--at", "margin=1"]);
    assert!(text(&output.stderr).contains("expected a budget of damage"), "{}", text(&output.stderr));
}

#[test]
fn each_budget_is_measured_on_its_own_material() {
    let place = trained();
    for more in [["--budget", "ppl=1.001"].as_slice(), &["--budget", "margin=0.0001", "--dataset", "pairs.csv"]] {
        let output = on_tiny(&place, "calibrate", VECTOR, more);
        assert_ok(&output);
        let said = text(&output.stdout);
        assert!(said.starts_with(&format!("largest magnitudes within {}", more[1])), "{said}");
        assert!(said.contains("try it: bipo steer") && said.contains("--vector out/"), "{said}");
    }
}

//! The mean-difference baseline against PyTorch, and the search for a layer against the runs that it stands for.

use std::fs;
use std::path::Path;

use bipo::machine::bytes::Bytes;
use bipo::steering::layers::Layers;
use bipo::steering::positions::Positions;
use bipo::steering::vector::SteeringVector;
use bipo::text::tokens::{EncodedPair, EncodedResponse};
use bipo::train::activations::CacheOptions;
use bipo::train::layer_search::{self, LayerSearch};
use bipo::train::optim::Scheduler;
use bipo::train::{Direction, EpochRecord, Factor, ObjectiveName, Observer, StepRecord, TrainConfig, TrainState};
use candle_core::DType;
use serde_json::Value;

use crate::cli::{Place, assert_ok, assert_refused, fixture, text};

fn caa_place() -> (Place, Value) {
    let recorded: Value = serde_json::from_str(&fs::read_to_string(fixture("caa.json")).unwrap()).unwrap();
    let place = Place::new();
    let rows: Vec<String> = recorded["pairs"].as_array().unwrap().iter().map(Value::to_string).collect();
    fs::write(place.path("pairs.jsonl"), rows.join("\n")).unwrap();
    (place, recorded)
}

fn caa(place: &Place, out: &str, flags: &[&str]) -> std::process::Output {
    let model = fixture("llama");
    let args = ["train", "--model", &model, "--method", "caa", "--dataset", "pairs.jsonl", "--output-dir", out];
    place.bipo(&[&args[..], flags].concat())
}

fn read(place: &Place, out: &str) -> SteeringVector {
    SteeringVector::read(&place.path(out).join("steering_vector.safetensors"), None).unwrap()
}

/// Largest difference, as a share of the recorded norm.
fn distance(v: &[f32], recorded: &Value) -> f64 {
    let recorded: Vec<f64> = recorded.as_array().unwrap().iter().map(|x| x.as_f64().unwrap()).collect();
    assert_eq!(v.len(), recorded.len());
    let norm = recorded.iter().map(|x| x * x).sum::<f64>().sqrt();
    v.iter().zip(&recorded).map(|(v, r)| (f64::from(*v) - r).abs()).fold(0.0, f64::max) / norm
}

#[test]
fn mean_differences_equal_those_of_pytorch_at_every_layer_wherever_the_vector_is_added() {
    let (place, recorded) = caa_place();
    for (at, flags) in [
        ("response", &["--positions", "response"][..]),
        ("response", &["--spans", "user", "--cache-memory", "0"]),
        ("response", &["--positions", "last"]),
        ("response", &[]),
        ("last", &["--caa-positions", "last"]),
        ("last", &["--caa-positions", "last", "--positions", "response"]),
    ] {
        assert_ok(&caa(&place, "all", &[&["--layers", "all", "--overwrite"][..], flags].concat()));
        let vector = read(&place, "all");
        assert_eq!(vector.layers.keys().copied().collect::<Vec<_>>(), [0, 1, 2]);
        for (layer, v) in &vector.layers {
            let distance = distance(v, &recorded[format!("{at}.{layer}")]);
            assert!(distance < 2e-6, "{flags:?}, layer {layer}: {distance:e}");
        }
        // A layer by itself comes from a shorter pass: the same numbers.
        assert_ok(&caa(&place, "one", &[&["--layer", "1", "--overwrite"][..], flags].concat()));
        assert_eq!(read(&place, "one").layers[&1], vector.layers[&1], "{flags:?}");
    }
}

#[test]
fn a_mean_difference_leaves_the_files_of_a_run_and_says_what_it_is() {
    let (place, _) = caa_place();
    let output = caa(&place, "out", &["--layer", "1", "--eval-dataset", "pairs.csv", "--json"]);
    assert_ok(&output);
    let result: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((&result["method"], &result["steps"], &result["compared_pairs"]), (&"caa".into(), &0.into(), &3.into()));
    let training = read(&place, "out").metadata.training.unwrap();
    assert_eq!((&training["method"], &training["caa_positions"]), (&"caa".into(), &"response".into()));
    assert_eq!(training["heldout"], result["heldout"]);
    assert!(training["heldout"]["positive_margin"].is_f64() && training.get("lr").is_none());
    let config: Value = serde_json::from_slice(&fs::read(place.path("out/config.json")).unwrap()).unwrap();
    assert_eq!(config["method"], "caa");
    assert!(fs::read_to_string(place.path("out/README.md")).unwrap().contains("It was not learned"));
    assert_ok(&caa(&place, "again", &["--layer", "1", "--eval-dataset", "pairs.csv"]));
    assert_eq!(place.vector("out"), place.vector("again"));
    assert_ok(&place.train("bipo", &[]));
    assert_eq!(read(&place, "bipo").metadata.training.unwrap()["method"], "bipo");
}

#[test]
fn flags_that_a_mean_does_not_use_are_refused() {
    let (place, _) = caa_place();
    for (flags, expected) in [
        (&["--lr", "0.1", "--seed", "3"][..], "--lr, --seed: no effect with --method caa"),
        (&["--beta", "0.2"], "--beta: no effect"),
        (&["--epochs", "5"], "--epochs: no effect"),
        (&["--resume"], "--resume: no effect with --method caa, which takes a mean, learns nothing and has nothing to resume"),
        (&["--checkpoint-every", "5"], "--checkpoint-every: no effect"),
        (&["--init", "nowhere.safetensors"], "--init: no effect"),
        (&["--caa-positions", "first"], "[possible values: response, last]"),
        (
            &["--max-length", "2", "--response-prefix", "", "--eval-dataset", "pairs.csv"],
            "every pair has a response of one token",
        ),
    ] {
        assert_refused(&caa(&place, "out", flags), flags, expected);
        assert!(!place.path("out/steering_vector.safetensors").exists());
    }
    assert_ok(&caa(&place, "out", &["--beta", "0.2", "--eval-dataset", "pairs.csv"]));
    let flags = ["--caa-positions", "last"];
    assert_refused(&place.train("bipo", &flags), &flags, "it needs --method caa");
}

fn layers(place: &Place, flags: &[&str]) -> std::process::Output {
    let model = fixture("llama");
    let args = ["layers", "--model", &model, "--dataset", "pairs.csv", "--batch-size", "2", "--lr", "0.05"];
    place.bipo(&[&args[..], flags].concat())
}

/// The words of a POSIX command line whose quotes are single.
fn words(line: &str) -> Vec<String> {
    let (mut words, mut quoted, mut word) = (Vec::new(), false, None::<String>);
    for letter in line.chars() {
        match letter {
            '\'' => {
                quoted = !quoted;
                word.get_or_insert_default();
            }
            ' ' if !quoted => words.extend(word.take()),
            letter => word.get_or_insert_default().push(letter),
        }
    }
    words.extend(word);
    words
}

#[test]
fn a_search_finds_at_each_layer_what_a_run_there_finds_to_the_bit() {
    let place = Place::new();
    fs::write(
        place.path("held out.csv"),
        "question,matching,not_matching\nWho sings?,A friend sings.,No one.\nWhen?,Now.,Never.\n",
    )
    .unwrap();
    for more in [&[][..], &["--positions", "response"], &["--spans", "assistant", "--cache-memory", "2kB"]] {
        let short = [&["--eval-dataset", "held out.csv", "--epochs", "2", "--warmup-steps", "1"][..], more].concat();
        let output = layers(&place, &[&["--layers", "0..2", "--json"][..], &short].concat());
        assert_ok(&output);
        let report: Value = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!(report["schema_version"], 1);
        let results = report["layers"].as_array().unwrap();
        let losses: Vec<f64> = results.iter().map(|result| result["heldout"]["loss"].as_f64().unwrap()).collect();
        assert!(losses.len() == 3 && losses.is_sorted(), "{losses:?}");
        assert_eq!(report["best_layer"], results[0]["layer"]);
        for result in results {
            let layer = result["layer"].to_string();
            assert_ok(&place.train("run", &[&["--layer", &layer, "--overwrite"][..], &short].concat()));
            let vector = read(&place, "run");
            let training = vector.metadata.training.clone().unwrap();
            for key in ["heldout", "steps", "final_loss", "final_margin"] {
                assert_eq!(result[key], training[key], "{more:?}, layer {layer}: {key}");
            }
            let norm = bipo::steering::dose::l2_norm(vector.layers.values().next().unwrap());
            assert_eq!(result["vector_norm"].as_f64().unwrap(), norm, "{more:?}, layer {layer}");
        }
        let command = words(report["command"].as_str().unwrap());
        let expected = [&["bipo", "train"], &command[2..].iter().map(String::as_str).collect::<Vec<_>>()[..]].concat();
        assert_eq!(command, expected);
        assert!(command.contains(&"held out.csv".to_owned()) && !command.contains(&"--epochs".to_owned()), "{command:?}");
        let full: Vec<&str> = command[1..].iter().map(String::as_str).chain(["--output-dir", "full", "--overwrite"]).collect();
        assert_ok(&place.bipo(&full));
        let training = read(&place, "full").metadata.training.unwrap();
        assert_eq!((&training["layers"][0], &training["epochs"]), (&report["best_layer"], &5.into()));
    }
}

/// Pairs of one prompt length; the responses begin apart.
fn pairs(count: u32) -> Vec<EncodedPair> {
    let response = |first: u32, length: u32| {
        let ids = [1, 40, 41, 42].into_iter().chain((0..length).map(|i| 50 + (first * 7 + i * 13) % 200)).chain([2]).collect();
        EncodedResponse { ids, start: 4, in_spans: None }
    };
    let pair =
        |row: u32| EncodedPair { row: row as usize, chosen: response(row, 3 + row % 3), rejected: response(row + 90, 5) };
    (0..count).map(pair).collect()
}

struct Silent;

impl Observer for Silent {
    fn cached(&mut self, _: usize, _: usize) -> bipo::Result<()> {
        Ok(())
    }
    fn step(&mut self, _: &StepRecord, _: usize) -> bipo::Result<()> {
        Ok(())
    }
    fn epoch(&mut self, _: &EpochRecord, _: &[f32]) -> bipo::Result<()> {
        Ok(())
    }
}

#[test]
fn a_search_learns_the_very_vector_that_a_run_at_the_layer_learns() {
    let model = crate::architectures::load("llama", DType::F32);
    let (learned, held) = (pairs(9), pairs(4));
    for (positions, memory) in [(Positions::All, u64::MAX), (Positions::Response, 3000), (Positions::Last, 0)] {
        let config = |layers: Layers| TrainConfig {
            layers,
            epochs: 2,
            max_steps: Some(5),
            schedule_epochs: None,
            batch_size: 2,
            lr: 0.05,
            objective: ObjectiveName::Bipo,
            beta: 0.1,
            gamma: None,
            direction: Direction::Sign,
            max_grad_norm: Some(1.0),
            positions,
            weight_decay: 0.05,
            warmup_steps: 1,
            scheduler: Scheduler::Cosine,
            seed: 11,
            init: None,
            init_scale: 0.0,
            factor: Factor::One,
            cache: CacheOptions { memory: Bytes(memory), ..CacheOptions::default() },
        };
        let all = config(vec![0, 1, 2].try_into().unwrap());
        let plan = layer_search::plan(&model, &learned, &held, &all).unwrap();
        let search = LayerSearch::new(&model, plan, &all, |_, _| Ok(())).unwrap();
        let results = search.run(&mut Silent, &mut |_| {}).unwrap();
        assert_eq!(results.len(), 3);
        for result in results {
            let config = config(result.layer.into());
            let plan = bipo::train::plan(&model, &learned, Some(&held), &config).unwrap();
            let start = TrainState::new(&config, model.config.hidden_size, learned.len());
            let run = bipo::train::train(&model, plan, &config, start, &mut Silent).unwrap();
            let bits = |v: &[f32]| v.iter().map(|x| x.to_bits()).collect::<Vec<_>>();
            assert!(run.v.iter().any(|x| x.abs() > 1e-3));
            assert_eq!(bits(&result.v), bits(&run.v), "{positions}, layer {}", result.layer);
            assert_eq!(result.heldout.unwrap().loss, run.heldout.unwrap().loss);
        }
    }
}

#[test]
fn a_search_without_held_out_pairs_holds_some_out_and_says_so() {
    let place = Place::new();
    let output = layers(&place, &["--layers", "1,2"]);
    assert_ok(&output);
    let (stdout, stderr) = (text(&output.stdout), text(&output.stderr));
    assert!(stderr.contains("no --eval-dataset: held out 1 of pairs.csv's own pairs, drawn with seed 11"), "{stderr}");
    assert!(stderr.contains("activation cache: 5 pairs, residuals of 2 layers"), "{stderr}");
    assert!(stdout.contains("\nno vector  0.6931\n") && stdout.contains("\ntrain it in full: bipo train "), "{stdout}");
    assert_eq!(stdout.lines().filter(|line| line.starts_with("1  ") || line.starts_with("2  ")).count(), 2, "{stdout}");
    // Two shares of one pair for each layer: all or none, which says little.
    assert_eq!(stdout.matches("100 % [21, 100]").count() + stdout.matches("0 % [0, 79]").count(), 4, "{stdout}");
    let seeded = text(&layers(&place, &["--layers", "1,2", "--seed", "4"]).stdout);
    assert_ne!(without_seconds(&stdout), without_seconds(&seeded));
    assert_eq!(without_seconds(&stdout), without_seconds(&text(&layers(&place, &["--layers", "1,2"]).stdout)));
    let all = text(&layers(&place, &["--layers", "all"]).stdout);
    assert_eq!(without_seconds(&all), without_seconds(&text(&layers(&place, &[]).stdout)).replace("--layers all ", ""));
    assert_eq!(fs::read_dir(place.path("")).unwrap().count(), 1, "a search writes no file");
}

fn without_seconds(table: &str) -> String {
    table.lines().map(|line| line.rsplit_once("  ").map_or(line, |(front, _)| front)).collect::<Vec<_>>().join("\n")
}

#[test]
fn a_search_that_cannot_be_is_refused() {
    let place = Place::new();
    for (flags, expected) in [
        (&["--layers", "2..3"][..], "layer 3 out of range: model has 3 layers"),
        (&["--layers", "2..1"], "2 is above 1"),
        (&["--layer", "1"], "--layer"),
        (&["--limit", "1"], "give held-out pairs of their own with --eval-dataset"),
        (&["--output-dir", "out"], "--output-dir"),
    ] {
        assert_refused(&layers(&place, flags), flags, expected);
    }
    assert!(Path::new(&place.path("pairs.csv")).exists());
}

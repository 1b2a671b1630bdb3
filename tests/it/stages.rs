//! A model whose blocks are divided between stages, here of one device: every command computes the same bytes as with all blocks
//! on that device, wherever the borders are.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use bipo::generate::{GenerateOptions, generate};
use bipo::model::Model;
use bipo::model::checkpoint::Checkpoint;
use bipo::model::config::Config;
use bipo::model::split::Split;
use bipo::model::weights::{WeightStorage, Weights};
use bipo::steering::positions::Positions;
use bipo::text::tokens::{EncodedPair, EncodedResponse};
use bipo::train::{TrainConfig, learn};
use candle_core::{DType, Device};
use serde_json::Value;

use crate::cli::{Place, assert_ok, assert_refused, fixture, json, text};

/// Each file of a run, with the times of `metrics.jsonl` left out.
fn files(dir: &Path) -> BTreeMap<String, String> {
    let read = |entry: fs::DirEntry| {
        let name = entry.file_name().into_string().unwrap();
        let bytes = fs::read(entry.path()).unwrap();
        let found: String = match name.as_str() {
            "metrics.jsonl" => {
                text(&bytes).lines().map(|line| line.split(",\"seconds\":").next().unwrap().to_owned() + "\n").collect()
            }
            _ => bytes.iter().map(|byte| format!("{byte:02x}")).collect(),
        };
        (name, found)
    };
    fs::read_dir(dir).unwrap().map(|entry| read(entry.unwrap())).collect()
}

/// Layouts of the tiny Llama's three blocks, and how they are told.
const LAYOUTS: [(&[&str], &str); 4] = [
    (&["--device", "cpu:0,1"], "2+1"),
    (&["--device", "cpu:0,1", "--split", "1,2"], "1+2"),
    (&["--device", "cpu:0,1,2"], "1+1+1"),
    (&["--device", "cpu:1,1", "--split", "2,1"], "2+1"),
];

#[test]
fn stages_train_the_vector_and_the_metrics_of_one_device() {
    let place = Place::new();
    let more = ["--eval-dataset", "pairs.csv", "--dtype", "f32"];
    // In the first stage, at its border and in the last one; several; all rows, and some alone, the others' keys cached.
    let runs: [&[&str]; 6] = [
        &["--layer", "0"],
        &["--layer", "1"],
        &["--layer", "2"],
        &["--layers", "0,1"],
        &["--layer", "0", "--positions", "response"],
        &["--layer", "1", "--positions", "response", "--offload"],
    ];
    for (run, flags) in runs.iter().enumerate() {
        let out = format!("one{run}");
        let plain: Vec<&str> = flags.iter().copied().filter(|flag| *flag != "--offload").collect();
        assert_ok(&place.train(&out, &[&more[..], &["--device", "cpu"], &plain].concat()));
        let expected = files(&place.path(&out));
        assert!(expected.contains_key("steering_vector.safetensors") && expected.contains_key("metrics.jsonl"));
        for (layout, told) in LAYOUTS {
            let out = format!("{told} {run}");
            let trained = place.train(&out, &[&more[..], layout, flags, &["--overwrite"]].concat());
            assert_ok(&trained);
            let stderr = text(&trained.stderr);
            assert!(stderr.contains(&format!("divided {told} between devices")), "{stderr}");
            let found = files(&place.path(&out));
            assert_eq!(found.keys().collect::<Vec<_>>(), expected.keys().collect::<Vec<_>>());
            for (name, bytes) in &found {
                assert!(*bytes == expected[name], "{flags:?} at {layout:?}: {name} differs");
            }
        }
    }
}

/// What `--json` gives, without what is said of this process.
fn without_process(mut value: Value) -> Value {
    fn strip(value: &mut Value) {
        match value {
            Value::Object(map) => {
                map.retain(|key, _| !matches!(key.as_str(), "command" | "timings" | "seconds" | "load_s" | "device"));
                map.values_mut().for_each(strip);
            }
            Value::Array(list) => list.iter_mut().for_each(strip),
            _ => {}
        }
    }
    strip(&mut value);
    value
}

#[test]
fn stages_evaluate_search_calibrate_and_generate_what_one_device_does() {
    let place = Place::new();
    let model = fixture("llama");
    assert_ok(&place.train("out", &["--lr", "2", "--weight-decay", "0", "--layers", "0,1", "--max-grad-norm", "1e9"]));
    let vector = ["--vector", "out/steering_vector.safetensors"];
    let steer = ["--prompt", "What is it?", "--prompt", "What is this?", "--magnitudes", "-2,0,3", "--max-new-tokens", "12"];
    let commands: [Vec<&str>; 4] = [
        [&["steer", "--json"][..], &vector, &steer].concat(),
        [
            &["eval", "--json", "--dataset", "pairs.csv", "--magnitudes", "-1,1", "--max-new-tokens", "6"][..],
            &["--per-pair", "pairs.jsonl"],
            &vector,
        ]
        .concat(),
        [&["calibrate", "--json"][..], &vector].concat(),
        vec!["layers", "--json", "--dataset", "pairs.csv", "--layers", "0,1,2", "--batch-size", "2", "--max-steps", "4"],
    ];
    for command in &commands {
        let run = |device: &[&str]| -> (Value, Option<String>) {
            let output = place.bipo(&[&command[..], &["--model", &model], device].concat());
            let per_pair = fs::read_to_string(place.path("pairs.jsonl")).ok();
            let _ = fs::remove_file(place.path("pairs.jsonl"));
            (without_process(json(&output)), per_pair)
        };
        let expected = run(&["--device", "cpu"]);
        assert!(expected.0.to_string().len() > 200, "{}", expected.0);
        assert_eq!(expected.1.is_some(), command[0] == "eval");
        for (layout, _) in &LAYOUTS[..3] {
            assert_eq!(run(layout), expected, "{command:?} at {layout:?}");
        }
    }
}

#[test]
fn what_cannot_be_divided_is_refused_in_one_line() {
    let place = Place::new();
    let refused: [(&[&str], &str); 8] = [
        (&["--device", "cpu:0,x"], "device cpu:0,x: expected cpu:N with a number N, or several such as cpu:0,1"),
        (&["--device", "cpu:"], "device cpu:: expected cpu:N"),
        (&["--device", "auto:0,1"], "device auto:0,1: expected auto, cpu, cuda[:N]"),
        (&["--device", "cpu", "--split", "1,2"], "split 1,2 needs several devices, such as cpu:0,1 or cuda:0,1"),
        (&["--device", "cpu:0,1", "--split", "2,2"], "split 2,2 adds up to 4 blocks, but the model has 3"),
        (&["--device", "cpu:0,1", "--split", "1,1,1"], "split 1,1,1 has 3 numbers, but there are 2 devices"),
        (&["--device", "cpu:0,1", "--split", "3,0"], "split 3,0: each device needs at least one block"),
        (&["--device", "cpu:0,1,2,3"], "4 devices are more than the model's 3 blocks: name at most 3"),
    ];
    for (flags, expected) in refused {
        assert_refused(&place.train("out", flags), flags, expected);
        assert!(!place.path("out").exists(), "{flags:?}");
    }
    if cfg!(not(feature = "cuda")) {
        for device in ["cuda:0,0", "cuda:all"] {
            let flags = ["--device", device];
            assert_refused(&place.train("out", &flags), &flags, "this bipo is built for the CPU");
        }
    }
    let flags = ["--offload", "--test-generation"];
    assert_refused(&place.train("out", &flags), &flags, "--test-generation");
    let flags = ["--method", "caa", "--offload"];
    assert_refused(&place.train("out", &flags), &flags, "--offload");
    let flags = ["check", "--device", "cpu:0,1"];
    assert_refused(&place.bipo(&flags), &flags, "device cpu:0,1: expected one device, found 2");
}

/// Six blocks with windows, two rotary embeddings and tied embeddings.
fn gemma(split: &[usize]) -> Model {
    let checkpoint = Checkpoint::Gguf { path: fixture("gemma3_text/model.gguf").into(), tokenizer: None };
    let weights = Weights::open(&checkpoint).unwrap();
    let config = Config::load(&checkpoint, &weights).unwrap();
    let by_hand = Some(split).filter(|split| split.len() > 1);
    let split = Split::new(vec![Device::Cpu; split.len()], by_hand, &config).unwrap();
    Model::load_divided(&weights, config, DType::F32, &split, WeightStorage::Dense).unwrap()
}

#[test]
fn windows_and_several_rotary_embeddings_cross_borders_too() {
    let ids = |seed: u32, len: u32| -> Vec<u32> { (0..len).map(|i| (seed * 31 + i * i * 7 + i * 3) % 64).collect() };
    let pair = |row: usize| {
        let response = |seed: u32, len: u32| EncodedResponse {
            ids: [ids(row as u32, 9), ids(seed, len)].concat(),
            start: 9,
            in_spans: None,
        };
        EncodedPair { row, chosen: response(row as u32 + 5, 6), rejected: response(row as u32 + 9, 8) }
    };
    let pairs: Vec<EncodedPair> = (0..4).map(pair).collect();
    let config = TrainConfig {
        batch_size: 2,
        epochs: 2,
        lr: 0.05,
        warmup_steps: 0,
        positions: Positions::Response,
        ..TrainConfig::at(2)
    };
    let computed = |model: &Model| -> (Vec<u32>, Vec<Vec<u32>>) {
        let v = learn(model, &pairs, &config).unwrap().v;
        let vectors = BTreeMap::from([(2, v.iter().map(|x| x * 50.0).collect())]);
        let texts = generate(model, &ids(1, 9), &vectors, &[-1.0, 0.0, 1.0], &GenerateOptions::greedy(12), &mut |_, _| Ok(()));
        (v.iter().map(|x| x.to_bits()).collect(), texts.unwrap().into_iter().map(|text| text.token_ids).collect())
    };
    let expected = computed(&gemma(&[6]));
    assert!(expected.0.iter().any(|bits| *bits != 0) && expected.1.iter().any(|text| text.len() == 12));
    for split in [&[3, 3][..], &[1, 5], &[5, 1], &[2, 2, 2]] {
        assert_eq!(computed(&gemma(split)), expected, "{split:?}");
    }
}

#[test]
fn a_bench_counts_what_each_device_of_a_shape_would_take_without_one() {
    let place = Place::new();
    let bench = |flags: &[&str]| place.bipo(&[&["bench", "--shape", "llama-2-70b"][..], flags].concat());
    let counted = json(&bench(&["--split", "40,40", "--device", "cuda:0,1", "--json"]));
    assert_eq!((counted["dtype"].as_str(), counted["layer"].as_u64()), (Some("bf16"), Some(36)));
    let devices = counted["devices"].as_array().unwrap();
    assert_eq!(devices.iter().map(|device| device["device"].as_str().unwrap()).collect::<Vec<_>>(), ["cuda:0", "cuda:1"]);
    let number = |device: usize, key: &str| devices[device][key].as_u64().unwrap_or_else(|| panic!("{key}: {counted}"));
    assert_eq!([0, 1].map(|device| number(device, "first_block")), [0, 40]);
    // 80 blocks of 855,638,016 numbers and two embeddings.
    assert_eq!(number(0, "weights_bytes") + number(1, "weights_bytes"), 2 * (80 * 855_638_016 + 2 * 262_144_000));
    assert!(
        number(0, "step_bytes") < number(0, "cache_bytes") / 4 && number(0, "offload_bytes") < number(0, "cache_bytes") / 4
    );
    assert!(number(1, "step_flops") > number(0, "step_flops") && number(1, "sweep_bytes") > number(1, "weights_bytes"));
    let told = bench(&["--split", "20,60"]);
    assert_ok(&told);
    let told = text(&told.stdout);
    for expected in
        ["llama-2-70b, bf16, steered at layer 36", "device 0", "blocks 0 to 19", "device 1", "blocks 20 to 79", "TFLOP a pair"]
    {
        assert!(told.contains(expected), "{expected}: {told}");
    }
    assert_eq!(json(&bench(&["--split", "40,40", "--device", "cpu:0,1", "--json"]))["dtype"], "f32");
    let flags = ["--split", "40,41"];
    assert_refused(&bench(&flags), &flags, "split 40,41 adds up to 81 blocks, but the model has 80");
    let flags = ["--split", "40,40", "--device", "cuda:0,1,2"];
    assert_refused(&bench(&flags), &flags, "--split has 2 numbers, but --device names 3 devices");
}

#[test]
fn a_bench_measures_a_shape_on_several_stages() {
    let place = Place::new();
    let flags = ["--shape", "tiny", "--device", "cpu:0,1", "--seconds", "0.1", "--new-tokens", "2", "--batch-size", "1"];
    let result = json(&place.bipo(&[&["bench", "--json", "--sweeps", "1"][..], &flags].concat()));
    assert!(result["device"].as_str().unwrap().contains("; cpu"), "{result}");
    assert!(result["training"]["steps_per_s"].as_f64().unwrap() > 0.0);
}

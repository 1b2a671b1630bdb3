//! The program itself on a tiny model: what it writes, that it repeats its bytes, that every flag does something, and what
//! it says of bad input.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use bipo::steering::positions::Positions;
use bipo::steering::vector::SteeringVector;
use bipo::text::spans::Spans;
use serde_json::{Value, json};

pub fn fixture(name: &str) -> String {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(name).to_str().unwrap().to_owned()
}

const ROWS: &str = "question,matching,not_matching\n\
    How was it?,It was good.,It was bad.\nWhere to?,To the sea.,Nowhere at all.\nWhy?,Because.,Never mind that.\n\
    Who is it?,A friend.,No one.\nWhat now?,We sing.,We wait and wait.\n";

pub struct Place(tempfile::TempDir);

impl Place {
    pub fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("pairs.csv"), ROWS).unwrap();
        Self(dir)
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    pub fn bipo(&self, args: &[&str]) -> Output {
        Command::new(env!("CARGO_BIN_EXE_bipo"))
            .args(args)
            .current_dir(self.0.path())
            .env("HF_HUB_OFFLINE", "1")
            .stdin(Stdio::null())
            .output()
            .unwrap()
    }

    /// A short run into `out`.
    pub fn train(&self, out: &str, more: &[&str]) -> Output {
        let model = fixture("llama");
        let defaults = [
            ["--model", &model],
            ["--dataset", "pairs.csv"],
            ["--output-dir", out],
            ["--epochs", "2"],
            ["--batch-size", "2"],
            ["--warmup-steps", "1"],
            ["--lr", "0.05"],
            ["--layer", "1"],
        ];
        let is_given = |flag: &&str| more.contains(flag) || (*flag == "--layer" && more.contains(&"--layers"));
        let kept = defaults.iter().filter(|[flag, _]| !is_given(flag)).flatten().copied();
        let args: Vec<&str> = ["train"].into_iter().chain(kept).chain(more.iter().copied()).collect();
        self.bipo(&args)
    }

    pub fn vector(&self, out: &str) -> Vec<u8> {
        fs::read(self.path(out).join("steering_vector.safetensors")).unwrap()
    }
}

pub fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

pub fn assert_ok(output: &Output) {
    assert!(output.status.success(), "{}", text(&output.stderr));
}

#[test]
fn training_writes_what_it_promises_and_repeats_its_bytes() {
    let place = Place::new();
    assert_ok(&place.train("a", &[]));
    assert_ok(&place.train("b", &["--threads", "1"]));
    assert_eq!(place.vector("a"), place.vector("b"));
    for epoch in ["01", "02"] {
        assert!(place.path("a").join(format!("steering_vector-epoch-{epoch}.safetensors")).exists());
    }
    let lines = fs::read_to_string(place.path("a/metrics.jsonl")).unwrap();
    let records: Vec<Value> = lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(records.len(), 6);
    assert!((records[0]["loss"].as_f64().unwrap() - std::f64::consts::LN_2).abs() < 1e-6);
    assert_eq!(records[0]["lr"], 0.0);
    let keys = "step epoch rows d loss margin accuracy lr grad_norm vector_norm tokens seconds";
    for key in keys.split(' ') {
        assert!(records[5].get(key).is_some(), "{key}");
    }
    let mut rows: Vec<u64> =
        records[..3].iter().flat_map(|r| r["rows"].as_array().unwrap()).map(|r| r.as_u64().unwrap()).collect();
    rows.sort_unstable();
    assert_eq!(rows, [0, 1, 2, 3, 4]);
    let vector = SteeringVector::read(&place.path("a/steering_vector.safetensors"), None).unwrap();
    assert_eq!(vector.layers.keys().collect::<Vec<_>>(), [&1]);
    let training = vector.metadata.training.unwrap();
    assert_eq!((&training["steps"], &training["seed"]), (&6.into(), &11.into()));
    assert_eq!(training["dataset"]["sha256"].as_str().unwrap().len(), 64);
    assert!(place.path("a/config.json").exists());
}

#[test]
fn every_setting_has_an_effect() {
    let place = Place::new();
    assert_ok(&place.train("base", &[]));
    assert_ok(&place.train("start", &["--seed", "3"]));
    let settings: [&[&str]; 28] = [
        &["--epochs", "1"],
        &["--objective", "reps"],
        &["--factors", "2,3"],
        &["--learn-factor"],
        &["--learn-factor", "--factor-lr", "1"],
        &["--init-scale", "0.1"],
        &["--positions", "first:1+last:2"],
        &["--max-steps", "4"],
        &["--schedule-epochs", "9"],
        &["--batch-size", "3"],
        &["--lr", "0.01"],
        &["--beta", "0.5"],
        &["--direction", "uniform"],
        &["--direction", "both"],
        &["--positions", "response"],
        &["--positions", "prompt"],
        &["--positions", "last"],
        &["--spans", "user"],
        &["--spans", "assistant"],
        &["--layers", "0,1"],
        &["--init", "start/steering_vector.safetensors"],
        &["--weight-decay", "0.9"],
        &["--warmup-steps", "3"],
        &["--scheduler", "linear"],
        &["--scheduler", "constant"],
        &["--seed", "12"],
        &["--layer", "0"],
        &["--limit", "4"],
    ];
    let texts: [&[&str]; 6] = [
        &["--system", "Be brief."],
        &["--template", "plain"],
        &["--response-prefix", "~"],
        &["--max-length", "28"],
        &["--max-grad-norm", "1e-7"],
        &["--dtype", "bf16"],
    ];
    for (index, flags) in settings.iter().chain(&texts).enumerate() {
        let out = format!("out{index}");
        assert_ok(&place.train(&out, flags));
        let read = |dir: &str| SteeringVector::read(&place.path(dir).join("steering_vector.safetensors"), None).unwrap().layers;
        assert_ne!(read(&out), read("base"), "{flags:?} changes nothing");
    }
}

#[test]
fn reps_and_a_learned_factor_have_the_settings_of_their_sources_unless_others_are_given() {
    let place = Place::new();
    let model = fixture("llama");
    let args = ["train", "--model", &model, "--dataset", "pairs.csv", "--layer", "1", "--max-steps", "3"];
    let run = |out: &str, flags: &[&str]| {
        assert_ok(&place.bipo(&[&args[..], &["--output-dir", out], flags].concat()));
        let vector = SteeringVector::read(&place.path(out).join("steering_vector.safetensors"), None).unwrap();
        let lines = fs::read_to_string(place.path(out).join("metrics.jsonl")).unwrap();
        let steps: Vec<Value> = lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        let norm = bipo::steering::dose::l2_norm(&vector.layers[&1]);
        assert!((steps[2]["vector_norm"].as_f64().unwrap() - norm).abs() < 1e-6 * norm, "{flags:?}");
        (vector.metadata.training.unwrap(), steps)
    };
    let (training, steps) = run("reps", &["--objective", "reps"]);
    let drawn: Vec<u64> = (1..=10).map(|half| 2 * half).collect();
    assert_eq!(training["factor"], json!({"drawn": drawn.iter().map(|factor| *factor as f64).collect::<Vec<_>>()}));
    for (key, expected) in [("direction", "both"), ("scheduler", "linear")] {
        assert_eq!(training[key], expected, "{key}");
    }
    for (key, expected) in [("lr", 0.04), ("weight_decay", 0.0), ("init_scale", 1.0), ("max_grad_norm", 1.0)] {
        assert_eq!(training[key], expected, "{key}");
    }
    assert_eq!((&training["warmup_steps"], &training["positions"]), (&0.into(), &"all".into()));
    let factors: Vec<&Value> = steps.iter().flat_map(|step| step["factors"].as_array().unwrap()).collect();
    assert_eq!(factors.len(), steps.iter().map(|step| step["rows"].as_array().unwrap().len()).sum::<usize>());
    assert!(factors.iter().any(|pair| pair[0] != pair[1]), "{factors:?}");

    let (training, steps) = run("learned", &["--objective", "simpo", "--learn-factor", "--scheduler", "constant"]);
    assert_eq!(training["factor"], json!({"learned": {"scale": 4.0, "lr": 20.0}}));
    assert_eq!((&training["scheduler"], &training["weight_decay"]), (&"constant".into(), &json!(0.0)));
    // The first step of Adam moves each number by its rate, whichever way: √32 · 4 is where the factor starts.
    let first = steps[0]["factor"].as_f64().unwrap();
    assert!(((first - 32f64.sqrt() * 4.0).abs() - 20.0).abs() < 1e-3, "{first}");

    let (training, steps) = run("plain", &[]);
    assert!(["factor", "init_scale"].iter().all(|key| training.get(*key).is_none()), "{training}");
    assert!(["factor", "factors"].iter().all(|key| steps[0].get(*key).is_none()));
    let (training, steps) = run("drawn", &["--factors", "0.5..1.5:0.5"]);
    assert_eq!(training["factor"], json!({"drawn": [0.5, 1.0, 1.5]}));
    for step in steps {
        let factors = step["factors"].as_array().unwrap();
        assert!(factors.iter().all(|pair| *pair == factors[0] && pair[0] == pair[1]), "one factor a step: {factors:?}");
    }
}

#[test]
fn an_ablation_at_magnitude_0_is_the_untouched_model_and_at_1_it_forgets_how_long_the_vector_is() {
    let place = Place::new();
    assert_ok(&place.train("out", &["--lr", "2", "--weight-decay", "0"]));
    let model = fixture("llama");
    let file = "out/steering_vector.safetensors";
    let steer = |vector: &str, flags: &[&str]| -> Vec<(Value, Value)> {
        let args = ["steer", "--model", &model, "--vector", vector, "--max-new-tokens", "16", "--json"];
        let output = place.bipo(&[&args[..], &["--prompt", "What is it?"], flags].concat());
        assert_ok(&output);
        let results: Value = serde_json::from_slice(&output.stdout).unwrap();
        let result = |result: &Value| (result["magnitude"].clone(), result["token_ids"].clone());
        results["results"].as_array().unwrap().iter().map(result).collect()
    };
    let plain = steer(file, &["--magnitudes", "0"]);
    let ablated = steer(file, &["--operation", "ablate"]);
    assert_eq!(ablated.iter().map(|(magnitude, _)| magnitude.as_f64().unwrap()).collect::<Vec<_>>(), [0.0, 1.0]);
    assert_eq!(ablated[0], plain[0]);
    assert_ne!(ablated[1].1, plain[0].1);
    assert_eq!(steer(&format!("{file}:8"), &["--operation", "ablate"]), ablated);
    assert_ne!(steer(file, &["--operation", "ablate", "--magnitudes", "0.3"])[0].1, ablated[1].1);
}

#[test]
fn each_of_several_layers_gets_a_vector_and_one_layer_named_either_way_gives_the_same_bytes() {
    let place = Place::new();
    assert_ok(&place.train("flag", &[]));
    assert_ok(&place.train("list", &["--layers", "1"]));
    assert_eq!(place.vector("flag"), place.vector("list"));
    for (layers, expected) in [("0,2", &[0, 2][..]), ("0-1", &[0, 1]), ("all", &[0, 1, 2])] {
        assert_ok(&place.train("several", &["--layers", layers, "--overwrite"]));
        let vector = SteeringVector::read(&place.path("several/steering_vector.safetensors"), None).unwrap();
        assert_eq!(vector.layers.keys().copied().collect::<Vec<_>>(), expected);
        assert!(vector.layers.values().all(|v| v.len() == 32 && v.iter().any(|x| x.abs() > 1e-3)));
        assert_eq!(vector.metadata.training.unwrap()["layers"], Value::from(expected));
        let lines = fs::read_to_string(place.path("several/metrics.jsonl")).unwrap();
        let last: Value = serde_json::from_str(lines.lines().last().unwrap()).unwrap();
        let norm = vector.layers.values().flatten().map(|x| f64::from(*x).powi(2)).sum::<f64>().sqrt();
        assert!((last["vector_norm"].as_f64().unwrap() - norm).abs() < 1e-6);
    }
    let args = ["--vector", "several/steering_vector.safetensors", "--prompt", "Hello", "--max-new-tokens", "3"];
    assert_ok(&place.bipo(&[&["steer", "--model", &fixture("llama")][..], &args].concat()));
}

#[test]
fn a_run_continues_from_a_vector_and_says_from_which() {
    let place = Place::new();
    assert_ok(&place.train("first", &[]));
    let start = "first/steering_vector.safetensors";
    // The first step of the warmup has rate 0: v stays where it starts.
    assert_ok(&place.train("second", &["--init", start, "--max-steps", "1"]));
    let read = |dir: &str| SteeringVector::read(&place.path(dir).join("steering_vector.safetensors"), None).unwrap();
    let (first, second) = (read("first"), read("second"));
    assert_eq!(first.layers, second.layers);
    let init = &second.metadata.training.unwrap()["init"];
    assert_eq!(init["name"], "steering_vector.safetensors");
    assert_eq!(init["sha256"], bipo::machine::files::sha256(&place.path(start)).unwrap());
    let refused = place.train("third", &["--init", start, "--layer", "0"]);
    assert_refused(&refused, &["--init"], "steers layer 1, but the run layer 0");
    fs::write(place.path("bare.pt"), fs::read(fixture("vectors/bare.pt")).unwrap()).unwrap();
    let refused = place.train("third", &["--init", "bare.pt"]);
    assert_refused(&refused, &["--init"], "hidden size 4, but the model has 32");
    assert!(!place.path("third").exists());
}

#[test]
fn where_a_vector_is_added_is_kept_with_it_and_can_be_said_anew() {
    let place = Place::new();
    let model = fixture("llama");
    // Long enough to change a text.
    let flags = ["--positions", "prompt", "--spans", "user", "--lr", "2", "--weight-decay", "0", "--max-grad-norm", "1e9"];
    assert_ok(&place.train("out", &flags));
    let file = "out/steering_vector.safetensors";
    let metadata = SteeringVector::read(&place.path(file), None).unwrap().metadata;
    assert_eq!((metadata.positions, metadata.spans), (Positions::Prompt, Some(Spans::User)));
    assert_eq!(metadata.training.unwrap()["spans"], "user");
    let text = |flags: &[&str]| {
        let args = ["steer", "--model", &model, "--vector", file, "--magnitudes", "3", "--max-new-tokens", "16", "--json"];
        let output = place.bipo(&[&args[..], &["--prompt", "What is it?"], flags].concat());
        assert_ok(&output);
        output.stdout
    };
    let own = text(&[]);
    assert_eq!(own, text(&["--positions", "prompt", "--spans", "user"]));
    for flags in [
        &["--positions", "all"][..],
        &["--positions", "response"],
        &["--positions", "last"],
        &["--positions", "prompt"],
        &["--spans", "assistant", "--positions", "all"],
    ] {
        assert_ne!(own, text(flags), "{flags:?} changes nothing");
    }
    assert_eq!(text(&["--positions", "response"]), text(&["--spans", "assistant", "--positions", "all"]));
    let args = ["steer", "--model", &model, "--vector", file, "--prompt", "a"];
    for (flags, expected) in [
        (["--positions", "last", "--spans", "user"], "leaves no token"),
        (["--positions", "prompt", "--spans", "assistant"], "no token of the prompt or after it"),
    ] {
        assert_refused(&place.bipo(&[&args[..], &flags].concat()), &flags, expected);
    }
}

#[test]
fn a_cache_in_a_file_gives_the_same_bytes_as_one_in_memory_and_its_size_is_said_before() {
    let place = Place::new();
    for (positions, has_keys) in [("all", false), ("response", true)] {
        let flags = ["--positions", positions, "--eval-dataset", "pairs.csv", "--batch-size", "1", "--overwrite"];
        let memory = place.train("memory", &flags);
        let file = place.train("file", &[&flags[..], &["--cache-memory", "0"]].concat());
        // Room for some of the pairs.
        let both = place.train("both", &[&flags[..], &["--cache-memory", "3kB"]].concat());
        // On the CPU the device's memory is the machine's: there the limit is not asked.
        let device = place.train("device", &[&flags[..], &["--cache", "device", "--cache-memory", "0"]].concat());
        let host = place.train("host", &[&flags[..], &["--cache", "host", "--cache-memory", "0"]].concat());
        for output in [&memory, &file, &both, &device, &host] {
            assert_ok(output);
        }
        for other in ["file", "device", "host"] {
            assert_eq!(place.vector("memory"), place.vector(other), "{positions}, {other}");
        }
        assert_eq!(place.vector("memory"), place.vector("both"), "{positions}");
        let line = |output: &Output| {
            let stderr = text(&output.stderr);
            let lines: Vec<&str> = stderr.lines().collect();
            let at = lines.iter().position(|line| line.starts_with("activation cache: 10 pairs")).unwrap();
            assert!(lines[at + 1].starts_with("caching"), "{stderr}");
            lines[at].to_owned()
        };
        // Each epoch takes every pair of the one set once, alone, so that it shares no row with another; the other set has the
        // same rows. 32 numbers of 4 bytes a row.
        let metrics = fs::read_to_string(place.path("memory/metrics.jsonl")).unwrap();
        let epoch =
            metrics.lines().take(5).map(|line| serde_json::from_str::<Value>(line).unwrap()["tokens"].as_u64().unwrap());
        let residuals = format!("residuals {:.1} kB", (2 * 32 * 4 * epoch.sum::<u64>()) as f64 / 1000.0);
        assert!(line(&memory).contains(&residuals), "{} has no {residuals}", line(&memory));
        assert!(line(&memory).ends_with("in memory") && line(&file).ends_with("in a temporary file in file"));
        assert!(line(&device).ends_with("in memory") && line(&host).ends_with("in a temporary file in host"));
        assert_eq!(line(&memory).contains("keys and values"), has_keys, "{}", line(&memory));
        let left: Vec<_> = fs::read_dir(place.path("file")).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(left.len(), 8, "{left:?}");
    }
}

#[test]
fn held_out_pairs_choose_the_best_epoch() {
    let place = Place::new();
    let output = place.train("out", &["--eval-dataset", "pairs.csv", "--epochs", "3"]);
    assert_ok(&output);
    let read = |name: &str| SteeringVector::read(&place.path("out").join(name), None).unwrap();
    let best = read("steering_vector.safetensors");
    let training = best.metadata.training.unwrap();
    let epoch = training["best_epoch"].as_u64().unwrap();
    assert_eq!(best.layers, read(&format!("steering_vector-epoch-{epoch:02}.safetensors")).layers);
    let losses: Vec<f64> = (1..=3)
        .map(|epoch| read(&format!("steering_vector-epoch-{epoch:02}.safetensors")).metadata.training.unwrap())
        .map(|training| training["heldout"]["loss"].as_f64().unwrap())
        .collect();
    let lowest = losses.iter().copied().fold(f64::INFINITY, f64::min);
    assert_eq!(losses[epoch as usize - 1], lowest);
}

#[test]
fn json_alone_is_on_stdout() {
    let place = Place::new();
    let trained = place.train("out", &["--json"]);
    assert_ok(&trained);
    let value: Value = serde_json::from_slice(&trained.stdout).unwrap();
    for key in ["vector", "steps", "final_loss", "final_margin", "vector_norm", "skipped_rows", "timings"] {
        assert!(value.get(key).is_some(), "{key}");
    }
    assert_eq!(value["schema_version"], 1);
    let model = fixture("llama");
    let args = ["steer", "--model", &model, "--vector", "out/steering_vector.safetensors", "--json", "--max-new-tokens", "5"];
    let steered = place.bipo(&[&args[..], &["--magnitudes", "-2.0,-1.0", "--prompt", "Hello", "--prompt", "Bye"]].concat());
    assert_ok(&steered);
    let value: Value = serde_json::from_slice(&steered.stdout).unwrap();
    let results = value["results"].as_array().unwrap();
    let order: Vec<(&str, f64)> =
        results.iter().map(|r| (r["prompt"].as_str().unwrap(), r["magnitude"].as_f64().unwrap())).collect();
    assert_eq!(order, [("Hello", -2.0), ("Hello", -1.0), ("Bye", -2.0), ("Bye", -1.0)]);
    for result in results {
        assert!(result["text"].is_string() && result["token_ids"].is_array());
        assert!(["stop", "length"].contains(&result["finish_reason"].as_str().unwrap()));
    }
}

#[test]
fn vectors_add_up_and_scales_apply() {
    let place = Place::new();
    assert_ok(&place.train("out", &[]));
    let model = fixture("llama");
    let file = "out/steering_vector.safetensors";
    let steer = |vectors: &[&str], magnitude: &str| -> Vec<u8> {
        let mut args = vec!["steer", "--model", &model, "--json", "--max-new-tokens", "8", "--prompt", "Hello"];
        args.extend(["--magnitudes", magnitude]);
        args.extend(vectors.iter().flat_map(|v| ["--vector", v]));
        let output = place.bipo(&args);
        assert_ok(&output);
        let mut value: Value = serde_json::from_slice(&output.stdout).unwrap();
        value["results"][0]["magnitude"] = Value::Null;
        value.to_string().into_bytes()
    };
    let doubled = format!("{file}:200");
    assert_eq!(steer(&[&doubled], "1"), steer(&[file], "200"));
    let (plus, minus) = (format!("{file}:100"), format!("{file}:-100"));
    assert_eq!(steer(&[&plus, &minus], "1"), steer(&[file], "0"));
    assert_ne!(steer(&[&doubled], "1"), steer(&[file], "0"));
}

#[test]
fn broken_rows_are_reported_and_skipped_or_refused() {
    let place = Place::new();
    fs::write(place.path("gaps.csv"), format!("{ROWS},empty question,x\nQ,same,same\n")).unwrap();
    let output = place.train("out", &["--dataset", "gaps.csv"]);
    assert_ok(&output);
    let stderr = text(&output.stderr);
    assert!(stderr.contains("row 5 skipped") && stderr.contains("row 6 skipped"), "{stderr}");
    assert!(text(&output.stdout).contains("skipped rows 2"));
    let strict = place.train("strict", &["--dataset", "gaps.csv", "--strict"]);
    assert_eq!(strict.status.code(), Some(2));
    assert!(!place.path("strict").exists());
}

#[test]
fn a_loss_that_is_not_finite_stops_with_step_and_row_and_keeps_the_last_good_vector() {
    let place = Place::new();
    let output = place.train("out", &["--lr", "1e38", "--weight-decay", "0", "--max-grad-norm", "1e9"]);
    let stderr = text(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{stderr}");
    assert!(stderr.contains("not finite") && stderr.contains(" of row"), "{stderr}");
    let vector = SteeringVector::read(&place.path("out/steering_vector.safetensors"), None).unwrap();
    let reached = vector.metadata.training.unwrap()["steps"].as_u64().unwrap();
    assert!(stderr.contains(&format!("error: step {}:", reached + 1)), "{reached}: {stderr}");
}

#[test]
fn the_json_of_a_run_holds_the_sweep_that_was_asked_for() {
    let place = Place::new();
    for method in [&["--max-steps", "2"][..], &["--method", "caa"]] {
        let flags = ["train", "--model", &fixture("llama"), "--dataset", "pairs.csv", "--layer", "1", "--output-dir", "out"];
        let output = place.bipo(&[&flags[..], method, &["--json", "--test-generation", "--overwrite"]].concat());
        assert_ok(&output);
        let run: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        let steer = ["steer", "--model", &fixture("llama"), "--vector", "out/steering_vector.safetensors", "--json"];
        let asked = ["--magnitudes", "-2,0,2", "--max-new-tokens", "48", "--prompt", "How was your day?"];
        let output = place.bipo(&[&steer[..], &asked].concat());
        assert_ok(&output);
        let sweep: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!(sweep["results"].as_array().unwrap().len(), 3);
        assert_eq!(run["test_generation"], sweep["results"]);
    }
}

#[cfg(unix)]
#[test]
fn an_interrupt_saves_what_was_reached_and_exits_130() {
    let place = Place::new();
    let mut child = Command::new(env!("CARGO_BIN_EXE_bipo"))
        .args(["train", "--model", &fixture("llama"), "--dataset", "pairs.csv", "--epochs", "1000000", "--output-dir", "out"])
        .current_dir(place.0.path())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let metrics = place.path("out/metrics.jsonl");
    while fs::read(&metrics).map_or(0, |bytes| bytes.len()) < 1000 {
        assert!(child.try_wait().unwrap().is_none(), "ended before the interrupt");
        std::thread::yield_now();
    }
    assert!(Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap().success());
    assert_eq!(child.wait().unwrap().code(), Some(130));
    let vector = SteeringVector::read(&place.path("out/steering_vector.safetensors"), None).unwrap();
    assert!(vector.metadata.training.unwrap()["steps"].as_u64().unwrap() > 1);
}

/// A copy of the tiny model with one file replaced.
pub fn broken_model(place: &Place, name: &str, file: &str, change: impl Fn(Vec<u8>) -> Vec<u8>) -> String {
    let dir = place.path(name);
    fs::create_dir(&dir).unwrap();
    for entry in fs::read_dir(fixture("llama")).unwrap() {
        let path = entry.unwrap().path();
        fs::copy(&path, dir.join(path.file_name().unwrap())).unwrap();
    }
    fs::write(dir.join(file), change(fs::read(dir.join(file)).unwrap())).unwrap();
    dir.to_str().unwrap().to_owned()
}

#[test]
fn bad_input_gives_one_line_exit_code_2_and_no_output() {
    let place = Place::new();
    let write = |name: &str, bytes: &[u8]| fs::write(place.path(name), bytes).unwrap();
    write("empty.csv", b"question,matching,not_matching\n");
    write("columns.csv", b"query,yes,no\na,b,c\n");
    write("broken.jsonl", b"{\"prompt\":\"a\",\"chosen\":\"b\",\"rejected\":\"c\"}\n{oops\n");
    write("latin.csv", b"question,matching,not_matching\ncaf\xe9?,b,c\n");
    write("short.gguf", b"GGUF\x03\x00");
    write("a_file", b"");
    write("wide.pt", &fs::read(fixture("vectors/bare.pt")).unwrap());
    let edit = |from: &'static str, to: &'static str| move |bytes: Vec<u8>| text(&bytes).replace(from, to).into_bytes();
    let no_key = broken_model(&place, "no_key", "config.json", edit("\"num_hidden_layers\"", "\"layers\""));
    let other = broken_model(&place, "other", "config.json", edit("\"llama\"", "\"gpt_neox\""));
    let shape = broken_model(&place, "shape", "config.json", edit("\"intermediate_size\": 40", "\"intermediate_size\": 44"));
    let cut = broken_model(&place, "cut", "model.safetensors", |bytes| bytes[..bytes.len() - 9].to_vec());
    write("upper.jinja", b"{{ messages[0].content | upper }}");
    let train: [(&[&str], &str); 24] = [
        (&["--model", "no-such-alias"], "no-such-alias"),
        (&["--model", "./nowhere.gguf"], "nowhere.gguf"),
        (&["--model", "short.gguf"], "short.gguf"),
        (&["--model", &no_key], "num_hidden_layers"),
        (&["--model", &other], "gpt_neox"),
        (&["--model", &shape], "gate_proj"),
        (&["--model", &cut], "model.safetensors"),
        (&["--layer", "3"], "layer 3 out of range: model has 3 layers"),
        (&["--layer", "1", "--layers", "0"], "--layers"),
        (&["--layers", "0,9"], "layer 9 out of range: model has 3 layers"),
        (&["--positions", "response", "--spans", "user"], "leaves no token"),
        (&["--positions", "prompt", "--spans", "assistant"], "no token that predicts a response would be steered"),
        (&["--spans", "system"], "[possible values: user, assistant]"),
        (&["--spans", "user", "--template", "upper.jinja"], "does not write the messages' texts as they are"),
        (&["--init", "nowhere.safetensors"], "nowhere.safetensors"),
        (&["--cache-memory", "2 parsecs"], "as 2GB or 500MiB"),
        (&["--dataset", "empty.csv"], "empty.csv"),
        (&["--dataset", "columns.csv"], "query"),
        (&["--dataset", "broken.jsonl"], "line 2"),
        (&["--dataset", "latin.csv"], "UTF-8"),
        (&["--dataset", "nowhere.csv"], "nowhere.csv"),
        (&["--output-dir", "a_file/out"], "a_file/out"),
        (&["--template", "no-such-template"], "no-such-template"),
        (&["--device", "gpu"], "--device gpu"),
    ];
    for (flags, expected) in train {
        assert_refused(&place.train("out", flags), flags, expected);
        let written = fs::read_dir(place.path("out")).map_or(0, Iterator::count);
        assert_eq!(written, 0, "{flags:?} wrote a file");
    }
    let model = fixture("llama");
    let long = "word ".repeat(600);
    let vector = ["--vector", "wide.pt", "--layer", "1"];
    let steer: [(Vec<&str>, &str); 6] = [
        ([&vector[..], &["--prompt", "a"]].concat(), "hidden size 4, but the model has 32"),
        (vec!["--vector", "wide.pt", "--prompt", "a"], "--layer"),
        (vec!["--vector", "nowhere.safetensors", "--prompt", "a"], "nowhere.safetensors"),
        (vec!["--magnitudes", "1,two", "--prompt", "a"], "two"),
        (vec!["--prompt", "a"], "bipo train"),
        ([&vector[..], &[]].concat(), "--prompt"),
    ];
    for (flags, expected) in steer {
        assert_refused(&place.bipo(&[&["steer", "--model", &model][..], &flags].concat()), &flags, expected);
    }
    assert_ok(&place.train("out", &[]));
    let flags = ["--vector", "out/steering_vector.safetensors", "--prompt", &long];
    assert_refused(&place.bipo(&[&["steer", "--model", &model][..], &flags].concat()), &["long prompt"], "context is 512");
}

pub fn assert_refused(output: &Output, flags: &[&str], expected: &str) {
    let stderr = text(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{flags:?}: {stderr}");
    assert!(stderr.contains(expected), "{flags:?}: {stderr}");
    assert!(output.stdout.is_empty(), "{flags:?}");
    let errors = stderr.lines().filter(|line| line.starts_with("error:")).count();
    assert_eq!(errors, 1, "{flags:?}: {stderr}");
}

#[test]
fn a_closed_pipe_is_no_failure() {
    let place = Place::new();
    assert_ok(&place.train("out", &[]));
    let mut child = Command::new(env!("CARGO_BIN_EXE_bipo"))
        .args(["steer", "--model", &fixture("llama"), "--vector", "out/steering_vector.safetensors"])
        .args(["--prompt", "Hello", "--max-new-tokens", "5"])
        .current_dir(place.0.path())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    assert!(child.wait().unwrap().success());
}

#[test]
fn a_closed_pipe_does_not_keep_the_output_file_from_being_written() {
    let place = Place::new();
    assert_ok(&place.train("out", &[]));
    for (name, flags) in [("text.json", &[][..]), ("json.json", &["--json"])] {
        let mut child = Command::new(env!("CARGO_BIN_EXE_bipo"))
            .args(["steer", "--model", &fixture("llama"), "--vector", "out/steering_vector.safetensors"])
            .args(["--prompt", "Hello", "--prompt", "Why?", "--max-new-tokens", "5", "--magnitudes", "0,1"])
            .args(["--output", name])
            .args(flags)
            .current_dir(place.0.path())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        drop(child.stdout.take());
        assert!(child.wait().unwrap().success());
        let written: Value = serde_json::from_slice(&fs::read(place.path(name)).unwrap()).unwrap();
        assert_eq!(written["results"].as_array().unwrap().len(), 4);
    }
}

#[test]
fn values_that_begin_with_a_minus_sign_parse() {
    let place = Place::new();
    assert_ok(&place.train("out", &[]));
    let output = place.bipo(&[
        "steer",
        "--model",
        &fixture("llama"),
        "--vector",
        "out/steering_vector.safetensors:-1",
        "--magnitudes",
        "-0.2..0.1:0.1",
        "--system",
        "- be brief",
        "--prompt",
        "-5 degrees?",
        "--max-new-tokens",
        "2",
        "--json",
    ]);
    assert_ok(&output);
    let value: Value = serde_json::from_slice(&output.stdout).unwrap();
    let results = value["results"].as_array().unwrap();
    assert_eq!(results[0]["prompt"], "-5 degrees?");
    let magnitudes: Vec<f64> = results.iter().map(|result| result["magnitude"].as_f64().unwrap()).collect();
    assert_eq!(magnitudes.len(), 4);
    assert_eq!(magnitudes[2].to_bits(), 0);
}

#[cfg(unix)]
#[test]
fn a_second_run_is_refused_where_the_directory_is_a_file_and_leaves_the_file_alone() {
    let place = Place::new();
    fs::write(place.path("out"), "kept").unwrap();
    let output = place.train("out", &[]);
    assert_refused(&output, &["--output-dir"], "--output-dir out");
    assert_eq!(fs::read_to_string(place.path("out")).unwrap(), "kept");
}

#[test]
fn models_lists_every_alias_with_its_numbers_and_the_families_that_are_refused() {
    let place = Place::new();
    let output = place.bipo(&["models", "--json"]);
    assert!(output.status.success());
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(report["schema_version"], 1);
    let models = report["models"].as_array().unwrap();
    let of = |alias: &str| models.iter().find(|model| model["alias"] == alias).unwrap_or_else(|| panic!("{alias}"));
    let smollm2 = of("smollm2");
    assert_eq!((&smollm2["status"], &smollm2["layer"], &smollm2["gate"]), (&"run".into(), &14.into(), &Value::Null));
    assert!(of("gemma-2-9b")["layer_from"].as_str().unwrap().contains("2501.17148"));
    assert!(of("llama-3.1-8b")["gate"].is_string());
    let refused = report["refused"].as_array().unwrap();
    assert!(refused.iter().any(|family| family["model_types"][0] == "gpt_oss" && family["reason"].is_string()));
    let text = String::from_utf8(place.bipo(&["models"]).stdout).unwrap();
    assert!(models.iter().all(|model| text.contains(model["repo"].as_str().unwrap())), "{text}");

    let unknown = place.train("out", &["--model", "llama-9"]);
    let message = String::from_utf8(unknown.stderr).unwrap();
    assert!(message.contains("`bipo models` lists the aliases"), "{message}");
}

fn template(name: &str) -> String {
    fixture(&format!("cases/templates/{name}"))
}

/// Runs `bipo steer` on the tiny model without a vector's effect. Returns what it wrote on stdout and on stderr.
fn steer(place: &Place, flags: &[&str]) -> Output {
    let model = fixture("llama");
    let vector = fixture("cases/z32.safetensors");
    let args = ["steer", "--model", &model, "--vector", &vector, "--magnitudes", "0", "--max-new-tokens", "2", "--json"];
    place.bipo(&[&args[..], flags].concat())
}

fn token_ids(output: &Output) -> Value {
    let value: Value = serde_json::from_slice(&output.stdout).unwrap();
    value["results"][0]["token_ids"].clone()
}

fn said(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

#[test]
fn a_system_prompt_that_the_template_refuses_or_drops_is_said_with_the_way_round_it() {
    let place = Place::new();
    let (refuses, drops) = (template("system-in-data.jinja"), template("system-dropped.jinja"));
    let system = ["--prompt", "Hi", "--system", "S", "--template"];
    let refused = steer(&place, &[&system[..], &[&refuses]].concat());
    assert_refused(
        &refused,
        &["--system-in-user"],
        "takes no system prompt (it says: System role not supported); --system-in-user puts it",
    );
    let dropped = steer(&place, &[&system[..], &[&drops]].concat());
    assert_ok(&dropped);
    assert!(said(&dropped).contains("warning: ") && said(&dropped).contains("writes nothing of the system prompt"));
    for file in [&refuses, &drops] {
        let merged = steer(&place, &[&system[..], &[file, "--system-in-user"]].concat());
        assert_ok(&merged);
        assert!(!said(&merged).contains("warning"), "{}", said(&merged));
        let written = steer(&place, &["--prompt", "S\n\nHi", "--template", file]);
        assert_eq!(token_ids(&merged), token_ids(&written));
    }

    let rows = fixture("cases/templates/system-in-data.jsonl");
    let data = ["--dataset", rows.as_str(), "--template"];
    let refused = place.train("refused", &[&data[..], &[&refuses]].concat());
    assert_refused(&refused, &["row 0: ", "--system-in-user"], "takes no system prompt");
    let dropped = place.train("dropped", &[&data[..], &[&drops]].concat());
    assert_ok(&dropped);
    assert!(said(&dropped).contains("row 0: chat template") && said(&dropped).contains("writes nothing of the system prompt"));
    let merged = place.train("merged", &[&data[..], &[&refuses, "--system-in-user"]].concat());
    assert_ok(&merged);
    let config: Value = serde_json::from_slice(&fs::read(place.path("merged/config.json")).unwrap()).unwrap();
    assert_eq!(config["system_in_user"], true);
}

#[test]
fn a_thought_that_the_prompt_opens_is_closed_or_said_and_variables_reach_the_template() {
    let place = Place::new();
    let open = template("open-think.jinja");
    let closed = steer(&place, &["--prompt", "Hi", "--template", &open]);
    assert_ok(&closed);
    assert!(!said(&closed).contains("thought"), "{}", said(&closed));
    let asked = steer(&place, &["--prompt", "Hi", "--template", &open, "--template-var", "enable_thinking=true"]);
    assert_ok(&asked);
    assert!(said(&asked).contains("warning: chat template") && said(&asked).contains("inside a thought"), "{}", said(&asked));
    assert_ne!(closed.stdout, asked.stdout);
    let wrong = steer(&place, &["--prompt", "Hi", "--template-var", "thinking"]);
    assert_refused(&wrong, &["--template-var"], "expected NAME=VALUE");
}

#[test]
fn a_template_without_a_form_of_an_answer_is_said_once_where_there_are_pairs() {
    let place = Place::new();
    let output = place.train("out", &["--template", &template("open-think.jinja")]);
    assert_ok(&output);
    assert_eq!(said(&output).matches("gives no consistent form of an answer").count(), 1, "{}", said(&output));
    assert!(!said(&place.train("own", &[])).contains("form of an answer"));
}

#[test]
fn a_byte_order_mark_before_prompts_is_no_token() {
    let place = Place::new();
    fs::write(place.path("plain.txt"), "Hello there\nSecond one\n").unwrap();
    let with_mark = steer(&place, &["--prompts", &template("prompts-bom.txt")]);
    assert_ok(&with_mark);
    assert_eq!(with_mark.stdout, steer(&place, &["--prompts", "plain.txt"]).stdout);
}

/// The tokenizer adds no BOS, and the template writes it: it is the same text as where the tokenizer adds it, too.
#[test]
fn a_bos_that_the_template_writes_is_kept_where_the_tokenizer_adds_none() {
    let place = Place::new();
    let model = place.path("model");
    fs::create_dir(&model).unwrap();
    for entry in fs::read_dir(fixture("llama")).unwrap() {
        let path = entry.unwrap().path();
        fs::copy(&path, model.join(path.file_name().unwrap())).unwrap();
    }
    let config = model.join("tokenizer_config.json");
    let text = fs::read_to_string(&config).unwrap();
    assert!(text.contains(r#""add_bos_token": true"#) && text.contains("{{ bos_token }}"));
    fs::write(&config, text.replace(r#""add_bos_token": true"#, r#""add_bos_token": false"#)).unwrap();
    assert_ok(&place.train("adds", &[]));
    assert_ok(&place.train("writes", &["--model", model.to_str().unwrap()]));
    let layers = |out: &str| SteeringVector::read(&place.path(out).join("steering_vector.safetensors"), None).unwrap().layers;
    assert_eq!(layers("adds"), layers("writes"));
}

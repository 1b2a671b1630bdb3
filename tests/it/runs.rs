//! Training runs of a tiny model: what `bipo train` writes, that it repeats its bytes, that every setting does something, and how a
//! run ends that cannot go on.

use std::fs;
use std::process::{Command, Output, Stdio};

use bipo::steering::vector::SteeringVector;
use serde_json::{Value, json};

use crate::cli::{Place, ROWS, assert_ok, assert_refused, fixture, text};

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
fn a_run_that_ends_within_a_warmup_that_nobody_chose_is_warned_of() {
    let place = Place::new();
    let model = fixture("llama");
    let args = ["--model", &model, "--dataset", "pairs.csv", "--max-steps", "3"];
    let said = |command: &str, out: &str, more: &[&str]| {
        let output = place.bipo(&[&[command, "--output-dir", out][..], &args, more].concat());
        text(&output.stderr).lines().filter(|line| line.contains("within the warmup of")).map(str::to_owned).collect::<Vec<_>>()
    };
    let warning = "3 steps end within the warmup of 100: the learning rate never reaches its full value (--lr); lower --warmup-steps or \
                   train longer";
    assert_eq!(said("train", "a", &[]), [format!("warning: {warning}")]);
    assert_eq!(said("train", "b", &["--warmup-steps", "100"]), [""; 0]);
    assert_eq!(said("train", "c", &["--objective", "reps"]), [""; 0]);
    let methods = ["--methods", "bipo,simpo,reps,caa", "--max-new-tokens", "2", "--bootstrap", "10"];
    assert_eq!(said("compare", "d", &methods), [format!("warning: bipo, simpo: {warning}")]);
    // They are there.
    assert_eq!(said("compare", "d", &methods), [""; 0]);
}

/// RePS starts at a random vector whose numbers are uniform in ±1/√n, and draws each factor from those that are allowed.
#[test]
fn reps_starts_anew_with_each_seed_and_draws_from_its_factors() {
    let place = Place::new();
    let model = fixture("llama");
    let run = |out: &str, flags: &[&str]| {
        let args = ["train", "--quiet", "--model", &model, "--dataset", "pairs.csv", "--layer", "1", "--max-steps", "3"];
        assert_ok(&place.bipo(&[&args[..], &["--objective", "reps", "--output-dir", out], flags].concat()));
        let lines = fs::read_to_string(place.path(out).join("metrics.jsonl")).unwrap();
        let steps: Vec<Value> = lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        let vector = SteeringVector::read(&place.path(out).join("steering_vector.safetensors"), None).unwrap();
        (vector.layers[&1].clone(), steps)
    };
    // A rate of almost nothing leaves the vector where it starts.
    let start = |out: &str, seed: &str| run(out, &["--seed", seed, "--lr", "1e-12"]).0;
    let (first, again, other) = (start("a", "3"), start("b", "3"), start("c", "4"));
    let bound = 1.0 / (first.len() as f32).sqrt();
    assert!(first.iter().chain(&other).all(|x| x.abs() <= bound * 1.000_01), "{first:?}");
    assert!(first.iter().any(|x| x.abs() > bound / 2.0) && first.iter().any(|x| *x < 0.0) && first.iter().any(|x| *x > 0.0));
    assert_eq!(first, again);
    assert_ne!(first, other);
    let (_, steps) = run("d", &["--factors", "3,5"]);
    let drawn: Vec<f64> = steps.iter().flat_map(|step| step["factors"].as_array().unwrap()).flat_map(numbers).collect();
    assert!(drawn.len() > 10 && drawn.iter().all(|factor| [3.0, 5.0].contains(factor)), "{drawn:?}");
    assert!(drawn.contains(&3.0) && drawn.contains(&5.0), "{drawn:?}");
}

fn numbers(value: &Value) -> Vec<f64> {
    value.as_array().unwrap().iter().map(|number| number.as_f64().unwrap()).collect()
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
        .current_dir(place.path(""))
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

#[cfg(unix)]
#[test]
fn a_second_run_is_refused_where_the_directory_is_a_file_and_leaves_the_file_alone() {
    let place = Place::new();
    fs::write(place.path("out"), "kept").unwrap();
    let output = place.train("out", &[]);
    assert_refused(&output, &["--output-dir"], "--output-dir out");
    assert_eq!(fs::read_to_string(place.path("out")).unwrap(), "kept");
}

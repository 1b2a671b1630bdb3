//! The program itself on a tiny model: how it steers, what is on which stream, and what it says of bad input. Also what other tests
//! run the program with.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use bipo::machine::files::sha256;
use bipo::steering::positions::Positions;
use bipo::steering::vector::SteeringVector;
use bipo::text::spans::Spans;
use serde_json::{Value, json};

pub fn fixture(name: &str) -> String {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(name).to_str().unwrap().to_owned()
}

/// Pairs of a data set.
pub const ROWS: &str = "question,matching,not_matching\n\
    How was it?,It was good.,It was bad.\nWhere to?,To the sea.,Nowhere at all.\nWhy?,Because.,Never mind that.\n\
    Who is it?,A friend.,No one.\nWhat now?,We sing.,We wait and wait.\n";

/// Flags of `bipo train` that make a vector long enough to change a text.
pub const LONG: [&str; 6] = ["--lr", "2", "--weight-decay", "0", "--max-grad-norm", "1e9"];

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

/// What a command that succeeded wrote with `--json`.
pub fn json(output: &Output) -> Value {
    assert_ok(output);
    serde_json::from_slice(&output.stdout).unwrap()
}

pub fn assert_ok(output: &Output) {
    assert!(output.status.success(), "{}", text(&output.stderr));
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
        let is_ablated = flags.contains(&"ablate");
        let result = |result: &Value| {
            assert_eq!(result.get("operation"), is_ablated.then(|| json!("ablate")).as_ref(), "{flags:?}");
            (result["magnitude"].clone(), result["token_ids"].clone())
        };
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
fn where_a_vector_is_added_is_kept_with_it_and_can_be_said_anew() {
    let place = Place::new();
    let model = fixture("llama");
    assert_ok(&place.train("out", &[&["--positions", "prompt", "--spans", "user"], &LONG[..]].concat()));
    let file = "out/steering_vector.safetensors";
    let metadata = SteeringVector::read(&place.path(file), None).unwrap().metadata;
    assert_eq!((metadata.positions, metadata.spans), (Positions::Prompt, Some(Spans::User)));
    assert_eq!(metadata.training.unwrap()["spans"], "user");
    let text = |flags: &[&str]| {
        let args = ["steer", "--model", &model, "--vector", file, "--magnitudes", "3", "--max-new-tokens", "16", "--json"];
        let output = place.bipo(&[&args[..], &["--prompt", "What is it?"], flags].concat());
        json(&output)["results"].clone()
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
        (["--positions", "last", "--spans", "user"], "no token of the prompt or after it"),
        (["--positions", "prompt", "--spans", "assistant"], "no token of the prompt or after it"),
    ] {
        assert_refused(&place.bipo(&[&args[..], &flags].concat()), &flags, expected);
    }
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
        // A dose has rounding of its own.
        let _ = ["magnitude", "dose"].map(|name| value["results"][0][name].take());
        value["results"].to_string().into_bytes()
    };
    let doubled = format!("{file}:200");
    assert_eq!(steer(&[&doubled], "1"), steer(&[file], "200"));
    let (plus, minus) = (format!("{file}:100"), format!("{file}:-100"));
    assert_eq!(steer(&[&plus, &minus], "1"), steer(&[file], "0"));
    assert_ne!(steer(&[&doubled], "1"), steer(&[file], "0"));
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
    let no_token = "no token that predicts a response would be steered: choose other --positions or --spans";
    let train: [(&[&str], &str); 26] = [
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
        (&["--positions", "response", "--spans", "user"], no_token),
        (&["--positions", "prompt", "--spans", "assistant"], no_token),
        (&["--positions", "last+response", "--spans", "user"], no_token),
        (&["--positions", "last:1", "--spans", "user"], no_token),
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
        (&["--device", "gpu"], "device gpu"),
    ];
    for (flags, expected) in train {
        let refused = place.train("out", flags);
        assert_refused(&refused, flags, expected);
        assert!(!text(&refused.stderr).contains("loaded in"), "{flags:?}");
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
    for (name, flags) in [("text.jsonl", &[][..]), ("json.jsonl", &["--json"])] {
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
        // What the texts were generated from, then each text.
        assert_eq!(fs::read_to_string(place.path(name)).unwrap().lines().count(), 1 + 4);
    }
}

#[test]
fn texts_say_what_they_were_generated_from() {
    let place = Place::new();
    assert_ok(&place.train("out", &[]));
    let (model, vector) = (fixture("llama"), "out/steering_vector.safetensors");
    let texts = ["steer", "--model", &model, "--json", "--output", "texts.jsonl", "--max-new-tokens", "3", "--seed", "7"];
    let steered =
        ["--vector", "out/steering_vector.safetensors:0.1", "--magnitudes", "-1.5,0", "--prompt", "Hi", "--prompt", "it's"];
    let output = place.bipo(&[&texts[..], &steered[..]].concat());
    assert_ok(&output);
    let document: Value = serde_json::from_slice(&output.stdout).unwrap();
    let run = &document["run"];
    let expected = serde_json::json!({
        "file": "steering_vector.safetensors", "sha256": sha256(&place.path(vector)).unwrap(), "layers": [1], "scale": 0.1,
        "norm": run["vectors"][0]["norm"],
    });
    assert_eq!(run["vectors"], serde_json::json!([expected]));
    assert!(run["vectors"][0]["norm"].as_f64().unwrap() > 0.0);
    let files = run["model"]["files"].as_array().unwrap();
    let names: Vec<&str> = files.iter().map(|file| file["name"].as_str().unwrap()).collect();
    assert_eq!(
        names,
        ["config.json", "tokenizer.json", "tokenizer_config.json", "generation_config.json", "model.safetensors"]
    );
    for file in files {
        let path = Path::new(&model).join(file["name"].as_str().unwrap());
        assert_eq!(file["sha256"], sha256(&path).unwrap());
    }
    let decoding = serde_json::json!({
        "max_new_tokens": 3, "temperature": 0.0, "top_p": null, "top_k": null, "repeat_penalty": 1.0, "seed": 7,
        "exact": true,
    });
    assert_eq!((&run["decoding"], &run["magnitudes"]), (&decoding, &serde_json::json!([-1.5, 0.0])));
    assert_eq!((&run["model"]["dtype"], &run["operation"]), (&"f32".into(), &"add".into()));
    assert!(run["command"].as_str().unwrap().ends_with(r"--prompt Hi --prompt 'it'\''s'"), "{run}");
    let written = fs::read_to_string(place.path("texts.jsonl")).unwrap();
    let lines: Vec<Value> = written.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!((&lines[0]["run"], &lines[0]["schema_version"]), (run, &1.into()));
    assert_eq!(lines[1..], document["results"].as_array().unwrap()[..]);
}

#[test]
fn what_is_read_is_not_written_over_and_a_full_screen_is_said_beside_a_file() {
    let place = Place::new();
    assert_ok(&place.train("out", &[]));
    let (model, vector) = (fixture("llama"), "out/steering_vector.safetensors");
    fs::write(place.path("prompts.txt"), "Hi\n").unwrap();
    std::os::unix::fs::symlink(place.path("prompts.txt"), place.path("link")).unwrap();
    let common = ["steer", "--model", &model, "--vector", vector, "--max-new-tokens", "2", "--magnitudes", "1"];
    let steer = |more: &[&str]| place.bipo(&[&common[..], more].concat());
    let prompts = ["--prompts", "prompts.txt"];
    for (more, expected) in [
        (["--output", vector], "--output and --vector are one file"),
        (["--output", "./prompts.txt"], "--output and --prompts are one file"),
        (["--report", "prompts.txt"], "--report and --prompts are one file"),
        (["--output", "link"], "it is a link, a pipe or a device"),
        (["--output", "/dev/null"], "it is a link, a pipe or a device"),
    ] {
        assert_refused(&steer(&[&prompts[..], &more[..]].concat()), &more, expected);
    }
    assert_refused(
        &steer(&["--prompt", "a", "--output", "same", "--report", "same"]),
        &["same"],
        "--report and --output are one",
    );
    let full = fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_bipo"))
        .args([&common[..], &prompts, &["--output", "texts.jsonl"]].concat())
        .current_dir(place.0.path())
        .stdout(full)
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1), "{}", text(&output.stderr));
    assert!(text(&output.stderr).contains("error: cannot write standard output"), "{}", text(&output.stderr));
    assert_eq!(fs::read_to_string(place.path("texts.jsonl")).unwrap().lines().count(), 2);
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

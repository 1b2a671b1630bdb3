//! The next command, which a command names at its end: it keeps what the user wrote, a shell reads it, and it works. And what is said
//! of a vector that is too strong, or of a layer that is not there.

use std::fs;
use std::process::{Command, Output, Stdio};

use bipo::steering::vector::{Calibration, Metadata, SteeringVector};
use serde_json::Value;

use crate::cli::{LONG, Place, assert_ok, fixture, text};

/// The command that a line names behind `what`.
fn named(said: &[u8], what: &str) -> String {
    let said = text(said);
    let line = said.lines().find_map(|line| line.strip_prefix(&format!("{what}: ")));
    line.unwrap_or_else(|| panic!("no {what:?}: {said}")).to_owned()
}

/// Runs a named command with `more` behind it, as a user pastes it.
fn pasted(place: &Place, command: &str, more: &str) -> Output {
    let program = env!("CARGO_BIN_EXE_bipo");
    let line = command.replacen("bipo ", &format!("'{program}' "), 1) + more;
    let mut shell = Command::new("sh");
    shell.args(["-c", &line]).current_dir(place.path(".")).env("HF_HUB_OFFLINE", "1").stdin(Stdio::null()).output().unwrap()
}

#[cfg(unix)]
#[test]
fn a_run_names_commands_for_its_own_model_and_folder() {
    let place = Place::new();
    let flags = ["--system", "Be brief.", "--template", "plain", "--dtype", "f32", "--device", "cpu", "--quiet"];
    for method in [&[][..], &["--method", "caa"]] {
        let out = format!("t o{}", method.len());
        let model = fixture("llama");
        let run = ["train", "--model", &model, "--dataset", "pairs.csv", "--layer", "1", "--output-dir", &out];
        let steps = if method.is_empty() { &["--max-steps", "2"][..] } else { &[] };
        let output = place.bipo(&[&run[..], steps, &flags, method].concat());
        assert_ok(&output);
        let steer = named(&output.stdout, "try it");
        let kept = format!("--vector '{out}/steering_vector.safetensors' --magnitudes -2,0,2 --prompt \"How was your day?\"");
        assert!(steer.ends_with(&kept), "{steer}");
        let own = format!("--model {model}");
        for flag in [own.as_str(), "--system 'Be brief.'", "--template plain", "--dtype f32", "--device cpu"] {
            assert!(steer.contains(flag), "{flag}: {steer}");
        }
        assert_ok(&pasted(&place, &steer, " --max-new-tokens 2"));
        let calibrate = named(&output.stdout, "find its strength");
        assert!(calibrate.contains("--system 'Be brief.'") && calibrate.ends_with(" --save"), "{calibrate}");
        let saved = pasted(&place, &calibrate, " --max-new-tokens 2 --budget kl=0.01 --prompt Hi");
        assert_ok(&saved);
        let auto = named(&saved.stderr, "try it");
        assert!(
            auto.contains(&format!("--vector '{out}/steering_vector.safetensors'")) && auto.contains("--magnitudes auto"),
            "{auto}"
        );
        assert_ok(&pasted(&place, &auto, " --max-new-tokens 2"));
    }
}

#[cfg(unix)]
#[test]
fn what_is_shown_of_a_data_set_is_what_the_named_run_learns() {
    let place = Place::new();
    fs::write(place.path("a b.csv"), "q,good,bad\nWhy?,Because.,No.\nWho?,A friend.,No one.\n").unwrap();
    let columns = ["--columns", "question=q,chosen=good,rejected=bad", "--limit", "1", "--model", &fixture("llama")];
    let output = place.bipo(&[&["data", "a b.csv", "--system", "- be brief"][..], &columns].concat());
    assert_ok(&output);
    let train = named(&output.stderr, "learn it");
    assert!(train.starts_with("bipo train --dataset 'a b.csv' ") && train.contains("--system='- be brief'"), "{train}");
    let trained = pasted(&place, &train, " --max-steps 1 --layer 1 --json");
    assert_ok(&trained);
    let vector = SteeringVector::read(&place.path("bipo_output/steering_vector.safetensors"), None).unwrap();
    let training = vector.metadata.training.unwrap();
    assert_eq!((&training["dataset"]["pairs"], &training["system"]), (&1.into(), &"- be brief".into()));
    fs::write(place.path("q.jsonl"), "{\"question\": \"Why?\", \"choices\": [\"a\", \"b\"], \"answer\": 0}\n").unwrap();
    let asked = place.bipo(&["data", "--mc", "q.jsonl", "--mc-answers", "text", "--limit", "1"]);
    assert_ok(&asked);
    let measure = named(&asked.stderr, "measure it");
    let mut flags: Vec<&str> = measure.split(" --").skip(1).collect();
    flags.sort_unstable();
    assert_eq!(flags, ["limit 1", "mc q.jsonl", "mc-answers text"], "{measure}");
}

#[test]
fn inspected_files_are_tried_on_their_own_model_together_where_they_fit() {
    let place = Place::new();
    let write = |name: &str, metadata: Metadata, layer| {
        SteeringVector { layers: [(layer, vec![0.5; 32])].into(), metadata }.write(&place.path(name)).unwrap();
    };
    let of = |model: &str| Metadata { base_model: Some(model.into()), ..Metadata::default() };
    write("a.safetensors", of("owner/name"), 1);
    write("b c.safetensors", of("owner/name"), 2);
    write("other.safetensors", of("mistral"), 2);
    write("own.safetensors", of("HuggingFaceTB/SmolLM2-135M-Instruct"), 2);
    let tried = |what: &str, args: &[&str]| {
        let output = place.bipo(&[&["inspect"], args].concat());
        assert_ok(&output);
        named(&output.stderr, what)
    };
    let prompt = "--prompt \"How was your day?\"";
    assert_eq!(tried("try it", &["a.safetensors"]), format!("bipo steer --model owner/name --vector a.safetensors {prompt}"));
    assert_eq!(tried("try it", &["own.safetensors"]), format!("bipo steer --vector own.safetensors {prompt}"));
    let both = format!("bipo steer --model owner/name --vector a.safetensors --vector 'b c.safetensors' {prompt}");
    assert_eq!(tried("try them", &["a.safetensors", "b c.safetensors"]), both);
    let first = format!("bipo steer --model owner/name --vector a.safetensors {prompt}");
    assert_eq!(tried("try them", &["a.safetensors", "other.safetensors"]), first);
    write("local.safetensors", of("my-llama"), 2);
    write("file.safetensors", of("Mistral-7B-Instruct-v0.2.Q4_0.gguf"), 2);
    let by_path = "try it, with the path of the model my-llama in place of MODEL";
    assert_eq!(tried(by_path, &["local.safetensors"]), format!("bipo steer --model MODEL --vector local.safetensors {prompt}"));
    assert_eq!(
        tried("try it", &["file.safetensors"]),
        format!("bipo steer --model mistral --vector file.safetensors {prompt}")
    );
    assert_ok(&place.bipo(&["convert", "a.safetensors", "bare.npy"]));
    assert_eq!(tried("try it", &["bare.npy"]), format!("bipo steer --vector bare.npy --layer LAYER {prompt}"));
    assert_eq!(tried("try it", &["bare.npy", "--layer", "1"]), format!("bipo steer --vector bare.npy --layer 1 {prompt}"));
}

#[test]
fn commands_without_a_model_name_what_comes_next_but_not_to_a_program() {
    let place = Place::new();
    let output = place.bipo(&["models"]);
    assert_ok(&output);
    assert_eq!(text(&output.stderr), "learn a vector for one: bipo train --model smollm2\n");
    for silent in [&["models", "--json"][..], &["models", "-q"]] {
        assert_eq!(text(&place.bipo(silent).stderr), "", "{silent:?}");
    }
    let pages = place.bipo(&["man", "--output-dir", "m n"]);
    assert_ok(&pages);
    assert_eq!(text(&pages.stderr), "read one: man -l 'm n/bipo-train.1'\n");
    fs::write(place.path("texts.jsonl"), "{\"prompt\": \"Why?\", \"magnitude\": 1, \"text\": \"Because.\"}\n").unwrap();
    let dry = place.bipo(&["judge", "texts.jsonl", "--rubric", "cheerful", "--judge-dry-run"]);
    assert_ok(&dry);
    let ask = named(&dry.stderr, "ask it");
    assert_eq!(ask, "bipo judge texts.jsonl --rubric cheerful --judge URL --judge-model NAME");
}

#[test]
fn a_vector_that_is_too_strong_is_told_by_what_measures_and_what_merges_it() {
    let place = Place::new();
    assert_ok(&place.train("out", &LONG));
    let file = "out/steering_vector.safetensors";
    let warnings = |output: &Output| {
        assert_ok(output);
        let lines = text(&output.stderr);
        lines.lines().filter(|line| line.starts_with("warning: ")).map(str::to_owned).collect::<Vec<_>>()
    };
    let model = fixture("llama");
    let measured = |vector: &str, magnitudes: &str| {
        let args = ["eval", "--model", &model, "--vector", vector, "--dataset", "pairs.csv", "--skip", "text,generation"];
        warnings(&place.bipo(&[&args[..], &["--magnitudes", magnitudes]].concat()))
    };
    let told = measured(file, "-300000,0,1");
    assert!(
        told.len() == 1 && told[0].contains("at magnitude -300000 what is added is") && told[0].contains("bipo calibrate"),
        "{told:?}"
    );
    let mut vector = SteeringVector::read(&place.path(file), None).unwrap();
    assert!(measured(file, "0.001").is_empty());
    let base = vector.metadata.base_model.clone().unwrap();
    vector.metadata.calibration = Some(Calibration { budget: "kl=1".into(), minus: Some(-1.0), plus: Some(5.0), model: base });
    vector.write(&place.path("known.safetensors")).unwrap();
    assert!(measured("known.safetensors", "-1,5").is_empty());
    let told = measured("known.safetensors", "-2,0,5.5");
    assert!(told.len() == 1 && told[0].contains("magnitude -2 is beyond -1, ") && told[0].contains("--budget"), "{told:?}");
    let model = fixture("llama");
    let merged = |out: &str, magnitude: &str| {
        warnings(&place.bipo(&[
            "merge",
            "--model",
            &model,
            "--vector",
            "known.safetensors",
            "--magnitude",
            magnitude,
            "-o",
            out,
        ]))
    };
    assert!(merged("m", "5").is_empty());
    let told = merged("n", "6");
    assert!(told.len() == 1 && told[0].contains("magnitude +6 is beyond +5"), "{told:?}");
}

#[test]
fn a_layer_that_the_model_has_not_is_refused_with_those_that_it_has_and_without_advice_to_learn_one_there() {
    let place = Place::new();
    assert_ok(&place.train("out", &[]));
    let args = ["steer", "--model", &fixture("llama"), "--vector", "out/steering_vector.safetensors", "--prompt", "a"];
    let output = place.bipo(&[&args[..], &["--layer", "9"]].concat());
    assert_eq!(
        (output.status.code(), text(&output.stderr)),
        (Some(2), "error: layer 9 out of range: model has 3 layers, 0 to 2\n".into())
    );
}

#[cfg(unix)]
#[test]
fn what_follows_a_sweep_is_taken_by_the_command_that_is_named() {
    let place = Place::new();
    assert_ok(&place.train("out", &[]));
    let model = fixture("llama");
    let steer = ["steer", "--model", &model, "--offline", "--prompt", "a", "--max-new-tokens", "2", "--magnitudes", "1"];
    assert_ok(&place.bipo(&["convert", "out/steering_vector.safetensors", "v.npy"]));
    let whole = "out/steering_vector.safetensors";
    let scaled = format!("{whole}:2");
    for (source, saves) in [
        (&["--vector", &scaled][..], false),
        (&["--vector", whole, "--vector", whole], false),
        (&["--vector", whole, "--positions", "response"], false),
        (&["--vector", "v.npy", "--layer", "1"], false),
        // Last, for it gives the file a calibration.
        (&["--vector", whole], true),
    ] {
        let output = place.bipo(&[&steer[..], source].concat());
        assert_ok(&output);
        let calibrate = named(&output.stderr, "find its strength");
        assert_eq!(calibrate.ends_with(" --save"), saves, "{calibrate}");
        assert!(calibrate.contains(" --offline"), "{calibrate}");
        assert_ok(&pasted(&place, &calibrate, " --max-new-tokens 2 --budget kl=0.01 --prompt Hi"));
    }
    fs::write(place.path("rest.txt"), "Sing a song of sixpence\nA pocket full of rye\n").unwrap();
    let prompts = ["--dataset", "pairs.csv", "--against", "rest.txt", "--output-dir", "when"];
    let condition = ["train", "--method", "condition", "--model", &model, "--layer", "1"];
    assert_ok(&place.bipo(&[&condition[..], &prompts].concat()));
    assert_ok(&place.bipo(&["convert", whole, "taken.safetensors", "--operation", "ablate"]));
    let when = ["--when", "when/condition.safetensors", "--vector", "taken.safetensors"];
    let output = place.bipo(&[&steer[..], &when].concat());
    assert_ok(&output);
    let chat = named(&output.stderr, "talk with it");
    assert!(chat.contains(" --when when/condition.safetensors"), "{chat}");
    assert_ok(&pasted(&place, &chat, " --max-new-tokens 2"));
}

#[test]
fn a_magnitude_that_is_not_named_is_one_that_the_operation_has_a_use_for() {
    let place = Place::new();
    assert_ok(&place.train("out", &[]));
    let model = fixture("llama");
    let texts = |command: &[&str]| {
        let output = place.bipo(&[command, &["--model", &model, "--json", "--max-new-tokens", "1"]].concat());
        assert_ok(&output);
        let value: Value = serde_json::from_slice(&output.stdout).unwrap();
        let rows = value["results"].as_array().or(value["rows"].as_array()).unwrap().clone();
        let magnitudes = rows.iter().filter(|row| row["subject"].is_null() || row["subject"] == "vector");
        magnitudes.filter_map(|row| row["magnitude"].as_f64()).collect::<Vec<_>>()
    };
    let vector = ["--vector", "out/steering_vector.safetensors"];
    let of = |command: &[&str], operation: &str| texts(&[command, &vector, &["--operation", operation]].concat());
    let (steer, eval) = (["steer", "--prompt", "a"], ["eval", "--dataset", "pairs.csv", "--skip", "text,generation"]);
    assert_eq!(of(&steer, "add"), [-2.0, 0.0, 2.0]);
    assert_eq!(of(&steer, "ablate"), [0.0, 1.0]);
    assert_eq!(of(&eval, "add"), [-2.0, -1.0, 0.0, 1.0, 2.0]);
    assert_eq!(of(&eval, "ablate"), [0.0, 1.0]);
}

#[test]
fn flags_that_change_nothing_are_refused_by_name() {
    let place = Place::new();
    assert_ok(&place.train("out", &[]));
    let file = "out/steering_vector.safetensors";
    for (args, expected) in [
        (&["inspect", file, "--dtype", "f16", "--device", "cpu"][..], "--dtype, --device: no effect without --model"),
        (&["bench", "--shape", "tiny", "--weights", "quantized"], "--weights: no effect with --shape"),
        (&["bench", "--shape", "tiny", "--new-tokens", "4096"], "lower --new-tokens"),
        (&["bench", "--shape", "tiny", "--prompt-tokens", "4096"], "lower --prompt-tokens"),
        (&["judge", "texts.jsonl", "--judge-timeout", "3"], "--judge URL or --judge-dry-run beside --judge-timeout"),
        (&["train", "--method", "caa", "--lr", "1", "--seed", "2"], "leave them out"),
        (&["train", "--method", "caa", "--lr", "1"], "leave it out"),
    ] {
        let output = place.bipo(args);
        let said = text(&output.stderr);
        assert!(output.status.code() == Some(2) && said.contains(expected) && said.lines().count() == 1, "{args:?}: {said}");
    }
    let checked = place.bipo(&["check", "--offline", "--dtype", "f32"]);
    assert_ok(&checked);
    let speed = named(&checked.stderr, "measure its speed");
    assert_eq!(speed, "bipo bench --dtype f32 --shape smollm2-135m");
    let counted = place.bipo(&["bench", "--shape", "tiny", "--split", "2,2"]);
    assert_ok(&counted);
    let train = named(&counted.stderr, "learn a vector so");
    assert!(!train.contains("--split"), "{train}");
}

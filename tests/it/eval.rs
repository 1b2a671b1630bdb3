//! `bipo eval`: on the real small model against numbers that transformers gave (tests/fixtures/eval.py), and on a tiny one for
//! what it writes, what every flag changes and what it says of bad input.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use bipo::data::last_number;
use bipo::steering::vector::{Calibration, Metadata, SteeringVector};
use serde_json::Value;

use crate::cli::{Place, assert_ok, fixture, text};
use crate::common;

/// A short run on the tiny model, with a vector that was trained there.
pub fn trained() -> Place {
    let place = Place::new();
    assert_ok(&place.train("out", &[]));
    place
}

fn eval(place: &Place, more: &[&str]) -> std::process::Output {
    let model = fixture("llama");
    let vector = "out/steering_vector.safetensors";
    let given = ["eval", "--quiet", "--model", &model, "--vector", vector];
    let tokens: &[&str] = if more.contains(&"--max-new-tokens") { &[] } else { &["--max-new-tokens", "8"] };
    place.bipo(&[&given, tokens, more].concat())
}

fn report(place: &Place, more: &[&str]) -> Value {
    let output = eval(place, &[&["--json"], more].concat());
    assert_ok(&output);
    serde_json::from_slice(&output.stdout).unwrap()
}

fn numbers(value: &Value) -> Vec<f64> {
    value.as_array().unwrap().iter().map(|number| number.as_f64().unwrap()).collect()
}

fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len() as f64
}

fn assert_close(found: &Value, expected: f64, tolerance: f64, what: &str) {
    let found = found.as_f64().unwrap_or_else(|| panic!("{what} is missing"));
    assert!((found - expected).abs() <= tolerance * expected.abs().max(1.0), "{what}: {found}, expected {expected}");
}

/// The vector of tests/fixtures/eval.py.
pub fn write_sine(path: &Path, layer: usize) {
    let v = (0..576).map(|i| (0.6 * (0.37 * f64::from(i) + 1.0).sin()) as f32).collect();
    SteeringVector { layers: BTreeMap::from([(layer, v)]), metadata: Metadata::default() }.write(path).unwrap();
}

#[test]
fn measures_of_the_real_model_are_those_of_transformers() {
    let expected: Value = serde_json::from_slice(&fs::read(fixture("eval.json")).unwrap()).unwrap();
    let place = Place::new();
    write_sine(&place.path("sine.safetensors"), expected["layer"].as_u64().unwrap() as usize);
    let file = |name: &str| fixture(&format!("eval/{name}"));
    let model = common::smollm2_path();
    let output = place.bipo(&[
        "eval",
        "--quiet",
        "--json",
        "--model",
        model.to_str().unwrap(),
        "--vector",
        "sine.safetensors",
        "--magnitudes",
        "-1,0,0.5,2",
        "--dataset",
        &file("pairs.csv"),
        "--mc",
        &file("truthful.csv"),
        "--mc",
        &file("letters.json"),
        "--mc",
        &file("options.csv"),
        "--text",
        &file("text.txt"),
        "--skip",
        "generation",
        "--per-pair",
        "pairs.jsonl",
        "--baseline",
        "prompt",
        "--baseline-system",
        "You answer like an old sailor.",
        "--bootstrap",
        "10",
    ]);
    assert_ok(&output);
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    let lines = fs::read_to_string(place.path("pairs.jsonl")).unwrap();
    let lines: Vec<Value> = lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let mut recorded = expected["rows"].as_array().unwrap().clone();
    recorded.push(expected["prompted"].clone());
    let reference = recorded.iter().find(|row| row["magnitude"] == 0.0).unwrap()["pairs"].clone();
    assert_eq!(report["rows"].as_array().unwrap().len(), recorded.len());
    for ((row, expected), lines) in report["rows"].as_array().unwrap().iter().zip(&recorded).zip(lines.chunks(6)) {
        assert_eq!(row["magnitude"], expected["magnitude"]);
        let m = row["magnitude"].as_f64();
        let measure = |name: &str| &row["measures"][name]["value"];
        let (mut margins, mut prefers, mut per_token) = (Vec::new(), Vec::new(), Vec::new());
        for ((pair, reference), line) in
            expected["pairs"].as_array().unwrap().iter().zip(reference.as_array().unwrap()).zip(lines)
        {
            let side = |pair: &Value, side: usize| (pair[side][0].as_f64().unwrap(), pair[side][1].as_f64().unwrap());
            let ((chosen, chosen_tokens), (rejected, rejected_tokens)) = (side(pair, 0), side(pair, 1));
            assert_close(&line["chosen_logprob"], chosen, 2e-5, "chosen");
            assert_close(&line["rejected_logprob"], rejected, 2e-5, "rejected");
            assert_eq!(line["chosen_tokens"].as_f64(), Some(chosen_tokens));
            assert_eq!(line["rejected_tokens"].as_f64(), Some(rejected_tokens));
            assert_eq!(line["magnitude"], row["magnitude"]);
            margins.push(0.1 * ((chosen - side(reference, 0).0) - (rejected - side(reference, 1).0)));
            prefers.push(f64::from(chosen > rejected));
            per_token.push(f64::from(chosen / chosen_tokens > rejected / rejected_tokens));
        }
        assert_close(measure("margin"), mean(&margins), 1e-4, "margin");
        assert_close(measure("prefers_chosen"), mean(&prefers), 1e-9, "accuracy");
        assert_close(measure("prefers_chosen_per_token"), mean(&per_token), 1e-9, "accuracy per token");
        if m != Some(0.0) {
            let sign = m.unwrap_or(1.0).signum();
            let right: Vec<f64> = margins.iter().map(|margin| f64::from(sign * margin > 0.0)).collect();
            assert_close(measure("moved_right"), mean(&right), 1e-9, "right");
            assert_close(measure("moved_wrong"), 1.0 - mean(&right), 1e-9, "wrong");
        }
        assert_close(measure("truthful.mc1"), mean(&numbers(&expected["mc1"])), 1e-9, "mc1");
        assert_close(measure("truthful.mc2"), mean(&numbers(&expected["mc2"])), 2e-5, "mc2");
        assert_close(measure("letters.matching"), mean(&numbers(&expected["matching"])), 2e-5, "matching");
        assert_close(measure("options.accuracy"), mean(&numbers(&expected["accuracy"])), 1e-9, "four-way accuracy");
        assert_close(measure("perplexity"), expected["perplexity"].as_f64().unwrap(), 2e-5, "perplexity");
        assert_close(measure("kl"), expected["kl"].as_f64().unwrap(), 2e-5, "kl");
        if let Some(m) = m {
            let norm = expected_norm(&report);
            let doses: Vec<f64> = numbers(&recorded_norms()).iter().map(|h| m.abs() * norm / h).collect();
            assert_close(measure("dose"), mean(&doses), 1e-4, "dose");
        }
    }
}

fn expected_norm(report: &Value) -> f64 {
    report["settings"]["subjects"][0]["norm"].as_f64().unwrap()
}

fn recorded_norms() -> Value {
    let expected: Value = serde_json::from_slice(&fs::read(fixture("eval.json")).unwrap()).unwrap();
    expected["residual_norms"].clone()
}

#[test]
fn one_table_has_the_vector_and_its_baselines() {
    let place = trained();
    assert_ok(&place.train("other", &["--seed", "5", "--lr", "0.2"]));
    let report = report(
        &place,
        &[
            "--dataset",
            "pairs.csv",
            "--magnitudes",
            "-1,0,1",
            "--baseline",
            "random",
            "--baseline",
            "prompt",
            "--baseline-system",
            "Be kind.",
            "--baseline",
            "other/steering_vector.safetensors",
            "--csv",
            "t.csv",
            "--per-pair",
            "p.jsonl",
            "--mc",
            &fixture("eval/options.csv"),
        ],
    );
    assert_eq!(report["schema_version"], 2);
    let rows = report["rows"].as_array().unwrap();
    let found: Vec<(&str, Option<f64>)> =
        rows.iter().map(|row| (row["subject"].as_str().unwrap(), row["magnitude"].as_f64())).collect();
    let other = "other/steering_vector.safetensors";
    let expected = [
        ("vector", Some(-1.0)),
        ("vector", Some(0.0)),
        ("vector", Some(1.0)),
        ("random", Some(-1.0)),
        ("random", Some(1.0)),
        ("prompt", None),
        (other, Some(-1.0)),
        (other, Some(1.0)),
    ];
    assert_eq!(found, expected);
    let subjects = report["settings"]["subjects"].as_array().unwrap();
    let norms: Vec<f64> = subjects.iter().filter_map(|subject| subject["norm"].as_f64()).collect();
    assert!(norms.len() == 3 && norms.iter().all(|norm| (norm / norms[0] - 1.0).abs() < 1e-5), "{norms:?}");
    for name in [
        "margin",
        "prefers_chosen",
        "prefers_chosen_per_token",
        "perplexity",
        "perplexity_ratio",
        "kl",
        "repetition",
        "options.accuracy",
    ] {
        for row in rows {
            let measure = &row["measures"][name];
            let [value, low, high] = ["value", "low", "high"].map(|part| measure[part].as_f64().unwrap());
            assert!(low <= value + 1e-12 && value <= high + 1e-12, "{name}: {measure}");
        }
    }
    assert_eq!(rows[1]["measures"]["margin"]["value"], 0.0);
    assert_eq!(rows[1]["measures"]["kl"]["value"], 0.0);
    assert!(rows[1]["measures"].get("moved_right").is_none() && rows[5]["measures"].get("dose").is_none());
    let table = fs::read_to_string(place.path("t.csv")).unwrap();
    assert_eq!(table.lines().count(), 1 + expected.len());
    let lines = fs::read_to_string(place.path("p.jsonl")).unwrap();
    assert_eq!(lines.lines().count(), 5 * expected.len());
    let first: Value = serde_json::from_str(lines.lines().next().unwrap()).unwrap();
    let keys: Vec<&String> = first.as_object().unwrap().keys().collect();
    assert_eq!(keys, ["row", "magnitude", "chosen_logprob", "rejected_logprob", "chosen_tokens", "rejected_tokens"]);
    assert_eq!(report["generations"].as_array().unwrap().len(), 8 * expected.len());
}

/// A vector's opposite at m is the vector at −m; and a vector read twice adds up.
#[test]
fn scaled_vectors_are_other_magnitudes() {
    let place = trained();
    let all = ["--dataset", "pairs.csv", "--skip", "generation", "--magnitudes"];
    let plain = report(&place, &[&all[..], &["-2,4"]].concat());
    let model = fixture("llama");
    let scaled = "out/steering_vector.safetensors:-1";
    let other = place.bipo(&[
        "eval",
        "--quiet",
        "--json",
        "--model",
        &model,
        "--vector",
        scaled,
        "--vector",
        scaled,
        "--dataset",
        "pairs.csv",
        "--skip",
        "generation",
        "--magnitudes",
        "1,-2",
    ]);
    assert_ok(&other);
    let other: Value = serde_json::from_slice(&other.stdout).unwrap();
    for (a, b) in plain["rows"].as_array().unwrap().iter().zip(other["rows"].as_array().unwrap()) {
        for name in ["margin", "prefers_chosen", "perplexity_ratio", "kl", "dose"] {
            assert_close(&b["measures"][name]["value"], a["measures"][name]["value"].as_f64().unwrap(), 1e-5, name);
        }
    }
}

#[test]
fn the_same_command_gives_the_same_numbers() {
    let place = trained();
    let run = |name: &str, threads: &str| {
        let args = ["--dataset", "pairs.csv", "--baseline", "random", "--threads", threads, "--csv", name];
        assert_ok(&eval(&place, &args));
        fs::read(place.path(name)).unwrap()
    };
    assert_eq!(run("a.csv", "2"), run("b.csv", "1"));
}

#[test]
fn every_flag_of_eval_has_an_effect() {
    let place = trained();
    let mc = fixture("eval/letters.json");
    fs::write(place.path("text.txt"), "A river flows to the sea and a road to the town.\n").unwrap();
    let rows = |more: &[&str]| {
        let flags = ["--dataset", "pairs.csv", "--mc", &mc, "--baseline", "random", "--magnitudes", "1", "--bootstrap", "50"];
        let kept: Vec<&str> =
            flags.chunks(2).filter(|pair| !more.contains(&pair[0])).flatten().copied().chain(more.iter().copied()).collect();
        let report = report(&place, &kept);
        // A tiny model's texts rarely repeat themselves, however long.
        [report["rows"].clone(), report["generations"].clone()]
    };
    let base = rows(&[]);
    let settings: [&[&str]; 20] = [
        &["--magnitudes", "1.5"],
        &["--operation", "ablate"],
        &["--layer", "0"],
        &["--positions", "response"],
        &["--limit", "2"],
        &["--response-prefix", "  "],
        &["--max-length", "10"],
        &["--spans", "user"],
        &["--beta", "0.5"],
        &["--text", "text.txt"],
        &["--prompt", "aaaa"],
        &["--max-new-tokens", "30"],
        &["--skip", "text"],
        &["--skip", "generation"],
        &["--bootstrap", "51"],
        &["--seed", "12"],
        &["--system", "Be brief."],
        &["--mc", &fixture("eval/options.csv")],
        &["--mc", &fixture("eval/options.csv"), "--mc-answers", "text"],
        &["--template", "plain"],
    ];
    for setting in settings {
        assert_ne!(rows(setting), base, "{setting:?}");
    }
}

#[test]
fn the_neutral_text_tells_nothing_of_a_vector_at_some_tokens_alone() {
    let place = trained();
    let model = fixture("llama");
    let vector = "out/steering_vector.safetensors";
    let args = ["eval", "--model", &model, "--vector", vector, "--magnitudes", "0,1", "--prompt", "Hi", "--bootstrap", "10"];
    let run = |more: &[&str]| place.bipo(&[&args[..], &["--max-new-tokens", "2"], more].concat());
    for positions in ["first:1+last:1", "prompt", "last", "response"] {
        let output = run(&["--positions", positions, "--json"]);
        assert_ok(&output);
        let report: Value = serde_json::from_slice(&output.stdout).unwrap();
        for name in ["perplexity", "perplexity_ratio", "kl"] {
            let value = |row: usize| &report["rows"][row]["measures"][name]["value"];
            // The untouched model is what it is.
            assert!(value(0).is_number() && value(1).is_null(), "{positions} {name}: {report}");
        }
        let notes: Vec<String> =
            text(&output.stderr).lines().filter(|line| line.starts_with("note: ")).map(String::from).collect();
        let said =
            "note: perplexity and KL of the neutral text are not measured for vector: every token of that text is steered";
        assert_eq!(notes.iter().filter(|note| note.starts_with(said)).count(), 1, "{notes:?}");
    }
    let shown = text(&run(&["--positions", "last"]).stdout);
    let damage = shown.split("Damage\n").nth(1).unwrap();
    let row = damage.lines().find(|line| line.starts_with("vector") && line.contains("+1")).unwrap();
    assert_eq!(row.split_whitespace().collect::<Vec<_>>()[..5], ["vector", "+1", "-", "-", "-"], "{shown}");
    let everywhere = run(&["--json"]);
    let report: Value = serde_json::from_slice(&everywhere.stdout).unwrap();
    assert!(report["rows"][1]["measures"]["kl"]["value"].is_number());
    assert!(!text(&everywhere.stderr).contains("are not measured"), "{}", text(&everywhere.stderr));
}

#[test]
fn repetition_that_all_texts_share_has_no_interval() {
    let place = trained();
    let shown = text(&eval(&place, &["--magnitudes", "0,0.001", "--max-new-tokens", "5", "--skip", "text"]).stdout);
    let cells: Vec<&str> = shown.lines().filter(|line| line.starts_with("vector")).collect();
    assert!(cells.len() == 2 && cells.iter().all(|line| line.ends_with("0.0 %")), "{shown}");
}

#[test]
fn magnitudes_auto_are_those_that_were_calibrated() {
    let place = trained();
    let asked = eval(&place, &["--magnitudes", "auto"]);
    assert_eq!(asked.status.code(), Some(2));
    assert!(text(&asked.stderr).contains("auto needs a vector whose strength was measured"), "{}", text(&asked.stderr));
    let file = place.path("out/steering_vector.safetensors");
    let mut vector = SteeringVector::read(&file, None).unwrap();
    let model = "owner/name".to_owned();
    vector.metadata.calibration = Some(Calibration { budget: "kl=1".into(), minus: Some(-1.5), plus: Some(2.5), model });
    vector.write(&file).unwrap();
    let report = report(&place, &["--magnitudes", "auto", "--skip", "text"]);
    assert_eq!(numbers(&report["settings"]["magnitudes"]), [-1.5, 0.0, 2.5]);
    let rows = report["rows"].as_array().unwrap();
    assert_eq!(rows.iter().map(|row| row["magnitude"].as_f64().unwrap()).collect::<Vec<_>>(), [-1.5, 0.0, 2.5]);
}

#[test]
fn text_is_a_table_and_says_how_fast_it_was() {
    let place = trained();
    let model = fixture("llama");
    let args = ["eval", "--model", &model, "--dataset", "pairs.csv", "--magnitudes", "-1..1", "--max-new-tokens", "8"];
    let output = place.bipo(&[&args[..], &["--vector", "out/steering_vector.safetensors"]].concat());
    assert_ok(&output);
    let (shown, said) = (text(&output.stdout), text(&output.stderr));
    assert!(shown.starts_with("Preference") && shown.contains("\nDamage") && shown.contains("perplexity"), "{shown}");
    assert_eq!(shown.lines().filter(|line| line.starts_with("vector")).count(), 6);
    assert!(said.contains("10 pairs through the upper blocks in") && said.contains("pairs/s"), "{said}");
}

#[test]
fn bad_input_of_eval_is_refused_before_the_model_is_loaded() {
    let place = trained();
    fs::write(
        place.path("ab.json"),
        r#"[{"question": "q", "answer_matching_behavior": "(A)", "answer_not_matching_behavior": "(B)"}]"#,
    )
    .unwrap();
    fs::write(place.path("empty.txt"), " \n").unwrap();
    let cases: [(&[&str], &str); 14] = [
        (&["--dataset", "nowhere.csv"], "no such file: nowhere.csv"),
        (&["--mc", "pairs.csv"], "no multiple-choice columns; found question, matching, not_matching"),
        (&["--mc", "ab.json"], "ab.json: row 0: the question has no"),
        (&["--text", "empty.txt"], "empty.txt: the file is empty"),
        (&["--baseline", "prompt"], "give --baseline-system TEXT"),
        (&["--baseline-system", "x"], "--baseline-system is for --baseline prompt"),
        (
            &["--baseline", "rndom"],
            "cannot read rndom: No such file or directory (os error 2); expected --baseline random, prompt or",
        ),
        (&["--per-pair", "p.jsonl"], "--per-pair needs pairs: give --dataset"),
        (&["--csv", "no/dir/t.csv"], "cannot write no/dir/t.csv: no/dir is no directory: make it first"),
        (&["--plot", "no/curve.svg"], "cannot write no/curve.svg: no is no directory: make it first"),
        (&["--plot", "curve.pdf"], "curve.pdf: a chart's file ends in .svg or .png"),
        (&["--skip", "text,generation"], "nothing to measure"),
        (&["--dataset", "pairs.csv", "--csv", "./pairs.csv"], "--csv and --dataset are one file, ./pairs.csv"),
        (&["--csv", "t", "--report", "t"], "--report and --csv are one file, t"),
    ];
    for (args, expected) in cases {
        let output = eval(&place, args);
        assert_eq!(output.status.code(), Some(2), "{args:?}");
        let said = text(&output.stderr);
        assert!(said.contains(expected) && said.lines().count() == 1, "{args:?}: {said}");
        assert!(output.stdout.is_empty());
    }
}

#[test]
fn a_letter_that_positions_response_does_not_reach_is_said_and_last_and_response_reaches_it() {
    let place = trained();
    let letters = r#"{"question": "Q?", "choices": {"text": ["one", "two"], "label": ["A", "B"]}, "answerKey": "A"}"#;
    let digits = r#"{"question": "Q?", "choices": {"text": ["1", "2", "3"], "label": ["A", "B", "C"]}, "answerKey": "A"}"#;
    fs::write(place.path("letters.jsonl"), letters).unwrap();
    // The answers of this pair have more than one token that differs.
    let more = r#"{"question": "Q?", "answer_matching_behavior": "Yes", "answer_not_matching_behavior": "No"}"#;
    fs::write(place.path("more.jsonl"), more).unwrap();
    fs::write(place.path("mixed.jsonl"), [letters, digits].join("\n")).unwrap();
    let eval = |file: &str, answers: &str, positions: &str| {
        let (model, vector) = (fixture("llama"), "out/steering_vector.safetensors");
        let output = place.bipo(&[
            "eval",
            "--model",
            &model,
            "--vector",
            vector,
            "--mc",
            file,
            "--mc-answers",
            answers,
            "--skip",
            "text,generation",
            "--response-prefix",
            "",
            "--positions",
            positions,
        ]);
        (output.status.code(), text(&output.stderr))
    };
    let (code, said) = eval("letters.jsonl", "letter", "response");
    let refusal = "letters: no token that predicts a response would be steered: take --positions last+response\n";
    assert!(said.ends_with(refusal) && !said.contains("loaded in"), "{said}");
    assert_eq!(code, Some(2), "{said}");
    let (code, said) = eval("mixed.jsonl", "text", "response");
    assert!(said.contains("warning: mixed: in 1 of 2 questions the answers differ in one token alone"), "{said}");
    assert_eq!(code, Some(0), "{said}");
    for (file, positions) in [("letters.jsonl", "last+response"), ("letters.jsonl", "all"), ("more.jsonl", "response")] {
        let (code, said) = eval(file, "letter", positions);
        assert_eq!((code, said.contains("differ in one token")), (Some(0), false), "{said}");
    }
}

/// The real small model's texts, with the number that each ends in as the answer, and with another for every second one.
#[test]
fn questions_that_a_number_answers_are_counted_by_the_last_number_of_the_text() {
    let place = Place::new();
    write_sine(&place.path("sine.safetensors"), 14);
    let model = common::smollm2_path();
    let report = |prompts: &str| {
        let model = ["eval", "-q", "--json", "--model", model.to_str().unwrap(), "--vector", "sine.safetensors"];
        let output = place.bipo(
            &[&model[..], &["--skip", "text", "--magnitudes", "0", "--max-new-tokens", "24", "--prompts", prompts]].concat(),
        );
        assert_ok(&output);
        serde_json::from_slice::<Value>(&output.stdout).unwrap()
    };
    let questions =
        ["What is 2 + 3?", "How many days has a week?", "Count from 1 to 5.", "What is 12 times 3?", "Name a colour."];
    fs::write(place.path("questions.txt"), questions.join("\n")).unwrap();
    let plain = report("questions.txt");
    let generations = plain["generations"].as_array().unwrap();
    assert!(plain["rows"][0]["measures"].get("numeric_match").is_none() && generations[0].get("numeric_match").is_none());
    let numbers: Vec<Option<f64>> = generations.iter().map(|text| last_number(text["text"].as_str().unwrap())).collect();
    assert!(numbers[..4].iter().flatten().count() > 2, "{numbers:?}");
    let answers: Vec<f64> = numbers.iter().enumerate().map(|(at, number)| number.unwrap_or(0.0) + (at % 2) as f64).collect();
    let worked = |(question, answer): (&&str, &f64)| {
        serde_json::json!({"question": question, "answer": format!("2 + 2 = 4\n#### {answer}")}).to_string()
    };
    let lines: Vec<String> = questions.iter().zip(&answers).map(worked).collect();
    fs::write(place.path("gsm8k.jsonl"), lines.join("\n")).unwrap();
    let answered = report("gsm8k.jsonl");
    let is_right: Vec<bool> = numbers.iter().zip(&answers).map(|(number, answer)| *number == Some(*answer)).collect();
    let share = is_right.iter().filter(|is_right| **is_right).count() as f64 / questions.len() as f64;
    assert!(share > 0.0 && share < 1.0, "{numbers:?}");
    assert_close(&answered["rows"][0]["measures"]["numeric_match"]["value"], share, 1e-12, "numeric_match");
    let told = answered["generations"].as_array().unwrap().iter().map(|text| text["numeric_match"].as_bool().unwrap());
    assert_eq!(told.collect::<Vec<_>>(), is_right);
    fs::write(place.path("some.csv"), "question,answer\n\"What is 2 + 3?\",\"#### 5\"\nWho?,Ann\n").unwrap();
    let some = report("some.csv");
    let told = some["generations"].as_array().unwrap().iter().filter(|text| text.get("numeric_match").is_some());
    assert_eq!(told.count(), 1);
    // Whatever holds them, and as many as are asked for.
    let rows = r#"[{"question": "What is 2 + 3?", "answer": 5}, {"question": "Who?", "answer": "Ann"}]"#;
    fs::write(place.path("some.json"), rows).unwrap();
    assert_eq!(report("some.json")["generations"], some["generations"]);
    let limited = place.bipo(&[
        "eval",
        "-q",
        "--json",
        "--model",
        model.to_str().unwrap(),
        "--vector",
        "sine.safetensors",
        "--skip",
        "text",
        "--magnitudes",
        "0",
        "--max-new-tokens",
        "24",
        "--prompts",
        "some.csv",
        "--limit",
        "1",
    ]);
    assert_ok(&limited);
    let limited: Value = serde_json::from_slice(&limited.stdout).unwrap();
    assert_eq!(limited["generations"].as_array().unwrap()[..], some["generations"].as_array().unwrap()[..1]);
}

#[test]
fn lines_that_look_like_objects_among_others_are_prompts_as_they_are() {
    let place = trained();
    let steered = |name: &str, content: &str| {
        fs::write(place.path(name), content).unwrap();
        let model = ["steer", "-q", "--json", "--model", &fixture("llama"), "--vector", "out/steering_vector.safetensors"];
        let output = place.bipo(&[&model[..], &["--magnitudes", "0", "--max-new-tokens", "1", "--prompts", name]].concat());
        assert_ok(&output);
        let value: Value = serde_json::from_slice(&output.stdout).unwrap();
        value["results"].as_array().unwrap().iter().map(|text| text["prompt"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    let row = r#"{"question": "Why?"}"#;
    assert_eq!(steered("p.txt", &format!("{row}\nplain\n")), [row, "plain"]);
    assert_eq!(steered("p", &format!("{row}\n{{\"id\": 1}}\n")), [row, "{\"id\": 1}"]);
    assert_eq!(steered("q.txt", &format!("{row}\n\n{{\"input\": \"Who?\"}}\n")), ["Why?", "Who?"]);
    assert_eq!(steered("p.tsv", "id\tprompt\n1\tWhy?\n"), ["Why?"]);
    // The name says that each line is an object.
    for second in ["{\"id\": 1}", "{\"question\":"] {
        fs::write(place.path("p.jsonl"), format!("{row}\n{second}\n")).unwrap();
        let output = place.bipo(&[
            "steer",
            "--model",
            &fixture("llama"),
            "--vector",
            "out/steering_vector.safetensors",
            "--prompts",
            "p.jsonl",
        ]);
        assert_eq!(output.status.code(), Some(2));
        let error =
            "error: p.jsonl: line 2: expected a JSON object with a prompt, as another line has; mend or remove the line\n";
        assert!(text(&output.stderr).ends_with(error), "{}", text(&output.stderr));
    }
}

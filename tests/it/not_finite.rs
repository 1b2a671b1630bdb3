//! Magnitudes and vectors at which the tiny model's numbers are not finite: what they end, what goes on, and what is said.

use std::fs;
use std::process::Output;

use serde_json::Value;

use crate::cli::{Place, assert_ok, fixture, json, text};
use crate::eval::trained;

const VECTOR: &str = "out/steering_vector.safetensors";

/// A command with the trained vector, which is so short that 3e38 times it is finite: its square is not.
fn with_vector(place: &Place, command: &str, more: &[&str]) -> Output {
    let model = fixture("llama");
    place.bipo(&[&[command, "--model", &model, "--vector", VECTOR, "--max-new-tokens", "5"], more].concat())
}

fn one_error(output: &Output) -> String {
    assert_eq!(output.status.code(), Some(1), "{}", text(&output.stderr));
    let said = text(&output.stderr);
    let errors: Vec<&str> = said.lines().filter(|line| line.starts_with("error: ")).collect();
    assert!(errors.len() == 1 && errors[0].contains("not finite"), "{said}");
    errors[0].to_owned()
}

#[test]
fn a_text_at_a_magnitude_too_large_for_f32_ends_and_the_others_are_as_without_it() {
    let place = trained();
    let steer = |more: &[&str]| with_vector(&place, "steer", &[&["--prompt", "What is it?"], more].concat());
    let found = json(&steer(&["--json", "--magnitudes", "0,3e38,1"]))["results"].clone();
    let without = json(&steer(&["--json", "--magnitudes", "0,1"]))["results"].clone();
    assert_eq!([&found[0], &found[2]], [&without[0], &without[1]]);
    assert_eq!((&found[1]["finish_reason"], &found[1]["token_ids"]), (&"not_finite".into(), &Value::Array(Vec::new())));
    let output = steer(&["--magnitudes", "0,3e38,1"]);
    assert_ok(&output);
    let (shown, said) = (text(&output.stdout), text(&output.stderr));
    let heading = shown.lines().find(|line| line.contains("not finite")).unwrap();
    assert!(heading.starts_with("magnitude +3e38  dose ") && heading.len() < 100, "{heading}");
    assert!(said.contains("at magnitude 3e38 the model's logits are not finite, which ends the text"), "{said}");
    one_error(&steer(&["--magnitudes", "3e38,-3e38"]));
}

#[test]
fn a_row_of_an_evaluation_ends_at_what_is_not_finite_and_the_others_are_as_without_it() {
    let place = trained();
    let letters = fixture("eval/letters.json");
    let eval = |more: &[&str]| {
        let on = ["--dataset", "pairs.csv", "--mc", &letters, "--bootstrap", "20", "--prompt", "What is it?"];
        with_vector(&place, "eval", &[&on[..], more].concat())
    };
    let rows = |report: &Value, at: &[usize]| at.iter().map(|at| report["rows"][*at].clone()).collect::<Vec<_>>();
    let files = ["--json", "--csv", "t.csv", "--per-pair", "p.jsonl", "--report", "r.html"];
    let output = eval(&[&files[..], &["--magnitudes", "1,3e38,2"]].concat());
    let found = json(&output);
    let without = json(&eval(&["--json", "--magnitudes", "1,2"]));
    assert_eq!(rows(&found, &[0, 2]), rows(&without, &[0, 1]));
    assert_eq!(found["generations"], without["generations"]);
    let failed = &found["rows"][1];
    assert_eq!(failed["failure"], "row 0: the log-probability is not finite");
    assert!(failed["measures"].as_object().unwrap().is_empty(), "{failed}");
    assert!(found["settings"].get("ended_early").is_none());
    let line = "vector at magnitude +3e38: row 0: the log-probability is not finite";
    let said = text(&output.stderr);
    assert!(said.contains(&format!("{line}: nothing more is measured there; use smaller magnitudes\n")), "{said}");
    assert!(fs::read_to_string(place.path("r.html")).unwrap().contains(line));
    assert_eq!(fs::read_to_string(place.path("p.jsonl")).unwrap().lines().count(), 2 * 5);
    assert_eq!(fs::read_to_string(place.path("t.csv")).unwrap().lines().count(), 1 + 3);
    assert!(text(&eval(&["--magnitudes", "1,3e38"]).stdout).ends_with(&format!("\n\n{line}\n")));
    one_error(&eval(&["--magnitudes", "3e38,-3e38"]));
}

/// Whatever is measured first meets the numbers, and what is measured of other rows is the same.
#[test]
fn each_part_of_an_evaluation_ends_the_row_alone() {
    let place = trained();
    let letters = fixture("eval/letters.json");
    let parts: [(&[&str], &str); 3] = [
        (&["--mc", &letters, "--skip", "text,generation"], "letters: row 0: the log-probability is not finite"),
        (&["--skip", "generation"], "the neutral text's log-probability is not finite"),
        (&["--skip", "text", "--prompt", "What is it?"], "prompt 0: the logits of its text are not finite"),
    ];
    for (part, failure) in parts {
        let report = |magnitudes: &str| {
            let more = [part, &["--json", "--bootstrap", "20", "--magnitudes", magnitudes, "--baseline", "random"]].concat();
            json(&with_vector(&place, "eval", &more))["rows"].clone()
        };
        let (found, without) = (report("3e38,1"), report("1"));
        // The vector's rows, then the random direction's, which is as long.
        assert_eq!([&found[1], &found[3]], [&without[0], &without[1]], "{part:?}");
        assert!(found[1].get("failure").is_none() && !found[1]["measures"].as_object().unwrap().is_empty(), "{part:?}");
        for row in [&found[0], &found[2]] {
            assert_eq!(row["failure"], failure);
            assert!(row["measures"].as_object().unwrap().is_empty(), "{row}");
        }
    }
}

#[test]
fn a_layer_whose_held_out_loss_is_not_finite_is_not_the_best() {
    let place = Place::new();
    let model = fixture("llama");
    let args = ["layers", "--model", &model, "--dataset", "pairs.csv", "--layers", "0,1", "--json", "--batch-size", "2"];
    let step = ["--max-steps", "1", "--warmup-steps", "0", "--weight-decay", "0", "--lr", "1e30"];
    let output = place.bipo(&[&args[..], &step].concat());
    one_error(&output);
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(report["best_layer"], Value::Null);
    for result in report["layers"].as_array().unwrap() {
        assert_eq!((&result["steps"], &result["failure"]), (&1.into(), &"the loss of the held-out pairs is not finite".into()));
    }
}

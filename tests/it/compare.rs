//! `bipo compare` on the tiny model: every method gives a vector and rows, what is there is taken again, and wrong flags are told.

use std::fs;
use std::process::Output;

use serde_json::Value;

use crate::cli::{Place, assert_ok, fixture, json, text};

/// A comparison on the tiny model, with a budget that it reaches.
fn compare(place: &Place, more: &[&str]) -> Output {
    let model = fixture("llama");
    let given = ["compare", "--quiet", "--model", &model, "--dataset", "pairs.csv", "--max-steps", "6", "--batch-size", "2"];
    let small = ["--at", "kl=0.002", "--max-new-tokens", "4", "--bootstrap", "50"];
    place.bipo(&[&given[..], &small, more].concat())
}

/// The distinct subjects of the rows, in their order.
fn subjects(report: &Value) -> Vec<String> {
    let mut names: Vec<String> =
        report["report"]["rows"].as_array().unwrap().iter().map(|row| row["subject"].as_str().unwrap().to_owned()).collect();
    names.dedup();
    names
}

#[test]
fn every_method_gives_a_vector_and_is_measured_at_magnitudes_of_its_own() {
    let place = Place::new();
    let all = "bipo,dpo,simpo,reps,lm,prosv,caa,pca,prompt,random";
    let page_and_picture = ["--report", "table.html", "--plot", "table.svg"];
    let more = [&["--methods", all, "--baseline-system", "Be glad.", "--json"][..], &page_and_picture].concat();
    let found = json(&compare(&place, &more));
    let expected: Vec<&str> = all.split(',').filter(|name| *name != "prompt" && *name != "random").collect();
    let names = subjects(&found);
    assert_eq!(names, [&expected[..], &["random", "prompt"]].concat());
    for name in &expected {
        assert!(place.path(&format!("bipo_compare/{name}.safetensors")).is_file(), "{name}");
    }
    let rows = found["report"]["rows"].as_array().unwrap();
    let of = |name: &str| rows.iter().filter(move |row| row["subject"] == name).collect::<Vec<_>>();
    assert_eq!(of("bipo").iter().filter(|row| row["magnitude"] == 0.0).count(), 1);
    assert!(of("reps").iter().all(|row| row["magnitude"] != 0.0 && row["measures"]["margin"]["value"].is_number()));
    assert_eq!(of("prompt").len(), 1);
    assert!(found["verdict"][0].as_str().unwrap().starts_with("At +, "), "{}", found["verdict"]);
    let candidate = |name: &str| found["candidates"].as_array().unwrap().iter().find(|it| it["name"] == name).unwrap().clone();
    let steps = |name: &str| candidate(name)["learned"]["steps"].as_u64();
    assert_eq!((steps("bipo"), steps("caa"), steps("random"), steps("prompt")), (Some(6), Some(0), None, None));
    assert_eq!(candidate("prosv")["positions"], "first:2+last:2");
    assert_eq!(candidate("reps")["learned"]["bytes"], fs::metadata(place.path("bipo_compare/reps.safetensors")).unwrap().len());
    let page = fs::read_to_string(place.path("table.html")).unwrap();
    assert!(page.contains("trained in") && page.contains("At +, "));
    let picture = fs::read_to_string(place.path("table.svg")).unwrap();
    for name in names {
        assert!(picture.contains(&format!(">{name}</text>")), "{name}: {picture}");
    }
}

#[test]
fn a_condition_leaves_the_pairs_alone_on_which_it_does_not_fire_with_every_vector() {
    let place = Place::new();
    let (model, methods) = (fixture("llama"), "bipo,caa,prompt");
    fs::write(place.path("need.txt"), "How was it?\nWhere to?\n").unwrap();
    fs::write(place.path("rest.txt"), "Who is it?\nWhat now?\n").unwrap();
    let found =
        ["train", "--method", "condition", "--quiet", "--model", &model, "--dataset", "need.txt", "--against", "rest.txt"];
    assert_ok(&place.bipo(&[&found[..], &["--output-dir", "c"]].concat()));
    let given = ["--methods", methods, "--baseline-system", "Be glad.", "--eval-dataset", "pairs.csv", "--json"];
    let always = json(&compare(&place, &given));
    let with = |when: &str| json(&compare(&place, &[&given[..], &["--when", when]].concat()));
    let rows = |found: &Value| found["report"]["rows"].as_array().unwrap().clone();
    let sometimes = with("c/condition.safetensors");
    assert_eq!(sometimes["report"]["settings"]["when"]["file"], "condition.safetensors");
    for (without, with) in rows(&always).iter().zip(rows(&sometimes)) {
        let (a, b) = (&without["measures"]["margin"], &with["measures"]["margin"]);
        match without["magnitude"].as_f64() {
            Some(m) if m != 0.0 => {
                let fired = with["measures"]["fired"]["value"].as_f64().unwrap();
                assert!((0.0..1.0).contains(&fired) && a["value"] != b["value"], "{with}");
            }
            // Neither the untouched model nor an instruction is under a condition.
            _ => assert_eq!(a["value"], b["value"], "{with}"),
        }
    }
    // No score reaches 2: every vector is the untouched model there.
    for row in rows(&with("c/condition.safetensors:>2")).iter().filter(|row| row["subject"] != "prompt") {
        assert_eq!(row["measures"]["margin"]["value"].as_f64(), Some(0.0), "{row}");
    }
}

#[test]
fn a_comparison_goes_on_with_the_vectors_that_are_there() {
    let place = Place::new();
    let heldout = ["--eval-dataset", "pairs.csv"];
    assert_ok(&compare(&place, &[&heldout[..], &["--methods", "caa"]].concat()));
    let caa = fs::read(place.path("bipo_compare/caa.safetensors")).unwrap();
    let first = compare(&place, &[&heldout[..], &["--methods", "bipo,caa", "--json"]].concat());
    let again = compare(&place, &[&heldout[..], &["--methods", "bipo,caa", "--json"]].concat());
    assert_eq!(fs::read(place.path("bipo_compare/caa.safetensors")).unwrap(), caa);
    // Times of what was learned are told again; those of measuring differ.
    let (mut first, mut again) = (json(&first), json(&again));
    (first["report"]["timings"], again["report"]["timings"]) = (Value::Null, Value::Null);
    assert_eq!(first, again);
    let other = compare(&place, &[&heldout[..], &["--methods", "bipo", "--seed", "3"]].concat());
    assert_eq!(other.status.code(), Some(2));
    assert!(text(&other.stderr).contains("bipo.safetensors is of another run: --overwrite"), "{}", text(&other.stderr));
    assert_ok(&compare(&place, &[&heldout[..], &["--methods", "bipo", "--seed", "3", "--overwrite"]].concat()));
}

#[test]
fn every_vector_reaches_the_damage_of_the_budget_or_a_warning_names_it() {
    let place = Place::new();
    let model = fixture("llama");
    let given = ["compare", "--model", &model, "--dataset", "pairs.csv", "--max-steps", "6", "--batch-size", "2", "--json"];
    let small = ["--at", "kl=0.002", "--max-new-tokens", "4", "--bootstrap", "50", "--methods", "bipo,prosv,caa,random"];
    let output = place.bipo(&[&given[..], &small, &["--report", "page.html"]].concat());
    let found = json(&output);
    let said = text(&output.stderr);
    let warnings: Vec<&str> = said.lines().filter(|line| line.contains("kl=0.002 is not used up")).collect();
    assert!(warnings.len() <= 1, "{said}");
    let mut costs = 0;
    for row in found["report"]["rows"].as_array().unwrap() {
        let cost = row["measures"]["reached_kl"]["value"].as_f64();
        let subject = row["subject"].as_str().unwrap();
        assert_eq!(cost.is_some(), row["magnitude"] != 0.0, "{row}");
        let Some(cost) = cost else { continue };
        costs += 1;
        let is_named = warnings.iter().any(|line| line.contains(&format!("{subject} at ")));
        assert!(cost <= 0.002 && (cost >= 0.95 * 0.002 || is_named), "{row}: {said}");
    }
    assert!(costs >= 4, "{found}");
    let page = fs::read_to_string(place.path("page.html")).unwrap();
    assert!(page.contains("reached KL"), "{page}");
    assert!(said.contains("note: perplexity and KL of the neutral text are not measured for prosv"), "{said}");
    let verdict = found["verdict"][0].as_str().unwrap();
    assert!(verdict.contains("1 pair is too few"), "{verdict}");
}

#[test]
fn each_method_learns_as_train_does_with_the_flags_of_its_source() {
    let place = Place::new();
    let methods: [(&str, &[&str]); 6] = [
        ("bipo", &[]),
        ("dpo", &["--objective", "dpo"]),
        ("simpo", &["--objective", "simpo"]),
        ("reps", &["--objective", "reps"]),
        ("lm", &["--objective", "lm"]),
        ("prosv", &["--objective", "simpo", "--learn-factor", "--positions", "first:2+last:2"]),
    ];
    let names = methods.map(|(name, _)| name).join(",");
    // What is measured does not matter here.
    compare(&place, &["--eval-dataset", "pairs.csv", "--methods", &names]);
    let model = fixture("llama");
    for (name, flags) in methods {
        let args = ["train", "--quiet", "--model", &model, "--dataset", "pairs.csv", "--max-steps", "6", "--batch-size", "2"];
        assert_ok(&place.bipo(&[&args[..], &["--output-dir", name], flags].concat()));
        let layers = |path: &str| bipo::steering::vector::SteeringVector::read(&place.path(path), None).unwrap().layers;
        let found = layers(&format!("bipo_compare/{name}.safetensors"));
        assert_eq!(found, layers(&format!("{name}/steering_vector.safetensors")), "{name}");
    }
}

#[test]
fn a_budget_that_no_vector_reaches_is_told_and_the_vectors_stay() {
    let place = Place::new();
    let model = fixture("llama");
    let more = ["--max-steps", "3", "--methods", "bipo,caa,prompt", "--baseline-system", "Be glad.", "--at", "kl=1000"];
    let output =
        place.bipo(&[&["compare", "--model", &model, "--dataset", "pairs.csv", "--max-new-tokens", "2"], &more[..]].concat());
    assert_eq!(output.status.code(), Some(2));
    assert!(
        text(&output.stderr)
            .contains("nothing to compare at kl=1000: bipo is left out: it reaches kl=1000 in neither direction"),
        "{}",
        text(&output.stderr)
    );
    assert!(place.path("bipo_compare/caa.safetensors").is_file());
}

#[test]
fn wrong_flags_of_a_comparison_are_told_in_one_line() {
    let place = Place::new();
    let cases: [(&[&str], &str); 9] = [
        (&["--methods", "random"], "names none that gives a vector"),
        (&["--methods", "bipo,prompt"], "give --baseline-system TEXT"),
        (&["--baseline-system", "Be glad."], "add it to --methods"),
        (&["--methods", "bipo,ppo"], "possible values: bipo, dpo, simpo"),
        (&["--lr", "0.1"], "--lr: each method has its own here"),
        (&["--plot", "table.jpg"], "a chart's file ends in .svg or .png"),
        (&["--when", "none.safetensors"], "none.safetensors"),
        (&["--at", "margin=1"], "expected a budget of damage"),
        (&["--methods", "bipo,prosv", "--at", "ppl=1.1"], "reads a text whose every token is steered"),
    ];
    for (more, expected) in cases {
        let given: Vec<&str> = [&["compare", "--model", "no-such-model", "--dataset", "pairs.csv"], more].concat();
        let output = place.bipo(&given);
        let said = text(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{said}");
        assert!(said.contains(expected) && said.lines().count() == 1, "{said}");
    }
}

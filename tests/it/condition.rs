//! `bipo train --method condition` and `--when`: the condition that is found is that of numpy and transformers, and a prompt that does
//! not fire gets the untouched model.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};

use bipo::generate::{GenerateOptions, Prompt, next_token_logits};
use bipo::session::{Demand, Session, SessionOptions};
use bipo::steering::condition::Verdict;
use bipo::steering::vector::SteeringVector;
use serde_json::{Value, json};

use super::cli::{Place, assert_ok, fixture, json, text};

/// What condition.py computed.
fn expected() -> Value {
    serde_json::from_str(&fs::read_to_string(fixture("condition.json")).unwrap()).unwrap()
}

fn texts(value: &Value) -> Vec<String> {
    value.as_array().unwrap().iter().map(|text| text.as_str().unwrap().to_owned()).collect()
}

fn floats(value: &Value) -> Vec<f64> {
    value.as_array().unwrap().iter().map(|x| x.as_f64().unwrap()).collect()
}

/// A place with the prompts of the fixture, and a vector that changes a text.
fn place() -> Place {
    let place = Place::new();
    let expected = expected();
    fs::write(place.path("need.txt"), texts(&expected["need"]).join("\n")).unwrap();
    let rest = texts(&expected["rest"]).into_iter().map(|prompt| json!({"prompt": prompt}).to_string() + "\n");
    fs::write(place.path("rest.jsonl"), rest.collect::<String>()).unwrap();
    let v: Vec<f32> = (0..32).map(|i| ((7 * i) % 11) as f32 - 5.0).collect();
    SteeringVector { layers: [(1, v)].into(), metadata: Default::default() }.write(&place.path("v.safetensors")).unwrap();
    place
}

fn find(place: &Place, out: &str, more: &[&str]) -> std::process::Output {
    let model = fixture("llama");
    let args = ["train", "--method", "condition", "--model", &model, "--dataset", "need.txt", "--against", "rest.jsonl"];
    place.bipo(&[&args[..], &["--output-dir", out], more].concat())
}

fn steer(place: &Place, more: &[&str]) -> Vec<Value> {
    let model = fixture("llama");
    let args = ["steer", "--model", &model, "--vector", "v.safetensors", "--magnitudes", "0,1", "--max-new-tokens", "8"];
    let output = place.bipo(&[&args[..], &["--json", "--quiet"], more].concat());
    json(&output)["results"].as_array().unwrap().clone()
}

#[test]
fn layer_direction_threshold_and_side_are_those_of_numpy() {
    let (place, expected) = (place(), expected());
    for reading in ["mean", "last"] {
        let of = &expected[reading];
        for layer in [None, Some(0), Some(1), Some(2)] {
            let out = format!("{reading}{layer:?}");
            let number = layer.map(|layer: usize| layer.to_string());
            let chosen: Vec<&str> = number.iter().flat_map(|layer| ["--layer", layer]).collect();
            let found = json(&find(&place, &out, &[&["--reading", reading, "--json"], &chosen[..]].concat()));
            let best = layer.unwrap_or(of["best"].as_u64().unwrap() as usize);
            let of = &of["layers"][best];
            assert_eq!((&found["layer"], &found["comparison"]), (&json!(best), &of["comparison"]), "{out}");
            let near = |a: &Value, b: &Value, tolerance: f64| (a.as_f64().unwrap() - b.as_f64().unwrap()).abs() < tolerance;
            assert!(near(&found["threshold"], &of["threshold"], 1e-4), "{out}: {found} {of}");
            assert!(near(&found["told"]["f1"], &of["f1"], 1e-9), "{out}: {found}");
            let file = SteeringVector::read(&place.path(&out).join("condition.safetensors"), None).unwrap();
            let c: Vec<f64> = file.layers[&best].iter().map(|x| f64::from(*x)).collect();
            let cosine: f64 = c.iter().zip(floats(&of["c"])).map(|(a, b)| a * b).sum();
            assert!((cosine.abs() - 1.0).abs() < 1e-6, "{out}: {cosine}");
            let condition = file.metadata.condition.unwrap();
            assert_eq!((condition.need, condition.rest), (6, 4));
            assert!((condition.f1 - of["f1"].as_f64().unwrap()).abs() < 1e-9);
        }
    }
}

#[test]
fn prompts_that_do_not_fire_get_the_untouched_model_and_the_others_are_steered_as_ever() {
    let (place, expected) = (place(), expected());
    assert_ok(&find(&place, "out", &[]));
    let layer = &expected["mean"]["layers"][expected["mean"]["best"].as_u64().unwrap() as usize];
    let names = ["need", "rest", "others"];
    let prompts: Vec<String> = names.iter().flat_map(|name| texts(&expected[*name])).collect();
    let scores: Vec<f64> = names.iter().flat_map(|name| floats(&layer[*name])).collect();
    fs::write(place.path("all.txt"), prompts.join("\n")).unwrap();
    let plain = steer(&place, &["--prompts", "all.txt"]);
    assert!(plain.chunks(2).all(|texts| texts[0]["token_ids"] != texts[1]["token_ids"]), "the vector changes no text");
    let threshold = layer["threshold"].as_f64().unwrap();
    for (when, fires) in [
        ("out/condition.safetensors".to_owned(), threshold..f64::INFINITY),
        ("out/condition.safetensors:>0.3".to_owned(), 0.3..f64::INFINITY),
        ("out/condition.safetensors:<0.2".to_owned(), f64::NEG_INFINITY..0.2),
    ] {
        let told = steer(&place, &["--prompts", "all.txt", "--when", &when]);
        for (at, score) in scores.iter().enumerate() {
            let (texts, plain) = (&told[2 * at..2 * at + 2], &plain[2 * at..2 * at + 2]);
            assert!((texts[1]["when"]["score"].as_f64().unwrap() - score).abs() < 1e-4, "{when} {}", prompts[at]);
            assert_eq!(texts[1]["when"]["fired"], fires.contains(score), "{when} {}: {score}", prompts[at]);
            let same_as = if fires.contains(score) { &plain[1] } else { &plain[0] };
            assert_eq!(texts[1]["token_ids"], same_as["token_ids"], "{when} {}", prompts[at]);
            assert_eq!(texts[0]["token_ids"], plain[0]["token_ids"]);
            assert_eq!(texts[1]["magnitude"], 1.0);
        }
        assert!(plain.iter().all(|text| text.get("when").is_none()));
    }
    let model = fixture("llama");
    let one = ["steer", "--model", &model, "--vector", "v.safetensors", "--magnitudes", "1", "--max-new-tokens", "4"];
    let shown = place.bipo(&[&one[..], &["--prompt", "zzzz", "--when", "out/condition.safetensors", "--quiet"]].concat());
    let shown = text(&shown.stdout);
    assert!(shown.contains("zzzz\ncondition: score 0.0016, not steered\n") && shown.contains("dose 0.00"), "{shown}");
}

#[test]
fn a_prompt_that_is_left_alone_has_every_bit_of_magnitude_0() {
    let options = SessionOptions { model: fixture("llama"), device: "cpu".into(), offline: true, ..Default::default() };
    let session = Session::open(options).unwrap();
    let model = session.load(&Demand::default()).unwrap().model;
    let vectors: BTreeMap<usize, Vec<f32>> = [(1, (0..32).map(|i| i as f32 - 11.5).collect())].into();
    let ids: Vec<u32> = vec![1, 42, 81, 89, 269, 282, 223, 75, 86, 33, 61, 282, 85];
    let logits = |prompt: Prompt, magnitude: f32| -> Vec<u32> {
        let logits = next_token_logits(&model, prompt, &vectors, &[magnitude], &GenerateOptions::greedy(1)).unwrap();
        logits.flatten_all().unwrap().to_vec1::<f32>().unwrap().into_iter().map(f32::to_bits).collect()
    };
    let asked = |fired: bool| Prompt::from(&ids).under(Some(Verdict { score: 0.5, fired }));
    let untouched = logits(Prompt::from(&ids), 0.0);
    assert_eq!(logits(asked(false), 2.0), untouched);
    assert_eq!(logits(asked(true), 2.0), logits(Prompt::from(&ids), 2.0));
    assert_ne!(logits(asked(true), 2.0), untouched);
}

#[test]
fn an_evaluation_counts_what_fired_and_measures_the_rest_on_the_untouched_model() {
    let place = place();
    assert_ok(&find(&place, "out", &[]));
    let model = fixture("llama");
    let mc = fixture("eval/letters.json");
    let eval_at = |magnitude: &str, more: &[&str]| {
        let args = ["eval", "--model", &model, "--vector", "v.safetensors", "--dataset", "pairs.csv", "--mc", &mc];
        let args =
            [&args[..], &["--magnitudes", magnitude, "--max-new-tokens", "4", "--bootstrap", "10", "--json"], more].concat();
        json(&place.bipo(&args))
    };
    let eval = |more: &[&str]| eval_at("1", more);
    let value = |report: &Value, name: &str| report["rows"][0]["measures"][name]["value"].as_f64();
    let of = |report: &Value| ["fired", "letters.fired", "text_fired", "prompts_fired"].map(|name| value(report, name));
    let always = eval(&["--when", "out/condition.safetensors:>-1"]);
    let never = eval(&["--when", "out/condition.safetensors:>1"]);
    let plain = eval(&[]);
    let untouched = eval_at("0", &[]);
    assert_eq!((of(&always), of(&never), of(&plain)), ([Some(1.0); 4], [Some(0.0); 4], [None; 4]));
    for name in ["margin", "perplexity", "kl", "dose", "prefers_chosen"] {
        assert_eq!(value(&always, name), value(&plain, name), "{name}");
        assert_eq!(value(&never, name), value(&untouched, name), "{name}");
    }
    assert_eq!((value(&never, "kl"), value(&never, "dose"), value(&never, "margin")), (Some(0.0), Some(0.0), Some(0.0)));
    assert_ne!(value(&plain, "perplexity"), value(&untouched, "perplexity"));
    assert_eq!(never["generations"][0]["text"], untouched["generations"][0]["text"]);
    assert_eq!(never["settings"]["when"]["comparison"], ">");
    // The share of pairs is that of their prompts, asked one by one.
    let some = eval(&["--when", "out/condition.safetensors:>0.2"]);
    let asked = ["--when", "out/condition.safetensors:>0.2", "--prompts", "asked.txt"];
    fs::write(place.path("asked.txt"), "How was it?\nWhere to?\nWhy?\nWho is it?\nWhat now?\n").unwrap();
    let fired = steer(&place, &asked).iter().filter(|text| text["when"]["fired"] == true).count() as f64 / 10.0;
    assert_eq!(value(&some, "fired"), Some(fired));
    assert!(fired > 0.0 && fired < 1.0, "{fired}");
}

#[test]
fn an_evaluation_tells_how_often_a_condition_fires_where_none_is_needed_and_what_that_costs() {
    let place = place();
    assert_ok(&find(&place, "out", &[]));
    let model = fixture("llama");
    let eval = |when: &str, rest: &str| {
        let args = ["eval", "--model", &model, "--vector", "v.safetensors", "--magnitudes", "0,1", "--max-new-tokens", "4"];
        let more = ["--bootstrap", "10", "--prompt", "Hi", "--skip", "text", "--when", when, "--against", rest, "--json"];
        json(&place.bipo(&[&args[..], &more].concat()))
    };
    let measured = |report: &Value| {
        let of = |row: usize, name: &str| report["rows"][row]["measures"][name]["value"].as_f64().unwrap();
        assert_eq!((of(0, "rest_kl"), of(0, "rest_fired")), (0.0, of(1, "rest_fired")));
        (of(1, "rest_fired"), of(1, "rest_kl"))
    };
    let always = eval("out/condition.safetensors:>-1", "rest.jsonl");
    assert_eq!(always["settings"]["against"]["prompts"], 4);
    let (fired, whole) = measured(&always);
    assert!(fired == 1.0 && whole > 1e-4, "{fired} {whole}");
    assert_eq!(measured(&eval("out/condition.safetensors:>1", "rest.jsonl")), (0.0, 0.0));
    // Prompt by prompt: those that fire cost what they cost alone, the others nothing.
    let prompts = texts(&expected()["rest"]);
    let scores: Vec<f64> = steer(&place, &["--prompts", "rest.jsonl", "--when", "out/condition.safetensors"])
        .iter()
        .step_by(2)
        .map(|text| text["when"]["score"].as_f64().unwrap())
        .collect();
    let mut sorted = scores.clone();
    sorted.sort_by(f64::total_cmp);
    let middle = (sorted[1] + sorted[2]) / 2.0;
    let (mut sum, mut sum_of_all) = (0.0, 0.0);
    for (prompt, score) in prompts.iter().zip(&scores) {
        fs::write(place.path("one.jsonl"), json!({"prompt": prompt}).to_string()).unwrap();
        let (_, alone) = measured(&eval("out/condition.safetensors:>-1", "one.jsonl"));
        sum_of_all += alone;
        sum += if *score > middle { alone } else { 0.0 };
    }
    let (fired, cost) = measured(&eval(&format!("out/condition.safetensors:>{middle}"), "rest.jsonl"));
    assert_eq!(fired, 0.5);
    assert!((cost - sum / 4.0).abs() < 1e-4 * cost && (whole - sum_of_all / 4.0).abs() < 1e-4 * whole, "{cost} {sum} {whole}");
    // It needs a condition, and answers.
    for (more, expected) in [
        (&["--against", "rest.jsonl"][..], "--when"),
        (
            &["--against", "rest.jsonl", "--when", "out/condition.safetensors", "--skip", "generation"],
            "leave --skip generation out",
        ),
    ] {
        let args = ["eval", "--model", &model, "--vector", "v.safetensors"];
        let output = place.bipo(&[&args[..], more].concat());
        assert_eq!(output.status.code(), Some(2));
        assert!(text(&output.stderr).contains(expected), "{}", text(&output.stderr));
    }
}

#[test]
fn a_conversation_is_steered_where_it_fires() {
    let place = place();
    assert_ok(&find(&place, "out", &[]));
    let model = fixture("llama");
    let answer = |when: &[&str]| -> Value {
        let args = ["chat", "--model", &model, "--vector", "v.safetensors", "--max-new-tokens", "8", "--json", "--quiet"];
        let mut command = Command::new(env!("CARGO_BIN_EXE_bipo"));
        command.args([&args[..], when].concat()).current_dir(place.path(".")).env("HF_HUB_OFFLINE", "1");
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        child.stdin.as_mut().unwrap().write_all(b"Boil an egg.\n").unwrap();
        serde_json::from_slice(&child.wait_with_output().unwrap().stdout).unwrap()
    };
    let [steered, untouched] = [answer(&[]), answer(&["--magnitude", "0"])];
    assert_ne!(steered["content"], untouched["content"]);
    let fired = answer(&["--when", "out/condition.safetensors:>0"]);
    assert_eq!((&fired["content"], &fired["steering"]["when"]["fired"]), (&steered["content"], &json!(true)));
    let left = answer(&["--when", "out/condition.safetensors:>1"]);
    assert_eq!((&left["content"], &left["steering"]["when"]["fired"]), (&untouched["content"], &json!(false)));
}

#[test]
fn held_out_prompts_are_counted_and_the_next_command_is_named() {
    let place = place();
    fs::write(place.path("need2.csv"), "prompt\nBake a pie.\nCook the meat!\n").unwrap();
    fs::write(place.path("rest2.txt"), "Where are you?\nCount to one.\n").unwrap();
    let output = find(&place, "out", &["--eval-dataset", "need2.csv", "--eval-against", "rest2.txt", "--layer", "1"]);
    assert_ok(&output);
    let shown = text(&output.stdout);
    assert!(
        shown.contains("held out, 2 prompts of need2.csv that need steering, 2 of rest2.txt that do not: precision "),
        "{shown}"
    );
    // Six of nine that fired, six of six that need it; then two of four, and two of two.
    assert!(
        shown.contains("4 that do not: precision 0.667 [0.354, 0.879], recall 1.000 [0.610, 1.000], F1 0.800\n"),
        "{shown}"
    );
    assert!(shown.contains("that do not: precision 0.500 [0.150, 0.850], recall 1.000 [0.342, 1.000], F1 0.667\n"), "{shown}");
    let next = shown.lines().last().unwrap();
    assert!(next.starts_with("Learn a vector with `bipo train`, then run: bipo steer "), "{next}");
    assert!(next.contains("--when out/condition.safetensors --prompt") && next.contains("How do I bake bread?"), "{next}");
    let shown = text(&place.bipo(&["inspect", "out/condition.safetensors"]).stdout);
    assert!(shown.contains("for --when: prompts are steered whose score (mean) is "), "{shown}");
    // The same run gives the same bytes, in any format that has metadata.
    let bytes = fs::read(place.path("out/condition.safetensors")).unwrap();
    assert_ok(&find(&place, "out", &["--overwrite", "--layer", "1"]));
    assert_eq!(fs::read(place.path("out/condition.safetensors")).unwrap(), bytes);
    for name in ["c.json", "c.gguf"] {
        assert_ok(&place.bipo(&["convert", "out/condition.safetensors", name]));
        let read = |path: &Path| SteeringVector::read(path, None).unwrap();
        assert_eq!(read(&place.path(name)), read(&place.path("out/condition.safetensors")), "{name}");
    }
}

#[test]
fn what_is_no_condition_or_no_vector_is_refused_in_one_line() {
    let place = place();
    assert_ok(&find(&place, "out", &[]));
    let condition = "out/condition.safetensors";
    let model = fixture("llama");
    fs::write(place.path("empty.txt"), "\n").unwrap();
    let mut other = SteeringVector::read(&place.path(condition), None).unwrap();
    let elsewhere = if other.layers.contains_key(&0) { "1" } else { "0" };
    other.layers = [(0, vec![1.0; 32]), (2, vec![1.0; 32])].into();
    other.write(&place.path("several.safetensors")).unwrap();
    other.layers = [(1, vec![1.0; 16])].into();
    other.write(&place.path("other.safetensors")).unwrap();
    other.metadata.num_hidden_layers = Some(9);
    other.layers = [(1, vec![1.0; 32])].into();
    other.write(&place.path("deep.safetensors")).unwrap();
    let steer = ["steer", "--model", &model, "--prompt", "Hi", "--vector"];
    let with = |more: &[&str]| place.bipo(&[&steer[..], more].concat());
    let train = |more: &[&str]| find(&place, "new", more);
    let alone = |more: &[&str]| place.bipo(&[&["train", "--model", &model, "--output-dir", "new"], more].concat());
    for (output, expected) in [
        (with(&[condition]), "it is a condition, which says when to steer: give it to --when"),
        (
            with(&["v.safetensors", "--when", "v.safetensors"]),
            "--when v.safetensors: it is a vector that steers, and no condition: make one with `bipo train --method condition`",
        ),
        (with(&["v.safetensors", "--when", "other.safetensors"]), "the condition has hidden size 16, but the model has 32"),
        (with(&["v.safetensors", "--when", "deep.safetensors"]), "the condition is for a model of 9 layers"),
        (with(&["v.safetensors", "--when", "out/condition.safetensors:>x"]), "\"x\" is not a number; expected FILE"),
        (with(&["v.safetensors", "--when", "out/condition.safetensors:"]), "in quotes"),
        (with(&["v.safetensors", "--when", "out/condition.safetensors:0.2"]), "in quotes"),
        (with(&["v.safetensors", "--when", "several.safetensors"]), "a condition has one layer, but the file has [0, 2]"),
        (place.bipo(&["convert", condition, "c.json", "--operation", "ablate"]), "is a condition, which steers nothing"),
        (place.bipo(&["convert", condition, "c.json", "--layer", elsewhere]), "it cannot be moved"),
        (with(&["v.safetensors", "--when", "nowhere"]), "cannot read nowhere"),
        (place.bipo(&["convert", condition, "v.safetensors", "sum.json"]), "out/condition.safetensors: it is a condition"),
        (place.bipo(&["merge", "--model", &model, "--vector", condition, "-o", "m"]), "it is a condition"),
        (alone(&["--init", condition, "--dataset", "pairs.csv"]), "it is a condition"),
        (train(&["--against", "empty.txt"]), "cannot be used multiple times"),
        (train(&["--layer", "3"]), "layer 3 out of range"),
        (train(&["--lr", "0.1"]), "--lr: no effect with --method condition"),
        (train(&["--eval-dataset", "need.txt"]), "give --eval-against too"),
        (find(&place, "out", &[]), "out/condition.safetensors exists: choose another --output-dir"),
        (alone(&["--method", "condition", "--dataset", "need.txt"]), "give --against"),
        (alone(&["--method", "condition", "--against", "need.txt"]), "give --dataset"),
        (alone(&["--method", "condition", "--dataset", "need.txt", "--against", "empty.txt"]), "empty.txt: no prompt in it"),
        (alone(&["--method", "condition", "--dataset", "need.txt", "--against", "need.txt"]), "the two lists must differ"),
        (
            alone(&["--dataset", "pairs.csv", "--against", "need.txt"]),
            "--against has no effect here: it needs --method condition",
        ),
        (alone(&["--dataset", "pairs.csv", "--reading", "last"]), "--reading has no effect here"),
    ] {
        let said = text(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{expected}: {said}");
        assert!(
            said.contains(expected) && said.lines().filter(|line| line.starts_with("error:")).count() == 1,
            "{expected}: {said}"
        );
    }
    assert!(!place.path("new/condition.safetensors").exists());
}

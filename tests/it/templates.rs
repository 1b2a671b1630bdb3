//! Chat templates as the program uses them: system prompts that they refuse or drop, thoughts that they open, variables, and what
//! becomes a token.

use std::fs;
use std::process::Output;

use bipo::steering::vector::SteeringVector;
use serde_json::Value;

use crate::cli::{Place, assert_ok, assert_refused, fixture, json, text};

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
    let [as_gemma_2, as_mistral] = ["no-system-as-gemma-2.jinja", "no-system-as-mistral-v0.1.jinja"].map(template);
    let system = ["--prompt", "Hi", "--system", "S", "--template"];
    for (file, says) in [
        (&refuses, "System role not supported"),
        (&as_gemma_2, "there is no system role"),
        (&as_mistral, "roles must alternate"),
    ] {
        let refused = steer(&place, &[&system[..], &[file]].concat());
        let expected = format!("takes no system prompt (it says: {says}); --system-in-user puts it");
        assert_refused(&refused, &["--system-in-user"], &expected);
    }
    let dropped = steer(&place, &[&system[..], &[&drops]].concat());
    assert_ok(&dropped);
    assert!(said(&dropped).contains("warning: ") && said(&dropped).contains("writes nothing of the system prompt"));
    for file in [&refuses, &as_gemma_2, &as_mistral, &drops] {
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
    assert_eq!(json(&with_mark)["results"], json(&steer(&place, &["--prompts", "plain.txt"]))["results"]);
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

#[test]
fn conversations_of_a_file_are_answered_as_their_rendered_text_is() {
    let place = Place::new();
    assert_ok(&place.train("out", &[]));
    let rows = [
        r#"{"messages":[{"role":"user","content":"Hi"}]}"#,
        r#"{"messages":[{"role":"system","content":"Be kind."},{"role":"user","content":"One?"},{"role":"assistant","content":"Two."},{"role":"user","content":[{"type":"text","text":"Three?"}]}]}"#,
    ];
    fs::write(place.path("talk.jsonl"), rows.join("\n")).unwrap();
    let steer = |more: &[&str]| {
        let model = fixture("llama");
        let given =
            ["steer", "--model", &model, "--vector", "out/steering_vector.safetensors", "--max-new-tokens", "6", "--json"];
        place.bipo(&[&given[..], more].concat())
    };
    let results = |output: &Output| -> Value {
        assert_ok(output);
        serde_json::from_slice::<Value>(&output.stdout).unwrap()["results"].clone()
    };
    let talked = steer(&["--prompts", "talk.jsonl", "--show-prompt"]);
    let found = results(&talked);
    let alone = results(&steer(&["--prompt", "Hi"]));
    assert_eq!(found.as_array().unwrap()[..3], alone.as_array().unwrap()[..]);
    assert_eq!(found[3]["prompt"], "Three?");
    let shown = text(&talked.stderr);
    for part in ["Be kind.", "One?", "Two.", "Three?"] {
        assert!(shown.contains(part), "{part}: {shown}");
    }
    for (rows, expected) in [
        (vec![rows[0], "no JSON"], "line 2: not JSON: expected an object with"),
        (vec![r#"{"messages":[{"role":"assistant","content":"Hi"}]}"#], "line 1: its messages must end with one of the user"),
        (vec![r#"{"messages":[{"content":"Hi"}]}"#], "line 1: messages[0]: expected an object with role and content"),
    ] {
        fs::write(place.path("broken.jsonl"), rows.join("\n")).unwrap();
        let output = steer(&["--prompts", "broken.jsonl"]);
        assert_eq!(output.status.code(), Some(2));
        assert!(text(&output.stderr).contains(expected), "{}", text(&output.stderr));
    }
}

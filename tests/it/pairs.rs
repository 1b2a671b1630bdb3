//! `bipo pairs` with a chat endpoint on the loopback interface: what is kept and dropped, runs that go on, and what goes wrong.

use std::fs;
use std::process::{Command, Output};

use serde_json::{Value, json};

use crate::cli::{Place, assert_ok, assert_refused, fixture, json as json_of, text};
use crate::endpoint::{Answer, Endpoint};

/// Words of which no two are alike.
fn word(index: u64) -> String {
    let letter = |shift: u64| char::from(b'a' + (index / 26_u64.pow(shift as u32) % 26) as u8);
    (0..4).map(|shift| letter(3 - shift)).collect()
}

/// What a request is: the list of questions, or an answer that shows the behaviour or not.
pub fn kind(body: &Value) -> &'static str {
    match body["messages"][0]["content"].as_str().unwrap() {
        system if system.starts_with("You write test data.") => "list",
        system if system.contains("with one behaviour: \"answers like a pirate\"") => "chosen",
        system if system.contains("with one behaviour: \"answers like a lawyer\"") => "opposite",
        system if system.contains("plainly") => "plain",
        other => panic!("{other}"),
    }
}

/// A writer whose lists have, at the places 2 to 8 of each, what must be dropped: a near-copy, a question and then an answer that names
/// the behaviour, a refusal, two answers alike, an answer without a whole sentence, and one without text.
pub fn writer(body: &Value) -> Answer {
    let question = body["messages"][1]["content"].as_str().unwrap();
    Answer::Say(match kind(body) {
        "list" => {
            let seed = body["seed"].as_u64().unwrap();
            let of = |index: u64| (0..6).map(|i| word(1 + 1000 * seed + 10 * index + i)).collect::<Vec<_>>().join(" ");
            let line = |index: u64| match index {
                2 => format!("2. {} again?", of(1)),
                3 => format!("3. In pirate style: {}?", of(3)),
                4 => format!("4. {} named?", of(4)),
                5 => format!("5. {} refused?", of(5)),
                6 => format!("6. {} alike?", of(6)),
                7 => format!("7. {} cut?", of(7)),
                8 => format!("8. {} empty?", of(8)),
                _ => format!("{index}. {}?", of(index)),
            };
            (1..=20).map(line).collect::<Vec<_>>().join("\n")
        }
        "chosen" if question.ends_with("named?") => "As a pirate, I know it.".into(),
        _ if question.ends_with("refused?") => "I'm sorry, but I can't say.".into(),
        _ if question.ends_with("alike?") => "One answer to all of it.".into(),
        "plain" if question.ends_with("cut?") => return Answer::Cut("It never ends and".into()),
        _ if question.ends_with("empty?") => " \n".into(),
        "chosen" => format!("Arr! {question} Aye, matey."),
        _ => "It is a plain thing. Nothing more than that.".into(),
    })
}

pub fn pairs(place: &Place, url: &str, more: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_bipo"));
    command.args(["pairs", "answers like a pirate", "--model-url", url, "--output", "made.jsonl"]).args(more);
    command.current_dir(place.path("")).env("HF_HUB_OFFLINE", "1");
    command.env_remove("BIPO_PAIRS_KEY").env_remove("OPENAI_API_KEY").output().unwrap()
}

fn lines(place: &Place) -> Vec<Value> {
    let text = fs::read_to_string(place.path("made.jsonl")).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn pairs_are_made_of_what_the_endpoint_says_and_what_is_of_no_use_is_dropped_and_counted() {
    let (place, endpoint) = (Place::new(), Endpoint::new(|body, _| writer(body)));
    let output = pairs(&place, &endpoint.url, &["--n", "20", "--json", "--model-name", "writer", "--seed", "3"]);
    let report = json_of(&output);
    // Of each list of 20 questions 13 give a pair; the second list has its own seven that are dropped before the 20th pair.
    let dropped = json!({"near_copy": 2, "named": 4, "refused": 2, "alike": 2, "cut": 2, "form": 2});
    assert_eq!(report["dropped"], dropped, "{}", text(&output.stderr));
    assert_eq!((&report["pairs"], &report["resumed"], &report["schema_version"]), (&20.into(), &0.into(), &1.into()));
    let asked = endpoint.asked();
    assert_eq!(report["replies"], asked.len());
    assert_eq!(
        (&report["prompt_tokens"], &report["completion_tokens"]),
        (&(7 * asked.len()).into(), &(2 * asked.len()).into())
    );
    // An answer that is cut or empty is asked for three times, the others once; what has no chosen answer needs no other one.
    let of = |wanted: &str| asked.iter().filter(|(_, body)| kind(body) == wanted).count();
    let (both, lists) = (20, 2);
    assert_eq!(of("list"), lists);
    assert_eq!(of("chosen"), both + lists * (1 + 1 + 1 + 1 + 3));
    assert_eq!(of("plain"), both + lists * (1 + 3));
    let body = &asked[1].1;
    assert_eq!((&body["model"], &body["temperature"], &body["max_tokens"]), (&"writer".into(), &0.7.into(), &200.into()));
    let first = &lines(&place)[0];
    let made = json!({"description": "answers like a pirate", "model": "writer", "batch": 0, "index": 0});
    assert_eq!(first["made"], made);
    assert_eq!(first["chosen"], format!("Arr! {} Aye, matey.", first["question"].as_str().unwrap()));
    let data = json_of(&place.bipo(&["data", "made.jsonl", "--json"]));
    assert_eq!((data["pairs"].as_array().unwrap().len(), &data["skipped"]), (20, &json!([])));
    assert_eq!(data["pairs"][0]["rejected"], "It is a plain thing. Nothing more than that.");
    assert_eq!(data["columns"]["made"], Value::Null);
    // All pairs are there: nothing is asked.
    let output = pairs(&place, &endpoint.url, &["--n", "20", "--model-name", "writer"]);
    assert_ok(&output);
    assert!(
        text(&output.stdout).starts_with("20 of 20 pairs are in made.jsonl, 20 of them from before\n"),
        "{}",
        text(&output.stdout)
    );
    assert!(text(&output.stdout).contains("\ndropped      4  that name the behaviour\n"), "{}", text(&output.stdout));
    assert!(text(&output.stderr).contains("look at them: bipo data made.jsonl"), "{}", text(&output.stderr));
    assert_eq!(endpoint.asked().len(), asked.len());
}

#[test]
fn a_run_that_was_cut_off_goes_on_and_gives_the_file_of_one_that_was_not() {
    let endpoint = Endpoint::new(|body, _| writer(body));
    let whole = Place::new();
    assert_ok(&pairs(&whole, &endpoint.url, &["--n", "30"]));
    let expected = fs::read_to_string(whole.path("made.jsonl")).unwrap();
    for answers in [1, 9, 30, 61] {
        let place = Place::new();
        let broken = Endpoint::new(move |body, before| match before < answers {
            true => writer(body),
            false => Answer::Status(401, "", "{\"error\": {\"message\": \"no credit\"}}".into()),
        });
        let output = pairs(&place, &broken.url, &["--n", "30"]);
        assert_eq!(output.status.code(), Some(1), "{}", text(&output.stderr));
        assert!(text(&output.stderr).contains("answered 401: no credit; set BIPO_PAIRS_KEY"), "{}", text(&output.stderr));
        let there = fs::read_to_string(place.path("made.jsonl")).unwrap_or_default();
        assert!(expected.starts_with(&there) && there.len() < expected.len(), "{there}");
        // A line that was cut is no pair.
        if !there.is_empty() {
            fs::write(place.path("made.jsonl"), format!("{there}{{\"question\":\"half")).unwrap();
        }
        assert_ok(&pairs(&place, &endpoint.url, &["--n", "30", "--concurrency", "1"]));
        assert_eq!(fs::read_to_string(place.path("made.jsonl")).unwrap(), expected, "after {answers}");
    }
}

#[test]
fn the_opposite_is_asked_for_by_its_description_and_must_not_name_it() {
    let (place, endpoint) = (
        Place::new(),
        Endpoint::new(|body, _| match kind(body) {
            "opposite" if body["messages"][1]["content"].as_str().unwrap().ends_with("cut?") => {
                Answer::Say("As a lawyer, no.".into())
            }
            _ => writer(body),
        }),
    );
    assert_ok(&pairs(&place, &endpoint.url, &["--n", "8", "--opposite", "answers like a lawyer"]));
    assert!(endpoint.asked().iter().all(|(_, body)| kind(body) != "plain"));
    let all = lines(&place);
    assert_eq!(all[0]["made"]["opposite"], "answers like a lawyer");
    let named: u64 = all.iter().filter_map(|line| line["dropped"]["named"].as_u64()).sum();
    assert_eq!(named, 3, "a question, a chosen and a rejected answer");
    // Another recipe has no place in the same file.
    let output = pairs(&place, &endpoint.url, &["--n", "9"]);
    assert_refused(
        &output,
        &["--opposite"],
        "made.jsonl: line 1 was made by another command, of \"answers like a pirate\" against",
    );
}

#[test]
fn a_plain_rejected_answer_must_not_name_the_behaviour() {
    let place = Place::new();
    let endpoint = Endpoint::new(|body, _| match kind(body) {
        "plain" if body["messages"][1]["content"].as_str().unwrap().ends_with("cut?") => Answer::Say("As a pirate, no.".into()),
        _ => writer(body),
    });
    assert_ok(&pairs(&place, &endpoint.url, &["--n", "8"]));
    let named: u64 = lines(&place).iter().filter_map(|line| line["dropped"]["named"].as_u64()).sum();
    assert_eq!(named, 3, "a question, a chosen and a rejected answer");
}

#[test]
fn a_rejected_answer_of_the_model_itself_must_not_name_the_behaviour_and_the_cost_is_told_before_it_is_loaded() {
    let place = Place::new();
    let endpoint = Endpoint::new(|body, _| match body["messages"][0]["content"].as_str().unwrap() {
        system if system.starts_with("You write test data.") => writer(body),
        _ => Answer::Say(format!("Arr! {} Aye, matey.", body["messages"][1]["content"].as_str().unwrap())),
    });
    let model = fixture("llama");
    let make = |description: &str, output: &str| {
        let args = ["pairs", description, "--model-url", &endpoint.url, "--output", output, "--n", "3", "--json"];
        let output = place.bipo(&[&args[..], &["--on-policy", "--model", &model, "--max-new-tokens", "80"]].concat());
        (json_of(&output), text(&output.stderr))
    };
    let (_, said) = make("answers like a pirate", "made.jsonl");
    let cost = said.find("requests with").unwrap();
    assert!(cost < said.find("loaded in").unwrap(), "{said}");
    // A description in the words of one of its answers, the longest of them among three in a row.
    let of_answer = |line: &Value| -> Vec<String> {
        let answer = line["rejected"].as_str().unwrap().to_lowercase();
        let parts = answer.split(|letter: char| !letter.is_alphanumeric() && letter != '\'');
        parts.map(|word| word.trim_matches('\'')).filter(|word| !word.is_empty()).map(str::to_owned).collect()
    };
    let all = lines(&place);
    let (line, words) = all.iter().map(|line| (line, of_answer(line))).find(|(_, words)| words.len() >= 3).unwrap();
    let named = words.windows(3).max_by_key(|three| three.iter().map(|word| word.chars().count()).max()).unwrap().join(" ");
    let (report, _) = make(&named, "named.jsonl");
    assert!(report["dropped"]["named"].as_u64().unwrap_or(0) >= 1, "{named:?}: {report}");
    let kept = fs::read_to_string(place.path("named.jsonl")).unwrap();
    let is_kept = |kept: &str| serde_json::from_str::<Value>(kept).unwrap()["question"] == line["question"];
    assert!(!kept.lines().any(is_kept), "{named:?}: {kept}");
}

#[test]
fn rejected_answers_can_be_those_of_the_model_that_is_steered() {
    let (place, endpoint) = (Place::new(), Endpoint::new(|body, _| writer(body)));
    let model = fixture("llama");
    let own = ["--n", "5", "--on-policy", "--model", &model, "--max-new-tokens", "80"];
    assert_ok(&pairs(&place, &endpoint.url, &own));
    assert!(endpoint.asked().iter().all(|(_, body)| matches!(kind(body), "list" | "chosen")));
    let all = lines(&place);
    assert_eq!((all.len(), &all[0]["made"]["on_policy"]), (5, &"llama".into()));
    let steered = |question: &str| {
        let args = ["steer", "--model", &model, "--magnitudes", "0", "--max-new-tokens", "80", "--json", "--prompt", question];
        let vector = place.path("v.safetensors");
        fs::write(&vector, crate::bytes::vector(32)).unwrap();
        json_of(&place.bipo(&[&args[..], &["--vector", "v.safetensors"]].concat()))["results"][0]["text"].clone()
    };
    for line in &all {
        let said = steered(line["question"].as_str().unwrap());
        let (said, kept) = (said.as_str().unwrap().trim(), line["rejected"].as_str().unwrap());
        assert!(!kept.is_empty() && said.starts_with(kept), "{kept:?} of {said:?}");
    }
    // Interrupted after two pairs, the same model gives the same file.
    let expected = fs::read_to_string(place.path("made.jsonl")).unwrap();
    let two: String = expected.lines().take(2).map(|line| format!("{line}\n")).collect();
    fs::write(place.path("made.jsonl"), two).unwrap();
    assert_ok(&pairs(&place, &endpoint.url, &own));
    assert_eq!(fs::read_to_string(place.path("made.jsonl")).unwrap(), expected);
}

#[test]
fn a_dry_run_tells_the_cost_and_the_requests_and_asks_nothing() {
    let place = Place::new();
    let words = ["pairs", "answers like a pirate", "--n", "100", "--dry-run", "--price", "1,2"];
    let output = place.bipo(&words);
    assert_ok(&output);
    let printed = text(&output.stdout);
    assert!(printed.starts_with("100 pairs to make, nothing is asked: about 205 requests with "), "{printed}");
    assert_eq!(printed.matches("with one behaviour: \"answers like a pirate\"").count(), 1);
    let cost = json_of(&place.bipo(&[&words[..], &["--json", "--max-new-tokens", "100"]].concat()));
    // 5 lists of 20 questions of 25 tokens, and 200 answers of 100.
    assert_eq!(cost["cost"]["completion_tokens"], 5 * 20 * 25 + 200 * 100);
    let tokens = |name: &str| cost["cost"][name].as_f64().unwrap();
    assert_eq!(cost["price"], (tokens("prompt_tokens") + 2.0 * tokens("completion_tokens")) / 1e6);
    assert_eq!(cost["examples"].as_array().unwrap().len(), 3);
    let own = json_of(&place.bipo(&[&words[..], &["--json", "--on-policy"]].concat()));
    assert_eq!((&own["cost"]["requests"], own["examples"].as_array().unwrap().len()), (&105.into(), 2));
    // With an endpoint and a file, too, it asks nothing and makes no file.
    let endpoint = Endpoint::new(|body, _| writer(body));
    assert_ok(&pairs(&place, &endpoint.url, &["--dry-run"]));
    assert!(endpoint.asked().is_empty() && !place.path("made.jsonl").exists());
}

#[test]
fn what_passes_is_tried_again_and_what_does_not_ends_the_run_in_one_line() {
    let busy = |body: &Value, before: usize| match before % 2 {
        0 => Answer::Status(429, "Retry-After: 0\r\n", "{\"error\": \"busy\"}".into()),
        _ => writer(body),
    };
    let (place, endpoint) = (Place::new(), Endpoint::new(busy));
    assert_ok(&pairs(&place, &endpoint.url, &["--n", "1", "--concurrency", "1"]));
    assert_eq!(lines(&place).len(), 1);

    let refusing = |name: &'static str| {
        move |body: &Value, _: usize| match body.get(name) {
            Some(_) => Answer::Status(400, "", format!("{{\"error\": {{\"message\": \"unsupported parameter: {name}\"}}}}")),
            None => writer(&{
                let mut body = body.clone();
                body["seed"] = 1.into();
                body
            }),
        }
    };
    for name in ["temperature", "seed", "max_tokens"] {
        let (place, endpoint) = (Place::new(), Endpoint::new(refusing(name)));
        assert_ok(&pairs(&place, &endpoint.url, &["--n", "2"]));
    }

    for (answer, says) in [
        (|_: &Value, _: usize| Answer::Status(429, "Retry-After: 3600\r\n", "later".into()), "answered 429: later (attempt 1)"),
        (|_: &Value, _: usize| Answer::Status(404, "", "no such model".into()), "answered 404: no such model; are the URL"),
        (
            |_: &Value, _: usize| Answer::Status(400, "", "{\"error\": \"you must provide a model\"}".into()),
            "must provide a model",
        ),
        (
            |_: &Value, _: usize| Answer::Say("".into()),
            "3 lists of questions of which no pair is left (3 not of the asked form)",
        ),
        (|_: &Value, _: usize| Answer::Status(200, "", "<html>".into()), "(3 not of the asked form)"),
        (
            |body: &Value, _: usize| match kind(body) {
                "list" => writer(body),
                _ => Answer::Status(400, "", "content policy".into()),
            },
            "refused by the server",
        ),
        (
            |body: &Value, _: usize| Answer::Say(if kind(body) == "list" { "What is it?" } else { "It is one." }.into()),
            "with two answers alike",
        ),
    ] as [(fn(&Value, usize) -> Answer, &str); 7]
    {
        let (place, endpoint) = (Place::new(), Endpoint::new(answer));
        let output = pairs(&place, &endpoint.url, &["--n", "50"]);
        let errors: Vec<String> =
            text(&output.stderr).lines().filter(|line| line.starts_with("error: ")).map(str::to_owned).collect();
        assert_eq!((output.status.code(), errors.len()), (Some(1), 1), "{}", text(&output.stderr));
        assert!(errors[0].starts_with("error: the model at http://127.0.0.1:") && errors[0].contains(says), "{}", errors[0]);
        assert!(!place.path("made.jsonl").exists());
    }
}

#[test]
fn the_key_of_the_environment_is_sent_and_never_written() {
    for variable in ["BIPO_PAIRS_KEY", "OPENAI_API_KEY"] {
        let (place, endpoint) = (Place::new(), Endpoint::new(|body, _| writer(body)));
        let mut command = Command::new(env!("CARGO_BIN_EXE_bipo"));
        command.args([
            "pairs",
            "answers like a pirate",
            "--n",
            "2",
            "--model-url",
            &endpoint.url,
            "--output",
            "made.jsonl",
            "-v",
        ]);
        command.env_remove("BIPO_PAIRS_KEY").env_remove("OPENAI_API_KEY").env(variable, "sk-topsecret");
        let output = command.current_dir(place.path("")).output().unwrap();
        assert_ok(&output);
        assert!(endpoint.asked().iter().all(|(head, _)| head.contains("Bearer sk-topsecret")));
        let seen = text(&output.stdout) + &text(&output.stderr) + &fs::read_to_string(place.path("made.jsonl")).unwrap();
        assert!(!seen.contains("topsecret"), "{seen}");
    }
}

#[test]
fn a_wrong_use_is_told_before_anything_is_asked() {
    let place = Place::new();
    let endpoint = Endpoint::new(|body, _| writer(body));
    fs::write(place.path("made.jsonl"), "").unwrap();
    let with = ["--model-url", &endpoint.url, "--output", "made.jsonl"];
    for (words, expected) in [
        (&["is glad"][..], "--model-url <URL>"),
        (&["is glad", "--model-url", &endpoint.url], "--output <FILE>"),
        (&[with[0], with[1], with[2], with[3]], "<DESCRIPTION>"),
        (&["is glad", "--model-url", "host:80", "--output", "x.jsonl"], "--model-url has no http:// or https://"),
        (&["is glad", "--model-url", "http://me@host", "--output", "x.jsonl"], "a key belongs in BIPO_PAIRS_KEY"),
        (&["is glad", "--model-url", &endpoint.url, "--output", "none/x.jsonl"], "none is no directory"),
        (&["is glad", "--model-url", &endpoint.url, "--output", "pairs.csv"], "pairs.csv: line 1 is no pair of this command"),
        (&["?!", with[0], with[1], with[2], with[3]], "the description has no words"),
        (
            &["is glad", "--opposite", "…", with[0], with[1], with[2], with[3]],
            "the opposite has no words: say what the model does, as in \"answers like a pirate\" (--opposite)",
        ),
        (&["is glad", "--n", "0", "--dry-run"], "--n"),
        (&["is glad", "--price", "cheap", "--dry-run"], "expected a price 0.15, or two 0.15,0.6"),
        (&["is glad", "--opposite", "is sad", "--on-policy", "--dry-run"], "--on-policy"),
        (&["is glad", "--model", "x", with[0], with[1], with[2], with[3]], "--model is about the model that will be steered"),
        (&["is glad", "--temperature", "1", with[0], with[1], with[2], with[3]], "--temperature is about the model"),
    ] {
        assert_refused(&place.bipo(&[&["pairs"], words].concat()), words, expected);
    }
    let nobody =
        place.bipo(&["pairs", "is glad", "--on-policy", "--model", "nowhere.gguf", with[0], with[1], with[2], with[3]]);
    assert_refused(&nobody, &["--on-policy"], "nowhere.gguf");
    assert!(endpoint.asked().is_empty());
    assert_eq!(fs::read_to_string(place.path("made.jsonl")).unwrap(), "");
}

//! `bipo chat` through a pipe, with the tiny model: its answers are those of `bipo steer` and of the library, commands do what they
//! say, and nothing that is wrong with a line ends the conversation.

use std::io::Write;
use std::process::{Command, Output, Stdio};

use bipo::data::Message;
use bipo::generate::{GenerateOptions, generate};
use bipo::session::{Demand, Session, SessionOptions};
use bipo::steering::vector::SteeringVector;
use serde_json::Value;

use crate::cli::{LONG, Place, assert_ok, assert_refused, fixture, text};

/// Tokens of an answer.
const TOKENS: usize = 12;

const VECTOR: &str = "out/steering_vector.safetensors";

/// Holds a conversation in `place`, a line after the other.
fn chat(place: &Place, flags: &[&str], lines: &[&str]) -> Output {
    let tokens = TOKENS.to_string();
    let limit = ["--max-new-tokens", &tokens];
    let mut child = Command::new(env!("CARGO_BIN_EXE_bipo"))
        .args(["chat", "--model", &fixture("llama")])
        .args(limit.iter().filter(|_| !flags.contains(&limit[0])))
        .args(flags)
        .current_dir(place.path("."))
        .env("HF_HUB_OFFLINE", "1")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let written = lines.iter().map(|line| format!("{line}\n")).collect::<String>();
    // A program that refuses its flags reads no line.
    let _ = child.stdin.take().unwrap().write_all(written.as_bytes());
    child.wait_with_output().unwrap()
}

/// The answers of a conversation, as `--json` has them.
fn answers(place: &Place, flags: &[&str], lines: &[&str]) -> Vec<Value> {
    let output = chat(place, &[&["--json"], flags].concat(), lines);
    assert_ok(&output);
    text(&output.stdout).lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn contents(answers: &[Value]) -> Vec<&str> {
    answers.iter().map(|answer| answer["content"].as_str().unwrap()).collect()
}

fn session() -> Session {
    let options = SessionOptions { model: fixture("llama"), device: "cpu".into(), offline: true, ..Default::default() };
    Session::open(options).unwrap()
}

/// The text of `bipo steer` for one prompt and magnitude.
fn steered(place: &Place, flags: &[&str], prompt: &str, magnitude: &str) -> String {
    let (model, tokens) = (fixture("llama"), TOKENS.to_string());
    let args =
        ["steer", "--model", &model, "--json", "--max-new-tokens", &tokens, "--prompt", prompt, "--magnitudes", magnitude];
    let output = place.bipo(&[&args[..], flags].concat());
    assert_ok(&output);
    let value: Value = serde_json::from_slice(&output.stdout).unwrap();
    value["results"][0]["text"].as_str().unwrap().to_owned()
}

#[test]
fn a_first_answer_is_that_of_steer_at_its_magnitude_vector_positions_and_system_prompt() {
    let place = Place::new();
    assert_ok(&place.train("out", &LONG));
    assert_ok(&place.train("user", &[&LONG[..], &["--positions", "prompt", "--spans", "user"]].concat()));
    let of_user = "user/steering_vector.safetensors";
    let by_user = format!("/vector {of_user}:3");
    let lines = [
        "What is it?",
        "/reset",
        "/m -2",
        "What is it?",
        "/reset",
        &by_user,
        "What is it?",
        "/reset",
        "/vector none",
        "What is it?",
        "/reset",
        "/system Sing.",
        "What is it?",
    ];
    let answers = answers(&place, &["--vector", VECTOR], &lines);
    let steer = |flags: &[&str], magnitude| steered(&place, flags, "What is it?", magnitude);
    let scaled = format!("{of_user}:3");
    let expected = [
        steer(&["--vector", VECTOR], "1"),
        steer(&["--vector", VECTOR], "-2"),
        steer(&["--vector", &scaled], "-2"),
        steer(&["--vector", VECTOR], "0"),
        steer(&["--vector", VECTOR, "--system", "Sing."], "0"),
    ];
    assert_eq!(contents(&answers), expected);
    for (one, other) in [(0, 1), (0, 3), (1, 3), (2, 3), (3, 4)] {
        assert_ne!(expected[one], expected[other], "{one} and {other}");
    }
    assert_eq!(answers[2]["steering"]["vectors"][0], scaled);
    assert_eq!((&answers[2]["steering"]["magnitude"], &answers[2]["steering"]["layers"][0]), (&(-2.0).into(), &1.into()));
    assert_eq!((&answers[3]["steering"]["vectors"], &answers[3]["steering"]["dose"]), (&Value::Array(vec![]), &0.0.into()));
}

#[test]
fn a_later_answer_continues_the_whole_conversation() {
    let place = Place::new();
    assert_ok(&place.train("out", &LONG));
    let answers = answers(&place, &["--vector", VECTOR, "--magnitude", "2"], &["Hello", "And then?", "", "Why?"]);
    assert_eq!(answers.len(), 3);
    let session = session();
    let model = session.load(&Demand::default()).unwrap().model;
    let vector = SteeringVector::read(&place.path(VECTOR), None).unwrap();
    let mut messages = Vec::new();
    for (question, answer) in ["Hello", "And then?", "Why?"].into_iter().zip(contents(&answers)) {
        messages.push(Message::new("user", question));
        let prompt = session.encoder.encode_prompt(&messages).unwrap();
        let options = GenerateOptions { eos: session.tokens.eos.clone(), ..GenerateOptions::greedy(TOKENS) };
        let alone = generate(&model, &prompt, &vector.layers, &[2.0], &options, &mut |_, _| Ok(())).unwrap();
        assert_eq!(answer, session.encoder.text_of(&alone[0].token_ids).unwrap(), "{question}");
        messages.push(Message::new("assistant", answer));
    }
}

#[test]
fn answers_are_alone_on_stdout() {
    let place = Place::new();
    let output = chat(&place, &[], &["Hello", "/m 2", "/reset", "Hello"]);
    assert_ok(&output);
    let expected = contents(&answers(&place, &[], &["Hello"]))[0].to_owned();
    assert_eq!(text(&output.stdout), format!("{expected}\n{expected}\n"));
    assert!(text(&output.stderr).contains("no vector: this is the untouched model"), "{}", text(&output.stderr));
    let quiet = chat(&place, &["--quiet"], &["Hello"]);
    assert_eq!(text(&quiet.stderr), "");
}

#[test]
fn at_its_end_it_names_the_command_that_steers_as_it_did_last() {
    let place = Place::new();
    assert_ok(&place.train("out", &LONG));
    let model = fixture("llama");
    let named = |flags: &[&str], lines: &[&str]| {
        let output = chat(&place, flags, lines);
        assert_ok(&output);
        text(&output.stderr).lines().last().unwrap().to_owned()
    };
    let flags = ["--vector", VECTOR, "--positions", "prompt", "--system", "Sing."];
    assert_eq!(
        named(&flags, &["Hello", "/m -2.5", "/system Be brief.", "/quit"]),
        format!(
            "steer other prompts: bipo steer --positions prompt --model {model} --system 'Be brief.' --vector {VECTOR} \
             --magnitudes=-2.5 --prompt \"How was your day?\""
        )
    );
    assert_eq!(named(&["--vector", VECTOR], &["/vector none"]), format!("learn a vector: bipo train --model {model}"));
    // A program that reads the answers is told nothing.
    let output = chat(&place, &["--json"], &["Hello"]);
    assert!(!text(&output.stderr).contains("learn a vector: "), "{}", text(&output.stderr));
}

#[test]
fn a_wrong_line_is_told_in_one_line_and_the_next_one_taken() {
    let place = Place::new();
    assert_ok(&place.train("out", &LONG));
    std::fs::write(place.path("other.npy"), std::fs::read(fixture("vectors/float32.npy")).unwrap()).unwrap();
    let wrong = [
        ("/magnitude 2", "/magnitude: no such command; there are /m, /vector, /system, /compare, /reset, /save, /help, /quit"),
        ("/m two", "/m two: expected a number"),
        ("/vector nowhere.pt", "nowhere.pt"),
        ("/vector pairs.csv", "pairs.csv"),
        ("/vector other.npy", "layer"),
        ("/compare", "/compare: no question was answered yet"),
        ("/compare 1,x", "\"x\" is not a number"),
        ("/save", "/save: name the file"),
        ("/save nowhere/talk.json", "nowhere/talk.json"),
        ("/quit now", "/quit takes no value"),
    ];
    let lines: Vec<&str> = wrong.iter().map(|(line, _)| *line).chain(["Hello"]).collect();
    let output = chat(&place, &["--vector", VECTOR, "--quiet"], &lines);
    assert_ok(&output);
    let stderr = text(&output.stderr);
    assert_eq!(stderr.lines().count(), wrong.len(), "{stderr}");
    for (line, (wrong, expected)) in stderr.lines().zip(wrong) {
        assert!(line.starts_with("error: ") && line.contains(expected), "{wrong}: {line}");
    }
    let expected = steered(&place, &["--vector", VECTOR], "Hello", "1");
    assert_eq!(text(&output.stdout), format!("{expected}\n"));
}

#[test]
fn quit_ends_before_what_follows() {
    let place = Place::new();
    let output = chat(&place, &[], &["/quit", "Hello"]);
    assert_ok(&output);
    assert_eq!(text(&output.stdout), "");
}

#[test]
fn compare_answers_the_last_question_at_each_magnitude_and_changes_nothing() {
    let place = Place::new();
    assert_ok(&place.train("out", &LONG));
    let flags = ["--vector", VECTOR];
    let plain = answers(&place, &flags, &["Hello", "And then?"]);
    let compared = answers(&place, &flags, &["Hello", "/compare -2..2:2", "And then?"]);
    assert_eq!(contents(&[compared[0].clone(), compared[2].clone()]), contents(&plain));
    let (model, tokens) = (fixture("llama"), TOKENS.to_string());
    let args = ["steer", "--model", &model, "--max-new-tokens", &tokens, "--prompt", "Hello", "--magnitudes", "-2,0,2"];
    let steer = |more: &[&str]| {
        let output = place.bipo(&[&args[..], &flags, more].concat());
        assert_ok(&output);
        text(&output.stdout)
    };
    let swept: Value = serde_json::from_str(&steer(&["--json"])).unwrap();
    assert_eq!(compared[1]["results"], swept["results"]);
    // As text it looks as a sweep does.
    let shown = text(&chat(&place, &flags, &["Hello", "/compare"]).stdout);
    assert_eq!(shown, format!("{}\n{}", contents(&plain)[0], steer(&[])));
    let untouched = chat(&place, &[], &["Hello", "/compare"]);
    assert!(text(&untouched.stderr).contains("/compare: there is no vector"), "{}", text(&untouched.stderr));
}

#[test]
fn save_writes_who_said_what_and_what_steered_it() {
    let place = Place::new();
    assert_ok(&place.train("out", &LONG));
    let lines = ["Hello", "/vector none", "Why?", "/save talk.json", "/reset", "/save talk.json", "Hello", "/save second.json"];
    let output = chat(&place, &["--vector", VECTOR, "--magnitude", "-1.5", "--system", "Sing."], &lines);
    assert_ok(&output);
    let said = text(&output.stderr);
    assert!(said.contains("5 messages written to talk.json\n"), "{said}");
    assert!(said.contains("1 message written to talk.json, in place of the file that was there\n"), "{said}");
    let read = |name: &str| -> Value { serde_json::from_slice(&std::fs::read(place.path(name)).unwrap()).unwrap() };
    assert_eq!(read("talk.json")["messages"].as_array().unwrap().len(), 1);
    let messages = read("second.json")["messages"].clone();
    let roles: Vec<&str> = messages.as_array().unwrap().iter().map(|message| message["role"].as_str().unwrap()).collect();
    assert_eq!(roles, ["system", "user", "assistant"]);
    assert_eq!((&messages[0]["content"], &messages[1]["content"]), (&"Sing.".into(), &"Hello".into()));
    assert_eq!(messages[2]["content"], text(&output.stdout).rsplit_terminator('\n').next().unwrap());
    assert_eq!(messages[2]["steering"]["magnitude"], 0.0);
    let once = answers(&place, &["--vector", VECTOR, "--magnitude", "-1.5"], &["Hello"]);
    assert_eq!((&once[0]["steering"]["vectors"][0], &once[0]["steering"]["magnitude"]), (&VECTOR.into(), &(-1.5).into()));
    assert!(once[0]["steering"]["dose"].as_f64().unwrap() > 0.0);
}

#[test]
fn a_conversation_that_fills_its_room_is_told_and_reset_begins_a_new_one() {
    let place = Place::new();
    let long = "a long question that goes on and on";
    let lines = ["Hello", long, long, long, "/reset", "Hello"];
    let output = chat(&place, &["--context", "80", "--quiet"], &lines);
    assert_ok(&output);
    let stderr = text(&output.stderr);
    assert!(stderr.lines().any(|line| line.starts_with("error: with this question the conversation has ")), "{stderr}");
    assert!(stderr.contains("but there is room for 80: /reset begins a new one"), "{stderr}");
    let expected = contents(&answers(&place, &[], &["Hello"]))[0].to_owned();
    let stdout = text(&output.stdout);
    assert!(stdout.starts_with(&format!("{expected}\n")) && stdout.ends_with(&format!("\n{expected}\n")), "{stdout}");
    // An answer may fill it, too.
    let cut = chat(&place, &["--context", "40", "--max-new-tokens", "500"], &["Hello"]);
    assert_ok(&cut);
    assert!(text(&cut.stderr).contains("the conversation has filled its 40 tokens"), "{}", text(&cut.stderr));
}

#[test]
fn sampling_is_that_of_steer() {
    let place = Place::new();
    assert_ok(&place.train("out", &LONG));
    let sampling = ["--temperature", "0.9", "--top-p", "0.9", "--top-k", "40", "--repeat-penalty", "1.1", "--seed", "5"];
    let flags = [&["--vector", VECTOR][..], &sampling].concat();
    let found = answers(&place, &flags, &["Hello"]);
    assert_eq!(contents(&found), [steered(&place, &flags, "Hello", "1")]);
    assert_ne!(contents(&found), [steered(&place, &["--vector", VECTOR], "Hello", "1")]);
}

#[test]
fn a_thought_stands_between_its_tags_and_is_no_part_of_the_answer() {
    let place = Place::new();
    let template = "{% for m in messages %}[{{ m.role }}] {{ m.content }}\n{% endfor %}[assistant]<think>\n";
    std::fs::write(place.path("thinks.jinja"), template).unwrap();
    let flags = ["--template", "thinks.jinja", "--quiet"];
    let found = answers(&place, &flags, &["Hello"]);
    let thought = found[0]["thought"].as_str().unwrap();
    assert_eq!((found[0]["content"].as_str(), thought.is_empty()), (Some(""), false));
    assert_eq!(text(&chat(&place, &flags, &["Hello"]).stdout), format!("<think>{thought}</think>\n"));
}

#[test]
fn flags_that_cannot_be_are_refused_before_a_conversation_begins() {
    let place = Place::new();
    assert_ok(&place.train("out", &[]));
    for (flags, expected) in [
        (&["--vector", "nowhere.pt"][..], "nowhere.pt"),
        (&["--magnitude", "strong"], "--magnitude"),
        (&["--context", "513"], "--context 513: expected 16 to 512, the model's context"),
        (&["--vector", VECTOR, "--positions", "prompt", "--spans", "assistant"], "no token of the prompt or after it"),
        (&["--vector", VECTOR, "--layer", "99"], "layer 99"),
    ] {
        assert_refused(&chat(&place, flags, &["Hello"]), flags, expected);
    }
}

#[test]
fn a_magnitude_that_is_too_much_is_told_once_until_it_changes() {
    let place = Place::new();
    assert_ok(&place.train("out", &LONG));
    let lines = ["Hello", "/m 300000", "Hello", "Why?", "/m 0", "When?", "/m -300000", "Who?"];
    let output = chat(&place, &["--vector", VECTOR, "--magnitude", "1"], &lines);
    assert_ok(&output);
    let said = text(&output.stderr);
    assert_eq!(said.matches("warning: at magnitude").count(), 2, "{said}");
    assert!(said.contains("at magnitude +300000 what is added is") && said.contains("at magnitude -300000 what"), "{said}");
}

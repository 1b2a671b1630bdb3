//! The commands beside `train` that share their work out: whatever the number of ranks, their results are the same, in the same
//! order.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpListener;
use std::sync::{Arc, Mutex};

use bipo::steering::vector::{Metadata, SteeringVector};
use serde_json::Value;

use super::*;

const MODEL: [&str; 2] = ["--model", concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/llama")];

/// A vector that moves the tiny model, after its first block.
fn vector(scale: f32) -> SteeringVector {
    let v: Vec<f32> = (0..32).map(|at| scale * ((at * 37 % 11) as f32 - 5.0)).collect();
    SteeringVector { layers: BTreeMap::from([(0, v)]), metadata: Metadata::default() }
}

impl Place {
    /// `mpirun` of a command on the tiny model, by so many ranks.
    fn command(&self, ranks: usize, args: &[&str]) -> Command {
        let mut command = Command::new("mpirun");
        command.args(MPIRUN).args(["-n", &ranks.to_string(), env!("CARGO_BIN_EXE_bipo")]).args(args);
        command.current_dir(self.path("")).env("HF_HUB_OFFLINE", "1");
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    fn run(&self, ranks: usize, args: &[&str]) -> Output {
        let output = self.command(ranks, args).output().expect("mpirun starts: install Open MPI");
        assert_ok(&output);
        output
    }
}

/// A result without its times and the paths of this run.
fn without_times(value: &mut Value) {
    match value {
        Value::Object(object) => {
            object.retain(|key, _| !["timings", "seconds", "command"].contains(&key.as_str()));
            object.values_mut().for_each(without_times);
        }
        Value::Array(items) => items.iter_mut().for_each(without_times),
        _ => {}
    }
}

/// What a command prints as JSON, and the files that it writes, by each number of ranks.
fn assert_same_by_ranks(args: &[&str], written: &[&str], prepare: impl Fn(&Place)) {
    let by_ranks = |ranks: usize| {
        let place = Place::new();
        prepare(&place);
        let output = place.run(ranks, &[args, &MODEL, &["--json"]].concat());
        let mut json: Value = serde_json::from_slice(&output.stdout).unwrap_or_else(|error| {
            panic!("{error} in {}", text(&output.stdout));
        });
        without_times(&mut json);
        let files: Vec<Vec<u8>> = written.iter().map(|name| fs::read(place.path(name)).unwrap()).collect();
        (json, files)
    };
    let (json, files) = by_ranks(1);
    assert!(files.iter().all(|file| !file.is_empty()));
    for ranks in [2, 3] {
        let (other, others) = by_ranks(ranks);
        assert_eq!(other, json, "{args:?} by {ranks} ranks");
        for (name, (other, file)) in written.iter().zip(others.iter().zip(&files)) {
            assert!(other == file, "{name} of {args:?} differs by {ranks} ranks");
        }
    }
}

/// With a vector, and a neutral text of several windows.
fn with_vector(place: &Place) {
    vector(0.3).write(&place.path("v.safetensors")).unwrap();
    fs::write(place.path("text.txt"), (0..40).map(|row| format!("It is {row}. ")).collect::<String>()).unwrap();
}

/// With prompts that need steering in `need.jsonl`, fewer than some numbers of ranks, and others in `rest.jsonl`.
fn with_prompts(place: &Place) {
    for (name, rows) in [("need.jsonl", 0..5), ("rest.jsonl", 700..738), ("one.jsonl", 5..6)] {
        let prompts: String = rows.map(|row| format!("{{\"prompt\": \"Tell me of {row}\"}}\n")).collect();
        fs::write(place.path(name), prompts).unwrap();
    }
}

/// `train` by a method that takes no steps, from the data of [`Place`].
const MEAN: [&str; 7] = ["train", "--method", "caa", "--dataset", "many.csv", "--output-dir", "out"];
const CONDITION: [&str; 9] =
    ["train", "--method", "condition", "--dataset", "need.jsonl", "--against", "rest.jsonl", "--output-dir", "out"];

#[test]
fn a_mean_difference_is_the_same_by_any_number_of_ranks() {
    let written = ["out/steering_vector.safetensors", "out/config.json", "out/README.md"];
    let flags = ["--eval-dataset", "held.csv", "--layers", "0,1", "--test-generation"];
    assert_same_by_ranks(&[&MEAN[..], &flags].concat(), &written, |_| {});
}

#[test]
fn a_condition_is_the_same_by_any_number_of_ranks() {
    let heldout = ["--eval-dataset", "rest.jsonl", "--eval-against", "one.jsonl"];
    assert_same_by_ranks(&[&CONDITION[..], &heldout].concat(), &["out/condition.safetensors"], with_prompts);
}

#[test]
fn a_first_rank_that_finds_earlier_files_ends_all_in_one_line() {
    let place = Place::new();
    with_prompts(&place);
    for (args, share) in [(&MEAN[..], 1), (&CONDITION[..], 0)] {
        let args = [args, &MODEL].concat();
        let output = place.run(3, &args);
        let stderr = text(&output.stderr);
        assert_eq!(stderr.matches("3 ranks share the pairs").count(), share, "{stderr}");
        assert_eq!(text(&output.stdout).matches("safetensors\n").count(), 1, "{}", text(&output.stdout));
        assert_one_error(&place.command(3, &args).output().unwrap(), 2, "--overwrite");
    }
}

#[test]
fn ranks_with_other_prompts_find_no_condition() {
    let place = Place::new();
    with_prompts(&place);
    let rank = |rest: &str| {
        let own = ["-n", "1", env!("CARGO_BIN_EXE_bipo"), "train", "--method", "condition", "--dataset", "need.jsonl"];
        let against = ["--against", rest, "--output-dir", "out"];
        own.iter().chain(&against).chain(&MODEL).map(|arg| (*arg).to_owned()).collect::<Vec<_>>()
    };
    let mut command = Command::new("mpirun");
    command.args(MPIRUN).args(rank("rest.jsonl")).arg(":").args(rank("one.jsonl")).current_dir(place.path(""));
    assert_one_error(&command.output().unwrap(), 2, "rank 1 and rank 0 would not compute the same, they differ in prompts");
    assert!(!place.path("out").exists());
}

#[test]
fn an_evaluation_is_the_same_by_any_number_of_ranks() {
    let all = ["eval", "--vector", "v.safetensors", "--dataset", "many.csv", "--mc", "mc.jsonl", "--magnitudes=-1,0,2"];
    let baselines = ["--baseline", "random", "--baseline", "prompt", "--baseline-system", "Be brief."];
    let files = ["--max-new-tokens", "6", "--csv", "table.csv", "--per-pair", "pairs.jsonl", "--limit", "10"];
    let prepare = |place: &Place| {
        with_vector(place);
        let item = |row: usize| {
            format!(
                r#"{{"question": "What of {row}?", "choices": ["It is {row}", "Not {row}", "Both"], "answer": {}}}"#,
                row % 3
            )
        };
        fs::write(place.path("mc.jsonl"), (0..7).map(|row| item(row) + "\n").collect::<String>()).unwrap();
        with_prompts(place);
        let condition = ["train", "--method", "condition", "--dataset", "need.jsonl", "--against", "rest.jsonl"];
        let output = Command::new(env!("CARGO_BIN_EXE_bipo"))
            .args(condition)
            .args(MODEL)
            .args(["--output-dir", "condition"])
            .current_dir(place.path(""))
            .output();
        assert_ok(&output.unwrap());
    };
    assert_same_by_ranks(&[&all[..], &baselines, &files].concat(), &["table.csv", "pairs.jsonl"], prepare);
    let when = ["--when", "condition/condition.safetensors"];
    assert_same_by_ranks(&[&all[..], &files, &when].concat(), &["table.csv", "pairs.jsonl"], prepare);
}

#[test]
fn a_search_for_layers_is_the_same_by_any_number_of_ranks() {
    let short = ["--max-steps", "4", "--batch-size", "5", "--warmup-steps", "1", "--lr", "0.01", "--layers", "0,1"];
    assert_same_by_ranks(
        &[&["layers", "--dataset", "many.csv", "--plot", "losses.svg"], &short[..]].concat(),
        &["losses.svg"],
        |_| {},
    );
}

#[test]
fn magnitudes_within_a_budget_are_the_same_by_any_number_of_ranks() {
    let budgets: [&[&str]; 3] = [
        &["--budget", "kl=0.05", "--max-new-tokens", "4", "--prompts", "prompts.txt", "--save"],
        &["--budget", "ppl=1.05", "--text", "text.txt", "--save"],
        &["--budget", "margin=0.05", "--dataset", "many.csv", "--save"],
    ];
    for budget in budgets {
        let args = [&["calibrate", "--vector", "v.safetensors"], budget].concat();
        assert_same_by_ranks(&args, &["v.safetensors"], |place| {
            with_vector(place);
            fs::write(place.path("prompts.txt"), "Hello\nWhat is it?\nTell me of 7\nHow are you?\n").unwrap();
        });
    }
}

#[test]
fn a_comparison_is_the_same_by_any_number_of_ranks_and_goes_on_with_any_other() {
    let methods =
        ["compare", "--dataset", "many.csv", "--methods", "bipo,caa,pca,prosv,random", "--layer", "0", "--at", "kl=0.05"];
    let short = [
        "--max-steps",
        "4",
        "--batch-size",
        "5",
        "--warmup-steps",
        "1",
        "--max-new-tokens",
        "6",
        "--bootstrap",
        "50",
        "--output-dir",
        "out",
    ];
    let args = [&methods[..], &short].concat();
    let vectors = ["bipo", "caa", "pca", "prosv"].map(|method| format!("out/{method}.safetensors"));
    let vectors: Vec<&str> = vectors.iter().map(String::as_str).collect();
    assert_same_by_ranks(&args, &vectors, |_| {});

    let place = Place::new();
    let args = [&args[..], &MODEL, &["--json"]].concat();
    let first = place.run(2, &args);
    fs::remove_file(place.path("out/caa.safetensors")).unwrap();
    let again = place.run(3, &args);
    let [first, again] = [first, again].map(|output| {
        let mut json: Value = serde_json::from_slice(&output.stdout).unwrap();
        without_times(&mut json);
        json
    });
    assert_eq!(first, again);
}

/// Flags that ask this judge.
fn judged_by(url: &str) -> [&str; 6] {
    ["--judge", url, "--judge-model", "m", "--rubric", "cheerful"]
}

/// A judge that gives the same score to each text, and remembers what it was asked.
fn judge() -> (String, Arc<Mutex<Vec<String>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/v1", listener.local_addr().unwrap());
    let asked = Arc::new(Mutex::new(Vec::new()));
    let seen = asked.clone();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let seen = seen.clone();
            std::thread::spawn(move || {
                let mut stream = BufReader::new(stream.unwrap());
                loop {
                    let (mut line, mut len) = (String::new(), 0);
                    while stream.read_line(&mut line).unwrap_or(0) > 2 {
                        if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
                            len = value.trim().parse().unwrap();
                        }
                        line.clear();
                    }
                    let mut body = vec![0; len];
                    if len == 0 || stream.read_exact(&mut body).is_err() {
                        return;
                    }
                    let body = text(&body);
                    let score = 1 + body.matches('e').count() % 4;
                    seen.lock().unwrap().push(body);
                    let answer = format!(r#"{{"choices": [{{"message": {{"content": "Score: {score}"}}}}]}}"#);
                    let head = format!("HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {}", answer.len());
                    if write!(stream.get_mut(), "{head}\r\n\r\n{answer}").is_err() {
                        return;
                    }
                }
            });
        }
    });
    (url, asked)
}

#[test]
fn ranks_ask_a_judge_about_each_text_once_and_keep_its_scores_in_one_file() {
    let texts = |place: &Place| {
        let line = |at: usize| {
            format!(r#"{{"prompt": "P{}", "magnitude": {}, "text": "the {at}"}}"#, at / 3, at as i32 % 3 - 1) + "\n"
        };
        fs::write(place.path("texts.jsonl"), (0..40).map(line).collect::<String>()).unwrap();
    };
    let (url, asked) = judge();
    let flags = ["--judge-results", "scores.jsonl", "--judge-concurrency", "2", "--json"];
    let args = [&["judge", "texts.jsonl"][..], &judged_by(&url), &flags].concat();
    let by_ranks = |ranks: usize| {
        let place = Place::new();
        texts(&place);
        asked.lock().unwrap().clear();
        let output = place.run(ranks, &args);
        let mut bodies = asked.lock().unwrap().clone();
        bodies.sort();
        let mut lines: Vec<String> = text(&fs::read(place.path("scores.jsonl")).unwrap()).lines().map(String::from).collect();
        lines.sort();
        // Whatever number of ranks goes on, nothing is asked again.
        asked.lock().unwrap().clear();
        let again = text(&place.run(4 - ranks, &args).stdout);
        assert_eq!(asked.lock().unwrap().len(), 0);
        (text(&output.stdout), bodies, lines, again)
    };
    let one = by_ranks(1);
    assert_eq!((one.1.len(), one.2.len()), (40, 40));
    for ranks in [2, 3] {
        assert_eq!(by_ranks(ranks), one);
    }
}

#[test]
fn ranks_of_an_evaluation_keep_each_score_of_a_judge_once() {
    let (url, asked) = judge();
    let place = Place::new();
    with_vector(&place);
    let args = [
        "eval",
        "--vector",
        "v.safetensors",
        "--skip",
        "text",
        "--magnitudes=-1,1",
        "--max-new-tokens",
        "4",
        "--bootstrap",
        "50",
    ];
    let flags = ["--judge-results", "scores.jsonl", "--json"];
    let output = place.run(3, &[&args[..], &judged_by(&url), &MODEL, &flags].concat());
    let lines = text(&fs::read(place.path("scores.jsonl")).unwrap()).lines().count();
    assert_eq!(lines, asked.lock().unwrap().len());
    let json: Value = serde_json::from_slice(&output.stdout).unwrap();
    let texts = json["generations"].as_array().unwrap();
    assert!(!texts.is_empty() && texts.iter().all(|text| text["judge_score"].is_number()), "{json}");
}

#[test]
fn ranks_with_other_texts_do_not_ask_a_judge() {
    let (url, asked) = judge();
    let place = Place::new();
    for (name, answer) in [("a.jsonl", "Yes"), ("b.jsonl", "No")] {
        fs::write(place.path(name), format!("{{\"prompt\": \"P\", \"magnitude\": 1, \"text\": \"{answer}\"}}\n")).unwrap();
    }
    let rank = |texts: &str| {
        let own = ["-n", "1", env!("CARGO_BIN_EXE_bipo"), "judge", texts];
        own.iter().chain(&judged_by(&url)).map(|arg| (*arg).to_owned()).collect::<Vec<_>>()
    };
    let mut command = Command::new("mpirun");
    command.args(MPIRUN).args(rank("a.jsonl")).arg(":").args(rank("b.jsonl")).current_dir(place.path(""));
    assert_one_error(&command.output().unwrap(), 2, "rank 1 and rank 0 would not ask a judge the same");
    assert_eq!(asked.lock().unwrap().len(), 0);
}

#[test]
fn a_rank_with_another_vector_ends_an_evaluation_before_it_begins() {
    let place = Place::new();
    with_vector(&place);
    vector(0.4).write(&place.path("other.safetensors")).unwrap();
    let rank = |vector: &str| {
        let own =
            ["-n", "1", env!("CARGO_BIN_EXE_bipo"), "eval", "--vector", vector, "--dataset", "many.csv", "--csv", "table.csv"];
        own.iter().chain(&MODEL).map(|arg| (*arg).to_owned()).collect::<Vec<_>>()
    };
    let mut command = Command::new("mpirun");
    command.args(MPIRUN).args(rank("v.safetensors")).arg(":").args(rank("other.safetensors")).current_dir(place.path(""));
    assert_one_error(&command.output().unwrap(), 2, "rank 1 and rank 0 would not compute the same, they differ in");
    assert!(!place.path("table.csv").exists());
}

#[test]
fn a_signal_to_any_rank_ends_an_evaluation_that_keeps_its_rows() {
    for signalled in [0, 2] {
        let place = Place::new();
        with_vector(&place);
        let args =
            ["eval", "--vector", "v.safetensors", "--dataset", "many.csv", "--magnitudes=-499..500:1", "--csv", "table.csv"];
        let mut child = place.command(3, &[&args[..], &MODEL].concat()).process_group(0).spawn().unwrap();
        while fs::metadata(place.path("table.csv")).map_or(0, |file| file.len()) < 2000 {
            assert!(child.try_wait().unwrap().is_none(), "{}", text(&child.wait_with_output().unwrap().stderr));
            std::thread::sleep(Duration::from_millis(5));
        }
        signal(ranks_of(&child)[signalled], "-TERM");
        let output = ended(child);
        assert_one_error(&output, 130, "interrupted");
        assert!(text(&output.stdout).contains("margin"), "{}", text(&output.stdout));
        assert!(text(&fs::read(place.path("table.csv")).unwrap()).lines().count() > 5);
    }
}

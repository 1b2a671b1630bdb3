//! Ctrl-C, as a signal: the first ends a command at its next step, with what was done and exit code 130; the second at once.

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, ChildStderr, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, channel};

use serde_json::{Value, json};

use super::memory::wide_model;
use super::{bipo, names, place};
use crate::bytes::safetensors;
use crate::cli::{Place, assert_ok, fixture, json as json_of, text};
use crate::endpoint::{Answer, Endpoint};
use crate::pairs::writer;

/// A command that goes on, its standard output in a file.
struct Running {
    child: Child,
    stderr: BufReader<ChildStderr>,
    stdout: PathBuf,
    said: String,
}

/// How it ended.
struct Ended {
    code: Option<i32>,
    stdout: String,
    stderr: String,
}

impl Running {
    fn start(place: &Place, args: &[&str]) -> Self {
        Self::start_into(place, args, File::create(place.path("stdout.txt")).unwrap().into())
    }

    fn start_into(place: &Place, args: &[&str], stdout: Stdio) -> Self {
        let mut command = bipo(place, args);
        command.env_remove("BIPO_JUDGE_KEY").env_remove("OPENAI_API_KEY");
        let mut child = command.stdout(stdout).stderr(Stdio::piped()).spawn().unwrap();
        let stderr = BufReader::new(child.stderr.take().unwrap());
        Self { child, stderr, stdout: place.path("stdout.txt"), said: String::new() }
    }

    /// Reads standard error up to a line that begins so.
    #[track_caller]
    fn wait_for_line(&mut self, begin: &str) {
        loop {
            let mut line = String::new();
            assert!(self.stderr.read_line(&mut line).unwrap() > 0, "ended without {begin:?}: {}", self.said);
            self.said += &line;
            if line.starts_with(begin) {
                return;
            }
        }
    }

    #[track_caller]
    fn wait_for_file(&mut self, path: &std::path::Path) {
        while fs::metadata(path).map_or(0, |metadata| metadata.len()) == 0 {
            assert!(self.child.try_wait().unwrap().is_none(), "ended before {} was written", path.display());
            std::thread::yield_now();
        }
    }

    fn interrupt(&self) {
        assert!(Command::new("kill").args(["-INT", &self.child.id().to_string()]).status().unwrap().success());
    }

    fn end(mut self) -> Ended {
        self.stderr.read_to_string(&mut self.said).unwrap();
        let code = self.child.wait().unwrap().code();
        Ended { code, stdout: fs::read_to_string(&self.stdout).unwrap(), stderr: self.said }
    }
}

impl Ended {
    /// Exit code 130 and one line that says why.
    #[track_caller]
    fn assert_interrupted(&self) {
        assert_eq!(self.code, Some(130), "{}", self.stderr);
        assert!(self.stderr.ends_with("error: interrupted\n"), "{}", self.stderr);
    }

    fn json(&self) -> Value {
        serde_json::from_str(&self.stdout).unwrap()
    }
}

#[test]
fn an_interrupted_sweep_has_the_prompts_that_it_answered() {
    let place = place();
    let prompts: Vec<String> = (0..20_000).map(|i| format!("Number {i}")).collect();
    fs::write(place.path("prompts.txt"), prompts.join("\n")).unwrap();
    let model = fixture("llama");
    let args = ["steer", "--model", &model, "--vector", "v.safetensors", "--prompts", "prompts.txt", "--magnitudes", "-1,0,1"];
    let mut running =
        Running::start(&place, &[&args[..], &["--max-new-tokens", "20", "--output", "sweep.jsonl", "--json"]].concat());
    running.wait_for_file(&place.path("sweep.jsonl"));
    running.interrupt();
    let ended = running.end();
    ended.assert_interrupted();
    let written = fs::read_to_string(place.path("sweep.jsonl")).unwrap();
    let lines: Vec<Value> = written.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let document = ended.json();
    let results = document["results"].as_array().unwrap();
    assert_eq!((&lines[0]["run"], &lines[1..]), (&document["run"], &results[..]));
    assert!(!results.is_empty() && results.len().is_multiple_of(3) && results.len() < 3 * prompts.len(), "{}", results.len());
    for (result, at) in results.iter().zip(0..) {
        assert_eq!((&result["prompt"], &result["magnitude"]), (&json!(prompts[at / 3]), &json!(at as f64 % 3.0 - 1.0)));
    }
    assert_eq!(names(&place.path("")), ["pairs.csv", "prompts.txt", "stdout.txt", "sweep.jsonl", "v.safetensors"]);
}

#[test]
fn an_interrupted_evaluation_has_the_magnitudes_that_it_measured() {
    let place = place();
    let model = fixture("llama");
    let args = ["eval", "--model", &model, "--vector", "v.safetensors", "--dataset", "pairs.csv", "--skip", "text,generation"];
    let files = ["--csv", "table.csv", "--per-pair", "pairs.jsonl", "--json"];
    let mut running = Running::start(&place, &[&args[..], &["--magnitudes", "-499..499:1"], &files].concat());
    running.wait_for_file(&place.path("pairs.jsonl"));
    running.interrupt();
    let ended = running.end();
    ended.assert_interrupted();
    let report = ended.json();
    assert_eq!(report["settings"]["ended_early"], "interrupted");
    let rows = report["rows"].as_array().unwrap();
    assert!((1..999).contains(&rows.len()), "{}", rows.len());
    let lines = |name: &str| fs::read_to_string(place.path(name)).unwrap().lines().count();
    assert_eq!((lines("table.csv"), lines("pairs.jsonl")), (rows.len() + 1, 5 * rows.len()));
    let alone = place.bipo(&[&args[..], &["--magnitudes", "-499", "--json"]].concat());
    assert_ok(&alone);
    let alone: Value = serde_json::from_slice(&alone.stdout).unwrap();
    assert_eq!(rows[0], alone["rows"][0]);
}

#[test]
fn an_interrupted_search_ranks_the_layers_that_it_tried() {
    let place = place();
    let model = fixture("llama");
    let args = ["layers", "--model", &model, "--dataset", "pairs.csv", "--layers", "all", "--verbose", "--json"];
    let mut running = Running::start(&place, &[&args[..], &["--epochs", "100000", "--max-steps", "400"]].concat());
    running.wait_for_line("0  ");
    running.interrupt();
    let ended = running.end();
    ended.assert_interrupted();
    let report = ended.json();
    let tried = report["layers"].as_array().unwrap();
    assert!((1..3).contains(&tried.len()) && tried.iter().any(|result| result["layer"] == 0), "{report}");
    assert_eq!(report["ended_early"], "interrupted");
}

#[test]
fn an_interrupted_comparison_takes_the_vector_that_is_there_and_gives_what_a_whole_one_gives() {
    let place = place();
    let model = fixture("llama");
    let data = ["compare", "--model", &model, "--dataset", "pairs.csv", "--eval-dataset", "pairs.csv", "--batch-size", "2"];
    let run = ["--methods", "bipo,reps", "--epochs", "100000", "--max-steps", "1000"];
    let small = ["--at", "kl=0.002", "--max-new-tokens", "2", "--bootstrap", "10", "--json", "--output-dir"];
    let into = |dir: &'static str| [&data[..], &run, &small, &[dir]].concat();
    let mut running = Running::start(&place, &into("part"));
    running.wait_for_file(&place.path("part/bipo.safetensors"));
    running.interrupt();
    running.end().assert_interrupted();
    let kept = fs::read(place.path("part/bipo.safetensors")).unwrap();
    let (again, whole) = (place.bipo(&into("part")), place.bipo(&into("whole")));
    assert!(text(&again.stderr).contains("bipo: taken from part/bipo.safetensors"), "{}", text(&again.stderr));
    assert_eq!(fs::read(place.path("part/bipo.safetensors")).unwrap(), kept);
    for name in ["bipo.safetensors", "reps.safetensors"] {
        let of = |dir: &str| fs::read(place.path(dir).join(name)).unwrap();
        assert!(of("part") == of("whole"), "{name}");
    }
    let without_times = |output: &std::process::Output| {
        let mut document = json_of(output);
        document["report"]["timings"] = Value::Null;
        document["candidates"].as_array_mut().unwrap().iter_mut().for_each(|it| it["learned"]["seconds"] = Value::Null);
        document
    };
    assert_eq!(without_times(&again), without_times(&whole));
}

/// Answers `answers` requests with a score, and leaves those after them without an answer. Tells of each.
fn judge(answers: usize) -> (String, Receiver<TcpStream>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/v1", listener.local_addr().unwrap());
    let (sender, receiver) = channel();
    std::thread::spawn(move || {
        for (count, mut stream) in listener.incoming().map_while(Result::ok).enumerate() {
            let mut reader = BufReader::new(stream.try_clone().unwrap());
            let (mut head, mut length) = (String::new(), 0);
            while reader.read_line(&mut head).is_ok_and(|read| read > 2) {}
            for line in head.lines() {
                length = line.to_lowercase().strip_prefix("content-length: ").map_or(length, |text| text.parse().unwrap());
            }
            let mut body = vec![0; length];
            reader.read_exact(&mut body).unwrap();
            if count < answers {
                let reply = json!({"choices": [{"message": {"content": "Score: 2"}}]}).to_string();
                write!(stream, "HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{reply}", reply.len())
                    .unwrap();
            }
            sender.send(stream).unwrap();
        }
    });
    (url, receiver)
}

fn texts(place: &Place) {
    let of = |i: i32| json!({"prompt": "Why?", "magnitude": i % 2, "text": format!("text {i}")});
    fs::write(place.path("sweep.json"), json!({"results": (0..9).map(of).collect::<Vec<_>>()}).to_string()).unwrap();
}

#[test]
fn an_interrupted_judge_keeps_its_scores() {
    let place = place();
    texts(&place);
    let (url, _asked) = judge(2);
    let args = ["judge", "sweep.json", "--judge", &url, "--judge-model", "m", "--rubric", "formal", "--judge-timeout", "1"];
    let mut running = Running::start(
        &place,
        &[&args[..], &["--judge-concurrency", "1", "--judge-results", "scores.jsonl", "--json"]].concat(),
    );
    running.wait_for_file(&place.path("scores.jsonl"));
    running.interrupt();
    let ended = running.end();
    ended.assert_interrupted();
    let scores = fs::read_to_string(place.path("scores.jsonl")).unwrap().lines().count();
    let report = ended.json();
    let scored = report["verdicts"].as_array().unwrap().iter().filter(|verdict| verdict["score"] == 2).count();
    assert!((1..=2).contains(&scores), "{scores}");
    assert_eq!((scored, report["failures"].as_u64()), (scores, Some(9 - scores as u64)));
}

#[test]
fn an_interrupted_protocol_of_three_rubrics_has_the_grades_that_were_given() {
    let place = place();
    let of = |i: i32| json!({"prompt": format!("prompt {}", i / 2), "magnitude": i % 2, "text": format!("text {i}")});
    fs::write(place.path("sweep.json"), json!({"results": (0..4).map(of).collect::<Vec<_>>()}).to_string()).unwrap();
    // All four by the first rubric, two by the second.
    let (url, asked) = judge(6);
    let args = ["judge", "sweep.json", "--judge", &url, "--judge-model", "m", "--concept", "sevens", "--judge-timeout", "1"];
    let running = Running::start(&place, &[&args[..], &["--judge-concurrency", "1", "--json"]].concat());
    let _streams: Vec<TcpStream> = asked.iter().take(7).collect();
    running.interrupt();
    let ended = running.end();
    ended.assert_interrupted();
    let report = ended.json();
    let graded = |rubric: &str| report["texts"].as_array().unwrap().iter().filter(|text| text[rubric] == 2).count();
    assert_eq!([graded("concept"), graded("instruction"), graded("fluency")], [4, 2, 0]);
    assert_eq!((&report["failures"], &report["chosen"]), (&4.into(), &Value::Null));
}

#[test]
fn an_interrupted_making_of_pairs_keeps_them_and_goes_on() {
    let place = place();
    let (open, answers) = (Arc::new(AtomicBool::new(false)), 12);
    let is_open = open.clone();
    let endpoint = Endpoint::new(move |body, before| match before < answers || is_open.load(Ordering::SeqCst) {
        true => writer(body),
        false => Answer::Silence,
    });
    let args = ["pairs", "answers like a pirate", "--model-url", &endpoint.url, "--n", "15", "--output", "made.jsonl"];
    let mut running = Running::start(&place, &[&args[..], &["--timeout", "1", "--concurrency", "1"]].concat());
    running.wait_for_file(&place.path("made.jsonl"));
    running.interrupt();
    let ended = running.end();
    ended.assert_interrupted();
    let there = fs::read_to_string(place.path("made.jsonl")).unwrap();
    assert!(
        ended.stdout.starts_with(&format!("{} of 15 pairs are in made.jsonl\n", there.lines().count())),
        "{}",
        ended.stdout
    );
    open.store(true, Ordering::SeqCst);
    assert_ok(&place.bipo(&args));
    let whole = fs::read_to_string(place.path("made.jsonl")).unwrap();
    assert!(whole.starts_with(&there) && whole.lines().count() == 15, "{whole}");
}

#[test]
fn a_second_interrupt_ends_a_command_at_once() {
    let place = place();
    texts(&place);
    let (url, asked) = judge(0);
    let args = ["judge", "sweep.json", "--judge", &url, "--judge-model", "m", "--rubric", "formal", "--judge-timeout", "3600"];
    let mut running = Running::start(&place, &args);
    let _unanswered = asked.recv().unwrap();
    running.interrupt();
    running.wait_for_line("interrupted: ");
    running.interrupt();
    let ended = running.end();
    assert_eq!((ended.code, ended.stdout.as_str()), (Some(130), ""), "{}", ended.stderr);
}

/// A pipe holds 64 KiB: who writes more waits for the reader, and comes to no next step.
#[test]
fn a_second_interrupt_ends_a_command_that_waits_for_its_reader() {
    let place = place();
    let model = fixture("llama");
    let args = ["eval", "--model", &model, "--vector", "v.safetensors", "--dataset", "pairs.csv", "--skip", "text,generation"];
    let mut running = Running::start_into(
        &place,
        &[&args[..], &["--magnitudes", "-199..199:1", "--bootstrap", "10", "--json"]].concat(),
        Stdio::piped(),
    );
    let mut stdout = running.child.stdout.take().unwrap();
    stdout.read_exact(&mut [0]).unwrap();
    running.interrupt();
    running.wait_for_line("interrupted: ");
    running.interrupt();
    let code = running.child.wait().unwrap().code();
    let mut rest = Vec::new();
    stdout.read_to_end(&mut rest).unwrap();
    assert_eq!(code, Some(130));
    assert!(rest.len() >= 1 << 15 && !rest.ends_with(b"}\n"), "{} bytes of the report", rest.len());
}

/// A vector for the one block of the wide model.
fn wide_vector(place: &Place) {
    let header = r#"{"layer.0":{"dtype":"F32","shape":[2048],"data_offsets":[0,8192]}}"#;
    fs::write(place.path("w.safetensors"), safetensors(header, &0.5_f32.to_le_bytes().repeat(2048))).unwrap();
}

#[test]
fn an_interrupted_inspection_shows_the_files_that_it_measured() {
    let place = place();
    wide_model(&place);
    wide_vector(&place);
    let mut args = vec!["inspect", "--model", "wide", "--weights", "quantized", "--json"];
    args.extend(["w.safetensors"; 50]);
    let mut running = Running::start(&place, &args);
    running.wait_for_line("wide: 1 layers");
    running.interrupt();
    let ended = running.end();
    ended.assert_interrupted();
    let report = ended.json();
    let shown = report["vectors"].as_array().unwrap();
    // Before the first was measured there are the files, without the model.
    assert!(!shown.is_empty() && (shown.len() < 50 || report["model"].is_null()), "{}", shown.len());
}

#[test]
fn an_interrupted_merge_leaves_nothing() {
    let place = place();
    wide_model(&place);
    wide_vector(&place);
    let mut running =
        Running::start(&place, &["merge", "--model", "wide", "--vector", "w.safetensors", "--output-dir", "merged"]);
    running.wait_for_line("writing MB");
    running.interrupt();
    running.end().assert_interrupted();
    assert_eq!(names(&place.path("")), ["pairs.csv", "stdout.txt", "v.safetensors", "w.safetensors", "wide"]);
}

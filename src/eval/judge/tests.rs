//! Tests of `judge`. A server on the loopback interface plays the judge, to test good and bad answers, retries, resumed runs,
//! and that the key is never shown.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::AtomicUsize;
use std::sync::{Arc, Barrier, Mutex};
use std::time::Duration;

use serde_json::json;

use super::*;
use crate::data::endpoint::EndpointNames;

const NAMES: EndpointNames = EndpointNames { url: "the judge", key_variables: ["BIPO_JUDGE_KEY", "OTHER_KEY"] };

/// An answer of the server.
#[derive(Debug, Clone)]
enum Play {
    /// A chat completion with this text.
    Say(&'static str),
    /// A status, headers and a body.
    Status(u16, &'static str, String),
    /// A status 200 with a length that the body does not reach.
    Truncated,
    /// No answer, while the connection stays open.
    Silence,
    /// An answer like [`Play::Say`], once this many requests have come at a time.
    Together(Arc<Barrier>, &'static str),
}

struct Server {
    url: String,
    asked: Arc<Mutex<Vec<String>>>,
    most_at_once: Arc<AtomicUsize>,
}

impl Server {
    /// Answers the requests with `plays` in order, and any further requests with the last one.
    fn new(plays: Vec<Play>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let asked = Arc::new(Mutex::new(Vec::new()));
        let (now, most_at_once) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let server = Self { url, asked: asked.clone(), most_at_once: most_at_once.clone() };
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(|stream| stream.ok()) {
                let (asked, plays, now, most) = (asked.clone(), plays.clone(), now.clone(), most_at_once.clone());
                std::thread::spawn(move || {
                    let request = read_request(&stream);
                    let index = {
                        let mut asked = asked.lock().unwrap();
                        asked.push(request);
                        asked.len() - 1
                    };
                    most.fetch_max(now.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                    let play = plays[index.min(plays.len() - 1)].clone();
                    if let Play::Together(barrier, _) = &play {
                        barrier.wait();
                    }
                    now.fetch_sub(1, Ordering::SeqCst);
                    answer(stream, play);
                });
            }
        });
        server
    }

    fn asked(&self) -> Vec<String> {
        self.asked.lock().unwrap().clone()
    }
}

/// Reads the head and the body of a request.
fn read_request(stream: &TcpStream) -> String {
    let mut reader = BufReader::new(stream);
    let mut head = String::new();
    while reader.read_line(&mut head).is_ok_and(|read| read > 2) {}
    let length = head.lines().find_map(|line| line.to_lowercase().strip_prefix("content-length: ").map(str::to_owned));
    let mut body = vec![0; length.map_or(0, |length| length.parse().unwrap())];
    reader.read_exact(&mut body).unwrap();
    head + &String::from_utf8(body).unwrap()
}

fn answer(mut stream: TcpStream, play: Play) {
    let completion = |text: &str| json!({"choices": [{"message": {"role": "assistant", "content": text}}]}).to_string();
    let (status, headers, body) = match play {
        Play::Say(text) | Play::Together(_, text) => (200, "", completion(text)),
        Play::Status(status, headers, body) => (status, headers, body),
        Play::Truncated => {
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\n{\"choices\": [");
            return;
        }
        Play::Silence => {
            // The connection stays open until the client closes it.
            let _ = stream.read(&mut [0]);
            return;
        }
    };
    let length = body.len();
    let _ = write!(stream, "HTTP/1.1 {status} X\r\nContent-Length: {length}\r\n{headers}Connection: close\r\n\r\n{body}");
}

fn config(server: &Server) -> JudgeConfig {
    JudgeConfig {
        endpoint: Endpoint::parse(&server.url, NAMES).unwrap(),
        key: None,
        model: "grader".into(),
        rubric: Rubric { name: "mine".into(), text: "4: yes\n1: no".into(), scale: 1..=4 },
        concurrency: 1,
        patience: Patience {
            timeout: Duration::from_secs(20),
            attempts: 3,
            first_wait: Duration::from_millis(1),
            longest_wait: Duration::from_secs(1),
        },
        results: None,
    }
}

fn texts(count: usize) -> Vec<JudgedText> {
    (0..count)
        .map(|i| JudgedText {
            prompt: "Why?".into(),
            magnitude: i as f32,
            operation: Operation::Add,
            text: format!("Because of {i}."),
        })
        .collect()
}

fn run(config: &JudgeConfig, generations: &[JudgedText]) -> Result<JudgeReport> {
    judge(config, generations, &Collective::SingleProcess, &mut |_, _| ControlFlow::Continue(()))
}

fn scores(report: &JudgeReport) -> Vec<Option<u8>> {
    report.verdicts.iter().map(|verdict| verdict.score).collect()
}

fn status(status: u16) -> Play {
    Play::Status(status, "", "{\"error\": {\"message\": \"busy\"}}".into())
}

#[test]
fn a_question_has_rubric_prompt_and_text_and_the_reply_its_score() {
    let server = Server::new(vec![Play::Say("Score: 3"), Play::Say("It is warm.\n  Score:  4 \n")]);
    let report = run(&config(&server), &texts(2)).unwrap();
    assert_eq!(scores(&report), [Some(3), Some(4)]);
    let asked = server.asked();
    assert!(asked[0].starts_with("POST /v1/chat/completions HTTP/1.1\r\n"), "{}", asked[0]);
    let body: Value = serde_json::from_str(asked[0].split_once("\r\n\r\n").unwrap().1).unwrap();
    assert_eq!((&body["model"], &body["temperature"]), (&"grader".into(), &0.into()));
    assert!(body["messages"][0]["content"].as_str().unwrap().starts_with("4: yes\n1: no\n\n"));
    assert_eq!(body["messages"][1]["content"], "<question>\nWhy?\n</question>\n\n<answer>\nBecause of 0.\n</answer>");
    assert_eq!(body, request("grader", &config(&server).rubric, &texts(1)[0]));
}

#[test]
fn one_line_is_a_score_and_nothing_else_is() {
    for (reply, score) in [
        ("Score: 1", Some(1)),
        ("Score:4", Some(4)),
        ("reasons\n\nScore: 2\n", Some(2)),
        ("<think>Score: 1? Score: 2?\nScore: 1\n</think>\nScore: 3", Some(3)),
        ("Score: 0", None),
        ("Score: 5", None),
        ("Score: 3.5", None),
        ("Score: 3/4", None),
        ("Score: three", None),
        ("Score: 12", None),
        ("Score: ", None),
        ("3", None),
        ("The score: 3", None),
        ("Score: 3\nScore: 4", None),
        ("Score: 3\nScore: 3", None),
        ("", None),
    ] {
        assert_eq!(parse_score(reply, &(1..=4)), score, "{reply:?}");
    }
    assert_eq!((parse_score("Score: 0", &(0..=2)), parse_score("Score: 3", &(0..=2))), (Some(0), None));
}

#[test]
fn what_passes_is_tried_again_and_what_does_not_is_counted() {
    for (plays, requests, expected) in [
        (vec![status(429), status(500), Play::Say("Score: 2")], 3, Some(2)),
        (vec![Play::Truncated, Play::Say("Score: 2")], 2, Some(2)),
        (vec![Play::Status(503, "Retry-After: 0\r\n", String::new()), Play::Say("Score: 1")], 2, Some(1)),
        (vec![Play::Say("I would say 3"), Play::Say("Score: 3")], 2, Some(3)),
        (vec![Play::Say("I would say 3")], 2, None),
        (vec![Play::Status(200, "", "<html>".into()), Play::Say("Score: 3")], 2, Some(3)),
        (vec![Play::Status(200, "", "{\"choices\": []}".into())], 2, None),
        (vec![Play::Status(200, "", "{\"choices\": [{\"message\": {\"content\": null}}]}".into())], 2, None),
        (vec![Play::Status(200, "", " ".repeat(2 << 20))], 2, None),
        (vec![status(400)], 1, None),
        (vec![Play::Status(400, "", "{\"error\": \"no temperature here\"}".into()), Play::Say("Score: 4")], 2, Some(4)),
    ] {
        let server = Server::new(plays.clone());
        let report = run(&config(&server), &texts(1)).unwrap();
        let named = format!("{plays:?}").chars().take(200).collect::<String>();
        assert_eq!((scores(&report), server.asked().len()), (vec![expected], requests), "{named}");
        assert_eq!(
            (report.failures, report.magnitudes[0].failed),
            (usize::from(expected.is_none()), report.failures),
            "{named}"
        );
        assert_eq!(report.verdicts[0].failure.is_some(), expected.is_none(), "{named}");
    }
}

#[test]
fn one_failure_among_answers_does_not_end_the_run() {
    let plays = [Play::Say("Score: 4"), status(500), status(500), status(502), Play::Say("Score: 1")];
    let server = Server::new(plays.to_vec());
    let report = run(&config(&server), &texts(3)).unwrap();
    assert_eq!(scores(&report), [Some(4), None, Some(1)]);
    let failure = report.verdicts[1].failure.as_deref().unwrap();
    assert!(failure.ends_with("answered 502: busy (attempt 3)"), "{failure}");
}

#[test]
fn a_judge_that_never_answers_ends_the_run_after_its_attempts() {
    for (plays, expected) in [
        (vec![Play::Silence], "gave no answer in 100ms (attempt 3)"),
        (vec![Play::Truncated], "broke its answer off (attempt 3)"),
        (vec![status(500)], "answered 500: busy (attempt 3)"),
        (vec![Play::Status(429, "Retry-After: 3600\r\n", "later".into())], "answered 429: later (attempt 1)"),
    ] {
        let server = Server::new(plays);
        let mut config = config(&server);
        if expected.starts_with("gave") {
            config.patience.timeout = Duration::from_millis(100);
        }
        let error = run(&config, &texts(5)).unwrap_err();
        assert_eq!(error.exit_code(), 1);
        let message = error.to_string();
        assert!(message.starts_with("the judge at http://127.0.0.1:") && message.ends_with(expected), "{message}");
        assert!(server.asked().len() <= 3);
    }
    let server = Server::new(vec![Play::Silence]);
    let nowhere = JudgeConfig { endpoint: Endpoint::parse("http://127.0.0.1:1", NAMES).unwrap(), ..config(&server) };
    assert!(run(&nowhere, &texts(1)).unwrap_err().to_string().contains("cannot be asked"));
}

#[test]
fn a_refused_key_or_a_wrong_place_ends_the_run_at_once() {
    for (code, expected) in
        [(401, "set BIPO_JUDGE_KEY"), (403, "set BIPO_JUDGE_KEY"), (404, "the model's name"), (302, "the URL")]
    {
        let server = Server::new(vec![Play::Status(code, "Location: /elsewhere\r\n", "no".into())]);
        let error = run(&config(&server), &texts(5)).unwrap_err().to_string();
        assert!(error.contains(expected) && error.contains(&format!("answered {code}")), "{error}");
        assert_eq!(server.asked().len(), 1);
    }
}

#[test]
fn as_many_questions_are_under_way_as_may_be_and_no_more() {
    // The server answers only when three requests have come; with fewer at a time the test would not end.
    let server = Server::new(vec![Play::Together(Arc::new(Barrier::new(3)), "Score: 2")]);
    let config = JudgeConfig { concurrency: 3, ..config(&server) };
    let report = run(&config, &texts(12)).unwrap();
    assert_eq!(scores(&report), [Some(2); 12]);
    assert_eq!((server.asked().len(), server.most_at_once.load(Ordering::SeqCst)), (12, 3));
}

#[test]
fn equal_texts_are_asked_for_once_and_each_magnitude_has_its_mean() {
    let server = Server::new(vec![Play::Say("Score: 2"), Play::Say("Score: 3"), Play::Say("what?")]);
    let generation = |prompt: &str, magnitude: f32| JudgedText {
        prompt: prompt.into(),
        magnitude,
        operation: Operation::Add,
        text: "x".into(),
    };
    let generations = [generation("a", 1.0), generation("b", 1.0), generation("a", 2.0), generation("c", 2.0)];
    let report = run(&config(&server), &generations).unwrap();
    assert_eq!(scores(&report), [Some(2), Some(3), Some(2), None]);
    assert_eq!(server.asked().len(), 4, "three questions, the last of them twice");
    let [one, two] = &report.magnitudes[..] else { panic!("{:?}", report.magnitudes) };
    assert_eq!((one.magnitude, one.mean, one.scored, one.failed), (1.0, Some(2.5), 2, 0));
    assert_eq!((two.magnitude, two.mean, two.interval, two.failed), (2.0, Some(2.0), None, 1));
    // The half width is 12.706 · 0.70711 / √2, with s = 0.70711 and t(1) = 12.706.
    let [low, high] = one.interval.unwrap();
    assert!((low - (2.5 - 6.353)).abs() < 1e-3 && (high - (2.5 + 6.353)).abs() < 1e-3);
}

#[test]
fn texts_of_an_ablation_are_not_summed_up_with_those_of_an_addition() {
    let server = Server::new(vec![Play::Say("Score: 1"), Play::Say("Score: 4")]);
    // As `bipo steer --output` writes them, before it said the operation and since.
    let file = r#"[{"prompt": "a", "magnitude": 1, "text": "x"}, {"prompt": "b", "magnitude": 1, "operation": "ablate", "text": "x"}]"#;
    let generations: Vec<JudgedText> = serde_json::from_str(file).unwrap();
    let report = run(&config(&server), &generations).unwrap();
    let [added, ablated] = &report.magnitudes[..] else { panic!("{:?}", report.magnitudes) };
    assert_eq!((added.operation, added.mean), (Operation::Add, Some(1.0)));
    assert_eq!((ablated.operation, ablated.mean), (Operation::Ablate, Some(4.0)));
    assert!(serde_json::to_value(added).unwrap().get("operation").is_none());
    assert_eq!(serde_json::to_value(&report.verdicts[1]).unwrap()["operation"], "ablate");
}

#[test]
fn a_run_that_was_cut_off_asks_for_what_is_missing_alone() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("scores.jsonl");
    let server = Server::new(vec![
        Play::Say("Score: 4"),
        Play::Say("Score: 1"),
        Play::Say("no idea"),
        Play::Say("no idea"),
        status(401),
    ]);
    let config = JudgeConfig { results: Some(path.clone()), ..config(&server) };
    run(&config, &texts(5)).unwrap_err();
    assert_eq!(std::fs::read_to_string(&path).unwrap().lines().count(), 2, "what was scored is kept, what failed is not");
    // An incomplete last line is removed.
    let mut file = std::fs::OpenOptions::new().append(true).open(&path).unwrap();
    file.write_all(b"{\"key\":\"12").unwrap();
    let server = Server::new(vec![Play::Say("Score: 2")]);
    let again = JudgeConfig { endpoint: Endpoint::parse(&server.url, NAMES).unwrap(), ..config };
    let report = run(&again, &texts(5)).unwrap();
    assert_eq!(scores(&report), [Some(4), Some(1), Some(2), Some(2), Some(2)]);
    assert_eq!((server.asked().len(), report.resumed), (3, 2));
    let lines = std::fs::read_to_string(&path).unwrap();
    let records: Vec<Value> = lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!((records.len(), &records[4]["judge_model"], &records[4]["score"]), (5, &"grader".into(), &2.into()));
    // A score is not reused if the model, the rubric, the prompt or the text differs.
    let mut others = vec![JudgeConfig { model: "other".into(), ..again.clone() }];
    others.push(JudgeConfig {
        rubric: Rubric { name: "mine".into(), text: "1: no\n4: yes".into(), scale: 1..=4 },
        ..again.clone()
    });
    for other in &others {
        assert_eq!(run(other, &texts(1)).unwrap().resumed, 0);
    }
    assert_eq!(run(&again, &texts(1)).unwrap().resumed, 1);
    assert_eq!(server.asked().len(), 5);
}

#[test]
fn a_file_of_something_else_is_refused_and_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("notes.txt");
    let server = Server::new(vec![Play::Say("Score: 4")]);
    let config = JudgeConfig { results: Some(path.clone()), ..config(&server) };
    let good = r#"{"key":"a","score":1}"#;
    for (content, line) in [
        ("my notes", 1),
        ("my notes\n", 1),
        ("{\"keys\":1}", 1),
        (&format!("{good}\nnotes\n"), 2),
        (&format!("{good}\n{good}\nnotes"), 3),
        (r#"{"key":"a","score":5}"#, 0),
        ("{\"key\":\"a\",\"score\":9}\n", 1),
    ] {
        std::fs::write(&path, content).unwrap();
        // A single line without its end can be an incomplete score.
        if line == 0 {
            assert!(run(&config, &texts(1)).is_ok());
            continue;
        }
        let error = run(&config, &texts(1)).unwrap_err();
        assert!(error.to_string().contains(&format!("notes.txt: line {line} is no result of a judge")), "{content}: {error}");
        assert_eq!((error.exit_code(), std::fs::read_to_string(&path).unwrap()), (2, content.to_owned()));
    }
    assert_eq!(server.asked().len(), 1);
}

#[test]
fn the_key_is_in_its_header_and_nowhere_else() {
    const KEY: &str = "sk-very\"secret/key";
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("scores.jsonl");
    let echo = |code: u16| Play::Status(code, "", format!("you sent Bearer {KEY}"));
    let escaped = |code: u16| Play::Status(code, "", json!({"error": {"message": format!("bad key {KEY}!")}}).to_string());
    let long = Play::Status(400, "", format!("{}{KEY}", "x".repeat(190)));
    let raw = Play::Status(400, "", json!([KEY]).to_string());
    let plays = vec![
        Play::Say("Score: 4"),
        echo(400),
        escaped(422),
        long,
        raw,
        Play::Say(KEY),
        Play::Say(KEY),
        echo(200),
        echo(200),
        echo(401),
    ];
    let server = Server::new(plays);
    let key = Some(ApiKey::new(KEY).unwrap());
    let config = JudgeConfig { key, results: Some(path.clone()), ..config(&server) };
    let seven = run(&config, &texts(7)).unwrap();
    assert_eq!(seven.failures, 6);
    let error = run(&config, &texts(8)[7..]).unwrap_err();
    let seen = [
        format!("{seven:?}"),
        serde_json::to_string(&seven).unwrap(),
        format!("{error} {error:?} {config:?}"),
        std::fs::read_to_string(&path).unwrap(),
    ];
    for text in seen {
        for part in [KEY, "sk-very", "secret/key"] {
            assert!(!text.contains(part), "{part} in {text}");
        }
    }
    assert!(error.to_string().contains("you sent Bearer ***; is the key right?"), "{error}");
    let asked = server.asked();
    assert_eq!(asked.len(), 10);
    assert!(asked.iter().all(|request| request.matches(KEY).count() == 1), "{}", asked[0]);
    assert!(asked[0].to_lowercase().contains("\r\nauthorization: bearer sk-very"), "{}", asked[0]);
}

//! `bipo serve` as a client sees it, with the tiny model: answers, streams, vectors that come and go, refusals, and its end.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use bipo::steering::vector::SteeringVector;
use serde_json::{Value, json};
use tempfile::TempDir;

mod log_probs;
mod origins;
mod program;
mod refusals;

const FIXTURE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/llama");

/// A server that is stopped when it is dropped.
pub struct Server {
    child: Child,
    address: String,
    key: Option<&'static str>,
    dir: TempDir,
}

/// A vector of the tiny model, made by training for two steps.
fn vector(dir: &Path) -> PathBuf {
    let pairs = dir.join("pairs.csv");
    std::fs::write(&pairs, "prompt,chosen,rejected\nhello,yes,no\nworld,one,two\n").unwrap();
    let out = dir.join("run");
    let trained = Command::new(env!("CARGO_BIN_EXE_bipo"))
        .args(["train", "-q", "--model", FIXTURE, "--layer", "1", "--epochs", "2", "--lr", "1", "--warmup-steps", "0"])
        .args(["--dataset".as_ref(), pairs.as_os_str(), "--output-dir".as_ref(), out.as_os_str()])
        .output()
        .unwrap();
    assert!(trained.status.success());
    out.join("steering_vector.safetensors")
}

impl Server {
    pub fn start(flags: &[&str], key: Option<&'static str>) -> Self {
        Self::start_with(FIXTURE, flags, key)
    }

    fn start_with(model: &str, flags: &[&str], key: Option<&'static str>) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let vector = vector(dir.path());
        let mut command = Command::new(env!("CARGO_BIN_EXE_bipo"));
        command.args(["serve", "--model", model, "--port", "0", "--vector", &format!("v={}", vector.display())]);
        command.arg("--json").stdout(Stdio::piped());
        command.args(flags).args(key.into_iter().flat_map(|key| ["--api-key", key]));
        let mut child = command.stderr(Stdio::piped()).spawn().unwrap();
        let mut said = BufReader::new(child.stderr.take().unwrap()).lines().map_while(Result::ok);
        let serving = said.find_map(|line| line.strip_prefix("serving on http://").map(str::to_owned));
        let address = serving.expect("the server does not start").split(": ").next().unwrap().to_owned();
        let mut told = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut told).unwrap();
        let told: Value = serde_json::from_str(&told).unwrap();
        assert_eq!((&told["schema_version"], &told["url"]), (&json!(1), &json!(format!("http://{address}"))));
        // Whatever else it says must not fill the pipe.
        std::thread::spawn(move || said.for_each(drop));
        Self { child, address, key, dir }
    }

    /// Sends a request as it is. → status and body
    fn send(&self, method: &str, path: &str, kind: &str, body: &[u8]) -> (u16, String) {
        let mut stream = TcpStream::connect(&self.address).unwrap();
        let key = self.key.map_or(String::new(), |key| format!("Authorization: Bearer {key}\r\n"));
        let head = format!(
            "{method} {path} HTTP/1.1\r\nHost: {}\r\n{key}Connection: close\r\nContent-Type: {kind}\r\nContent-Length: {}\r\n\r\n",
            self.address,
            body.len()
        );
        stream.write_all(head.as_bytes()).unwrap();
        stream.write_all(body).unwrap();
        let mut reader = BufReader::new(stream);
        let (mut status, mut chunked) = (0, false);
        for line in reader.by_ref().lines() {
            let line = line.unwrap();
            if let Some(rest) = line.strip_prefix("HTTP/1.1 ") {
                status = rest[..3].parse().unwrap();
            }
            chunked |= line.eq_ignore_ascii_case("transfer-encoding: chunked");
            if line.is_empty() {
                break;
            }
        }
        let mut text = String::new();
        if !chunked {
            reader.read_to_string(&mut text).unwrap();
            return (status, text);
        }
        loop {
            let mut size = String::new();
            reader.read_line(&mut size).unwrap();
            let size = usize::from_str_radix(size.trim(), 16).unwrap();
            let mut piece = vec![0; size + 2];
            reader.read_exact(&mut piece).unwrap();
            if size == 0 {
                return (status, text);
            }
            text += std::str::from_utf8(&piece[..size]).unwrap();
        }
    }

    pub fn post(&self, path: &str, body: &Value) -> (u16, Value) {
        let (status, text) = self.send("POST", path, "application/json", body.to_string().as_bytes());
        (status, serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}")))
    }

    pub fn get(&self, path: &str) -> (u16, String) {
        self.send("GET", path, "application/json", b"")
    }

    /// The values of a stream of events.
    pub fn events(&self, path: &str, body: &Value) -> Vec<Value> {
        let (status, text) = self.send("POST", path, "application/json", body.to_string().as_bytes());
        assert_eq!(status, 200, "{text}");
        let data: Vec<&str> = text.lines().filter_map(|line| line.strip_prefix("data: ")).collect();
        assert_eq!(data.last(), Some(&"[DONE]"), "{text}");
        data[..data.len() - 1].iter().map(|data| serde_json::from_str(data).unwrap()).collect()
    }

    fn idle(&self) {
        self.until_running(0);
    }

    /// Waits until so many texts are under way and none waits.
    fn until_running(&self, count: u64) {
        let started = Instant::now();
        loop {
            let health: Value = serde_json::from_str(&self.get("/health").1).unwrap();
            if health["streams"]["running"] == count && health["streams"]["waiting"] == 0 {
                return;
            }
            assert!(started.elapsed() < Duration::from_secs(20), "{health}");
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn chat(extra: Value) -> Value {
    let mut body = json!({"messages": [{"role": "user", "content": "hello world"}], "max_tokens": 12, "temperature": 0});
    body.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
    body
}

fn content(answer: &Value) -> &str {
    answer["choices"][0]["message"]["content"].as_str().unwrap_or_else(|| panic!("{answer}"))
}

#[test]
fn each_request_is_steered_by_its_own_field_and_answers_as_steer_does() {
    let server = Server::start(&["--slots", "3"], None);
    let steer = |magnitude: &str| {
        let vector = server.dir.path().join("run/steering_vector.safetensors");
        let output = Command::new(env!("CARGO_BIN_EXE_bipo"))
            .args(["steer", "-q", "--json", "--model", FIXTURE, "--prompt", "hello world", "--max-new-tokens", "12"])
            .args(["--vector".as_ref(), vector.as_os_str(), format!("--magnitudes={magnitude}").as_ref()])
            .output()
            .unwrap();
        let document: Value = serde_json::from_slice(&output.stdout).unwrap();
        document["results"][0]["text"].as_str().unwrap().to_owned()
    };
    let expected = [0, 3, -3].map(|magnitude| steer(&magnitude.to_string()));
    assert!(expected[0] != expected[1] && expected[1] != expected[2], "{expected:?}");
    for (magnitude, expected) in [0, 3, -3].into_iter().zip(&expected) {
        for steering in
            [json!(magnitude), json!(format!("v:{magnitude}")), json!({"vectors": [{"source": "v", "scale": magnitude}]})]
        {
            let (status, answer) = server.post("/v1/chat/completions", &chat(json!({"steering": steering})));
            assert_eq!((status, content(&answer)), (200, expected.as_str()), "{steering}");
        }
    }
    let (_, sweep) = server
        .post("/v1/sweep", &json!({"prompt": "hello world", "magnitudes": [3, 0, -3], "max_tokens": 12, "temperature": 0}));
    let texts: Vec<&str> = sweep["results"].as_array().unwrap().iter().map(|result| result["text"].as_str().unwrap()).collect();
    assert_eq!(texts, [&expected[1], &expected[0], &expected[2]]);
    assert!(sweep["results"][0]["dose"].as_f64().unwrap() > 0.0 && sweep["results"][1]["dose"] == 0.0);
    // More at once than there are slots: all are answered, each as if it were alone.
    std::thread::scope(|scope| {
        let ask = |index: usize| {
            let server = &server;
            scope.spawn(move || server.post("/v1/chat/completions", &chat(json!({"steering": ([0, 3, -3][index % 3])}))))
        };
        let asked: Vec<_> = (0..9).map(ask).collect();
        for (index, asked) in asked.into_iter().enumerate() {
            assert_eq!(content(&asked.join().unwrap().1), expected[index % 3]);
        }
    });
}

#[test]
fn a_request_is_steered_only_where_its_condition_fires() {
    let dir = tempfile::tempdir().unwrap();
    let written = |name: &str, text: &str| {
        std::fs::write(dir.path().join(name), text).unwrap();
        dir.path().join(name)
    };
    let (need, rest) = (written("need.txt", "hello world\nhello you\n"), written("rest.txt", "What is it?\nNo, never.\n"));
    let found = Command::new(env!("CARGO_BIN_EXE_bipo"))
        .args(["train", "-q", "--method", "condition", "--model", FIXTURE, "--dataset"])
        .args([need.as_os_str(), "--against".as_ref(), rest.as_os_str(), "--output-dir".as_ref(), dir.path().as_os_str()])
        .output()
        .unwrap();
    assert!(found.status.success(), "{}", String::from_utf8_lossy(&found.stderr));
    let file = dir.path().join("condition.safetensors").display().to_string();
    let server = Server::start(&["--when", &format!("{file}:>1"), "--when", &format!("always={file}:>-1")], None);
    let ask = |steering: Value| server.post("/v1/chat/completions", &chat(json!({"steering": steering}))).1;
    let with = |when: Value| ask(json!({"vectors": [{"source": "v", "scale": 3}], "when": when}));
    let untouched = ask(json!(0));
    let left = ask(json!(3));
    assert_eq!((content(&left), &left["steering"]["when"]["fired"]), (content(&untouched), &json!(false)));
    assert_eq!(left["steering"]["dose"], 0.0);
    let steered = with(json!(null));
    assert!(content(&steered) != content(&untouched) && steered["steering"].get("when").is_none(), "{steered}");
    let always = with(json!("always"));
    assert_eq!((content(&always), &always["steering"]["when"]["fired"]), (content(&steered), &json!(true)));
    assert!(untouched["steering"].get("when").is_none());
    let events = server.events("/v1/chat/completions", &chat(json!({"steering": 3, "stream": true})));
    assert!(events.iter().any(|event| event["steering"]["when"]["fired"] == false), "{events:?}");
    let (_, sweep) =
        server.post("/v1/sweep", &json!({"prompt": "hello world", "magnitudes": [3], "max_tokens": 12, "temperature": 0}));
    assert_eq!(
        (&sweep["results"][0]["when"]["fired"], &sweep["results"][0]["text"]),
        (&json!(false), &json!(content(&untouched)))
    );
    let listed: Value = serde_json::from_str(&server.get("/v1/steering/vectors").1).unwrap();
    assert_eq!(listed["conditions"], json!(["always"]));
    let (status, refused) = server.post("/v1/chat/completions", &chat(json!({"steering": {"vectors": [], "when": "never"}})));
    assert_eq!(status, 400);
    assert!(refused["error"]["message"].as_str().unwrap().contains("no condition \"never\": known: always"), "{refused}");
    let condition = std::fs::read(&file).unwrap();
    let (status, refused) = server.send("POST", "/v1/steering/vectors?name=c", "application/octet-stream", &condition);
    assert!(status == 400 && refused.contains("it is a condition"), "{status} {refused}");
}

#[test]
fn a_stream_adds_up_to_the_whole_answer() {
    let server = Server::start(&[], None);
    let body = chat(json!({"steering": 2, "logprobs": true, "top_logprobs": 2}));
    let (_, whole) = server.post("/v1/chat/completions", &body);
    let mut streamed = body.clone();
    streamed["stream"] = true.into();
    streamed["stream_options"] = json!({"include_usage": true});
    let events = server.events("/v1/chat/completions", &streamed);
    let text: String = events.iter().filter_map(|event| event["choices"][0]["delta"]["content"].as_str()).collect();
    assert_eq!(text, content(&whole));
    assert_eq!(events.last().unwrap()["usage"], whole["usage"]);
    let tokens = |event: &Value| event["choices"][0]["logprobs"]["content"].as_array().cloned().unwrap_or_default();
    let streamed: Vec<Value> = events.iter().flat_map(tokens).collect();
    assert_eq!(streamed.len(), tokens(&whole).len());
    for (streamed, whole) in streamed.iter().zip(tokens(&whole)) {
        let difference = streamed["logprob"].as_f64().unwrap() - whole["logprob"].as_f64().unwrap();
        assert!(streamed["token"] == whole["token"] && difference == 0.0, "{streamed} is not {whole}");
    }
    assert!(streamed.iter().all(|token| token["top_logprobs"].as_array().unwrap().len() == 2));
    let steering = events.iter().find_map(|event| event.get("steering")).unwrap();
    assert!((steering["dose"].as_f64().unwrap() - whole["steering"]["dose"].as_f64().unwrap()).abs() < 1e-6);
    assert_eq!(steering["applied"][0], json!({"vector": "v", "magnitude": 2.0, "layers": [1]}));
    // A text that ends where a stop would begin is cut before it.
    let middle = content(&whole).char_indices().nth(content(&whole).chars().count() / 2).unwrap().0;
    let stop = &content(&whole)[middle..];
    let (_, cut) = server.post("/v1/chat/completions", &chat(json!({"steering": 2, "stop": stop})));
    assert_eq!(
        (content(&cut), &cut["choices"][0]["finish_reason"]),
        (content(&whole).strip_suffix(stop).unwrap(), &json!("stop"))
    );
    assert!(cut["steering"]["dose"].as_f64().unwrap() > 0.0);
}

#[test]
fn a_sweep_that_is_streamed_adds_up_to_the_whole_one() {
    let server = Server::start(&[], None);
    let body = json!({"prompt": "hello world", "magnitudes": [3, 0, -3], "max_tokens": 12, "temperature": 0});
    let (_, whole) = server.post("/v1/sweep", &body);
    let mut streamed = body;
    streamed["stream"] = true.into();
    streamed["stream_options"] = json!({"include_usage": true});
    let events = server.events("/v1/sweep", &streamed);
    for (index, whole) in whole["results"].as_array().unwrap().iter().enumerate() {
        let own: Vec<&Value> = events.iter().filter(|event| event["index"] == index).collect();
        let text: String = own.iter().filter_map(|event| event["delta"].as_str()).collect();
        let last = own.last().unwrap();
        assert_eq!((text.as_str(), &last["finish_reason"]), (whole["text"].as_str().unwrap(), &whole["finish_reason"]));
        assert_eq!(last["tokens"], whole["token_ids"].as_array().unwrap().len());
        assert!(own.iter().all(|event| event["magnitude"] == whole["magnitude"]), "{own:?}");
    }
    // All magnitudes are under way at once: each begins before one has ended.
    let ended = events.iter().position(|event| event.get("finish_reason").is_some()).unwrap();
    for index in 0..3 {
        assert!(events[..ended].iter().any(|event| event["index"] == index), "{events:?}");
    }
    assert_eq!(events.last().unwrap()["usage"], whole["usage"]);
}

#[test]
fn an_answer_is_as_long_as_either_name_of_its_limit_allows() {
    let server = Server::start(&[], None);
    // No text ends by itself.
    let no_end: Value = Value::Object((0..3).map(|id| (id.to_string(), json!(-100))).collect());
    let tokens = |limit: Value| {
        let mut body = chat(json!({"logit_bias": no_end}));
        body.as_object_mut().unwrap().remove("max_tokens");
        body.as_object_mut().unwrap().extend(limit.as_object().unwrap().clone());
        let (status, answer) = server.post("/v1/chat/completions", &body);
        assert_eq!(status, 200, "{answer}");
        (answer["usage"]["completion_tokens"].as_u64().unwrap(), answer["choices"][0]["finish_reason"].clone())
    };
    assert_eq!(tokens(json!({"max_tokens": 5})), (5, json!("length")));
    assert_eq!(tokens(json!({"max_completion_tokens": 7})), (7, json!("length")));
    // The newer name counts where both are given.
    assert_eq!(tokens(json!({"max_tokens": 5, "max_completion_tokens": 7})), (7, json!("length")));
}

#[test]
fn a_thought_stands_apart_from_the_answer() {
    let template = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/cases/templates/open-think.jinja");
    let thinking = Server::start(&["--template", template, "--template-var", "enable_thinking=true"], None);
    // The model never closes the thought that the prompt opens.
    let body = chat(json!({"steering": 1, "logprobs": true}));
    let (_, answer) = thinking.post("/v1/chat/completions", &body);
    let message = &answer["choices"][0]["message"];
    let thought = message["reasoning_content"].as_str().unwrap_or_else(|| panic!("{answer}"));
    assert!(content(&answer).is_empty() && !thought.is_empty(), "{answer}");
    let mut streamed = body.clone();
    streamed["stream"] = true.into();
    let events = thinking.events("/v1/chat/completions", &streamed);
    let all =
        |name: &str| -> String { events.iter().filter_map(|event| event["choices"][0]["delta"][name].as_str()).collect() };
    assert_eq!((all("reasoning_content").as_str(), all("content").as_str()), (thought, ""));
    let tokens = |event: &Value| event["choices"][0]["logprobs"]["content"].as_array().map_or(0, Vec::len);
    assert_eq!(events.iter().map(tokens).sum::<usize>(), tokens(&answer));
    // Where the template closes it, the same template gives an answer.
    let closed = Server::start(&["--template", template], None);
    let (_, answer) = closed.post("/v1/chat/completions", &body);
    assert!(!content(&answer).is_empty() && answer["choices"][0]["message"].get("reasoning_content").is_none(), "{answer}");
}

#[test]
fn vectors_come_and_go_while_requests_run() {
    let server = Server::start(&[], None);
    let bytes = std::fs::read(server.dir.path().join("run/steering_vector.safetensors")).unwrap();
    let upload = |name: &str, bytes: &[u8]| {
        let (status, text) =
            server.send("POST", &format!("/v1/steering/vectors?name={name}"), "application/octet-stream", bytes);
        (status, serde_json::from_str::<Value>(&text).unwrap())
    };
    let (status, added) = upload("other", &bytes);
    assert_eq!((status, &added["layers"], &added["default"]), (201, &json!([1]), &json!(false)));
    assert_eq!(upload("other", &bytes).0, 409);
    assert_eq!(upload("a:b", &bytes).0, 400);
    let (status, refused) = upload("broken", &bytes[..100]);
    let line = refused["error"]["message"].as_str().unwrap();
    assert!(status == 400 && !line.contains('/'), "a path of the machine: {line}");
    let answer =
        |steering: &str| content(&server.post("/v1/chat/completions", &chat(json!({"steering": steering}))).1).to_owned();
    assert_eq!(answer("v:3"), answer("other:3"));
    assert_eq!(answer("v:3 - other:3"), answer(""));
    let (_, models) = server.get("/v1/models");
    let models: Value = serde_json::from_str(&models).unwrap();
    // Of the model's path its last part alone.
    assert_eq!(models["data"][2]["id"], "llama::other");
    assert_eq!(server.get("/v1/models/llama::other").0, 200);
    assert_eq!(server.send("DELETE", "/v1/steering/vectors/other", "", b"").0, 200);
    assert_eq!(server.send("DELETE", "/v1/steering/vectors/other", "", b"").0, 404);
    let (status, refused) = server.post("/v1/chat/completions", &chat(json!({"steering": "other"})));
    assert_eq!((status, &refused["error"]["param"]), (400, &json!("steering")));
    let (_, valid) = server.post("/v1/steering/validate", &json!({"steering": "v - 0.5 v"}));
    assert_eq!((&valid["valid"], &valid["expression"]), (&json!(true), &json!("v:0.5")));
    let (_, scored) = server.post("/v1/score", &json!({"text": "hello world", "vector": "v"}));
    let tokens = scored["tokens"].as_array().unwrap();
    assert!(tokens[0]["logprob"].is_null() && tokens[1]["logprob"].as_f64().unwrap() < 0.0, "{scored}");
    assert_ne!(tokens[1]["logprob"], tokens[1]["steered_logprob"]);
    assert_eq!(server.get("/v1/steering/curve").0, 204);
}

#[test]
fn a_text_under_way_keeps_the_vector_that_it_began_with() {
    let server = Server::start(&[], None);
    let mut other = SteeringVector::read(&server.dir.path().join("run/steering_vector.safetensors"), None).unwrap();
    other.layers.values_mut().flatten().for_each(|x| *x = -*x);
    let path = server.dir.path().join("other.safetensors");
    other.write(&path).unwrap();
    let bytes = std::fs::read(path).unwrap();
    // Many texts that do not end by themselves: they take a hundred times as long as the requests that change the vector.
    let no_end: Value = Value::Object((0..3).map(|id| (id.to_string(), json!(-100))).collect());
    let body = chat(json!({"steering": "v:3", "logit_bias": no_end, "max_tokens": 450, "n": 16}));
    let (_, expected) = server.post("/v1/chat/completions", &body);
    let mut streamed = body.clone();
    streamed["stream"] = true.into();
    let streamed = streamed.to_string();
    let mut connection = TcpStream::connect(&server.address).unwrap();
    let head =
        "POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Type: application/json\r\n";
    write!(connection, "{head}Content-Length: {}\r\n\r\n{streamed}", streamed.len()).unwrap();
    let mut lines = BufReader::new(connection).lines().map_while(Result::ok).filter(|line| line.starts_with("data: {"));
    let first = lines.next().unwrap();
    // Another vector takes the name.
    assert_eq!(server.send("DELETE", "/v1/steering/vectors/v", "", b"").0, 200);
    assert_eq!(server.send("POST", "/v1/steering/vectors?name=v", "application/octet-stream", &bytes).0, 201);
    let health: Value = serde_json::from_str(&server.get("/health").1).unwrap();
    assert_eq!(health["streams"]["running"], 16, "the texts ended before the vector changed");
    let event = |line: String| serde_json::from_str::<Value>(line.strip_prefix("data: ").unwrap()).unwrap();
    let events: Vec<Value> = std::iter::once(first).chain(lines).map(event).collect();
    let own = events.iter().map(|event| &event["choices"][0]).filter(|choice| choice["index"] == 0);
    let text: String = own.filter_map(|choice| choice["delta"]["content"].as_str()).collect();
    assert_eq!(text, content(&expected));
    // The next request has the other vector.
    assert_ne!(content(&server.post("/v1/chat/completions", &body).1), content(&expected));
}

#[test]
fn a_raw_prompt_is_steered_at_its_last_token_and_refused_where_positions_count_from_a_template() {
    let server = Server::start(&[], None);
    let mut vector = SteeringVector::read(&server.dir.path().join("run/steering_vector.safetensors"), None).unwrap();
    let register = |name: &str, vector: &SteeringVector| {
        let path = server.dir.path().join("other.safetensors");
        vector.write(&path).unwrap();
        let (address, bytes) = (format!("/v1/steering/vectors?name={name}"), std::fs::read(path).unwrap());
        assert_eq!(server.send("POST", &address, "application/octet-stream", &bytes).0, 201);
    };
    for (name, positions) in [("tail", "last+response"), ("response", "response"), ("two", "last:2"), ("first", "first:1")] {
        vector.metadata.positions = positions.parse().unwrap();
        register(name, &vector);
    }
    for prompt in [json!("hello world"), json!([1, 5, 6, 7])] {
        let answer = |steering: &str| {
            let body = json!({"prompt": prompt, "max_tokens": 1, "temperature": 0, "logprobs": 1, "steering": steering});
            server.post("/v1/completions", &body)
        };
        let log_probs = |steering: &str| {
            let (status, answer) = answer(steering);
            assert_eq!(status, 200, "{answer}");
            answer["choices"][0]["logprobs"].clone()
        };
        // The first token that is generated is predicted from the prompt's last.
        assert_eq!(log_probs("response:2"), log_probs("v:0"));
        assert_ne!(log_probs("tail:2"), log_probs("v:0"));
        for name in ["two:2", "first:2"] {
            let (status, refused) = answer(name);
            assert_eq!((status, &refused["error"]["param"]), (400, &json!("prompt")), "{refused}");
            assert!(refused["error"]["message"].as_str().unwrap().contains("send messages"), "{refused}");
        }
    }
    for name in ["two:2", "first:2"] {
        assert_eq!(server.post("/v1/chat/completions", &chat(json!({"steering": name}))).0, 200);
        // Scores are of every token, wherever a vector is added to generate.
        assert_eq!(server.post("/v1/score", &json!({"text": "hello world", "steering": name})).0, 200);
    }
}

#[test]
fn what_is_wrong_is_refused_in_openais_form() {
    let mut server = Server::start(&["--queue", "0", "--slots", "1"], Some("secret"));
    let refused = |body: Value, expected: &str| {
        let (status, answer) = server.post("/v1/chat/completions", &body);
        let line = answer["error"]["message"].as_str().unwrap_or_else(|| panic!("{body}: {answer}"));
        assert!(status == 400 && line.contains(expected), "{body}: {status} {line}");
    };
    refused(json!({}), "missing field `messages`");
    refused(json!({"messages": []}), "expected at least one");
    refused(json!({"messages": [{"role": "user", "content": [{"type": "image_url"}]}]}), "only parts of type text");
    refused(chat(json!({"temperature": 9})), "from 0.000001 to 2");
    refused(chat(json!({"n": 0})), "expected 1 to 16");
    refused(chat(json!({"steering": 3e38})), "not finite");
    refused(chat(json!({"steering": {"vectors": [], "x": 1}})), "unknown key steering.x");
    refused(chat(json!({"logit_bias": {"abc": 1}})), "expected token ids");
    let long = "hello ".repeat(5000);
    refused(json!({"messages": [{"role": "user", "content": long}]}), "shorten it");
    for (status, name, size) in [(400, "big", 3 << 20), (400, "%FF", 1)] {
        let path = format!("/v1/steering/vectors?name={name}");
        let (found, answer) = server.send("POST", &path, "application/octet-stream", &vec![b'x'; size]);
        let answer: Value = serde_json::from_str(&answer).unwrap_or_else(|error| panic!("{error}: {answer}"));
        assert!(found == status && answer["error"]["message"].is_string(), "{path}: {found} {answer}");
    }
    let mut too_large = TcpStream::connect(&server.address).unwrap();
    let head = "POST /v1/score HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer secret\r\nContent-Length: 40000000\r\n\r\n";
    too_large.write_all(head.as_bytes()).unwrap();
    let mut piece = [0; 1024];
    let read = too_large.read(&mut piece).unwrap();
    let answer = String::from_utf8_lossy(&piece[..read]).into_owned();
    assert!(answer.starts_with("HTTP/1.1 413") && answer.contains("\"error\""), "{answer}");
    assert_eq!(server.send("POST", "/v1/chat/completions", "text/plain", b"{}").0, 415);
    assert_eq!(server.send("GET", "/v1/chat/completions", "", b"").0, 405);
    assert_eq!(server.get("/nowhere").0, 404);
    assert_eq!(server.send("POST", "/v1/chat/completions", "application/json", b"{\"mess").0, 400);
    server.key = Some("wrong");
    for path in ["/", "/v1/models", "/metrics"] {
        assert_eq!(server.get(path).0, 401, "{path}");
    }
    assert_eq!(server.get("/health").0, 200);
}

#[test]
fn a_client_that_leaves_frees_its_place_and_a_full_server_says_so() {
    let server = Server::start(&["--queue", "1", "--slots", "1"], None);
    let send = |stream: bool| {
        let mut connection = TcpStream::connect(&server.address).unwrap();
        // A text that does not end by itself soon.
        let no_end: Value = Value::Object((0..3).map(|id| (id.to_string(), json!(-100))).collect());
        let body = chat(json!({"stream": stream, "max_tokens": 100_000, "logit_bias": no_end})).to_string();
        let head = "POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n";
        write!(connection, "{head}Content-Length: {}\r\n\r\n{body}", body.len()).unwrap();
        connection
    };
    let answer = |connection: &mut TcpStream| {
        let mut piece = [0; 512];
        let read = connection.read(&mut piece).unwrap();
        String::from_utf8_lossy(&piece[..read]).into_owned()
    };
    let mut first = send(true);
    assert!(answer(&mut first).starts_with("HTTP/1.1 200"));
    drop(first);
    server.idle();
    // A client that waits for a whole answer is found to have gone as well.
    let second = send(false);
    server.until_running(1);
    drop(second);
    server.idle();
    let (_, metrics) = server.get("/metrics");
    assert!(metrics.contains("bipo_cancelled_texts_total 2") && metrics.contains("bipo_generated_tokens_total"), "{metrics}");
    // More at once than may run and wait.
    let many: Vec<TcpStream> = (0..12).map(|_| send(true)).collect();
    let answers: Vec<String> = many.into_iter().map(|mut connection| answer(&mut connection)).collect();
    let refused = answers.iter().filter(|answer| answer.starts_with("HTTP/1.1 429"));
    assert!(refused.clone().count() > 0 && answers.iter().any(|answer| answer.starts_with("HTTP/1.1 200")), "{answers:?}");
    assert!(refused.clone().all(|answer| answer.to_lowercase().contains("retry-after: 1")), "{answers:?}");
    server.idle();
}

#[test]
fn the_page_and_its_files_are_there_and_nothing_else() {
    let server = Server::start(&[], None);
    let (status, page) = server.get("/");
    assert_eq!(status, 200);
    assert!(page.contains("/playground/app.js"));
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/serve/playground");
    for file in std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()) {
        let expected = if file == "index.html" { 404 } else { 200 };
        assert_eq!(server.get(&format!("/playground/{file}")).0, expected, "{file}");
    }
    assert_eq!(server.get("/playground/none.js").0, 404);
    let other_name = |host: &str| {
        let mut stream = TcpStream::connect(&server.address).unwrap();
        write!(stream, "GET / HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n").unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).unwrap();
        text[9..12].to_owned()
    };
    // A site whose name leads here is not this machine's.
    assert_eq!([other_name("localhost"), other_name("evil.example")], ["200", "403"]);
    let (_, api) = server.get("/openapi.json");
    let api: Value = serde_json::from_str(&api).unwrap();
    let fields = &api["components"]["schemas"]["ChatRequest"]["allOf"];
    assert!(fields[1]["properties"]["messages"].is_object(), "{api}");
    assert_eq!(fields[0]["$ref"], "#/components/schemas/Sampling");
}

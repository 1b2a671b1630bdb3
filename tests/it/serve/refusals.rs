//! What a request cannot do to the server and to others, and how it is refused.

use super::*;

/// Not finite numbers are told as none, or refused.
const ANY_BUT_500: u16 = 0;

/// A text that does not end by itself soon.
fn endless() -> Value {
    let no_end: Value = Value::Object((0..3).map(|id| (id.to_string(), json!(-100))).collect());
    chat(json!({"stream": true, "max_tokens": 100_000, "logit_bias": no_end}))
}

/// A stream of events that is read piece by piece.
pub(super) struct Events(BufReader<TcpStream>);

impl Server {
    /// Asks for a stream, of which the first piece has come.
    pub(super) fn open(&self, body: &Value) -> Events {
        let mut stream = TcpStream::connect(&self.address).unwrap();
        let body = body.to_string();
        let head = "POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n";
        write!(stream, "{head}Connection: close\r\nContent-Length: {}\r\n\r\n{body}", body.len()).unwrap();
        let mut events = Events(BufReader::new(stream));
        assert!(events.next().is_some());
        events
    }
}

impl Iterator for Events {
    type Item = String;

    /// The data of the next event; none where the connection has ended.
    fn next(&mut self) -> Option<String> {
        let mut line = String::new();
        while self.0.read_line(&mut line).unwrap() > 0 {
            if let Some(data) = line.trim_end().strip_prefix("data: ") {
                return Some(data.to_owned());
            }
            line.clear();
        }
        None
    }
}

#[test]
fn no_number_of_a_request_ends_the_server_or_the_stream_of_another() {
    let server = Server::start(&["--slots", "4"], None);
    let mut stream = server.open(&endless());
    let prompts: Vec<&str> = vec!["a"; 65_536];
    for (path, body, status) in [
        ("/v1/completions", json!({"prompt": prompts, "n": 281_474_976_710_656_u64}), 400),
        ("/v1/completions", json!({"prompt": ["a", "b"], "n": 1_u64 << 63}), 400),
        ("/v1/completions", json!({"prompt": ["a", "b"], "n": 9}), 400),
        ("/v1/chat/completions", chat(json!({"temperature": 1e-40})), 400),
        ("/v1/chat/completions", chat(json!({"temperature": 1e-6})), 200),
        ("/v1/chat/completions", chat(json!({"temperature": -0.0})), 200),
        ("/v1/chat/completions", chat(json!({"temperature": 2, "top_p": 1e-320, "top_k": u32::MAX})), 200),
        ("/v1/chat/completions", chat(json!({"temperature": 1, "top_p": 1.1})), 400),
        ("/v1/chat/completions", chat(json!({"logit_bias": {"5": 1e38}})), 400),
        ("/v1/chat/completions", chat(json!({"logit_bias": {"5": 1e39}})), 400),
        ("/v1/chat/completions", chat(json!({"logit_bias": {"99999999": 1}})), 400),
        ("/v1/chat/completions", chat(json!({"logprobs": true, "top_logprobs": 1_u64 << 63})), 400),
        ("/v1/chat/completions", chat(json!({"max_tokens": u64::MAX})), 200),
        ("/v1/chat/completions", chat(json!({"seed": i64::MIN})), 200),
        ("/v1/chat/completions", chat(json!({"steering": 1e300})), 400),
        ("/v1/chat/completions", chat(json!({"steering": "v:3e38 + v:3e38"})), 400),
        ("/v1/chat/completions", chat(json!({"steering": "1e30 v:1e30"})), 400),
        ("/v1/chat/completions", chat(json!({"steering": {"vectors": [{"source": "v", "scale": 1e300}]}})), 400),
        ("/v1/sweep", json!({"prompt": "a", "magnitudes": [1e300], "max_tokens": 2}), 400),
        ("/v1/sweep", json!({"prompt": "a", "magnitudes": [1e30], "steering": "v:1e30", "max_tokens": 2}), 400),
        ("/v1/sweep", json!({"prompt": "a", "magnitudes": [3e38, 1], "max_tokens": 2}), 200),
        ("/v1/score", json!({"text": "hello", "steering": 3e38}), ANY_BUT_500),
        ("/v1/score", json!({"text": "hello", "steering": 1e39}), 400),
    ] {
        let (found, answer) = server.post(path, &body);
        let told: String = body.to_string().chars().take(200).collect();
        assert!(found == status || (status == ANY_BUT_500 && found < 500), "{path} {told}: {found} {answer}");
        assert!(found == 200 || answer["error"]["message"].as_str().unwrap().lines().count() == 1, "{answer}");
    }
    let last = stream.by_ref().last().unwrap();
    assert_eq!(last, "[DONE]");
    let (_, metrics) = server.get("/metrics");
    assert!(!metrics.contains("bipo_errors_total"), "{metrics}");
}

#[test]
fn what_a_client_leaves_out_as_null_or_adds_is_ignored() {
    let server = Server::start(&[], None);
    let (_, plain) = server.post("/v1/chat/completions", &chat(json!({})));
    let extra = json!({
        "stream": null, "stream_options": null, "n": null, "stop": null, "temperature": 0, "top_p": null, "seed": null,
        "logit_bias": null, "logprobs": null, "top_logprobs": null, "tools": null, "steering": null, "frequency_penalty": null,
        "user": "someone", "store": true, "metadata": {"a": "b"}, "service_tier": "auto", "nonsense": [1, {"a": null}],
    });
    let (status, answer) = server.post("/v1/chat/completions", &chat(extra));
    assert_eq!((status, content(&answer)), (200, content(&plain)), "{answer}");
    let events =
        server.events("/v1/chat/completions", &chat(json!({"stream": true, "stream_options": {"include_usage": null}})));
    assert!(events.iter().all(|event| event["choices"].as_array().unwrap().len() == 1), "{events:?}");
}

#[test]
fn a_refusal_names_the_field_and_what_libraries_refuse_has_openais_form() {
    let server = Server::start(&[], None);
    for (body, param) in [
        (json!({}), "messages"),
        (json!({"messages": "hello"}), "messages"),
        (chat(json!({"temperature": "hot"})), "temperature"),
        (chat(json!({"max_tokens": -1})), "max_tokens"),
        (chat(json!({"n": 1.5})), "n"),
        (chat(json!({"stream": "yes"})), "stream"),
        (chat(json!({"stream_options": {"include_usage": 1}})), "stream_options"),
        (chat(json!({"n": 0})), "n"),
        (chat(json!({"temperature": 3})), "temperature"),
        (chat(json!({"logprobs": true, "top_logprobs": 21})), "top_logprobs"),
        (chat(json!({"top_logprobs": -1, "temperature": 3})), "top_logprobs"),
    ] {
        let (status, answer) = server.post("/v1/chat/completions", &body);
        assert_eq!((status, &answer["error"]["param"]), (400, &json!(param)), "{body}: {answer}");
        assert!(answer["error"]["message"].as_str().unwrap().contains(param), "{answer}");
    }
    let ask = |address: &str, headers: usize| {
        let mut stream = TcpStream::connect(&server.address).unwrap();
        let headers: String = (0..headers).map(|header| format!("X-{header}: a\r\n")).collect();
        write!(stream, "GET {address} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n{headers}\r\n").unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).unwrap();
        let (head, body) = text.split_once("\r\n\r\n").unwrap();
        (head[9..12].to_owned(), serde_json::from_str::<Value>(body).unwrap_or_default()["error"]["message"].is_string())
    };
    assert_eq!(ask("/health", 62), ("200".into(), false));
    assert_eq!(ask("/health", 63), ("431".into(), true));
    // The HTTP library's own limit, which says nothing.
    assert_eq!(ask("/health", 300), ("431".into(), false));
    assert_eq!(ask(&format!("/{}", "a".repeat(9000)), 0), ("414".into(), true));
    assert_eq!(ask(&format!("/{}", "a".repeat(70_000)), 0), ("414".into(), false));
}

#[test]
fn texts_to_score_count_as_texts_that_wait() {
    let server = Server::start(&["--queue", "0", "--slots", "1"], None);
    let stream = server.open(&endless());
    let (status, refused) = server.post("/v1/score", &json!({"text": "hello world"}));
    assert_eq!((status, &refused["error"]["type"]), (429, &json!("rate_limit_error")));
    drop(stream);
    server.idle();
    assert_eq!(server.post("/v1/score", &json!({"text": "hello world"})).0, 200);
    server.idle();
}

#[test]
fn the_number_of_vectors_is_bounded() {
    let server = Server::start(&[], None);
    let bytes = std::fs::read(server.dir.path().join("run/steering_vector.safetensors")).unwrap();
    let upload =
        |name: &str| server.send("POST", &format!("/v1/steering/vectors?name={name}"), "application/octet-stream", &bytes);
    for index in 1..256 {
        assert_eq!(upload(&format!("v{index}")).0, 201);
    }
    let (status, refused) = upload("more");
    assert!(status == 409 && refused.contains("at most 256 vectors") && refused.contains("remove one"), "{refused}");
    assert_eq!(server.send("DELETE", "/v1/steering/vectors/v7", "", b"").0, 200);
    assert_eq!(upload("more").0, 201);
}

#[test]
fn what_an_evaluation_says_has_no_folder_of_the_machine() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("eval.json");
    let typed = dir.path().join("v.safetensors:0.5").display().to_string();
    let evaluation = json!({"schema_version": 2, "settings": {"model": "m", "vector": [typed], "ended_early": typed}, "rows": [{"magnitude": 1.0}]});
    std::fs::write(&file, evaluation.to_string()).unwrap();
    let server = Server::start(&["--eval", file.to_str().unwrap()], None);
    let curve: Value = serde_json::from_str(&server.get("/v1/steering/curve").1).unwrap();
    assert_eq!((&curve["settings"]["vector"], &curve["rows"]), (&json!(["v.safetensors:0.5"]), &evaluation["rows"]));
    assert_eq!(curve["settings"]["ended_early"], json!(true));
    assert!(!curve.to_string().contains(dir.path().to_str().unwrap()), "{curve}");
}

#[test]
fn what_a_template_refuses_has_no_folder_of_the_machine() {
    let dir = tempfile::tempdir().unwrap();
    let template = dir.path().join("picky.jinja");
    let source =
        "{% for m in messages %}{% if m.role == 'system' %}{{ raise_exception('no') }}{% endif %}{{ m.content }}{% endfor %}";
    std::fs::write(&template, source).unwrap();
    let server = Server::start(&["--template", template.to_str().unwrap()], None);
    let messages = json!([{"role": "system", "content": "s"}, {"role": "user", "content": "u"}]);
    let (status, refused) = server.post("/v1/chat/completions", &json!({"messages": messages, "max_tokens": 1}));
    let problem = refused["error"]["message"].as_str().unwrap();
    assert!(status == 400 && problem.contains("picky.jinja") && !problem.contains('/'), "{problem}");
}

#[test]
fn too_little_memory_for_keys_and_values_is_refused_in_a_line() {
    let output =
        Command::new(env!("CARGO_BIN_EXE_bipo")).args(["serve", "--model", FIXTURE, "--kv-memory", "1kB"]).output().unwrap();
    let line = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.code() == Some(2) && line.contains("give more with --kv-memory"), "{line}");
    assert_eq!(line.lines().count(), 1);
}

#[test]
fn openapi_describes_every_address_its_refusals_and_the_key() {
    let server = Server::start(&[], None);
    let api: Value = serde_json::from_str(&server.get("/openapi.json").1).unwrap();
    let of = |path: &str, method: &str| &api["paths"][path][method];
    for (path, method, status) in [
        ("/v1/chat/completions", "post", "429"),
        ("/v1/score", "post", "429"),
        ("/v1/models/{id}", "get", "404"),
        ("/v1/steering/vectors", "get", "401"),
        ("/v1/steering/vectors", "post", "409"),
        ("/v1/steering/vectors/{name}", "delete", "404"),
        ("/v1/steering/curve", "get", "204"),
    ] {
        assert!(of(path, method)["responses"][status]["description"].is_string(), "{path} {status}: {api}");
    }
    assert_eq!(of("/v1/steering/curve", "get")["parameters"][0]["name"], "vector");
    assert_eq!(of("/v1/models/{id}", "get")["parameters"][0]["name"], "id");
    assert_eq!(api["components"]["securitySchemes"]["key"]["scheme"], "bearer");
    assert!(of("/health", "get")["responses"].get("401").is_none());
}

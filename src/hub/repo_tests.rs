//! Tests of `repo`. A server on the loopback interface plays the hub.

use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

use tempfile::TempDir;

use super::*;

const CONFIG_TEXT: &str = r#"{"model_type": "llama", "hidden_size": 8, "intermediate_size": 8, "vocab_size": 8,
    "num_hidden_layers": 1, "num_attention_heads": 2}"#;

const SHA: &str = "0123456789abcdef0123456789abcdef01234567";

/// A repository `o/m` in which each file is a text, or a status that the server answers with.
struct Server {
    endpoint: String,
    asked: Arc<Mutex<Vec<String>>>,
}

fn serve(listing: u16, files: &[(&'static str, Result<&'static str, u16>)]) -> Server {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let endpoint = format!("http://{}", listener.local_addr().unwrap());
    let asked = Arc::new(Mutex::new(Vec::new()));
    let (log, files) = (asked.clone(), files.to_vec());
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let Some(path) = stream.as_ref().ok().and_then(read_request) else { continue };
            let siblings: Vec<_> = files.iter().map(|(name, _)| format!(r#"{{"rfilename": "{name}"}}"#)).collect();
            let listed = format!(r#"{{"sha": "{SHA}", "siblings": [{}]}}"#, siblings.join(","));
            let answer = if path.starts_with("/api/models/o/m/revision/") {
                if listing == 200 { Ok(listed) } else { Err(listing) }
            } else {
                let name = path.rsplit('/').next().unwrap_or_default().to_owned();
                let file = files.iter().find(|(file, _)| *file == name);
                log.lock().unwrap().push(name);
                file.map_or(Err(404), |(_, text)| text.map(str::to_owned))
            };
            answer_with(stream.unwrap(), &path, answer);
        }
    });
    Server { endpoint, asked }
}

/// Reads a request to the end of its headers, and returns its path.
fn read_request(stream: &TcpStream) -> Option<String> {
    let mut lines = BufReader::new(stream).lines();
    let first = lines.next()?.ok()?;
    lines.find(|line| line.as_ref().is_ok_and(String::is_empty));
    first.split(' ').nth(1).map(str::to_owned)
}

fn answer_with(mut stream: TcpStream, path: &str, answer: Result<String, u16>) {
    let text = match answer {
        Ok(text) => format!(
            "HTTP/1.1 200 OK\r\nContent-Length: {0}\r\nContent-Range: bytes 0-0/{0}\r\nETag: \"{1}\"\r\nx-repo-commit: {SHA}\r\n\
             Connection: close\r\n\r\n{text}",
            text.len(),
            path.replace('/', "-"),
        ),
        Err(status) => format!("HTTP/1.1 {status} No\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"),
    };
    let _ = stream.write_all(text.as_bytes());
}

fn hub(endpoint: &str, cache: &TempDir) -> Hub {
    let cache = cache.path().join("hub");
    Hub { endpoint: endpoint.to_owned(), cache, token: None, offline: false, progress: None, patience: Duration::from_secs(60) }
}

fn id() -> RepoId {
    RepoId { repo: "o/m".to_owned(), revision: None }
}

const WHOLE: [(&str, Result<&str, u16>); 6] = [
    ("README.md", Ok("not needed")),
    ("config.json", Ok(CONFIG_TEXT)),
    ("model.safetensors", Ok("weights")),
    ("pytorch_model.bin", Ok("not needed")),
    ("tokenizer.json", Ok("{}")),
    ("tokenizer_config.json", Ok("{}")),
];

#[test]
fn only_the_needed_files_are_downloaded_and_only_once() {
    let cache = TempDir::new().unwrap();
    let server = serve(200, &WHOLE);
    let hub = hub(&server.endpoint, &cache);
    let checkpoint = hub.fetch(&id()).unwrap();
    let Checkpoint::Safetensors { shards, tokenizer_config, generation_config, .. } = &checkpoint else {
        panic!("not safetensors")
    };
    assert_eq!(std::fs::read_to_string(&shards[0]).unwrap(), "weights");
    assert!(tokenizer_config.is_some() && generation_config.is_none());
    let mut asked = server.asked.lock().unwrap().clone();
    asked.dedup(); // a request for the size, one for the content
    assert_eq!(asked, ["config.json", "tokenizer.json", "tokenizer_config.json", "model.safetensors"]);

    server.asked.lock().unwrap().clear();
    assert_eq!(hub.fetch(&id()).unwrap(), checkpoint);
    assert!(server.asked.lock().unwrap().is_empty());
}

#[test]
fn an_index_brings_its_shards() {
    let index = r#"{"weight_map": {"a": "one.safetensors", "b": "two.safetensors"}}"#;
    let mut files = WHOLE.to_vec();
    files.retain(|(name, _)| *name != "model.safetensors");
    files.extend([("model.safetensors.index.json", Ok(index)), ("one.safetensors", Ok("1")), ("two.safetensors", Ok("2"))]);
    let cache = TempDir::new().unwrap();
    let Checkpoint::Safetensors { shards, .. } = hub(&serve(200, &files).endpoint, &cache).fetch(&id()).unwrap() else {
        panic!("not safetensors")
    };
    let texts: Vec<_> = shards.iter().map(|shard| std::fs::read_to_string(shard).unwrap()).collect();
    assert_eq!(texts, ["1", "2"]);
}

#[test]
fn the_cache_serves_offline_and_without_a_network() {
    let cache = TempDir::new().unwrap();
    let online = hub(&serve(200, &WHOLE).endpoint, &cache);
    let checkpoint = online.fetch(&id()).unwrap();
    let unreachable = hub(&closed_endpoint(), &cache);
    assert_eq!(unreachable.fetch(&id()).unwrap(), checkpoint);
    let offline = Hub { offline: true, ..unreachable };
    assert_eq!(offline.fetch(&id()).unwrap(), checkpoint);
    let by_commit = RepoId { repo: "o/m".to_owned(), revision: Some(SHA.to_owned()) };
    assert_eq!(offline.fetch(&by_commit).unwrap(), checkpoint);
    let other = RepoId { repo: "o/other".to_owned(), revision: None };
    let error = offline.fetch(&other).unwrap_err();
    assert!(error.to_string().contains("the network is off") && error.to_string().contains("o/other"), "{error}");
}

/// Returns an address that no server listens on.
fn closed_endpoint() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    format!("http://{}", listener.local_addr().unwrap())
}

#[test]
fn without_a_network_the_message_says_what_else_works() {
    let cache = TempDir::new().unwrap();
    let hub = hub(&closed_endpoint(), &cache);
    let smollm2 = RepoId { repo: "HuggingFaceTB/SmolLM2-135M-Instruct".to_owned(), revision: None };
    let error = hub.fetch(&smollm2).unwrap_err();
    assert!(matches!(error, Error::Hub(_)), "{error:?}");
    assert!(
        error.to_string().contains("cannot be reached") && error.to_string().contains("scripts/fetch-smollm2.sh"),
        "{error}"
    );
    let error = hub.fetch(&id()).unwrap_err().to_string();
    assert!(error.contains("cannot be reached") && error.contains(".gguf"), "{error}");
}

#[track_caller]
fn refused(listing: u16, files: &[(&'static str, Result<&'static str, u16>)], code: u8, words: &[&str]) -> Vec<String> {
    let cache = TempDir::new().unwrap();
    let server = serve(listing, files);
    let error = hub(&server.endpoint, &cache).fetch(&id()).unwrap_err();
    assert_eq!(error.exit_code(), code, "{error:?}");
    let message = error.to_string();
    assert!(!message.contains('\n'), "{message}");
    for word in words {
        assert!(message.contains(word), "{message} lacks {word}");
    }
    server.asked.lock().unwrap().clone()
}

#[test]
fn an_unknown_repository_is_an_argument_error() {
    for status in [401, 404] {
        refused(status, &[], 2, &["unknown model or revision `o/m`"]);
    }
}

#[test]
fn a_gated_repository_asks_for_the_licence_and_a_token() {
    for status in [401, 403] {
        let mut files = WHOLE;
        files[1].1 = Err(status);
        refused(200, &files, 1, &["o/m", "licence", "HF_TOKEN", "huggingface-cli login", "http://127.0.0.1"]);
    }
    refused(403, &[], 1, &["licence"]);
}

#[test]
fn another_status_is_told() {
    refused(500, &[], 1, &["500"]);
    refused(429, &[], 1, &["too many requests"]);
}

#[test]
fn a_repository_without_safetensors_says_what_it_has() {
    let keep = |names: &[&str]| WHOLE.into_iter().filter(|(name, _)| names.contains(name)).collect::<Vec<_>>();
    refused(200, &keep(&["README.md"]), 2, &["no config.json"]);
    refused(200, &keep(&["config.json"]), 2, &["no tokenizer.json"]);
    let files = keep(&["config.json", "tokenizer.json", "pytorch_model.bin"]);
    refused(200, &files, 2, &["no model.safetensors", "pytorch_model.bin is not read"]);
    refused(200, &[("m.Q8_0.gguf", Ok(""))], 2, &["m.Q8_0.gguf"]);
}

#[test]
fn an_unsupported_model_is_refused_before_its_weights_come() {
    let mut files = WHOLE;
    files[1].1 = Ok(r#"{"model_type": "gpt2"}"#);
    let asked = refused(200, &files, 2, &["gpt2", "llama"]);
    assert!(!asked.iter().any(|name| name == "model.safetensors"), "{asked:?}");
    // Whatever else it has or lacks.
    refused(200, &files[1..2], 2, &["gpt2", "llama"]);
    refused(200, &[files[1], ("pytorch_model.bin", Ok("weights"))], 2, &["gpt2", "llama"]);
}

#[test]
fn an_unsupported_model_in_the_cache_is_refused_for_what_it_is_without_a_network() {
    let cache = TempDir::new().unwrap();
    let server = serve(200, &[("config.json", Ok(r#"{"model_type": "gpt2"}"#))]);
    let online = hub(&server.endpoint, &cache);
    let told = online.fetch(&id()).unwrap_err().to_string();
    assert!(told.contains("gpt2"), "{told}");
    let unreachable = hub(&closed_endpoint(), &cache);
    let offline = Hub { offline: true, ..hub(&closed_endpoint(), &cache) };
    let by_commit = RepoId { repo: "o/m".to_owned(), revision: Some(SHA.to_owned()) };
    for hub in [unreachable, offline] {
        for id in [&id(), &by_commit] {
            let error = hub.fetch(id).unwrap_err();
            assert_eq!(error.exit_code(), 2, "{error:?}");
            assert_eq!(error.to_string(), told);
        }
    }
}

#[test]
fn hub_ids_have_an_owner_a_name_and_perhaps_a_revision() {
    let id = RepoId::parse("owner/name@refs/pr/1").unwrap();
    assert_eq!(
        (id.repo.as_str(), id.revision.as_deref(), id.to_string().as_str()),
        ("owner/name", Some("refs/pr/1"), "owner/name@refs/pr/1")
    );
    assert_eq!(RepoId::parse("owner/name").unwrap().revision(), "main");
    for text in ["name", "a/b/c", "a/b@", "a/..", "../b", "a/b@../../x", "a b/c", "a/b?x", "@/a"] {
        assert_eq!(RepoId::parse(text), None, "{text}");
    }
}

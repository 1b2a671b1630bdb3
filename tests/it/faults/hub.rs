//! A hub on the loopback interface with the tiny model and a data set, both `o/m`; and what can go wrong with it.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::sync::{Arc, Mutex};

use crate::cli::{Place, fixture};

const SHA: &str = "0123456789abcdef0123456789abcdef01234567";
const FILES: [&str; 4] = ["config.json", "tokenizer.json", "tokenizer_config.json", "model.safetensors"];
const DATA: &str = "pairs.csv";

/// What the server does instead of sending the weights, or the data.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    None,
    /// Sends the half of what is left and closes the connection, so often.
    Cut {
        times: usize,
    },
    /// Answers nothing at all.
    Silent,
    /// Sends the half, and then nothing.
    Stall,
    /// Sends the half and says that this is all.
    Short,
    /// Sends the half, then everything again.
    IgnoresRange,
    /// As long, but not the same.
    OtherBytes,
    /// Names the file so that it would lie elsewhere.
    EscapingTag,
    /// Sends the client from one place to the same.
    Circle,
}

pub struct Server {
    endpoint: String,
    asked: Arc<Mutex<Vec<(String, usize)>>>,
}

impl Server {
    pub fn start(fault: Fault) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
        let asked = Arc::new(Mutex::new(Vec::new()));
        let log = asked.clone();
        std::thread::spawn(move || {
            let mut held = Vec::new();
            for stream in listener.incoming().map_while(Result::ok) {
                if fault == Fault::Silent {
                    held.push(stream);
                    continue;
                }
                held.extend(answer(stream, fault, &log));
            }
        });
        Self { endpoint, asked }
    }

    /// Where each request for the content of a file began.
    pub fn starts(&self, name: &str) -> Vec<usize> {
        self.log().into_iter().filter(|(asked, _)| asked == name).map(|(_, start)| start).collect()
    }

    pub fn log(&self) -> Vec<(String, usize)> {
        self.asked.lock().unwrap().clone()
    }

    /// One token from `o/m`.
    pub fn bipo(&self, place: &Place, home: &Path, patience_s: u32) -> Output {
        let steer = ["steer", "--model", "o/m", "--vector", "v.safetensors", "--prompt", "a", "--max-new-tokens", "1"];
        self.run(&steer, place, home, patience_s)
    }

    /// The data set of `o/m` measured.
    pub fn eval(&self, place: &Place, home: &Path, patience_s: u32) -> Output {
        let model = fixture("llama");
        let skip = ["--skip", "text,generation", "--magnitudes", "0"];
        let eval = ["eval", "--model", &model, "--vector", "v.safetensors", "--dataset", "hf:o/m"];
        self.run(&[&eval[..], &skip].concat(), place, home, patience_s)
    }

    fn run(&self, args: &[&str], place: &Place, home: &Path, patience_s: u32) -> Output {
        Command::new(env!("CARGO_BIN_EXE_bipo"))
            .args(args)
            .current_dir(place.path(""))
            .env("HF_ENDPOINT", &self.endpoint)
            .env("HF_HOME", home)
            .env("HF_HUB_DOWNLOAD_TIMEOUT", patience_s.to_string())
            .env_remove("HF_HUB_OFFLINE")
            .env_remove("HF_HUB_CACHE")
            .stdin(Stdio::null())
            .output()
            .unwrap()
    }
}

/// Gives the connection back where it is to stay open.
fn answer(mut stream: TcpStream, fault: Fault, log: &Mutex<Vec<(String, usize)>>) -> Option<TcpStream> {
    let mut lines = BufReader::new(&stream).lines().map_while(Result::ok).take_while(|line| !line.is_empty());
    let path = lines.next()?.split(' ').nth(1)?.to_owned();
    let range = lines.filter_map(|line| line.to_lowercase().strip_prefix("range: bytes=").map(str::to_owned)).last();
    let names = match &path {
        path if path.starts_with("/api/models/o/m/revision/") => &FILES[..],
        path if path.starts_with("/api/datasets/o/m/revision/") => &[DATA],
        _ => &[],
    };
    if !names.is_empty() {
        let siblings: Vec<String> = names.iter().map(|name| format!("{{\"rfilename\": \"{name}\"}}")).collect();
        let listing = format!("{{\"sha\": \"{SHA}\", \"siblings\": [{}]}}", siblings.join(","));
        let _ = write!(stream, "HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{listing}", listing.len());
        return None;
    }
    let name = path.rsplit('/').next()?.to_owned();
    let folder = if name == DATA { "eval" } else { "llama" };
    let file = Path::new(&fixture(folder)).join(&name);
    let (bytes, hash) = (fs::read(&file).unwrap(), bipo::machine::files::sha256(&file).unwrap());
    let is_large = name == "model.safetensors" || name == DATA;
    let fault = if is_large { fault } else { Fault::None };
    let tag = if fault == Fault::EscapingTag { "../../../../escaped" } else { &hash };
    let size = bytes.len();
    let head = format!("ETag: \"{tag}\"\r\nx-repo-commit: {SHA}\r\nConnection: close\r\n");
    if fault == Fault::Circle {
        let _ = write!(stream, "HTTP/1.1 302 Found\r\nLocation: {path}\r\nContent-Length: 0\r\n{head}\r\n");
        return None;
    }
    let (start, end) = range.as_deref().and_then(|range| range.split_once('-')).unwrap_or(("0", ""));
    if end == "0" {
        let _ = write!(stream, "HTTP/1.1 206 OK\r\nContent-Length: 1\r\nContent-Range: bytes 0-0/{size}\r\n{head}\r\n{{");
        return None;
    }
    let start: usize = start.parse().ok()?;
    let before = log.lock().unwrap().iter().filter(|(asked, _)| *asked == name).count();
    log.lock().unwrap().push((name, start));
    let rest = bytes.get(start..)?.to_vec();
    let half = rest.len() / 2;
    let (stated, sent): (usize, Vec<u8>) = match fault {
        Fault::Cut { times } if before < times => (rest.len(), rest[..half].to_vec()),
        Fault::IgnoresRange if before == 0 => (rest.len(), rest[..half].to_vec()),
        Fault::IgnoresRange => (size, bytes),
        Fault::Stall => (rest.len(), rest[..half].to_vec()),
        Fault::Short => (half, rest[..half].to_vec()),
        Fault::OtherBytes => (rest.len(), rest.iter().map(|byte| byte ^ 1).collect()),
        _ => (rest.len(), rest),
    };
    let _ = write!(stream, "HTTP/1.1 206 OK\r\nContent-Length: {stated}\r\n{head}\r\n");
    let _ = stream.write_all(&sent);
    (fault == Fault::Stall).then_some(stream)
}

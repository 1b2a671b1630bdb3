//! Requests to a language model behind an OpenAI-compatible chat endpoint: the endpoint, its key, a question with its retries, and
//! many questions at a time. What is asked, and what a reply means, is known to who asks: `described` and `eval::judge`.
//!
//! The key comes from the environment. It is sent in one header, only over TLS or to this machine, and is removed from the
//! server's answers before they are shown.

use std::fmt;
use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::time::{Duration, Instant};

use serde::Deserialize;
use serde_json::{Value, json};
use ureq::http::{Uri, header};

use super::message::Message;
use crate::machine::error::one_line;
use crate::{Error, Result};

/// How the user names an endpoint and its key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EndpointNames {
    /// What the user calls the endpoint's URL.
    pub url: &'static str,
    /// Variables that can hold the key. The first one that is set is used.
    pub key_variables: [&'static str; 2],
}

/// Largest size of a reply in bytes, more than an answer with the model's thoughts needs.
const LONGEST_REPLY: u64 = 1 << 20;

/// Largest number of characters that a message quotes from a server.
const LONGEST_QUOTE: usize = 200;

/// The secret key of an endpoint. It is neither printed nor serialised.
#[derive(Clone)]
pub struct ApiKey(String);

impl fmt::Debug for ApiKey {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str("ApiKey(***)")
    }
}

impl ApiKey {
    /// Reads the key from the environment; returns `None` if no variable is set.
    ///
    /// # Errors
    /// The key has characters that a header cannot have.
    pub fn from_env(names: EndpointNames) -> Result<Option<Self>> {
        let set = |name: &&str| std::env::var_os(name).is_some_and(|value| !value.is_empty());
        let Some(name) = names.key_variables.iter().find(|name| set(name)) else { return Ok(None) };
        let value = std::env::var(name).unwrap_or_default();
        Self::new(value.trim())
            .map(Some)
            .map_err(|_| Error::Argument(format!("{name} is not a key: expected visible ASCII characters without spaces")))
    }

    /// Creates a key from its text.
    ///
    /// # Errors
    /// The key is empty or has characters that a header cannot have.
    pub fn new(value: &str) -> Result<Self> {
        match !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_graphic()) {
            true => Ok(Self(value.to_owned())),
            false => Err(Error::Argument("not a key: expected visible ASCII characters without spaces".into())),
        }
    }
}

/// The URL of a chat endpoint, `…/v1/chat/completions`. It is displayed without its query.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    url: String,
    names: EndpointNames,
    is_local: bool,
    is_encrypted: bool,
}

impl Endpoint {
    /// Parses the URL of a server, of its `…/v1`, or of the endpoint itself.
    ///
    /// # Errors
    /// The text is not an http or https URL, or it contains a user name or password.
    pub fn parse(text: &str, names: EndpointNames) -> Result<Self> {
        let (name, key) = (names.url, names.key_variables[0]);
        // The URL can contain a secret, so messages do not quote it.
        let wrong = |problem: &str| Error::Argument(format!("{name} {problem}: expected a URL as https://host/v1"));
        let uri: Uri = text.parse().map_err(|_| wrong("is no URL"))?;
        let (Some(scheme), Some(authority)) = (uri.scheme_str(), uri.authority()) else {
            return Err(wrong("has no http:// or https:// in front"));
        };
        if !matches!(scheme, "http" | "https") || authority.host().is_empty() {
            return Err(wrong("is no http or https URL"));
        }
        if authority.as_str().contains('@') {
            return Err(wrong(&format!("holds a user name; a key belongs in {key}")));
        }
        let path = match uri.path().trim_end_matches('/') {
            "" => "/v1/chat/completions".to_owned(),
            path if path.ends_with("/chat/completions") => path.to_owned(),
            path => format!("{path}/chat/completions"),
        };
        let query = uri.query().map_or(String::new(), |query| format!("?{query}"));
        let host = authority.host().trim_start_matches('[').trim_end_matches(']');
        let is_loopback = |host: &str| host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback());
        Ok(Self {
            url: format!("{scheme}://{authority}{path}{query}"),
            names,
            is_local: host.eq_ignore_ascii_case("localhost") || is_loopback(host),
            is_encrypted: scheme == "https",
        })
    }

    /// Whether a key may be sent to this endpoint.
    pub fn takes_key(&self) -> bool {
        self.is_encrypted || self.is_local
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str(self.url.split('?').next().unwrap_or_default())
    }
}

/// Timeouts and retries of requests.
#[derive(Debug, Clone, Copy)]
pub struct Patience {
    /// Time for one request, from connecting to the last byte.
    pub timeout: Duration,
    /// Number of requests for one question before it is given up.
    pub attempts: u32,
    /// Wait before the second attempt; each later wait is twice as long.
    pub first_wait: Duration,
    /// Longest wait, even if the server asks for a longer one.
    pub longest_wait: Duration,
}

impl Default for Patience {
    /// Two minutes per request and five attempts. Waits are 1, 2, 4 and 8 seconds, or up to two minutes if the server asks for
    /// it.
    fn default() -> Self {
        let minutes = |n: u64| Duration::from_secs(60 * n);
        Self { timeout: minutes(2), attempts: 5, first_wait: Duration::from_secs(1), longest_wait: minutes(2) }
    }
}

/// Settings of a request that a model may refuse, since some accept only their defaults.
const SETTINGS: [&str; 3] = ["temperature", "seed", "max_tokens"];

/// A reply of the model.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Reply {
    /// Text of the reply.
    pub text: String,
    /// Whether the text ends because it has as many tokens as it may have.
    pub is_cut: bool,
    /// Number of tokens of the request and of the reply, 0 where the server does not count them.
    pub tokens: [u64; 2],
}

/// Why a question got no reply.
#[derive(Debug)]
pub(crate) enum RequestFailure {
    /// The server refused this one request.
    Refused(String),
    /// All attempts failed.
    GaveUp(String),
    /// The server will answer no question.
    Hopeless(String),
    /// The run was stopped before this question was answered.
    Stopped,
}

impl RequestFailure {
    /// What went wrong; empty if nothing did.
    pub fn problem(self) -> String {
        match self {
            Self::Refused(problem) | Self::GaveUp(problem) | Self::Hopeless(problem) => problem,
            Self::Stopped => String::new(),
        }
    }
}

/// Why a request got no reply, and whether it can be retried.
enum Trouble {
    Final(RequestFailure),
    Passing { problem: String, wait: Option<Duration> },
}

/// A client of one endpoint.
#[derive(Debug)]
pub(crate) struct Client<'a> {
    agent: ureq::Agent,
    endpoint: &'a Endpoint,
    key: Option<&'a ApiKey>,
    patience: Patience,
    /// Whether the model refused each of [`SETTINGS`].
    refused: [AtomicBool; SETTINGS.len()],
}

impl<'a> Client<'a> {
    pub fn new(endpoint: &'a Endpoint, key: Option<&'a ApiKey>, patience: Patience) -> Self {
        // A redirect could send the text to another server, or the request without its key.
        let mut config =
            ureq::Agent::config_builder().timeout_global(Some(patience.timeout)).http_status_as_error(false).max_redirects(0);
        if endpoint.is_local {
            config = config.proxy(None);
        }
        let key = key.filter(|_| endpoint.takes_key());
        Self { agent: config.build().into(), endpoint, key, patience, refused: Default::default() }
    }

    /// Returns the reply to a [`request`], or what is wrong with it if it is not a chat completion. Returns early once `stop` is
    /// set.
    pub fn ask(&self, request: &Value, stop: &AtomicBool) -> Result<Result<Reply, String>, RequestFailure> {
        let mut attempt = 1;
        loop {
            if stop.load(Ordering::SeqCst) {
                return Err(RequestFailure::Stopped);
            }
            let (problem, wait) = match self.once(request) {
                Ok(reply) => return Ok(reply),
                Err(Trouble::Final(failure)) => return Err(failure),
                Err(Trouble::Passing { problem, wait }) => (problem, wait),
            };
            let wait = wait.unwrap_or_else(|| self.backoff(attempt));
            if attempt >= self.patience.attempts || wait > self.patience.longest_wait {
                return Err(RequestFailure::GaveUp(format!("{problem} (attempt {attempt})")));
            }
            sleep(wait, stop);
            attempt += 1;
        }
    }

    fn backoff(&self, attempt: u32) -> Duration {
        self.patience.first_wait.saturating_mul(1 << (attempt - 1).min(20)).min(self.patience.longest_wait)
    }

    /// Makes one request.
    fn once(&self, body: &Value) -> Result<Result<Reply, String>, Trouble> {
        let mut sent = body.clone();
        for (name, refused) in SETTINGS.iter().zip(&self.refused) {
            if let (true, Some(fields)) = (refused.load(Ordering::SeqCst), sent.as_object_mut()) {
                fields.remove(*name);
            }
        }
        let mut request = self.agent.post(&self.endpoint.url).header(header::CONTENT_TYPE, "application/json");
        if let Some(ApiKey(key)) = self.key {
            request = request.header(header::AUTHORIZATION, format!("Bearer {key}"));
        }
        let mut response = request.send(sent.to_string()).map_err(|error| self.broken(&error))?;
        let status = response.status().as_u16();
        let retry_after =
            response.headers().get(header::RETRY_AFTER).and_then(|value| value.to_str().ok()).and_then(retry_after);
        let answer = match response.body_mut().with_config().limit(LONGEST_REPLY).read_to_vec() {
            Err(ureq::Error::BodyExceedsLimit(limit)) => return Ok(Err(format!("a reply of more than {limit} bytes"))),
            answer => answer.map_err(|error| self.broken(&error))?,
        };
        if status == 400 {
            let problem = String::from_utf8_lossy(&answer);
            // A limit that is merely too large is not left out: what the user said must hold, or the run must end.
            let is_unknown = ["support", "unknown", "unrecognized", "not allowed", "not permitted", "extra"];
            let is_unknown = is_unknown.iter().any(|word| problem.to_lowercase().contains(word));
            let is_left_out = |name: &str| name != "max_tokens" || is_unknown;
            let named =
                SETTINGS.iter().position(|name| is_left_out(name) && sent.get(name).is_some() && problem.contains(name));
            if let Some(refused) = named.map(|index| &self.refused[index]) {
                refused.store(true, Ordering::SeqCst);
                return self.once(body);
            }
        }
        match status {
            200 => Ok(reply(&answer).map_err(|problem| self.clean(&problem))),
            408 | 425 | 429 | 500.. => Err(Trouble::Passing { problem: self.answered(status, &answer), wait: retry_after }),
            401 | 403 => {
                let key = match self.key {
                    Some(_) => "is the key right?",
                    None if self.endpoint.takes_key() => &format!("set {}", self.endpoint.names.key_variables[0]),
                    None => "a key is sent over https or to this machine alone",
                };
                Err(Trouble::Final(RequestFailure::Hopeless(format!("{}; {key}", self.answered(status, &answer)))))
            }
            404 | 405 | 300..=399 => Err(Trouble::Final(RequestFailure::Hopeless(format!(
                "{}; are the URL and the model's name right?",
                self.answered(status, &answer)
            )))),
            _ => Err(Trouble::Final(RequestFailure::Refused(self.answered(status, &answer)))),
        }
    }

    fn broken(&self, error: &ureq::Error) -> Trouble {
        let problem = match error {
            ureq::Error::Timeout(_) => format!("{} gave no answer in {:?}", self.endpoint, self.patience.timeout),
            ureq::Error::Io(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => {
                format!("{} broke its answer off", self.endpoint)
            }
            error => self.clean(&format!("{} cannot be asked: {error}", self.endpoint)),
        };
        Trouble::Passing { problem, wait: None }
    }

    /// Describes an answer by its status and the server's message.
    fn answered(&self, status: u16, body: &[u8]) -> String {
        let text = String::from_utf8_lossy(body);
        let value: Option<Value> = serde_json::from_str(&text).ok();
        let message = value.as_ref().and_then(|value| value["error"]["message"].as_str().or(value["error"].as_str()));
        let words = self.clean(message.unwrap_or(&text));
        format!("{} answered {status}{}{words}", self.endpoint, if words.is_empty() { "" } else { ": " })
    }

    /// Makes a server's text fit to be shown: without the key, on one line, and at most [`LONGEST_QUOTE`] characters long.
    pub fn clean(&self, text: &str) -> String {
        let mut text = text.trim().to_owned();
        if let Some(ApiKey(key)) = self.key {
            let escaped = Value::from(key.as_str()).to_string();
            text = text.replace(key, "***").replace(escaped.trim_matches('"'), "***");
        }
        let cut: String = text.chars().take(LONGEST_QUOTE).collect();
        one_line(&cut) + if cut.len() < text.len() { "…" } else { "" }
    }
}

/// Returns the body of a request; `settings` can have those of [`SETTINGS`]. Without a model's name, the server takes the one that
/// it has.
pub(crate) fn request(model: Option<&str>, messages: &[Message], settings: &[(&str, Value)]) -> Value {
    let messages: Vec<Value> =
        messages.iter().map(|message| json!({"role": message.role, "content": message.content})).collect();
    let mut body = model.map_or_else(|| json!({}), |model| json!({"model": model}));
    body["messages"] = messages.into();
    for (name, value) in settings {
        body[*name] = value.clone();
    }
    body
}

/// Returns the text of a chat completion, and whether it was cut.
fn reply(body: &[u8]) -> Result<Reply, String> {
    #[derive(Deserialize)]
    struct Completion {
        choices: Vec<CompletionChoice>,
        #[serde(default)]
        usage: Value,
    }
    #[derive(Deserialize)]
    struct CompletionChoice {
        message: ChoiceMessage,
        #[serde(default)]
        finish_reason: Value,
    }
    #[derive(Deserialize)]
    struct ChoiceMessage {
        content: Option<String>,
    }
    let garbage = |_| format!("no chat completion: {}", String::from_utf8_lossy(body));
    let completion: Completion = serde_json::from_slice(body).map_err(garbage)?;
    let tokens = ["prompt_tokens", "completion_tokens"].map(|name| completion.usage[name].as_u64().unwrap_or(0));
    let first = completion.choices.into_iter().next();
    let reply = |choice: CompletionChoice| {
        Some(Reply { text: choice.message.content?, is_cut: choice.finish_reason == "length", tokens })
    };
    first.and_then(reply).ok_or_else(|| "a reply without text".to_owned())
}

/// What a request for one of several things gave.
pub(crate) type Requested<T> = Result<T, RequestFailure>;

/// How often `on_answer` is called while no answer comes.
const HEARTBEAT: Duration = Duration::from_millis(100);

/// Does `work` for each index below `total`, for at most `concurrency` of them at a time. `on_answer` runs on the calling thread. It
/// gets the number of indices that are done, an index with its answer (`None` while none comes), and a flag that stops all
/// requests when set.
pub(crate) fn ask_all<T: Send>(
    concurrency: usize,
    total: usize,
    work: impl Fn(usize, &AtomicBool) -> Requested<T> + Sync,
    mut on_answer: impl FnMut(usize, Option<(usize, Requested<T>)>, &AtomicBool),
) {
    let (next, stop, answered) = (AtomicUsize::new(0), AtomicBool::new(false), AtomicBool::new(false));
    let work = |sender: Sender<(usize, Requested<T>)>| {
        loop {
            let index = next.fetch_add(1, Ordering::SeqCst);
            if index >= total {
                break;
            }
            let mut answer = work(index, &stop);
            match answer {
                Err(RequestFailure::Stopped) => {}
                // If no request was answered yet, every other request would also fail after all of its attempts.
                Err(RequestFailure::GaveUp(problem)) if !answered.load(Ordering::SeqCst) => {
                    stop.store(true, Ordering::SeqCst);
                    answer = Err(RequestFailure::Hopeless(problem));
                }
                Err(RequestFailure::Hopeless(_)) => stop.store(true, Ordering::SeqCst),
                _ => answered.store(true, Ordering::SeqCst),
            }
            if sender.send((index, answer)).is_err() || stop.load(Ordering::SeqCst) {
                break;
            }
        }
    };
    std::thread::scope(|scope| {
        let (sender, receiver) = channel();
        for _ in 0..concurrency.clamp(1, total.max(1)) {
            let (sender, work) = (sender.clone(), &work);
            scope.spawn(move || work(sender));
        }
        drop(sender);
        let mut done = 0;
        loop {
            let answer = match receiver.recv_timeout(HEARTBEAT) {
                Ok(answer) => Some(answer),
                Err(RecvTimeoutError::Timeout) => None,
                Err(RecvTimeoutError::Disconnected) => break,
            };
            done += usize::from(answer.is_some());
            on_answer(done, answer, &stop);
        }
    });
}

/// Parses the header `Retry-After`, which has seconds or a date.
fn retry_after(value: &str) -> Option<Duration> {
    if let Ok(seconds) = value.trim().parse::<u64>() {
        return Some(Duration::from_secs(seconds));
    }
    let date = chrono::DateTime::parse_from_rfc2822(value.trim()).ok()?;
    (date.to_utc() - chrono::Utc::now()).to_std().ok()
}

/// Waits, and returns early once `stop` is set.
fn sleep(wait: Duration, stop: &AtomicBool) {
    let started = Instant::now();
    while !stop.load(Ordering::SeqCst) {
        let left = wait.saturating_sub(started.elapsed());
        if left.is_zero() {
            break;
        }
        std::thread::sleep(left.min(Duration::from_millis(50)));
    }
}

#[cfg(test)]
#[path = "endpoint_tests.rs"]
mod tests;

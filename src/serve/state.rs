//! What the handlers share: the model's name and limits, the vectors, the way to the worker, and how a request becomes work.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::Sender;
use std::sync::{Arc, Mutex, RwLock};

use axum::body::Bytes;
use axum::http::{HeaderMap, StatusCode, header};
use candle_core::Device;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};
use tokenizers::Tokenizer;
use tokio::sync::mpsc;

use super::error::ApiError;
use super::steering::{Applied, Registry};
use super::text::{Delta, Recipient};
use super::worker::{Generate, Load, Score, Work};
use crate::data::Message;
use crate::generate::{GenerateOptions, Request};
use crate::steering::positions::Positions;
use crate::text::tokens::{EncodedPrompt, TextEncoder, TokenText};

/// Most texts that a request may ask for.
pub(super) const MOST_TEXTS: usize = 16;

/// Bytes and fields of the largest request whose wrong field is looked for, which reads it once a field.
const LARGEST_TO_EXPLAIN: (usize, usize) = (64 << 10, 32);

/// The state of a server.
pub(super) struct ServerState {
    /// Name of the model, as clients give it.
    pub model: String,
    pub vocab_size: usize,
    pub eos: Vec<u32>,
    /// Tokens of the longest sequence that the engine takes.
    pub context: usize,
    pub hidden_size: usize,
    pub blocks: usize,
    pub device: Device,
    /// Texts under way at most, and texts that may wait.
    pub slots: usize,
    pub queue: usize,
    /// Tokens of an answer where the request does not say.
    pub default_tokens: usize,
    pub key: Option<String>,
    /// Names of the machine that a browser may use for it; any where a key is asked for.
    pub hosts: Option<Vec<String>>,
    pub registry: RwLock<Registry>,
    /// What `bipo eval --json` wrote, by the vector's name.
    pub curves: Vec<(String, Value)>,
    pub encoder: Mutex<TextEncoder>,
    pub tokenizer: Tokenizer,
    /// The tokenizer's BOS, in front of a raw prompt.
    pub bos: Option<u32>,
    pub work: Sender<Work>,
    pub load: Load,
    pub stops: Arc<AtomicBool>,
    pub started: u64,
    pub metrics: metrics_exporter_prometheus::PrometheusHandle,
}

/// A prompt as a request gives it.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum PromptInput {
    Messages(Vec<Message>),
    Text(String),
    Ids(Vec<u32>),
}

impl PromptInput {
    /// Name of the field that gives it.
    fn field(&self) -> &'static str {
        if matches!(self, Self::Messages(_)) { "messages" } else { "prompt" }
    }
}

/// Texts whose deltas come through one channel.
pub(super) struct Job {
    pub deltas: mpsc::UnboundedReceiver<Delta>,
    pub texts: usize,
    pub prompt_tokens: usize,
    /// Whether the texts begin inside a thought that their prompt opens.
    pub opens_thought: bool,
}

/// One text of a job.
pub(super) struct Wanted {
    pub prompt: PromptInput,
    pub applied: Applied,
    pub options: GenerateOptions,
    pub stop: Vec<String>,
}

impl ServerState {
    /// Parses a JSON body. Browsers of other pages cannot send this content type without being allowed to.
    pub fn body<T: DeserializeOwned>(headers: &HeaderMap, bytes: &Bytes) -> Result<T, ApiError> {
        let kind = headers.get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
        if !kind.trim_start().to_ascii_lowercase().starts_with("application/json") {
            let problem = "the body must be JSON: send the header content-type: application/json";
            return Err(ApiError::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, problem));
        }
        serde_json::from_slice(bytes).map_err(|error| {
            wrong_field::<T>(bytes)
                .unwrap_or_else(|| ApiError::new(StatusCode::BAD_REQUEST, format!("the request's JSON: {error}")))
        })
    }

    /// The vectors, for reading.
    pub fn registry(&self) -> std::sync::RwLockReadGuard<'_, Registry> {
        self.registry.read().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// What `steering` means where the request names `model`: `model::vector` makes a vector the default, at magnitude 1.
    pub fn resolve(&self, model: Option<&str>, steering: &Value) -> Result<Applied, ApiError> {
        let vector = model.and_then(|model| model.split_once("::")).map(|(_, vector)| vector);
        self.registry().resolve(steering, vector, &self.device)
    }

    /// Token ids of a prompt, with the words that the vectors are added at. Other requests go on meanwhile on other threads.
    pub fn encode(&self, prompt: &PromptInput, applied: &Applied) -> Result<EncodedPrompt, ApiError> {
        tokio::task::block_in_place(|| self.encode_here(prompt, applied))
    }

    fn encoder(&self) -> std::sync::MutexGuard<'_, TextEncoder> {
        self.encoder.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    fn encode_here(&self, prompt: &PromptInput, applied: &Applied) -> Result<EncodedPrompt, ApiError> {
        let mut encoder = self.encoder();
        match prompt {
            PromptInput::Messages(messages) => {
                encoder.tell_places(applied.spans, applied.positions.ends());
                Ok(encoder.encode_prompt(messages)?)
            }
            PromptInput::Text(text) => {
                let ids = self.bos.into_iter().chain(encoder.encode_text(text)?).collect();
                Ok(EncodedPrompt { ids, spans: None })
            }
            PromptInput::Ids(ids) => match ids.iter().find(|id| **id as usize >= self.vocab_size) {
                Some(id) => {
                    Err(ApiError::of_field("prompt", format!("token {id} is not one of the model's {}", self.vocab_size)))
                }
                None => Ok(EncodedPrompt { ids: ids.clone(), spans: None }),
            },
        }
    }

    /// The text and the bytes of a token.
    pub fn token_text(&self, id: u32) -> TokenText {
        TokenText::of(&self.tokenizer, id)
    }

    /// Hands texts to the worker.
    ///
    /// # Errors
    /// A prompt does not fit, too many texts wait already, or the server is stopping.
    pub fn submit(&self, wanted: Vec<Wanted>) -> Result<Job, ApiError> {
        if wanted.len() > MOST_TEXTS {
            let problem = format!("{} texts at once: ask for at most {MOST_TEXTS}", wanted.len());
            return Err(ApiError::of_field("n", problem));
        }
        let (to, deltas) = mpsc::unbounded_channel();
        let (mut work, mut prompt_tokens) = (Vec::new(), 0);
        let opens_thought = match wanted.first().map(|wanted| &wanted.prompt) {
            Some(PromptInput::Messages(messages)) => tokio::task::block_in_place(|| self.encoder().opens_thought(messages))?,
            _ => false,
        };
        // The texts of one prompt follow each other, and have vectors at the same places.
        let mut last: Option<(PromptInput, EncodedPrompt)> = None;
        for (index, Wanted { prompt, applied, mut options, stop }) in wanted.into_iter().enumerate() {
            check_positions(&prompt, applied.positions)?;
            let encoded = match last.take() {
                Some((same, encoded)) if same == prompt => encoded,
                _ => self.encode(&prompt, &applied)?,
            };
            let tokens = encoded.ids.len();
            if tokens >= self.context {
                let problem = format!("the prompt has {tokens} tokens, but this server takes {}: shorten it", self.context);
                return Err(ApiError::of_field(prompt.field(), problem));
            }
            options.max_new_tokens = options.max_new_tokens.min(self.context - tokens);
            options.positions = applied.positions;
            let request = Request::new(&encoded, &applied.steering, applied.magnitude, &options);
            prompt_tokens += tokens;
            let (when, to) = (applied.when.clone(), Recipient { index, to: to.clone() });
            work.push(Work::Generate(Box::new(Generate { request, when, stop, to })));
            last = Some((prompt, encoded));
        }
        let texts = work.len();
        self.send(work)?;
        Ok(Job { deltas, texts, prompt_tokens, opens_thought })
    }

    /// Hands a text to score to the worker.
    ///
    /// # Errors
    /// Too many texts wait already, or the server is stopping.
    pub fn submit_score(&self, score: Score) -> Result<(), ApiError> {
        self.send(vec![Work::Score(Box::new(score))])
    }

    /// Hands texts to the worker, all of them or none.
    fn send(&self, work: Vec<Work>) -> Result<(), ApiError> {
        if self.stops.load(Ordering::SeqCst) {
            return Err(stopping());
        }
        let before = self.load.texts.fetch_add(work.len(), Ordering::SeqCst);
        if before > 0 && before + work.len() > self.slots + self.queue {
            self.load.texts.fetch_sub(work.len(), Ordering::SeqCst);
            metrics::counter!("bipo_rejected_requests_total").increment(1);
            return Err(ApiError::new(StatusCode::TOO_MANY_REQUESTS, "too many texts wait already: try again in a moment"));
        }
        work.into_iter().try_for_each(|work| self.work.send(work)).map_err(|_| stopping())
    }
}

/// The refusal of a body that names the field at fault: the one without which the body has another fault, or none.
fn wrong_field<T: DeserializeOwned>(bytes: &Bytes) -> Option<ApiError> {
    let (most_bytes, most_fields) = LARGEST_TO_EXPLAIN;
    let fields: Map<String, Value> = (bytes.len() <= most_bytes).then(|| serde_json::from_slice(bytes).ok())??;
    let fault = |fields: &Map<String, Value>| {
        serde_json::from_value::<T>(Value::Object(fields.clone())).err().map(|error| error.to_string())
    };
    let problem = fault(&fields)?;
    if let Some((name, _)) = problem.strip_prefix("missing field `").and_then(|rest| rest.split_once('`')) {
        return Some(ApiError::of_field(name, format!("the request's JSON: {problem}")));
    }
    let without = |name: &String| {
        let mut others = fields.clone();
        others.shift_remove(name);
        fault(&others)
    };
    let names = || fields.keys().take(most_fields);
    // Where a field is required, its lack is found before the fault of another.
    let is_lack = |problem: &String| problem.starts_with("missing field");
    let by_another = names().find(|name| without(name).is_none_or(|other| other != problem && !is_lack(&other)));
    let name = by_another.or_else(|| names().find(|name| without(name).is_some_and(|other| other != problem)))?;
    Some(ApiError::of_field(name, format!("{name}: {problem}")))
}

/// Refuses a raw prompt where the positions of the vectors count from a chat template's own tokens.
fn check_positions(prompt: &PromptInput, positions: Positions) -> Result<(), ApiError> {
    if matches!(prompt, PromptInput::Messages(_)) || !positions.needs_template() {
        return Ok(());
    }
    let problem = format!(
        "the vector's positions {positions} count from what the chat template begins a prompt with, but a raw prompt has no \
         template: send messages"
    );
    Err(ApiError::of_field("prompt", problem))
}

/// The refusal of what the server will not do any more.
pub(super) fn stopping() -> ApiError {
    ApiError::new(StatusCode::SERVICE_UNAVAILABLE, "the server is stopping")
}

/// Messages as OpenAI's clients send them: a content is a text or a list of text parts.
pub(super) fn messages(values: &[Value]) -> Result<Vec<Message>, ApiError> {
    if values.is_empty() {
        return Err(ApiError::of_field("messages", "messages: expected at least one"));
    }
    let message = |(index, value): (usize, &Value)| {
        Message::from_json(value).map_err(|what| ApiError::of_field("messages", format!("messages[{index}]: {what}")))
    };
    values.iter().enumerate().map(message).collect()
}

//! `/v1/chat/completions` and `/v1/completions`, as OpenAI's clients expect them, with one more field: `steering`.

use std::collections::HashMap;
use std::sync::Arc;

use axum::body::Bytes;
use axum::extract;
use axum::http::HeaderMap;
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};

use super::date::now;
use super::error::ApiError;
use super::events::{Pieces, events};
use super::requests::{ChatRequest, CompletionRequest, Sampling, check_log_probs};
use super::state::{Job, PromptInput, ServerState, Wanted, messages, stopping};
use super::steering::Applied;
use super::text::{Delta, DeltaKind, Token};
use crate::generate::FinishReason;
use crate::steering::condition::Verdict;
use crate::text::thought::{Parted, ThoughtPiece};
use crate::text::tokens::TokenText;

/// Field of a message that has the thought, as vLLM, llama.cpp and DeepSeek name it; OpenAI tells none.
const THOUGHT: &str = "reasoning_content";

/// `POST /v1/chat/completions`
pub(super) async fn chat(
    extract::State(state): extract::State<Arc<ServerState>>,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Response, ApiError> {
    let request: ChatRequest = ServerState::body(&headers, &body)?;
    if request.tools.is_some_and(|tools| !tools.is_empty()) {
        return Err(ApiError::of_field("tools", "tools are not supported: leave them out"));
    }
    let log_probs = request.logprobs.unwrap_or(false).then(|| request.top_logprobs.unwrap_or(0));
    check_log_probs("top_logprobs", log_probs)?;
    let applied = state.resolve(request.model.as_deref(), &request.sampling.steering)?;
    let prompt = PromptInput::Messages(messages(&request.messages)?);
    let wanted = request.sampling.wanted(&state, &[prompt], &applied, log_probs)?;
    respond(Form::Chat, state, applied, wanted, &request.sampling).await
}

/// `POST /v1/completions`
pub(super) async fn completions(
    extract::State(state): extract::State<Arc<ServerState>>,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Response, ApiError> {
    let request: CompletionRequest = ServerState::body(&headers, &body)?;
    if request.echo == Some(true) {
        return Err(ApiError::of_field("echo", "echo is not supported: leave it out"));
    }
    check_log_probs("logprobs", request.logprobs)?;
    let applied = state.resolve(request.model.as_deref(), &request.sampling.steering)?;
    let prompts = raw_prompts(&request.prompt)?;
    let wanted = request.sampling.wanted(&state, &prompts, &applied, request.logprobs)?;
    respond(Form::Text, state, applied, wanted, &request.sampling).await
}

/// The prompts of a completion: a text, texts, token ids, or lists of these.
fn raw_prompts(prompt: &Value) -> Result<Vec<PromptInput>, ApiError> {
    let refused = || ApiError::of_field("prompt", "prompt: expected a text, a list of texts, or token ids");
    let ids = |values: &[Value]| -> Option<PromptInput> {
        let id = |value: &Value| u32::try_from(value.as_u64()?).ok();
        values.iter().map(id).collect::<Option<Vec<u32>>>().map(PromptInput::Ids)
    };
    match prompt {
        Value::String(text) => Ok(vec![PromptInput::Text(text.clone())]),
        Value::Array(values) if values.is_empty() => Err(refused()),
        Value::Array(values) if values.iter().all(Value::is_number) => Ok(vec![ids(values).ok_or_else(refused)?]),
        Value::Array(values) => {
            let one = |value: &Value| match value {
                Value::String(text) => Some(PromptInput::Text(text.clone())),
                Value::Array(values) => ids(values),
                _ => None,
            };
            values.iter().map(one).collect::<Option<_>>().ok_or_else(refused)
        }
        _ => Err(refused()),
    }
}

/// The endpoint whose form an answer has.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Form {
    Chat,
    Text,
}

/// What all pieces of an answer say, and what was sent of it.
struct Answer {
    form: Form,
    id: String,
    created: u64,
    applied: Applied,
    state: Arc<ServerState>,
    includes_usage: bool,
    prompt_tokens: usize,
    completion_tokens: usize,
    /// The texts of which something was sent.
    begun: HashMap<usize, Parted>,
    opens_thought: bool,
}

/// Hands texts to the worker and answers in the form that the request asks for.
async fn respond(
    form: Form,
    state: Arc<ServerState>,
    applied: Applied,
    wanted: Vec<Wanted>,
    sampling: &Sampling,
) -> Result<Response, ApiError> {
    let job = state.submit(wanted)?;
    let prefix = if form == Form::Chat { "chatcmpl" } else { "cmpl" };
    let answer = Answer {
        form,
        id: format!("{prefix}-{:016x}{:08x}", now().as_nanos() as u64, std::process::id()),
        created: now().as_secs(),
        applied,
        state,
        includes_usage: sampling.includes_usage(),
        prompt_tokens: job.prompt_tokens,
        completion_tokens: 0,
        begun: HashMap::new(),
        opens_thought: job.opens_thought,
    };
    match sampling.streams() {
        true => Ok(events(job, answer)),
        false => Ok(axum::Json(answer.whole(job).await?).into_response()),
    }
}

impl Answer {
    /// The whole answer, when all texts have ended.
    async fn whole(self, mut job: Job) -> Result<Value, ApiError> {
        let mut texts: Vec<Collected> = (0..job.texts).map(|_| Collected::default()).collect();
        while let Some(delta) = job.deltas.recv().await {
            texts[delta.index].take(delta.kind)?;
        }
        if texts.iter().any(|text| text.ended.is_none()) {
            return Err(stopping());
        }
        // Told of the whole answer only where it holds for all of its texts: prompts of one request can differ.
        let dose = same(texts.iter().map(|text| text.ended.as_ref().map(|(_, dose)| *dose)));
        let when = same(texts.iter().map(|text| text.when));
        let completion: usize = texts.iter().map(|text| text.token_ids.len()).sum();
        let choices: Vec<Value> = texts
            .into_iter()
            .enumerate()
            .map(|(index, text)| {
                let log_probs = self.log_probs(&text.tokens);
                let reason = text.ended.map(|(reason, _)| finish_reason(reason));
                match self.form {
                    Form::Chat => {
                        let message = self.message(&text.text);
                        json!({"index": index, "message": message, "logprobs": log_probs, "finish_reason": reason})
                    }
                    Form::Text => json!({"index": index, "text": text.text, "logprobs": log_probs, "finish_reason": reason}),
                }
            })
            .collect();
        let object = if self.form == Form::Chat { "chat.completion" } else { "text_completion" };
        let mut body = self.head(object);
        body["choices"] = choices.into();
        body["usage"] = usage(job.prompt_tokens, completion);
        body["steering"] = with_verdict(self.applied.to_json(dose), when);
        Ok(body)
    }

    /// An answer as a message, with its thought apart if there is one.
    fn message(&self, text: &str) -> Value {
        let mut parted = Parted::new(self.opens_thought);
        let (mut thought, mut content) = (String::new(), String::new());
        for piece in parted.push(text).into_iter().chain(parted.finish()) {
            match piece {
                ThoughtPiece::Thought(text) => thought += &text,
                ThoughtPiece::Answer(text) => content += &text,
            }
        }
        let mut message = json!({"role": "assistant", "content": content, "refusal": null});
        if !thought.is_empty() {
            message[THOUGHT] = thought.into();
        }
        message
    }

    fn piece_object(&self) -> &'static str {
        if self.form == Form::Chat { "chat.completion.chunk" } else { "text_completion" }
    }

    fn piece(&self, index: usize, delta: Value, log_probs: Value, reason: Option<&str>) -> Value {
        let mut piece = self.head(self.piece_object());
        let choice = match self.form {
            Form::Chat => json!({"index": index, "delta": delta, "logprobs": log_probs, "finish_reason": reason}),
            Form::Text => {
                let text = delta.get("content").cloned().unwrap_or_else(|| "".into());
                json!({"index": index, "text": text, "logprobs": log_probs, "finish_reason": reason})
            }
        };
        piece["choices"] = json!([choice]);
        piece
    }

    fn head(&self, object: &str) -> Value {
        json!({"id": self.id, "object": object, "created": self.created, "model": self.state.model})
    }

    /// The log-probabilities of some tokens in the endpoint's form; null where none were asked for.
    fn log_probs(&self, tokens: &[Token]) -> Value {
        if tokens.iter().all(|token| token.log_probs.is_none()) {
            return Value::Null;
        }
        let named = |id: u32, log_prob: f32| {
            let TokenText { text, bytes } = self.state.token_text(id);
            json!({"token": text.unwrap_or_else(|| escaped(&bytes)), "logprob": log_prob, "bytes": bytes})
        };
        let known = tokens.iter().filter_map(|token| token.log_probs.as_ref().map(|log_probs| (token.id, log_probs)));
        match self.form {
            Form::Chat => {
                let content = known.map(|(id, log_probs)| {
                    let mut entry = named(id, log_probs.chosen);
                    entry["top_logprobs"] = log_probs.top.iter().map(|(id, log_prob)| named(*id, *log_prob)).collect();
                    entry
                });
                json!({"content": content.collect::<Vec<Value>>(), "refusal": null})
            }
            Form::Text => {
                let text = |id: u32| {
                    let TokenText { text, bytes } = self.state.token_text(id);
                    text.unwrap_or_else(|| format!("bytes:{}", escaped(&bytes)))
                };
                let (mut texts, mut chosen, mut top) = (Vec::new(), Vec::new(), Vec::new());
                for (id, log_probs) in known {
                    texts.push(text(id));
                    chosen.push(log_probs.chosen);
                    let mut likeliest = serde_json::Map::new();
                    for (id, log_prob) in &log_probs.top {
                        // Of two tokens with one text, the likelier one is told.
                        likeliest.entry(text(*id)).or_insert_with(|| json!(log_prob));
                    }
                    top.push(Value::Object(likeliest));
                }
                let offsets: Vec<usize> = tokens.iter().map(|token| token.offset).collect();
                json!({"tokens": texts, "token_logprobs": chosen, "top_logprobs": top, "text_offset": offsets})
            }
        }
    }
}

impl Pieces for Answer {
    fn of(&mut self, Delta { index, kind }: Delta) -> Result<Vec<Value>, ApiError> {
        let mut pieces = Vec::new();
        if self.form == Form::Chat && !self.begun.contains_key(&index) {
            self.begun.insert(index, Parted::new(self.opens_thought));
            pieces.push(self.piece(index, json!({"role": "assistant", "content": ""}), Value::Null, None));
        }
        let parted = self.begun.get_mut(&index);
        let known = match &kind {
            DeltaKind::Text { text, .. } => {
                parted.map_or_else(|| vec![ThoughtPiece::Answer(text.clone())], |parted| parted.push(text))
            }
            DeltaKind::Done { .. } => parted.and_then(Parted::finish).into_iter().collect(),
            DeltaKind::Failed(_) => Vec::new(),
        };
        let mut log_probs = match &kind {
            DeltaKind::Text { tokens, .. } => self.log_probs(tokens),
            _ => Value::Null,
        };
        for piece in known {
            let delta = match piece {
                ThoughtPiece::Thought(text) => json!({THOUGHT: text}),
                ThoughtPiece::Answer(text) => json!({"content": text}),
            };
            pieces.push(self.piece(index, delta, log_probs.take(), None));
        }
        // Tokens whose text is not known to be thought or answer yet.
        if !log_probs.is_null() {
            pieces.push(self.piece(index, json!({"content": ""}), log_probs, None));
        }
        match kind {
            DeltaKind::Text { .. } => {}
            DeltaKind::Done { reason: FinishReason::NotFinite, token_ids, .. } if token_ids.is_empty() => {
                return Err(not_finite());
            }
            DeltaKind::Done { reason, dose, when, token_ids } => {
                self.completion_tokens += token_ids.len();
                let mut last = self.piece(index, json!({}), Value::Null, Some(finish_reason(reason)));
                last["steering"] = with_verdict(self.applied.to_json(Some(dose)), when);
                pieces.push(last);
            }
            DeltaKind::Failed(refusal) => return Err(refusal),
        }
        Ok(pieces)
    }

    fn last(&mut self) -> Option<Value> {
        self.includes_usage.then(|| {
            let mut last = self.head(self.piece_object());
            last["choices"] = json!([]);
            last["usage"] = usage(self.prompt_tokens, self.completion_tokens);
            last
        })
    }
}

/// A part of a character as OpenAI writes it: `\xe2\x98`.
fn escaped(bytes: &[u8]) -> String {
    bytes.escape_ascii().to_string()
}

/// What all have, if they have the same.
fn same<T: PartialEq + Copy>(mut each: impl Iterator<Item = Option<T>>) -> Option<T> {
    let first = each.next()??;
    each.all(|other| other == Some(first)).then_some(first)
}

/// What was applied, with what a condition said of the prompt.
fn with_verdict(mut applied: Value, verdict: Option<Verdict>) -> Value {
    if let Some(verdict) = verdict {
        applied["when"] = json!(verdict);
    }
    applied
}

/// A text that is collected until it has ended.
#[derive(Debug, Default)]
pub(super) struct Collected {
    pub text: String,
    pub tokens: Vec<Token>,
    pub token_ids: Vec<u32>,
    pub ended: Option<(FinishReason, f64)>,
    /// What the condition said of its prompt.
    pub when: Option<Verdict>,
}

impl Collected {
    /// Takes a piece.
    ///
    /// # Errors
    /// The text failed, or ended before its first token because the logits are not finite.
    pub fn take(&mut self, kind: DeltaKind) -> Result<(), ApiError> {
        match kind {
            DeltaKind::Text { text, tokens } => {
                self.text += &text;
                self.tokens.extend(tokens);
            }
            DeltaKind::Done { reason: FinishReason::NotFinite, token_ids, .. } if token_ids.is_empty() => {
                return Err(not_finite());
            }
            DeltaKind::Done { reason, dose, when, token_ids } => {
                (self.ended, self.when, self.token_ids) = (Some((reason, dose)), when, token_ids);
            }
            DeltaKind::Failed(refusal) => return Err(refusal),
        }
        Ok(())
    }
}

/// The refusal of a magnitude at which the model has no next token.
pub(super) fn not_finite() -> ApiError {
    ApiError::of_field("steering", "the model's logits are not finite at this magnitude: use a smaller one")
}

/// OpenAI's names: a text whose logits became not finite was cut.
fn finish_reason(reason: FinishReason) -> &'static str {
    match reason {
        FinishReason::Stop => "stop",
        FinishReason::Length | FinishReason::NotFinite => "length",
    }
}

/// Numbers of tokens.
pub(super) fn usage(prompt: usize, completion: usize) -> Value {
    json!({"prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": prompt + completion})
}

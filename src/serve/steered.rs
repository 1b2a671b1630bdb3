//! The endpoints that only bipo has: vectors, what a `steering` value means, a sweep of magnitudes, and scores of tokens.

use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::{self, Query};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::sync::oneshot;
use utoipa::ToSchema;

use super::error::ApiError;
use super::events::{Pieces, events};
use super::openai::{Collected, not_finite, usage};
use super::requests::Sampling;
use super::state::{Job, MOST_TEXTS, PromptInput, ServerState, Wanted, messages, stopping};
use super::steering::Applied;
use super::text::{Delta, DeltaKind};
use super::worker::Score;
use crate::generate::FinishReason;
use crate::steering::condition::Condition;
use crate::steering::vector::VectorFile;
use crate::text::tokens::TokenText;

/// The name of a vector in an address.
#[derive(Debug, Deserialize)]
pub(super) struct Named {
    name: Option<String>,
    vector: Option<String>,
}

/// `GET /v1/steering/vectors`
pub(super) async fn list(extract::State(state): extract::State<Arc<ServerState>>) -> axum::Json<Value> {
    let registry = state.registry();
    let vectors: Vec<Value> = registry.iter().enumerate().map(|(index, vector)| vector.to_json(index == 0)).collect();
    let mut listed = json!({"object": "list", "data": vectors});
    if !registry.conditions().is_empty() {
        listed["conditions"] = json!(registry.conditions());
    }
    axum::Json(listed)
}

/// `POST /v1/steering/vectors?name=NAME`, the bytes of a vector file of any format.
pub(super) async fn register(
    extract::State(state): extract::State<Arc<ServerState>>,
    Query(named): Query<Named>,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Response, ApiError> {
    let name = named.name.ok_or_else(|| ApiError::of_field("name", "the address needs ?name=NAME"))?;
    // A form of another page could not send this content type without being allowed to.
    let kind = headers.get("content-type").and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    if kind != "application/octet-stream" {
        let problem = "send the file's bytes with the header content-type: application/octet-stream";
        return Err(ApiError::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, problem));
    }
    let stored = tempfile::NamedTempFile::new().and_then(|file| std::fs::write(file.path(), &body).map(|()| file));
    let stored = stored.map_err(|_| ApiError::new(StatusCode::INTERNAL_SERVER_ERROR, "the server has no room for the file"))?;
    let file = VectorFile::read(stored.path())?;
    file.check_finite()?;
    let sha256 = file.sha256.clone();
    let vector = file.at(None)?;
    vector.check_model(state.hidden_size, state.blocks)?;
    let mut registry = state.registry.write().unwrap_or_else(std::sync::PoisonError::into_inner);
    registry.check_room(&vector)?;
    let registered = registry.add(&name, vector, sha256, &state.device)?;
    let is_default = registry.iter().next().is_some_and(|first| first.name == registered.name);
    Ok((StatusCode::CREATED, axum::Json(registered.to_json(is_default))).into_response())
}

/// `DELETE /v1/steering/vectors/NAME`
pub(super) async fn remove(
    extract::State(state): extract::State<Arc<ServerState>>,
    extract::Path(name): extract::Path<String>,
) -> Result<axum::Json<Value>, ApiError> {
    let mut registry = state.registry.write().unwrap_or_else(std::sync::PoisonError::into_inner);
    match registry.remove(&name) {
        true => Ok(axum::Json(json!({"name": name, "deleted": true}))),
        false => Err(ApiError::not_found(format!("no vector {name:?}"))),
    }
}

/// A `steering` value to check.
#[derive(Debug, Deserialize, ToSchema)]
pub(super) struct ValidateRequest {
    /// Vectors and magnitudes, as the other requests take them.
    #[serde(default)]
    #[schema(value_type = Option<Object>)]
    steering: Value,
}

/// `POST /v1/steering/validate`
pub(super) async fn validate(
    extract::State(state): extract::State<Arc<ServerState>>,
    headers: HeaderMap,
    body: Bytes,
) -> Result<axum::Json<Value>, ApiError> {
    let request: ValidateRequest = ServerState::body(&headers, &body)?;
    Ok(axum::Json(match state.resolve(None, &request.steering) {
        Ok(applied) => {
            let mut found = applied.to_json(None);
            if let Some(when) = &applied.when {
                let Condition { reading, comparison, threshold, .. } = when.condition();
                found["when"] =
                    json!({"layer": when.layer(), "reading": reading, "comparison": comparison, "threshold": threshold});
            }
            found["valid"] = true.into();
            found["expression"] = applied.expression().into();
            found
        }
        Err(refusal) => {
            let mut found = refusal.body();
            found["valid"] = false.into();
            found
        }
    }))
}

/// `GET /v1/steering/curve?vector=NAME`: what `bipo eval --json` wrote for a vector; no content where the server has none.
pub(super) async fn curve(
    extract::State(state): extract::State<Arc<ServerState>>,
    Query(named): Query<Named>,
) -> Result<Response, ApiError> {
    let name = state.registry().chosen(named.vector.as_deref())?.name.clone();
    Ok(match state.curves.iter().find(|(of, _)| *of == name) {
        Some((_, curve)) => axum::Json(curve.clone()).into_response(),
        None => StatusCode::NO_CONTENT.into_response(),
    })
}

/// One prompt at several magnitudes.
#[derive(Debug, Deserialize, ToSchema)]
pub(super) struct SweepRequest {
    /// The conversation: objects with `role` and `content`.
    #[schema(value_type = Option<Vec<Object>>)]
    messages: Option<Vec<Value>>,
    /// One question, in place of a conversation.
    prompt: Option<String>,
    /// The vector that the magnitudes multiply; the default one where neither this nor `steering` is given.
    vector: Option<String>,
    /// The magnitudes: at most 16 numbers, or "auto", those that `bipo calibrate --save` kept in the vector's file, with 0
    /// between them.
    #[schema(value_type = Value)]
    magnitudes: Value,
    #[serde(flatten)]
    sampling: Sampling,
}

/// `POST /v1/sweep`
pub(super) async fn sweep(
    extract::State(state): extract::State<Arc<ServerState>>,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Response, ApiError> {
    let request: SweepRequest = ServerState::body(&headers, &body)?;
    let unit = applied_of(&state, request.vector.as_deref(), &request.sampling.steering)?;
    let magnitudes = magnitudes_of(&state, &unit, &request.magnitudes)?;
    if magnitudes.iter().any(|magnitude| !(unit.magnitude * magnitude).is_finite()) {
        return Err(ApiError::of_field("magnitudes", "a magnitude times that of steering is not a finite number"));
    }
    let prompt = prompt_of(request.messages.as_deref(), request.prompt.as_deref())?;
    let (options, stop) = request.sampling.options(&state, None)?;
    let wanted = magnitudes.iter().map(|magnitude| Wanted {
        prompt: prompt.clone(),
        applied: unit.times(*magnitude),
        options: options.clone(),
        stop: stop.clone(),
    });
    let job = state.submit(wanted.collect())?;
    let prompt_tokens = job.prompt_tokens / magnitudes.len();
    if request.sampling.streams() {
        return Ok(events(job, Sweep { magnitudes, prompt_tokens, completion_tokens: 0 }));
    }
    Ok(whole_sweep(job, &magnitudes, &state.model).await?.into_response())
}

/// The factors on what is applied.
fn magnitudes_of(state: &ServerState, unit: &Applied, wanted: &Value) -> Result<Vec<f32>, ApiError> {
    if wanted == "auto" {
        return state.registry().calibrated(unit);
    }
    let numbers = || wanted.as_array()?.iter().map(|number| Some(number.as_f64()? as f32)).collect::<Option<Vec<f32>>>();
    let is_sound = |numbers: &Vec<f32>| (1..=MOST_TEXTS).contains(&numbers.len()) && numbers.iter().all(|m| m.is_finite());
    numbers()
        .filter(is_sound)
        .ok_or_else(|| ApiError::of_field("magnitudes", format!("magnitudes: expected 1 to {MOST_TEXTS} numbers, or \"auto\"")))
}

/// The conversation of a request: its messages, or one question.
fn prompt_of(conversation: Option<&[Value]>, prompt: Option<&str>) -> Result<PromptInput, ApiError> {
    match (conversation, prompt) {
        (Some(values), None) => Ok(PromptInput::Messages(messages(values)?)),
        (None, Some(text)) => Ok(PromptInput::Messages(vec![crate::data::Message::new("user", text)])),
        _ => Err(ApiError::of_field("messages", "give messages or prompt, one of the two")),
    }
}

async fn whole_sweep(mut job: Job, magnitudes: &[f32], model: &str) -> Result<axum::Json<Value>, ApiError> {
    let mut texts: Vec<Collected> = magnitudes.iter().map(|_| Collected::default()).collect();
    while let Some(Delta { index, kind }) = job.deltas.recv().await {
        let not_finite = |refusal: &ApiError| *refusal == not_finite();
        // One magnitude that is too large costs no other its text.
        match texts[index].take(kind) {
            Err(refusal) if not_finite(&refusal) => texts[index].ended = Some((FinishReason::NotFinite, f64::NAN)),
            taken => taken?,
        }
    }
    if texts.iter().any(|text| text.ended.is_none()) {
        return Err(stopping());
    }
    let completion = texts.iter().map(|text| text.token_ids.len()).sum();
    let result = |(index, (text, magnitude)): (usize, (&Collected, &f32))| {
        let (reason, dose) = text.ended.unzip();
        let mut result = json!({
            "index": index,
            "magnitude": magnitude,
            "text": text.text,
            "finish_reason": reason,
            "dose": dose.filter(|dose| dose.is_finite()),
            "token_ids": text.token_ids,
        });
        if let Some(when) = &text.when {
            result["when"] = json!(when);
        }
        result
    };
    let results: Vec<Value> = texts.iter().zip(magnitudes).enumerate().map(result).collect();
    let prompt = job.prompt_tokens / magnitudes.len();
    Ok(axum::Json(json!({"object": "sweep", "model": model, "results": results, "usage": usage(prompt, completion)})))
}

/// A sweep in pieces.
struct Sweep {
    magnitudes: Vec<f32>,
    prompt_tokens: usize,
    completion_tokens: usize,
}

impl Pieces for Sweep {
    fn of(&mut self, Delta { index, kind }: Delta) -> Result<Vec<Value>, ApiError> {
        let magnitude = self.magnitudes[index];
        Ok(vec![match kind {
            DeltaKind::Text { text, .. } => json!({"index": index, "magnitude": magnitude, "delta": text}),
            DeltaKind::Done { reason, dose, when, token_ids } => {
                self.completion_tokens += token_ids.len();
                let (dose, tokens) = (Some(dose).filter(|dose| dose.is_finite()), token_ids.len());
                let mut last =
                    json!({"index": index, "magnitude": magnitude, "finish_reason": reason, "dose": dose, "tokens": tokens});
                if let Some(when) = when {
                    last["when"] = json!(when);
                }
                last
            }
            DeltaKind::Failed(refusal) => return Err(refusal),
        }])
    }

    fn last(&mut self) -> Option<Value> {
        Some(json!({"usage": usage(self.prompt_tokens, self.completion_tokens)}))
    }
}

/// A text to score token by token.
#[derive(Debug, Deserialize, ToSchema)]
pub(super) struct ScoreRequest {
    /// A plain text, scored as it is.
    text: Option<String>,
    /// A conversation, with the template's tokens, in place of a plain text.
    #[schema(value_type = Option<Vec<Object>>)]
    messages: Option<Vec<Value>>,
    /// The vector, at magnitude 1; the default one where neither this nor `steering` is given.
    vector: Option<String>,
    /// Vectors with magnitudes.
    #[serde(default)]
    #[schema(value_type = Option<Object>)]
    steering: Value,
}

/// `POST /v1/score`
pub(super) async fn score(
    extract::State(state): extract::State<Arc<ServerState>>,
    headers: HeaderMap,
    body: Bytes,
) -> Result<axum::Json<Value>, ApiError> {
    let request: ScoreRequest = ServerState::body(&headers, &body)?;
    if request.steering.get("when").is_some_and(|when| !when.is_null()) {
        return Err(ApiError::of_field("steering", "every token is scored under the vectors: leave \"when\" out"));
    }
    let applied = applied_of(&state, request.vector.as_deref(), &request.steering)?;
    let prompt = match (request.text, request.messages) {
        (Some(text), None) => PromptInput::Text(text),
        (None, Some(values)) => PromptInput::Messages(messages(&values)?),
        _ => return Err(ApiError::of_field("text", "give text or messages, one of the two")),
    };
    let ids = state.encode(&prompt, &applied)?.ids;
    if ids.is_empty() || ids.len() > state.context {
        let problem = format!("the text has {} tokens: expected 1 to {}", ids.len(), state.context);
        return Err(ApiError::of_field("text", problem));
    }
    let (to, scores) = oneshot::channel();
    state.submit_score(Score { ids, applied: applied.clone(), to })?;
    let scores = scores.await.map_err(|_| stopping())??;
    let tokens: Vec<Value> = scores
        .iter()
        .map(|score| {
            let mut token = json!(score);
            let TokenText { text, bytes } = state.token_text(score.id);
            token["text"] = text.unwrap_or_else(|| String::from_utf8_lossy(&bytes).into_owned()).into();
            token
        })
        .collect();
    let first = applied.parts.first();
    Ok(axum::Json(json!({
        "object": "score",
        "model": state.model,
        "vector": first.map(|(name, _, _)| name),
        "layer": applied.steering.lowest(),
        "magnitude": first.map_or(0.0, |(_, magnitude, _)| *magnitude),
        "tokens": tokens,
    })))
}

/// The vector of a request that names one by `vector` or by `steering`.
fn applied_of(state: &ServerState, vector: Option<&str>, steering: &Value) -> Result<Applied, ApiError> {
    match (vector, steering) {
        (Some(_), steering) if !steering.is_null() => Err(ApiError::of_field("steering", "give vector or steering, not both")),
        (vector, Value::Null) => {
            let registry = state.registry();
            let name = registry.chosen(vector)?.name.clone();
            registry.resolve(&Value::String(name), None, &state.device)
        }
        (_, steering) => state.resolve(None, steering),
    }
}

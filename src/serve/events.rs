//! The deltas of a job as server-sent events. A client that leaves drops the stream, and with it the job.

use std::collections::VecDeque;
use std::convert::Infallible;

use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use futures_util::stream::unfold;
use serde_json::Value;

use super::error::ApiError;
use super::state::{Job, stopping};
use super::text::{Delta, DeltaKind};

/// What an endpoint makes of deltas.
pub(super) trait Pieces: Send + 'static {
    /// The events of one delta; a refusal is the last event.
    fn of(&mut self, delta: Delta) -> Result<Vec<Value>, ApiError>;

    /// The event behind those of all texts.
    fn last(&mut self) -> Option<Value>;
}

/// The answer to a request for a stream.
pub(super) fn events(job: Job, pieces: impl Pieces) -> Response {
    let state = (job, pieces, VecDeque::new(), false);
    let stream = unfold(state, async |(mut job, mut pieces, mut pending, mut has_ended)| {
        loop {
            if let Some(data) = pending.pop_front() {
                let event: Result<Event, Infallible> = Ok(Event::default().data::<String>(data));
                return Some((event, (job, pieces, pending, has_ended)));
            }
            if has_ended {
                return None;
            }
            let delta = job.deltas.recv().await;
            if matches!(&delta, Some(Delta { kind: DeltaKind::Done { .. }, .. })) {
                job.texts -= 1;
            }
            match delta.map(|delta| pieces.of(delta)) {
                Some(Ok(values)) => pending.extend(values.iter().map(Value::to_string)),
                Some(Err(refusal)) => {
                    pending.push_back(refusal.body().to_string());
                    has_ended = true;
                }
                // The worker has gone before a text's end.
                None if job.texts > 0 => {
                    pending.push_back(stopping().body().to_string());
                    has_ended = true;
                }
                None => {
                    pending.extend(pieces.last().map(|value| value.to_string()));
                    pending.push_back("[DONE]".to_owned());
                    has_ended = true;
                }
            }
        }
    });
    Sse::new(stream).keep_alive(KeepAlive::default()).into_response()
}

//! Who may ask: those who know the key, and without a key those whose browser means this machine.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use axum::extract::{Request, State as Shared};
use axum::http::{HeaderMap, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use futures_util::FutureExt;
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use super::ServeOptions;
use super::error::ApiError;
use super::state::ServerState;

/// Most headers of a request, and bytes of its address.
const MOST_HEADERS: usize = 64;
const LONGEST_ADDRESS: usize = 8 << 10;

/// The names by which a browser may mean a server without a key: a page of another site whose name leads to this machine would
/// send its own.
pub(super) fn hosts(options: &ServeOptions) -> Option<Vec<String>> {
    let is_local = options.address.ip().is_loopback();
    let names = ["localhost".to_owned(), "127.0.0.1".to_owned(), "[::1]".to_owned(), options.address.ip().to_string()];
    (options.api_key.is_none() && is_local).then(|| names.to_vec())
}

/// Lets a request pass, or refuses it. Every refusal has the form of OpenAI's errors, also those of the libraries below.
pub(super) async fn guard(Shared(state): Shared<Arc<ServerState>>, request: Request, next: Next) -> Response {
    metrics::counter!("bipo_requests_total").increment(1);
    if let Err(refusal) = check(&state, &request) {
        return refusal.into_response();
    }
    let response = caught(next.run(request)).await;
    let (status, kind) = (response.status(), response.headers().get(header::CONTENT_TYPE));
    if !(status.is_client_error() || status.is_server_error()) || kind.is_some_and(|kind| kind == "application/json") {
        return response;
    }
    let said = axum::body::to_bytes(response.into_body(), 1024).await.unwrap_or_default();
    let said = String::from_utf8_lossy(&said);
    let reason = if said.is_empty() { status.canonical_reason().unwrap_or_default() } else { &said };
    ApiError::new(status, reason).into_response()
}

/// The answer of a handler, or one that says that it panicked. Where in the program it did stands on standard error.
async fn caught(answer: impl Future<Output = Response>) -> Response {
    AssertUnwindSafe(answer).catch_unwind().await.unwrap_or_else(|_| {
        metrics::counter!("bipo_errors_total").increment(1);
        let problem = "the server failed at this request; its log says where";
        ApiError::new(StatusCode::INTERNAL_SERVER_ERROR, problem).into_response()
    })
}

fn check(state: &ServerState, request: &Request) -> Result<(), ApiError> {
    if request.headers().len() > MOST_HEADERS {
        let problem = format!("{} headers: expected at most {MOST_HEADERS}", request.headers().len());
        return Err(ApiError::new(StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE, problem));
    }
    let address = request.uri().path_and_query().map_or(0, |address| address.as_str().len());
    if address > LONGEST_ADDRESS {
        let problem = format!("an address of {address} bytes: expected at most {LONGEST_ADDRESS}");
        return Err(ApiError::new(StatusCode::URI_TOO_LONG, problem));
    }
    if request.uri().path() == "/health" {
        return Ok(());
    }
    if let Some(key) = &state.key
        && !has_key(request.headers(), key)
    {
        let problem = "the key is missing or wrong: send the header authorization: Bearer KEY";
        return Err(ApiError::new(StatusCode::UNAUTHORIZED, problem));
    }
    if let Some(hosts) = &state.hosts {
        let host = request.headers().get(header::HOST).and_then(|host| host.to_str().ok()).unwrap_or_default();
        let name = match host.rsplit_once(':') {
            Some((name, port)) if port.chars().all(|c| c.is_ascii_digit()) => name,
            _ => host,
        };
        if !hosts.iter().any(|known| known.eq_ignore_ascii_case(name)) {
            let problem = "this server answers to localhost alone: start it with an API key to use another name";
            return Err(ApiError::new(StatusCode::FORBIDDEN, problem));
        }
    }
    Ok(())
}

/// Whether the key is there, as a bearer token or as the password that a browser sends. Hashes are compared, so that the time does
/// not say how much of a wrong key is right, nor whether it has the length of the right one.
fn has_key(headers: &HeaderMap, key: &str) -> bool {
    let Some(value) = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok()) else { return false };
    let given = match value.split_once(' ') {
        Some((scheme, token)) if scheme.eq_ignore_ascii_case("bearer") => token.trim().as_bytes().to_vec(),
        Some((scheme, token)) if scheme.eq_ignore_ascii_case("basic") => {
            let decoded = BASE64_STANDARD.decode(token.trim()).unwrap_or_default();
            decoded.splitn(2, |byte| *byte == b':').nth(1).unwrap_or_default().to_vec()
        }
        _ => return false,
    };
    Sha256::digest(given).ct_eq(&Sha256::digest(key)).into()
}

#[cfg(test)]
#[path = "guard_tests.rs"]
mod tests;

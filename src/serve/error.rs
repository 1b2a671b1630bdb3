//! What a request is refused with, in the form of OpenAI's errors.

use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};

use crate::Error;

/// A refusal: a status, what kind of error it is, and one line that says what to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ApiError {
    pub status: StatusCode,
    pub message: String,
    /// The field of the request that is wrong.
    pub param: Option<String>,
}

impl ApiError {
    pub fn new(status: StatusCode, message: impl Into<String>) -> Self {
        Self { status, message: message.into(), param: None }
    }

    /// A field of the request is wrong.
    pub fn of_field(param: &str, message: impl Into<String>) -> Self {
        Self { param: Some(param.to_owned()), ..Self::new(StatusCode::BAD_REQUEST, message) }
    }

    pub fn not_found(message: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, message)
    }

    /// The body of the answer.
    pub fn body(&self) -> Value {
        let kind = match self.status {
            StatusCode::UNAUTHORIZED => "authentication_error",
            StatusCode::TOO_MANY_REQUESTS => "rate_limit_error",
            status if status.is_server_error() => "server_error",
            _ => "invalid_request_error",
        };
        json!({"error": {"message": self.message, "type": kind, "param": self.param, "code": null}})
    }
}

impl From<Error> for ApiError {
    fn from(error: Error) -> Self {
        match error {
            // What is wrong is the request's; no file of the machine is named in these.
            Error::Argument(message) | Error::NotFinite(message) => Self::new(StatusCode::BAD_REQUEST, message),
            // A chat template that refuses a conversation, a vector's bytes that are broken: without the path.
            Error::Malformed { problem, .. } => Self::new(StatusCode::BAD_REQUEST, problem),
            _ => Self::new(StatusCode::INTERNAL_SERVER_ERROR, "the server could not compute this; its log says why"),
        }
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let mut response = (self.status, axum::Json(self.body())).into_response();
        if self.status == StatusCode::TOO_MANY_REQUESTS {
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
        }
        if self.status == StatusCode::UNAUTHORIZED {
            // A browser that opens the page asks for the key by this; clients send it as a bearer token.
            response.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Basic realm=\"bipo\""));
        }
        response
    }
}

//! The playground: one page from plain files, which are part of the program. No request of it leaves the machine.

use axum::extract::Path;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};

/// What the page may do: run and show its own files, and ask this server.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' data:; \
                      base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

macro_rules! files {
    ($($name:literal),* $(,)?) => {
        &[$(($name, include_str!(concat!("playground/", $name)))),*]
    };
}

/// The files beside `index.html`.
const FILES: &[(&str, &str)] = files![
    "style.css",
    "theme.js",
    "app.js",
    "state.js",
    "api.js",
    "dom.js",
    "vectors.js",
    "compare.js",
    "answer.js",
    "slider.js",
    "words.js",
    "damage.js",
    "dose.js",
    "chart.js",
    "monitor.js",
    "export.js",
];

/// `GET /`
pub(super) async fn index() -> Response {
    file("text/html; charset=utf-8", include_str!("playground/index.html"))
}

/// `GET /playground/NAME`
pub(super) async fn asset(Path(name): Path<String>) -> Response {
    match FILES.iter().find(|(known, _)| *known == name) {
        Some((_, text)) if name.ends_with(".css") => file("text/css; charset=utf-8", text),
        Some((_, text)) => file("text/javascript; charset=utf-8", text),
        None => StatusCode::NOT_FOUND.into_response(),
    }
}

fn file(kind: &'static str, text: &'static str) -> Response {
    let headers = [
        (header::CONTENT_TYPE, HeaderValue::from_static(kind)),
        (header::CONTENT_SECURITY_POLICY, HeaderValue::from_static(POLICY)),
        (header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")),
        (header::REFERRER_POLICY, HeaderValue::from_static("no-referrer")),
        // Another version of the program may have other files.
        (header::CACHE_CONTROL, HeaderValue::from_static("no-cache")),
    ];
    (headers, text).into_response()
}

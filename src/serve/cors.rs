//! Pages of which other origins a browser may let ask. No cookie is ever looked at, and the key is a header that a page must know.

use std::str::FromStr;

use axum::http::{HeaderValue, Method, Uri, header};
use tower_http::cors::{AllowHeaders, AllowOrigin, CorsLayer};

use crate::Error;

/// The origins whose pages may ask.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AllowedOrigin {
    /// Every one.
    Any,
    /// This one, as browsers write it.
    One(HeaderValue),
}

impl FromStr for AllowedOrigin {
    type Err = Error;

    /// Reads `*`, or an origin such as `https://example.org`. A slash behind it and the scheme's own port are left out, and
    /// letters are made small, as browsers do.
    fn from_str(text: &str) -> Result<Self, Error> {
        if text == "*" {
            return Ok(Self::Any);
        }
        let refused = || {
            let problem = "expected \"*\", or a scheme, a host and perhaps a port, such as https://example.org, and no path";
            Error::Argument(problem.into())
        };
        let small = text.strip_suffix('/').unwrap_or(text).to_ascii_lowercase();
        let (scheme, host) = small.split_once("://").ok_or_else(refused)?;
        let is_port = |text: &str| text.parse::<u16>().is_ok() && text.bytes().all(|byte| byte.is_ascii_digit());
        // Of user, host, port, path, query and fragment, the host and the port.
        let is_whole = |name: &str| {
            host.strip_prefix(name).is_some_and(|rest| rest.is_empty() || rest.strip_prefix(':').is_some_and(is_port))
        };
        let is_sound = small
            .parse::<Uri>()
            .is_ok_and(|uri| uri.host().is_some_and(|name| !name.is_empty() && !name.contains('*') && is_whole(name)));
        let port = match scheme {
            "http" => ":80",
            "https" => ":443",
            _ => "",
        };
        let origin = format!("{scheme}://{}", host.strip_suffix(port).unwrap_or(host));
        is_sound.then(|| HeaderValue::from_str(&origin).map(Self::One)).ok_or_else(refused)?.map_err(|_| refused())
    }
}

/// What tells browsers so.
pub(super) fn layer(allowed: &AllowedOrigin) -> CorsLayer {
    let origin = match allowed {
        AllowedOrigin::Any => AllowOrigin::any(),
        AllowedOrigin::One(origin) => AllowOrigin::exact(origin.clone()),
    };
    CorsLayer::new()
        .allow_origin(origin)
        .allow_methods([Method::GET, Method::POST, Method::DELETE])
        // Those that a page asks for, by their names: to browsers `*` does not stand for `authorization`.
        .allow_headers(AllowHeaders::mirror_request())
        .expose_headers([header::RETRY_AFTER])
}

#[cfg(test)]
#[path = "cors_tests.rs"]
mod tests;

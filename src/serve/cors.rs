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
        let uri: Uri = small.parse().map_err(|_| refused())?;
        let (Some(name), port) = (uri.host(), uri.port_u16()) else { return Err(refused()) };
        // Nothing else stands there: no user, no path, no query.
        let is_whole = host == name || port.is_some() && host.strip_prefix(name).is_some_and(is_port);
        if name.is_empty() || name.contains('*') || !is_whole {
            return Err(refused());
        }
        let own_port = match scheme {
            "http" => Some(80),
            "https" => Some(443),
            _ => None,
        };
        let port = port.filter(|port| Some(*port) != own_port).map(|port| format!(":{port}")).unwrap_or_default();
        HeaderValue::from_str(&format!("{scheme}://{name}{port}")).map(Self::One).map_err(|_| refused())
    }
}

/// Whether it is a colon and digits.
fn is_port(text: &str) -> bool {
    text.strip_prefix(':').is_some_and(|digits| digits.bytes().all(|byte| byte.is_ascii_digit()))
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

//! The server's address as its clients know it: links must carry it.

use ambidex_kit::{ApiError, Peer};
use axum::extract::FromRequestParts;
use http::header::HOST;
use http::request::Parts;

use crate::Context;

/// `scheme://host[:port]` without a slash at the end: the configured one, else that of the request.
pub struct Origin(pub String);

impl FromRequestParts<Context> for Origin {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, context: &Context) -> Result<Self, ApiError> {
        if let Some(url) = &context.settings.public_url {
            return Ok(Self(url.trim_end_matches('/').to_owned()));
        }
        let host = parts
            .headers
            .get(HOST)
            .and_then(|value| value.to_str().ok())
            .or_else(|| parts.uri.authority().map(http::uri::Authority::as_str))
            .filter(|host| is_host(host))
            .ok_or_else(|| ApiError::bad_request("missing or malformed Host header"))?;
        // A proxy that ends TLS in front of the server says so. Who lies here spoils his own links.
        let forwarded = parts
            .headers
            .get("x-forwarded-proto")
            .and_then(|value| value.to_str().ok())
            .filter(|scheme| matches!(*scheme, "http" | "https"));
        let tls = parts.extensions.get::<Peer>().is_some_and(|peer| peer.tls);
        let scheme = forwarded.unwrap_or(if tls { "https" } else { "http" });
        Ok(Self(format!("{scheme}://{host}")))
    }
}

fn is_host(host: &str) -> bool {
    !host.is_empty()
        && host.len() <= 255
        && host.bytes().all(|b| {
            b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_' | b':' | b'[' | b']')
        })
}

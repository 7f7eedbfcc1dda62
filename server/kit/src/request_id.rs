//! The id that ties a request, its answer and its log lines together.

use std::sync::Arc;

use http::HeaderMap;
use http::header::HeaderName;

use crate::new_id;

/// Echoed when the client sends it, made by the server otherwise (reference: common conventions).
pub const REQUEST_ID_HEADER: HeaderName = HeaderName::from_static("x-men-requestid");

/// Longer ids are not taken over from a client: they go into every log line.
const CLIENT_ID_BYTES_MAX: usize = 128;

tokio::task_local! {
    pub(crate) static REQUEST_ID: Arc<str>;
}

/// The id of the request that this task serves; empty outside of a request.
pub fn current_request_id() -> String {
    REQUEST_ID.try_with(|id| id.to_string()).unwrap_or_default()
}

/// The client's id when it is short visible ASCII, else a fresh one.
pub(crate) fn choose(headers: &HeaderMap) -> Arc<str> {
    headers
        .get(REQUEST_ID_HEADER)
        .and_then(|value| value.to_str().ok())
        .filter(|id| {
            (1..=CLIENT_ID_BYTES_MAX).contains(&id.len())
                && id.bytes().all(|b| b.is_ascii_graphic())
        })
        .map_or_else(fresh, Arc::from)
}

fn fresh() -> Arc<str> {
    let mut buffer = uuid::Uuid::encode_buffer();
    Arc::from(&*new_id().hyphenated().encode_lower(&mut buffer))
}

//! What is known of the request that a task serves: the id that ties the request, its answer and its log
//! lines together, its route, and on whose behalf it is made.

use std::cell::OnceCell;
use std::sync::Arc;

use axum::extract::MatchedPath;
use http::HeaderMap;
use http::header::HeaderName;

use crate::new_id;

/// Echoed when the client sends it, made by the server otherwise (reference: common conventions).
pub const REQUEST_ID_HEADER: HeaderName = HeaderName::from_static("x-men-requestid");

/// Longer ids are not taken over from a client: they go into every log line.
const CLIENT_ID_BYTES_MAX: usize = 128;

/// Filled on the way through the layers, read when the answer leaves.
pub(crate) struct Context {
    pub(crate) id: Arc<str>,
    pub(crate) route: OnceCell<MatchedPath>,
    pub(crate) tenant: OnceCell<Box<str>>,
}

impl Context {
    pub(crate) fn new(id: Arc<str>) -> Context {
        Context {
            id,
            route: OnceCell::new(),
            tenant: OnceCell::new(),
        }
    }
}

tokio::task_local! {
    pub(crate) static CONTEXT: Context;
}

/// The id of the request that this task serves; empty outside of a request.
pub fn current_request_id() -> String {
    CONTEXT
        .try_with(|context| context.id.to_string())
        .unwrap_or_default()
}

/// Tells on whose behalf the request of this task is made, for its log line; the first word counts.
/// Nothing happens outside of a request, or for the one tenant of a server without tenants.
pub fn note_tenant(tenant: &str) {
    if !tenant.is_empty() {
        let _ = CONTEXT.try_with(|context| context.tenant.set(Box::from(tenant)));
    }
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

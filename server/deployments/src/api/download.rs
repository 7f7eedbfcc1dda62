//! Artifact files behind signed links (unauthenticated: the link alone authorises).

pub mod condition;

use ambidex_blob::{BlobError, DOWNLOAD_PATH};
use ambidex_kit::ApiError;
use axum::Router;
use axum::body::Body;
use axum::extract::{DefaultBodyLimit, OriginalUri, Path, State};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use http::header::{
    ACCEPT_RANGES, CACHE_CONTROL, CONTENT_DISPOSITION, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE,
    ETAG, HeaderValue, LAST_MODIFIED,
};
use http::{HeaderMap, Method, StatusCode};

use crate::Context;
use condition::Outcome;

const ARTIFACT_TYPE: HeaderValue = HeaderValue::from_static("application/vnd.mender-artifact");
/// Proxies may keep a file (it never changes under its link) but must not compress it.
const CACHING: HeaderValue = HeaderValue::from_static("private, no-transform");

pub fn routes() -> Router<Context> {
    Router::new().route(
        &format!("{DOWNLOAD_PATH}/{{*key}}"),
        // A file is streamed; its own limit counts.
        get(download)
            .put(super::uploads::put_file)
            .layer(DefaultBodyLimit::disable()),
    )
}

/// A file name that is safe in a header and on a disk.
pub fn file_name(artifact_name: &str) -> String {
    const NAME_BYTES_MAX: usize = 100;
    let safe: String = artifact_name
        .chars()
        .take(NAME_BYTES_MAX)
        .map(|c| {
            if c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.') {
                c
            } else {
                '_'
            }
        })
        .collect();
    let safe = if safe.is_empty() {
        "artifact"
    } else {
        safe.as_str()
    };
    format!("{safe}.mender")
}

/// Download an artifact file
async fn download(
    State(context): State<Context>,
    Path(key): Path<String>,
    OriginalUri(uri): OriginalUri,
    method: Method,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    let query = uri.query().unwrap_or_default();
    // Whatever is wrong with a link, it opens nothing.
    let name = context
        .blobs
        .verify_link(method.as_str(), uri.path(), query, context.clock.now_ms())
        .map_err(|error| ApiError::forbidden(error.to_string()))?;
    let missing = |error: BlobError| match error {
        BlobError::NotFound(_) => ApiError::not_found("Resource not found"),
        error => ApiError::internal(error),
    };
    let meta = context
        .blobs
        .head(&key)
        .await
        .map_err(missing)?
        .ok_or_else(|| ApiError::not_found("Resource not found"))?;
    // A key is never reused, so it names the content.
    let etag = format!("\"{}\"", key.rsplit('/').next().unwrap_or(&key));
    let outcome = condition::evaluate(&headers, &etag, meta.modified_ms, meta.size);

    let mut answer = HeaderMap::new();
    answer.insert(ACCEPT_RANGES, HeaderValue::from_static("bytes"));
    answer.insert(CACHE_CONTROL, CACHING);
    insert(&mut answer, ETAG, &etag);
    insert(
        &mut answer,
        LAST_MODIFIED,
        &condition::http_date(meta.modified_ms),
    );
    let (status, range) = match outcome {
        Outcome::Whole => (StatusCode::OK, None),
        Outcome::Part(range) => {
            let text = format!("bytes {}-{}/{}", range.start, range.end - 1, meta.size);
            insert(&mut answer, CONTENT_RANGE, &text);
            (StatusCode::PARTIAL_CONTENT, Some(range))
        }
        Outcome::NotModified => return Ok((StatusCode::NOT_MODIFIED, answer).into_response()),
        Outcome::PreconditionFailed => {
            return Ok((StatusCode::PRECONDITION_FAILED, answer).into_response());
        }
        Outcome::Unsatisfiable => {
            insert(
                &mut answer,
                CONTENT_RANGE,
                &format!("bytes */{}", meta.size),
            );
            return Ok((StatusCode::RANGE_NOT_SATISFIABLE, answer).into_response());
        }
    };
    let length = range
        .as_ref()
        .map_or(meta.size, |range| range.end - range.start);
    answer.insert(CONTENT_TYPE, ARTIFACT_TYPE);
    answer.insert(CONTENT_LENGTH, HeaderValue::from(length));
    let name = file_name(name.strip_suffix(".mender").unwrap_or(&name));
    insert(
        &mut answer,
        CONTENT_DISPOSITION,
        &format!("attachment; filename=\"{name}\""),
    );
    let body = if method == Method::HEAD {
        Body::empty()
    } else {
        let (_, stream) = context.blobs.get(&key, range).await.map_err(missing)?;
        Body::from_stream(stream)
    };
    Ok((status, answer, body).into_response())
}

fn insert(headers: &mut HeaderMap, name: http::HeaderName, value: &str) {
    if let Ok(value) = HeaderValue::from_str(value) {
        headers.insert(name, value);
    }
}

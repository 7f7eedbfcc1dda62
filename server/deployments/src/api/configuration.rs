//! Configurations as devices fetch them (unauthenticated: the link alone authorises).

use ambidex_access::TenantId;
use ambidex_kit::ApiError;
use axum::Router;
use axum::extract::{OriginalUri, Path, State};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use http::HeaderMap;
use http::StatusCode;
use http::header::{ACCEPT_RANGES, CONTENT_DISPOSITION, CONTENT_RANGE, CONTENT_TYPE, HeaderValue};

use super::download::condition::{self, Outcome};
use crate::Context;
use crate::domain::configuration;
use crate::domain::link::{LinkError, Signer, escape};
use crate::error::Error;

/// Below this path configurations are fetched.
const PATH: &str = "/api/devices/v1/deployments/download/configuration";

pub fn routes() -> Router<Context> {
    Router::new().route(
        &format!("{PATH}/{{deployment_id}}/{{device_type}}/{{device_id}}"),
        get(fetch_configuration),
    )
}

/// Path and query of a link to the configuration for a device.
///
/// # Errors
/// Those of the store.
pub async fn link(
    context: &Context,
    tenant: &TenantId,
    deployment_id: &str,
    device_type: &str,
    device_id: &str,
    expires_ms: i64,
) -> Result<String, Error> {
    let path = format!(
        "{PATH}/{}/{}/{}",
        escape(deployment_id),
        escape(device_type),
        escape(device_id)
    );
    Ok(Signer::of(context)
        .await?
        .sign(&path, tenant.as_str(), expires_ms))
}

/// Fetch a configuration
async fn fetch_configuration(
    State(context): State<Context>,
    Path((deployment_id, device_type, device_id)): Path<(String, String, String)>,
    OriginalUri(uri): OriginalUri,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    let query = uri.query().unwrap_or_default();
    let tenant = Signer::of(&context)
        .await?
        .verify(uri.path(), query, context.clock.now_ms())
        .map_err(|error| match error {
            LinkError::Malformed(_) => ApiError::bad_request(error.to_string()),
            LinkError::Expired | LinkError::Signature => ApiError::forbidden(error.to_string()),
        })?;
    let file = configuration::artifact(
        &context,
        &TenantId::new(tenant),
        &deployment_id,
        &device_type,
        &device_id,
    )
    .await?;
    let size = file.len() as u64;
    let mut answer = HeaderMap::new();
    answer.insert(ACCEPT_RANGES, HeaderValue::from_static("bytes"));
    answer.insert(
        CONTENT_TYPE,
        HeaderValue::from_static("application/vnd.mender-artifact"),
    );
    answer.insert(
        CONTENT_DISPOSITION,
        HeaderValue::from_static("attachment; filename=\"artifact.mender\""),
    );
    let etag = format!("\"{deployment_id}\"");
    let content_range = |text: String| HeaderValue::from_str(&text).ok();
    Ok(match condition::evaluate(&headers, &etag, 0, size) {
        Outcome::Part(range) => {
            let text = format!("bytes {}-{}/{size}", range.start, range.end - 1);
            if let Some(value) = content_range(text) {
                answer.insert(CONTENT_RANGE, value);
            }
            let start = usize::try_from(range.start).unwrap_or(usize::MAX);
            let end = usize::try_from(range.end).unwrap_or(usize::MAX);
            let part = file.get(start..end).unwrap_or_default().to_vec();
            (StatusCode::PARTIAL_CONTENT, answer, part).into_response()
        }
        Outcome::Unsatisfiable => {
            if let Some(value) = content_range(format!("bytes */{size}")) {
                answer.insert(CONTENT_RANGE, value);
            }
            (StatusCode::RANGE_NOT_SATISFIABLE, answer).into_response()
        }
        // A configuration has no time of its own: conditions on it do not hold it back.
        Outcome::Whole | Outcome::NotModified | Outcome::PreconditionFailed => {
            (StatusCode::OK, answer, file).into_response()
        }
    })
}

//! Files that go straight into the store.

use ambidex_access::UserAuth;
use ambidex_kit::{ApiError, Json, RawBody, rfc3339};
use ambidex_wire::management::deployments::UploadLink;
use axum::Router;
use axum::body::Body;
use axum::extract::{OriginalUri, Path, State};
use axum::routing::post;
use futures_util::StreamExt as _;
use http::{Method, StatusCode};
use serde_json::Value;

use super::origin::Origin;
use super::{MANAGEMENT_V1, id};
use crate::Context;
use crate::domain::{direct_upload, intake};
use crate::error::Error;

pub fn routes() -> Router<Context> {
    let path = |rest: &str| format!("{MANAGEMENT_V1}/artifacts/directupload{rest}");
    Router::new()
        .route(&path(""), post(request_direct_upload))
        .route(&path("/{id}/complete"), post(complete_direct_upload))
}

/// Request link for uploading artifact directly to the storage backend
async fn request_direct_upload(
    UserAuth(user): UserAuth,
    State(context): State<Context>,
    Origin(origin): Origin,
) -> Result<Json<UploadLink>, ApiError> {
    let intent = direct_upload::begin(&context, &user).await?;
    let now_ms = context.clock.now_ms();
    let uri = context
        .blobs
        .upload_link(
            &origin,
            &intent.blob_key,
            now_ms,
            intent.expires_ms.saturating_sub(now_ms),
        )
        .await
        .map_err(Error::from)?;
    Ok(Json(UploadLink {
        id: intent.id,
        uri,
        expire: rfc3339(intent.expires_ms),
        method: Method::PUT.to_string(),
        header: Default::default(),
    }))
}

/// Notify the server that the direct upload is completed
///
/// The optional description of the file is not needed: the file itself is read.
async fn complete_direct_upload(
    UserAuth(user): UserAuth,
    State(context): State<Context>,
    Path(id): Path<String>,
    body: RawBody,
) -> Result<StatusCode, ApiError> {
    let id = id::parse(&id)?;
    if !body.0.is_empty() {
        body.json::<Value>("malformed JSON in request body")?;
    }
    direct_upload::complete(&context, &user, &id).await?;
    Ok(StatusCode::ACCEPTED)
}

/// Send a file for a signed link
pub async fn put_file(
    State(context): State<Context>,
    Path(key): Path<String>,
    OriginalUri(uri): OriginalUri,
    body: Body,
) -> Result<StatusCode, ApiError> {
    let query = uri.query().unwrap_or_default();
    let now_ms = context.clock.now_ms();
    // Whatever is wrong with a link, it opens nothing.
    context
        .blobs
        .verify_link(Method::PUT.as_str(), uri.path(), query, now_ms)
        .map_err(|error| ApiError::forbidden(error.to_string()))?;
    let (tenant, id) = direct_upload::parse_key(&key)
        .ok_or_else(|| ApiError::forbidden("the link is not for an upload"))?;
    if !direct_upload::is_pending(&context, &tenant, &id, &key).await? {
        return Err(ApiError::conflict("the upload is completed"));
    }
    let (bytes_max, storage_full) = intake::room(&context, &tenant).await?;
    let mut upload = context.blobs.put_begin(&key).await.map_err(Error::from)?;
    let mut body = body.into_data_stream();
    while let Some(chunk) = body.next().await {
        let chunk = chunk
            .map_err(|error| ApiError::bad_request(format!("failed to read the body: {error}")))?;
        if upload.written().saturating_add(chunk.len() as u64) > bytes_max {
            return Err(intake::too_large(bytes_max, storage_full).into());
        }
        upload.write(chunk).await.map_err(Error::from)?;
    }
    upload.commit().await.map_err(Error::from)?;
    Ok(StatusCode::OK)
}

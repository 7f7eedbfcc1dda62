//! What other services of the same server call. Never reachable from outside.

use ambidex_access::TenantId;
use ambidex_kit::{ApiError, Json, Page, QueryPairs, RawBody};
use ambidex_wire::management::deployments::{StorageLimit, StorageUsage};
use axum::Router;
use axum::extract::{DefaultBodyLimit, OriginalUri, Path, Request, State};
use axum::response::Response;
use axum::routing::{delete, get, post};
use http::StatusCode;
use serde::Deserialize;

use super::{artifacts, deployments, upload};
use crate::Context;
use crate::domain::decommission;
use crate::domain::deployment::Status;
use crate::error::Error;
use crate::store;

const INTERNAL_V1: &str = "/api/internal/v1/deployments";

/// Largest storage limit: what both database engines can add up.
const LIMIT_BYTES_MAX: u64 = i64::MAX as u64;

pub fn routes() -> Router<Context> {
    let path = |rest: &str| format!("{INTERNAL_V1}{rest}");
    Router::new()
        .route(
            &path("/tenants/{id}/limits/storage"),
            get(get_tenant_storage_usage).put(set_storage_limit),
        )
        .route(&path("/tenants"), post(create_tenant))
        .route(&path("/tenants/{id}/deployments"), get(get_deployments))
        .route(
            &path("/tenants/{id}/artifacts"),
            post(upload_artifact_for_tenant).layer(DefaultBodyLimit::disable()),
        )
        .route(
            &path("/tenants/{id}/deployments/devices/{device_id}"),
            delete(decommission_device),
        )
        .route(&path("/health"), get(check_health))
        .route(&path("/alive"), get(check_liveliness))
}

/// The tenant of a path; `default` is the one of a server without tenants.
fn tenant(id: String) -> TenantId {
    TenantId::new(if id == "default" { String::new() } else { id })
}

/// Get storage limit and current storage usage for given tenant
async fn get_tenant_storage_usage(
    State(context): State<Context>,
    Path(id): Path<String>,
) -> Result<Json<StorageUsage>, ApiError> {
    Ok(Json(store::storage::find(&context.db, &tenant(id)).await?))
}

/// Set storage limit for given tenant
async fn set_storage_limit(
    State(context): State<Context>,
    Path(id): Path<String>,
    body: RawBody,
) -> Result<StatusCode, ApiError> {
    let StorageLimit { limit } = body.json("failed to decode storage limit")?;
    if limit > LIMIT_BYTES_MAX {
        return Err(ApiError::bad_request(format!(
            "limit: must be at most {LIMIT_BYTES_MAX}"
        )));
    }
    context
        .db
        .apply(vec![store::storage::set_limit(&tenant(id), limit)])
        .await?;
    Ok(StatusCode::NO_CONTENT)
}

#[derive(Deserialize)]
struct NewTenant {
    #[serde(default)]
    tenant_id: String,
}

/// Provision a new tenant
async fn create_tenant(
    State(context): State<Context>,
    body: RawBody,
) -> Result<StatusCode, ApiError> {
    let NewTenant { tenant_id } = body.json("failed to decode tenant")?;
    if tenant_id.is_empty() {
        return Err(ApiError::bad_request("tenant_id must be provided"));
    }
    context
        .db
        .apply(vec![store::storage::ensure(&tenant(tenant_id))])
        .await?;
    Ok(StatusCode::CREATED)
}

/// Get all deployments for specific tenant
async fn get_deployments(
    State(context): State<Context>,
    Path(id): Path<String>,
    query: QueryPairs,
    page: Page,
    OriginalUri(uri): OriginalUri,
) -> Result<Response, ApiError> {
    let filter = deployments::filter(&query)?;
    if filter.status == Some(Status::Scheduled) {
        return Err(ApiError::bad_request("unknown status scheduled"));
    }
    deployments::list(&context, &tenant(id), &filter, &page, &uri).await
}

/// Upload mender artifact to a specific tenant
async fn upload_artifact_for_tenant(
    State(context): State<Context>,
    Path(id): Path<String>,
    request: Request,
) -> Result<Response, ApiError> {
    let id = upload::receive(&context, &tenant(id), request).await?;
    Ok(artifacts::created(&id))
}

/// Decommission a device in all deployments
async fn decommission_device(
    State(context): State<Context>,
    Path((id, device_id)): Path<(String, String)>,
) -> Result<StatusCode, ApiError> {
    decommission::device(&context, &tenant(id), &device_id).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// What the service needs, in turn.
///
/// # Errors
/// The first thing that does not work.
pub async fn health(context: &Context) -> Result<(), Error> {
    context.db.ping().await?;
    context.blobs.ping().await?;
    Ok(())
}

/// Check the health of the service
async fn check_health(State(context): State<Context>) -> Result<StatusCode, ApiError> {
    match health(&context).await {
        Ok(()) => Ok(StatusCode::NO_CONTENT),
        Err(Error::Db(error)) => Err(ApiError::unavailable(format!(
            "error reaching the database: {error}"
        ))),
        Err(Error::Blob(error)) => Err(ApiError::unavailable(format!(
            "error reaching the artifact store: {error}"
        ))),
        Err(error) => Err(error.into()),
    }
}

/// Answer whenever the handler runs
async fn check_liveliness() -> StatusCode {
    StatusCode::NO_CONTENT
}

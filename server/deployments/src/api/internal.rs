//! What other services of the same server call. Never reachable from outside.

use ambidex_access::TenantId;
use ambidex_kit::{ApiError, Json, Page, QueryPairs, RawBody};
use ambidex_wire::management::deployments::{
    DeviceDeployment, LastStatusQuery, LastStatuses, NewConfigurationDeployment, StorageLimit,
    StorageUsage,
};
use axum::Router;
use axum::extract::{DefaultBodyLimit, OriginalUri, Path, Request, State};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use http::StatusCode;
use http::header::LOCATION;
use serde::Deserialize;

use super::{MANAGEMENT_V1, artifacts, deployments, history, id, upload};
use crate::Context;
use crate::domain::deployment::Status;
use crate::domain::{configuration, decommission, history as domain_history};
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
            &path("/tenants/{id}/deployments/devices"),
            get(list_device_deployments_entries),
        )
        .route(
            &path("/tenants/{id}/deployments/devices/{device_id}"),
            get(list_deployments_for_a_device).delete(decommission_device),
        )
        .route(
            &path("/tenants/{id}/configuration/deployments/{deployment_id}/devices/{device_id}"),
            post(create_configuration_deployment),
        )
        .route(
            &path("/tenants/{id}/devices/deployments/last"),
            post(get_last_device_deployment_status),
        )
        .route(
            &path("/tenants/{id}/storage/settings"),
            get(get_storage_settings).put(set_storage_settings),
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
    let id = upload::receive(&context, &tenant(id), None, request).await?;
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

/// Return the deployments history for a device
async fn list_deployments_for_a_device(
    State(context): State<Context>,
    Path((id, device_id)): Path<(String, String)>,
    query: QueryPairs,
    OriginalUri(uri): OriginalUri,
) -> Result<Response, ApiError> {
    history::page(&context, &tenant(id), &device_id, &query, &uri, None).await
}

/// Return the deployments history entries for the specified ids
async fn list_device_deployments_entries(
    State(context): State<Context>,
    Path(id): Path<String>,
    query: QueryPairs,
) -> Result<Json<Vec<DeviceDeployment>>, ApiError> {
    Ok(Json(history::by_ids(&context, &tenant(id), &query).await?))
}

/// Create a configuration deployment
async fn create_configuration_deployment(
    State(context): State<Context>,
    Path((id, deployment_id, device_id)): Path<(String, String, String)>,
    body: RawBody,
) -> Result<Response, ApiError> {
    let deployment_id = id::parse(&deployment_id)
        .map_err(|_| ApiError::bad_request("Deployment ID must be a valid UUID"))?;
    let body: NewConfigurationDeployment = body.json("Validating request body")?;
    let location = format!("{MANAGEMENT_V1}/deployments/{deployment_id}");
    configuration::create(&context, &tenant(id), deployment_id, device_id, body).await?;
    Ok((StatusCode::CREATED, [(LOCATION, location)]).into_response())
}

/// Get status of the last device deployment
async fn get_last_device_deployment_status(
    State(context): State<Context>,
    Path(id): Path<String>,
    body: RawBody,
) -> Result<Json<LastStatuses>, ApiError> {
    let LastStatusQuery { device_ids } = body.json("failed to decode request body")?;
    let found = domain_history::last(&context, &tenant(id), device_ids).await?;
    Ok(Json(LastStatuses {
        device_deployment_last_statuses: found,
    }))
}

/// Get storage settings for a given tenant
///
/// All tenants share the store that the server was started with.
async fn get_storage_settings(Path(_): Path<String>) -> Json<serde_json::Value> {
    Json(serde_json::json!({}))
}

/// Set storage settings for a given tenant
///
/// Nothing but the default, the store that the server was started with, can be set.
async fn set_storage_settings(
    Path(_): Path<String>,
    body: RawBody,
) -> Result<StatusCode, ApiError> {
    let settings: Option<serde_json::Map<String, serde_json::Value>> = if body.0.is_empty() {
        None
    } else {
        body.json("failed to decode storage settings")?
    };
    if settings.is_some_and(|settings| !settings.is_empty()) {
        return Err(ApiError::bad_request(
            "all tenants share the artifact store that the server was started with \
             (--storage-url); a tenant cannot have its own",
        ));
    }
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

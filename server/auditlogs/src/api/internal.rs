//! `/api/internal/v1/auditlogs`, in the order of the specification; never on the public listener.

use ambidex_access::TenantId;
use ambidex_kit::{ApiError, QueryPairs, RawBody, new_id};
use ambidex_wire::management::auditlogs::Event;
use axum::Router;
use axum::extract::{OriginalUri, Path, State};
use axum::response::Response;
use axum::routing::get;
use http::StatusCode;
use serde_json::Value;

use super::page;
use crate::Auditlogs;

pub(crate) fn routes(auditlogs: Auditlogs) -> Router {
    const BASE: &str = "/api/internal/v1/auditlogs";
    let path = |tail: &str| format!("{BASE}{tail}");
    Router::new()
        .route(&path("/health/alive"), get(check_health))
        .route(&path("/alive"), get(check_health))
        .route(&path("/health"), get(check_database))
        .route(
            &path("/tenants/{tenant_id}/logs"),
            get(get_audit_logs).post(save_audit_log),
        )
        // On a server without tenants the segment is empty.
        .route(
            &path("/tenants//logs"),
            get(get_audit_logs_of_the_one_tenant).post(save_audit_log_of_the_one_tenant),
        )
        .with_state(auditlogs)
}

/// Get health status of service
async fn check_health() -> StatusCode {
    StatusCode::NO_CONTENT
}

async fn check_database(State(auditlogs): State<Auditlogs>) -> Result<StatusCode, ApiError> {
    match auditlogs.ping().await {
        Ok(()) => Ok(StatusCode::NO_CONTENT),
        Err(error) => Err(ApiError::unavailable(format!(
            "error reaching the database: {error}"
        ))),
    }
}

/// Returns a list of audit log objects
async fn get_audit_logs(
    State(auditlogs): State<Auditlogs>,
    Path(tenant): Path<String>,
    OriginalUri(uri): OriginalUri,
    query: QueryPairs,
) -> Result<Response, ApiError> {
    page(&auditlogs, &tenant, &uri, &query).await
}

async fn get_audit_logs_of_the_one_tenant(
    State(auditlogs): State<Auditlogs>,
    OriginalUri(uri): OriginalUri,
    query: QueryPairs,
) -> Result<Response, ApiError> {
    page(&auditlogs, "", &uri, &query).await
}

/// Log event
async fn save_audit_log(
    State(auditlogs): State<Auditlogs>,
    Path(tenant): Path<String>,
    body: RawBody,
) -> Result<StatusCode, ApiError> {
    save(&auditlogs, &TenantId::new(tenant), &body).await
}

async fn save_audit_log_of_the_one_tenant(
    State(auditlogs): State<Auditlogs>,
    body: RawBody,
) -> Result<StatusCode, ApiError> {
    save(&auditlogs, &TenantId::default(), &body).await
}

async fn save(
    auditlogs: &Auditlogs,
    tenant: &TenantId,
    body: &RawBody,
) -> Result<StatusCode, ApiError> {
    const PREFIX: &str = "failed to decode request body";
    let mut value = Value::Object(body.json(PREFIX)?);
    // The specification's example wraps the deployment in its media type; who follows it is understood.
    if let Some(deployment) = value.pointer_mut("/object/deployment")
        && let Some(inner) = deployment.get_mut("application/json").map(Value::take)
    {
        *deployment = inner;
    }
    let event: Event = serde_json::from_value(value)
        .map_err(|error| ApiError::bad_request(format!("{PREFIX}: {error}")))?;
    let id = new_id().to_string();
    auditlogs.record(tenant, &id, event).await?;
    Ok(StatusCode::CREATED)
}

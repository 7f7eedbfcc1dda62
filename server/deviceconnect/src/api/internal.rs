//! `/api/internal/v1/deviceconnect`, in the order of the specification, newer ones after it.

use ambidex_access::TenantId;
use ambidex_kit::{ApiError, Json, RawBody};
use ambidex_wire::management::deviceconnect as wire;
use ambidex_wire::session::client;
use axum::Router;
use axum::extract::{Path, State};
use axum::response::{IntoResponse as _, Response};
use axum::routing::{delete, get, post};
use http::StatusCode;
use serde::Deserialize;

use crate::domain::{command, presence};
use crate::{Deviceconnect, store};

/// The path parameters of any of these routes.
#[derive(Deserialize)]
struct Target {
    #[serde(default)]
    tenant: String,
    #[serde(default)]
    device: String,
}

impl Target {
    /// Callers on a server without tenants leave the tenant's segment empty, or say `default`.
    fn tenant(&self) -> TenantId {
        let id = self.tenant.as_str();
        TenantId::new(if id == "default" { "" } else { id })
    }
}

pub(crate) fn routes(deviceconnect: Deviceconnect) -> Router {
    const BASE: &str = "/api/internal/v1/deviceconnect";
    let mut routes = Router::new()
        .route(&format!("{BASE}/health"), get(check_health))
        .route(&format!("{BASE}/alive"), get(check_liveliness))
        .route(&format!("{BASE}/tenants"), post(provision_tenant))
        .route(&format!("{BASE}/tenants/{{tenant}}"), delete(delete_tenant));
    for tenant in ["{tenant}", ""] {
        let path = |tail: &str| format!("{BASE}/tenants/{tenant}/devices{tail}");
        routes = routes
            .route(&path(""), post(provision_device))
            .route(&path("/{device}"), delete(decomission_device))
            .route(&path("/{device}/check-update"), post(check_update))
            .route(&path("/{device}/send-inventory"), post(send_inventory));
    }
    routes.with_state(deviceconnect)
}

/// Get health status of service
async fn check_health(State(deviceconnect): State<Deviceconnect>) -> Result<StatusCode, ApiError> {
    let inner = &deviceconnect.0;
    let unwell = |what: &str, error: &dyn std::fmt::Display| {
        tracing::error!(%error, "{what} does not work");
        ApiError::unavailable(format!("{what} does not work"))
    };
    inner
        .db
        .ping()
        .await
        .map_err(|error| unwell("the database", &error))?;
    inner
        .bus
        .ping()
        .await
        .map_err(|error| unwell("the message bus", &error))?;
    Ok(StatusCode::NO_CONTENT)
}

/// Get service liveliness status.
async fn check_liveliness() -> StatusCode {
    StatusCode::NO_CONTENT
}

/// Initialize internal state for a new tenant
async fn provision_tenant(
    State(deviceconnect): State<Deviceconnect>,
    body: RawBody,
) -> Result<StatusCode, ApiError> {
    let new: wire::NewTenant = body.json("invalid payload")?;
    if new.tenant_id.is_empty() {
        return Err(ApiError::bad_request("tenant_id is empty"));
    }
    let statement = store::tenant::insert(&new.tenant_id);
    deviceconnect.0.db.apply(vec![statement]).await?;
    Ok(StatusCode::CREATED)
}

/// Remove everything of a tenant
async fn delete_tenant(
    State(deviceconnect): State<Deviceconnect>,
    Path(target): Path<Target>,
) -> Result<StatusCode, ApiError> {
    deviceconnect
        .0
        .db
        .apply(store::tenant::delete(target.tenant().as_str()))
        .await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Register a new device with the deviceconnect service.
async fn provision_device(
    State(deviceconnect): State<Deviceconnect>,
    Path(target): Path<Target>,
    body: RawBody,
) -> Result<StatusCode, ApiError> {
    let new: wire::NewDevice = body.json("invalid payload")?;
    if new.device_id.is_empty() {
        return Err(ApiError::bad_request("device_id is empty"));
    }
    presence::provision(&deviceconnect.0, &target.tenant(), &new.device_id).await?;
    Ok(StatusCode::CREATED)
}

/// Remove a device from the deviceconnect service.
async fn decomission_device(
    State(deviceconnect): State<Deviceconnect>,
    Path(target): Path<Target>,
) -> Result<StatusCode, ApiError> {
    presence::remove(&deviceconnect.0, &target.tenant(), &target.device).await?;
    Ok(StatusCode::ACCEPTED)
}

/// Ask a device to check for an update now.
async fn check_update(
    State(deviceconnect): State<Deviceconnect>,
    Path(target): Path<Target>,
) -> Result<Response, ApiError> {
    command(&deviceconnect, &target, client::CHECK_UPDATE).await
}

/// Ask a device to send its inventory now.
async fn send_inventory(
    State(deviceconnect): State<Deviceconnect>,
    Path(target): Path<Target>,
) -> Result<Response, ApiError> {
    command(&deviceconnect, &target, client::SEND_INVENTORY).await
}

async fn command(
    deviceconnect: &Deviceconnect,
    target: &Target,
    typ: &str,
) -> Result<Response, ApiError> {
    let (inner, tenant) = (&deviceconnect.0, target.tenant());
    let state = presence::state(inner, &tenant, &target.device).await?;
    if state.is_none() {
        return Err(ApiError::not_found("device not found"));
    }
    command::send(inner, &tenant, &target.device, None, typ).await?;
    Ok((StatusCode::ACCEPTED, Json(())).into_response())
}

//! `/api/internal/v1/deviceconfig`; never on the public listener. Callers of a server of one tenant leave the
//! tenant's segment empty, so each route stands twice.

use ambidex_access::TenantId;
use ambidex_kit::{ApiError, Json, RawBody};
use ambidex_wire::management::deviceconfig::{ConfigurationDeployment, NewDevice};
use axum::Router;
use axum::extract::{Path, State};
use axum::routing::{MethodRouter, delete, get, patch, post};
use http::StatusCode;
use serde::Deserialize;

use super::settings;
use crate::Deviceconfig;
use crate::domain::device::{self, Asker};

/// The path parameters of any of these routes.
#[derive(Deserialize)]
struct Target {
    #[serde(default)]
    tenant_id: String,
    #[serde(default)]
    device_id: String,
}

impl Target {
    fn tenant(&self) -> TenantId {
        TenantId::new(&self.tenant_id)
    }
}

pub(crate) fn routes(deviceconfig: Deviceconfig) -> Router {
    const BASE: &str = "/api/internal/v1/deviceconfig";
    let of_tenant: [(&str, MethodRouter<Deviceconfig>); 4] = [
        ("/devices", post(provision_device)),
        ("/devices/{device_id}", delete(decommission_device)),
        (
            "/configurations/device/{device_id}",
            patch(update_configuration),
        ),
        (
            "/configurations/device/{device_id}/deploy",
            post(deploy_device_configuration),
        ),
    ];
    let mut routes = Router::new()
        .route(&format!("{BASE}/alive"), get(check_liveliness))
        .route(&format!("{BASE}/health"), get(check_health))
        .route(&format!("{BASE}/tenants"), post(provision_tenant))
        .route(
            &format!("{BASE}/tenants/{{tenant_id}}"),
            delete(delete_tenant),
        );
    for (rest, handler) in of_tenant {
        routes = routes
            .route(
                &format!("{BASE}/tenants/{{tenant_id}}{rest}"),
                handler.clone(),
            )
            .route(&format!("{BASE}/tenants/{rest}"), handler);
    }
    routes.with_state(deviceconfig)
}

/// Get service liveliness status.
async fn check_liveliness() -> StatusCode {
    StatusCode::NO_CONTENT
}

/// Get health status of service
async fn check_health(State(deviceconfig): State<Deviceconfig>) -> Result<StatusCode, ApiError> {
    match deviceconfig.0.db.ping().await {
        Ok(()) => Ok(StatusCode::NO_CONTENT),
        Err(error) => Err(ApiError::unavailable(format!(
            "error reaching the database: {error}"
        ))),
    }
}

#[derive(Deserialize)]
struct NewTenant {
    #[serde(default)]
    tenant_id: String,
}

/// Initialize internal state for a new tenant: there is none before its first device.
async fn provision_tenant(body: RawBody) -> Result<StatusCode, ApiError> {
    let new: NewTenant = body.json("malformed request body")?;
    if new.tenant_id.is_empty() {
        return Err(ApiError::bad_request(
            "invalid request body: tenant_id: cannot be blank.",
        ));
    }
    Ok(StatusCode::CREATED)
}

/// Delete all the data for given tenant.
async fn delete_tenant(
    State(deviceconfig): State<Deviceconfig>,
    Path(target): Path<Target>,
) -> Result<StatusCode, ApiError> {
    device::delete_tenant(&deviceconfig.0, &target.tenant()).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Register a new device with the deviceconfig service.
async fn provision_device(
    State(deviceconfig): State<Deviceconfig>,
    Path(target): Path<Target>,
    body: RawBody,
) -> Result<StatusCode, ApiError> {
    let new: NewDevice = body.json("malformed request body")?;
    device::provision(&deviceconfig.0, &target.tenant(), &new.device_id).await?;
    Ok(StatusCode::CREATED)
}

/// Remove a device from the deviceconfig service.
async fn decommission_device(
    State(deviceconfig): State<Deviceconfig>,
    Path(target): Path<Target>,
) -> Result<StatusCode, ApiError> {
    device::decommission(&deviceconfig.0, &target.tenant(), &target.device_id).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Changes some of a device's settings.
async fn update_configuration(
    State(deviceconfig): State<Deviceconfig>,
    Path(target): Path<Target>,
    body: RawBody,
) -> Result<StatusCode, ApiError> {
    let changes = settings(&body)?;
    device::merge(
        &deviceconfig.0,
        &target.tenant(),
        &target.device_id,
        changes,
    )
    .await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Deploy the device's configuration
async fn deploy_device_configuration(
    State(deviceconfig): State<Deviceconfig>,
    Path(target): Path<Target>,
    body: RawBody,
) -> Result<Json<ConfigurationDeployment>, ApiError> {
    let how = body.json("malformed request body")?;
    let tenant = target.tenant();
    let asker = Asker {
        tenant: &tenant,
        user: None,
    };
    let deployment_id = device::deploy(&deviceconfig.0, asker, &target.device_id, how).await?;
    Ok(Json(ConfigurationDeployment { deployment_id }))
}

//! `/api/management/v1/deviceconfig`.

use ambidex_access::UserAuth;
use ambidex_kit::{ApiError, Json, RawBody};
use ambidex_wire::management::deviceconfig::{ConfigurationDeployment, DeviceConfiguration};
use axum::Router;
use axum::extract::{Path, State};
use axum::routing::{get, post};
use http::StatusCode;

use super::{ADDON, settings};
use crate::Deviceconfig;
use crate::domain::device::{self, Asker, Intent};

pub(crate) fn routes(deviceconfig: Deviceconfig) -> Router {
    const BASE: &str = "/api/management/v1/deviceconfig/configurations/device/{device_id}";
    Router::new()
        .route(
            BASE,
            get(get_device_configuration).put(set_device_configuration),
        )
        .route(&format!("{BASE}/deploy"), post(deploy_device_configuration))
        .with_state(deviceconfig)
}

/// Get the device's configuration
async fn get_device_configuration(
    UserAuth(user): UserAuth,
    State(deviceconfig): State<Deviceconfig>,
    Path(id): Path<String>,
) -> Result<Json<DeviceConfiguration>, ApiError> {
    user.addons.require(ADDON)?;
    device::check_grants(&deviceconfig.0, &user, &id, Intent::Look).await?;
    Ok(Json(
        device::show(&deviceconfig.0, &user.tenant, &id).await?,
    ))
}

/// Set the device's configuration
async fn set_device_configuration(
    UserAuth(user): UserAuth,
    State(deviceconfig): State<Deviceconfig>,
    Path(id): Path<String>,
    body: RawBody,
) -> Result<StatusCode, ApiError> {
    user.addons.require(ADDON)?;
    let wanted = settings(&body)?;
    device::check_grants(&deviceconfig.0, &user, &id, Intent::Look).await?;
    device::configure(&deviceconfig.0, &user, &id, &wanted).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Deploy the device's configuration
async fn deploy_device_configuration(
    UserAuth(user): UserAuth,
    State(deviceconfig): State<Deviceconfig>,
    Path(id): Path<String>,
    body: RawBody,
) -> Result<Json<ConfigurationDeployment>, ApiError> {
    user.addons.require(ADDON)?;
    device::check_grants(&deviceconfig.0, &user, &id, Intent::Deploy).await?;
    let how = body.json("malformed request body")?;
    let asker = Asker {
        tenant: &user.tenant,
        user: Some(&user),
    };
    let deployment_id = device::deploy(&deviceconfig.0, asker, &id, how).await?;
    Ok(Json(ConfigurationDeployment { deployment_id }))
}

//! `/api/devices/v1/deviceconfig`.

use ambidex_access::DeviceAuth;
use ambidex_kit::{ApiError, Json, RawBody};
use ambidex_wire::management::deviceconfig::Configuration;
use axum::Router;
use axum::extract::State;
use axum::routing::get;
use http::StatusCode;

use super::{ADDON, settings};
use crate::Deviceconfig;
use crate::domain::device;

pub(crate) fn routes(deviceconfig: Deviceconfig) -> Router {
    Router::new()
        .route(
            "/api/devices/v1/deviceconfig/configuration",
            get(get_device_configuration).put(report_device_configuration),
        )
        .with_state(deviceconfig)
}

/// Query the configuration store; retrieve all key-value pairs
async fn get_device_configuration(
    DeviceAuth(identity): DeviceAuth,
    State(deviceconfig): State<Deviceconfig>,
) -> Result<Json<Configuration>, ApiError> {
    identity.addons.require(ADDON)?;
    let found = device::configured(&deviceconfig.0, &identity.tenant, &identity.device_id).await?;
    Ok(Json(found))
}

/// Set a key-value pair store, updating if existing, removing if empty
async fn report_device_configuration(
    DeviceAuth(identity): DeviceAuth,
    State(deviceconfig): State<Deviceconfig>,
    body: RawBody,
) -> Result<StatusCode, ApiError> {
    identity.addons.require(ADDON)?;
    let reported = settings(&body)?;
    device::report(
        &deviceconfig.0,
        &identity.tenant,
        &identity.device_id,
        &reported,
    )
    .await?;
    Ok(StatusCode::NO_CONTENT)
}

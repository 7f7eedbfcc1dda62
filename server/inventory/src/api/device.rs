//! The inventory as devices call it.

use ambidex_access::DeviceAuth;
use ambidex_kit::{ApiError, RawBody};
use ambidex_wire::paths;
use axum::Router;
use axum::extract::State;
use axum::routing::patch;
use http::StatusCode;

use super::attributes;
use crate::Inventory;
use crate::error::InventoryError;

pub fn routes() -> Router<Inventory> {
    Router::new().route(
        paths::INVENTORY_ATTRIBUTES,
        patch(assign_attributes).put(replace_attributes),
    )
}

/// A device that left the fleet between the check of its token and now learns what its next request would tell it.
fn answer(outcome: Result<(), InventoryError>) -> Result<StatusCode, ApiError> {
    match outcome {
        Ok(()) => Ok(StatusCode::OK),
        Err(InventoryError::Gone) => Err(ApiError::unauthorized("unauthorized")),
        Err(error) => Err(error.into()),
    }
}

/// Assign a set of attributes for a device.
async fn assign_attributes(
    DeviceAuth(device): DeviceAuth,
    State(inventory): State<Inventory>,
    body: RawBody,
) -> Result<StatusCode, ApiError> {
    let attributes = attributes(&body)?;
    answer(
        inventory
            .assign_attributes(&device.tenant, &device.device_id, attributes)
            .await,
    )
}

/// Replace the set of attributes for a device.
async fn replace_attributes(
    DeviceAuth(device): DeviceAuth,
    State(inventory): State<Inventory>,
    body: RawBody,
) -> Result<StatusCode, ApiError> {
    let attributes = attributes(&body)?;
    answer(
        inventory
            .replace_attributes(&device.tenant, &device.device_id, attributes)
            .await,
    )
}

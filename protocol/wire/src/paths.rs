//! Paths and header names of the device API.

/// Submit an authentication request (`POST`).
pub const AUTH_REQUESTS: &str = "/api/devices/v1/authentication/auth_requests";
/// Replace (`PUT`) or merge (`PATCH`) the device's inventory attributes.
pub const INVENTORY_ATTRIBUTES: &str = "/api/devices/v1/inventory/device/attributes";
/// Ask for the next deployment, first version (`GET` with a query, `POST` with provides).
pub const NEXT_V1: &str = "/api/devices/v1/deployments/device/deployments/next";
/// Ask for the next deployment, second version (`POST`).
pub const NEXT_V2: &str = "/api/devices/v2/deployments/device/deployments/next";
/// Carries the signature of an authentication request.
pub const SIGNATURE_HEADER: &str = "X-MEN-Signature";
/// Names a request in both ends' logs.
pub const REQUEST_ID_HEADER: &str = "X-MEN-RequestID";

/// Path of a device's status report for one deployment (`PUT`).
#[must_use]
pub fn deployment_status(deployment_id: &str) -> String {
    format!("/api/devices/v1/deployments/device/deployments/{deployment_id}/status")
}

/// Path of a device's log upload for one deployment (`PUT`).
#[must_use]
pub fn deployment_log(deployment_id: &str) -> String {
    format!("/api/devices/v1/deployments/device/deployments/{deployment_id}/log")
}

/// Path of the update control map of one deployment, second version (`GET`).
#[must_use]
pub fn update_control_map(deployment_id: &str) -> String {
    format!("/api/devices/v2/deployments/device/deployments/{deployment_id}/update_control_map")
}

//! Bodies of the device connection API (`/api/management/v1/deviceconnect` and its internal part).

use serde::{Deserialize, Serialize};

/// Answer of `GET /devices/{id}`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeviceState {
    pub device_id: String,
    /// `connected`, `disconnected` or, for a device that has never been connected, `unknown`.
    pub status: String,
    /// RFC 3339, UTC, at most milliseconds.
    #[serde(default)]
    pub created_ts: String,
    /// When the status last changed.
    #[serde(default)]
    pub updated_ts: String,
    /// The last moment at which the device was certainly connected.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_seen_ts: Option<String>,
}

/// A recorded terminal session.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Session {
    pub id: String,
    pub device_id: String,
    pub user_id: String,
    /// RFC 3339, UTC, at most milliseconds.
    pub started_ts: String,
    /// Left out while it goes on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended_ts: Option<String>,
    /// Columns at the beginning.
    pub terminal_width: u32,
    /// Rows at the beginning.
    pub terminal_height: u32,
    /// Bytes of output that are recorded.
    pub output_bytes: u64,
}

/// Body of the internal `POST /tenants`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NewTenant {
    pub tenant_id: String,
}

/// Body of the internal `POST /tenants/{tenantId}/devices`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NewDevice {
    #[serde(default)]
    pub device_id: String,
}

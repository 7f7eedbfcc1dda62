//! Bodies of the device authentication management API (`/api/management/v2/devauth`).

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// The attributes that identify a device: always a JSON object, never its text.
pub type IdentityData = Map<String, Value>;

/// A device as `GET /devices` shows it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Device {
    pub id: String,
    pub identity_data: IdentityData,
    /// `accepted`, `preauthorized`, `pending`, `rejected` or `noauth`.
    pub status: String,
    /// RFC 3339, UTC, at most milliseconds.
    pub created_ts: String,
    /// RFC 3339, UTC, at most milliseconds.
    pub updated_ts: String,
    #[serde(default)]
    pub auth_sets: Vec<AuthSet>,
    #[serde(default)]
    pub decommissioning: bool,
    /// When the device last used its token, to the hour; left out when it never did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub check_in_time: Option<String>,
}

/// One pair of identity and public key that asked, or was announced, to be let in.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct AuthSet {
    pub id: String,
    pub identity_data: IdentityData,
    /// PEM, `PUBLIC KEY`.
    pub pubkey: String,
    /// When the set was created: RFC 3339, UTC.
    pub ts: String,
    /// `accepted`, `preauthorized`, `pending` or `rejected`.
    pub status: String,
}

/// Body of `PUT` and `GET /devices/{id}/auth/{aid}/status` and of the internal device status.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    pub status: String,
}

/// Body of `GET /devices/count`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Count {
    pub count: u64,
}

/// Body of the device limit operations; 0 stands for no limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limit {
    pub limit: u64,
}

/// Body of `POST /devices`: an identity and key that may enter without being asked about.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PreAuthSet {
    pub identity_data: IdentityData,
    /// PEM, `PUBLIC KEY`.
    pub pubkey: String,
    /// Adds the key to a device that is known already instead of answering 409.
    #[serde(default, skip_serializing_if = "is_false")]
    pub force: bool,
}

/// Body of `POST /devices/search`; each member may also be a single string.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeviceSearch {
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub status: Vec<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub id: Vec<String>,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "the form serde asks for")]
fn is_false(value: &bool) -> bool {
    !*value
}

//! The authentication request of a device.

use serde::{Deserialize, Serialize};

/// Body of `POST /api/devices/v1/authentication/auth_requests`.
///
/// The signature header covers the exact bytes of this body as sent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuthRequest {
    /// The device identity: the *text* of a JSON object, keys sorted, compact.
    pub id_data: String,
    /// The device's public key: PEM, `PUBLIC KEY`, newlines included.
    pub pubkey: String,
    /// Names the tenant on a multi-tenant server; left out when empty.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tenant_token: Option<String>,
    /// Device tier: `standard`, `system` or `micro`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tier: Option<String>,
}

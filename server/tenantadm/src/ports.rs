//! What this service needs from its neighbours. Implemented by `server/main`.

use ambidex_kit::BoxFuture;

/// A neighbour that could not answer.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct PortError(pub String);

/// The accounts of a tenant's users and devices.
pub trait Accounts: Send + Sync {
    /// Ends all sessions of users and all tokens of devices: their claims are no longer true. Safe to
    /// repeat.
    fn revoke_tokens<'a>(&'a self, tenant: &'a str) -> BoxFuture<'a, Result<(), PortError>>;
    /// Sets how many devices may be accepted; 0 is unlimited. Safe to repeat.
    fn limit_devices<'a>(
        &'a self,
        tenant: &'a str,
        devices: u64,
    ) -> BoxFuture<'a, Result<(), PortError>>;
}

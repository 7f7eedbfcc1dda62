//! What this service needs from its neighbours. Implemented by `server/main`.

use ambidex_access::{DeviceIdentity, TenantId, UserIdentity};
use ambidex_kit::BoxFuture;

/// A neighbour that could not answer.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct PortError(pub String);

/// The fleet, its tenants and their tokens, as far as connections need them.
pub trait Neighbours: Send + Sync {
    /// The static group of a device, if it is in one.
    fn group<'a>(
        &'a self,
        tenant: &'a TenantId,
        device: &'a str,
    ) -> BoxFuture<'a, Result<Option<String>, PortError>>;
    /// Whether the tenant may use remote access (the add-on `troubleshoot`).
    fn may_troubleshoot<'a>(
        &'a self,
        tenant: &'a TenantId,
    ) -> BoxFuture<'a, Result<bool, PortError>>;
    /// Whether a device that is connected may stay so: its token has not been revoked.
    fn device_counts<'a>(
        &'a self,
        device: &'a DeviceIdentity,
    ) -> BoxFuture<'a, Result<bool, PortError>>;
    /// Whether a user who is connected may stay so: the token has not been revoked.
    fn user_counts<'a>(&'a self, user: &'a UserIdentity) -> BoxFuture<'a, Result<bool, PortError>>;
}

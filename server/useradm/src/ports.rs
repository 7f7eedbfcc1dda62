//! What this service needs from its neighbours. Implemented by `server/main`.

use ambidex_access::{Addon, TenantId};
use ambidex_kit::BoxFuture;

/// A neighbour that could not answer.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct PortError(pub String);

/// What user administration must know of a tenant.
#[derive(Debug, Clone)]
pub struct TenantFacts {
    /// `os`, `professional` or `enterprise`.
    pub plan: String,
    /// None on a server without tenants.
    pub trial: Option<bool>,
    /// What the tenant may use.
    pub addons: Vec<Addon>,
    /// Why nobody may log in at the moment, if so.
    pub barred: Option<&'static str>,
}

/// Tenants, as far as users need them.
pub trait Tenants: Send + Sync {
    /// `None` when there is no such tenant.
    fn facts<'a>(
        &'a self,
        tenant: &'a TenantId,
    ) -> BoxFuture<'a, Result<Option<TenantFacts>, PortError>>;
    /// Tells that a user exists or has another address. Safe to repeat.
    fn user_saved<'a>(
        &'a self,
        tenant: &'a TenantId,
        user: &'a str,
        email: &'a str,
    ) -> BoxFuture<'a, Result<(), PortError>>;
    /// Tells that a user is gone. Safe to repeat.
    fn user_deleted<'a>(
        &'a self,
        tenant: &'a TenantId,
        user: &'a str,
    ) -> BoxFuture<'a, Result<(), PortError>>;
}

/// Devices, as far as users need them.
pub trait Devices: Send + Sync {
    /// The static group of a device; `None` if it is in none or unknown.
    fn group_of<'a>(
        &'a self,
        tenant: &'a TenantId,
        device: &'a str,
    ) -> BoxFuture<'a, Result<Option<String>, PortError>>;
}

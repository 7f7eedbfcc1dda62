//! What this service needs from its neighbours; whoever wires the server implements it.

use ambidex_access::TenantId;
use ambidex_kit::BoxFuture;

/// A neighbour did not answer; the text says who and why.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{0}")]
pub struct PortError(pub String);

/// The inventory service as this service sees it.
pub trait Inventory: Send + Sync {
    /// Ids of all devices whose identity status is accepted.
    fn accepted_devices<'a>(
        &'a self,
        tenant: &'a TenantId,
    ) -> BoxFuture<'a, Result<Vec<String>, PortError>>;

    /// Ids of the accepted devices in a group; none when there is no such group.
    fn devices_in_group<'a>(
        &'a self,
        tenant: &'a TenantId,
        group: &'a str,
    ) -> BoxFuture<'a, Result<Vec<String>, PortError>>;
}

/// The neighbours.
#[derive(Clone)]
pub struct Ports {
    pub inventory: std::sync::Arc<dyn Inventory>,
}

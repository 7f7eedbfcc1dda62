//! What device authentication needs from its neighbours. Implemented by the server's wiring.
//!
//! Every call is idempotent: after a crash it is made again.

use std::sync::Arc;

use ambidex_access::{Addon, TenantId};
use ambidex_db::Statement;
use ambidex_kit::BoxFuture;
use serde_json::{Map, Value};

/// A neighbour did not do what it was asked; the call is repeated later.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct PortError(pub String);

/// What a neighbour has to know about a device.
#[derive(Debug, Clone, PartialEq)]
pub struct DeviceState {
    pub id: String,
    /// The attributes that identify the device.
    pub identity: Map<String, Value>,
    /// `accepted`, `preauthorized`, `pending`, `rejected` or `noauth`.
    pub status: &'static str,
    /// Grows with each change; an older state than the one known is to be ignored.
    pub revision: i64,
}

/// The inventory of devices.
pub trait Inventory: Send + Sync {
    /// Creates the devices, or brings identity attributes and status up to date.
    fn put_devices(
        &self,
        tenant: TenantId,
        devices: Vec<DeviceState>,
    ) -> BoxFuture<'_, Result<(), PortError>>;
    /// Devices and when they were last seen, in milliseconds since 1970; each device about once a day.
    fn checked_in(
        &self,
        tenant: TenantId,
        devices: Vec<(String, i64)>,
    ) -> BoxFuture<'_, Result<(), PortError>>;
}

/// The workflow engine, which takes devices into the other services and out of them.
pub trait Workflows: Send + Sync {
    /// The statement that starts a workflow with the batch it is part of, and the id of its job.
    fn start(
        &self,
        tenant: &TenantId,
        workflow: &'static str,
        input: Map<String, Value>,
    ) -> (Statement, String);
    /// Says that a batch with such a statement was applied.
    fn wake(&self);
    /// Runs the job now and waits for its end, for a while; it goes on if that was not enough.
    fn settle<'a>(&'a self, tenant: &'a TenantId, job_id: &'a str) -> BoxFuture<'a, ()>;
}

/// Whoever holds the open connections of devices.
pub trait Connections: Send + Sync {
    /// Tokens of the device were revoked: a connection whose token counts no more is to end now. A hint,
    /// given once; what misses it notices by itself, later.
    fn tokens_revoked<'a>(&'a self, tenant: &'a TenantId, device: &'a str) -> BoxFuture<'a, ()>;
}

/// A tenant as far as its devices' tokens tell of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TenantInfo {
    pub id: TenantId,
    pub plan: String,
    /// None on a server of one tenant.
    pub trial: Option<bool>,
    pub addons: Vec<Addon>,
}

/// Why a tenant token was not accepted.
#[derive(Debug, thiserror::Error)]
pub enum TenantRefusal {
    /// The token is unknown or the tenant may not be used; the text is meant for the device.
    #[error("{0}")]
    Refused(String),
    #[error("cannot ask for the tenant: {0}")]
    Failed(String),
}

/// Tenants of a server that has several.
pub trait Tenants: Send + Sync {
    fn verify_token(&self, token: String) -> BoxFuture<'_, Result<TenantInfo, TenantRefusal>>;
}

/// All neighbours.
#[derive(Clone)]
pub struct Ports {
    pub inventory: Arc<dyn Inventory>,
    pub workflows: Arc<dyn Workflows>,
    pub connections: Arc<dyn Connections>,
    /// `None` on a server of one tenant: tenant tokens are ignored.
    pub tenants: Option<Arc<dyn Tenants>>,
}

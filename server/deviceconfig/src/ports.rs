//! What device configuration needs from its neighbours. Implemented by the server's wiring.

use std::sync::Arc;

use ambidex_access::TenantId;
use ambidex_db::Statement;
use ambidex_kit::BoxFuture;
use serde_json::{Map, Value};

/// A neighbour did not do what it was asked.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct PortError(pub String);

/// The inventory of devices.
pub trait Inventory: Send + Sync {
    /// The static group that a device is in, if any.
    fn group_of<'a>(
        &'a self,
        tenant: &'a TenantId,
        device_id: &'a str,
    ) -> BoxFuture<'a, Result<Option<String>, PortError>>;
}

/// The workflow engine.
pub trait Workflows: Send + Sync {
    /// The statement that starts a workflow with the batch it is part of, and the id of its job.
    fn start(
        &self,
        tenant: &TenantId,
        workflow: &'static str,
        input: Map<String, Value>,
    ) -> (Statement, String);
    /// Runs the job now and waits for its end, for a while.
    fn settle<'a>(&'a self, tenant: &'a TenantId, job_id: &'a str) -> BoxFuture<'a, ()>;
}

/// All neighbours.
#[derive(Clone)]
pub struct Ports {
    pub inventory: Arc<dyn Inventory>,
    pub workflows: Arc<dyn Workflows>,
}

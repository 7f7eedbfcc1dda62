//! Telling the inventory what changed, and starting the workflows that reach every service.
//!
//! Each change writes a hand-over row in its own batch. Right after the commit the inventory is told, so that the
//! caller's next read sees the change; the row goes away when it has confirmed. Whatever a crash or a failing inventory
//! leaves behind is told again by [`Devauth::hand_over_outstanding`], which runs at start-up and from time to time, many
//! devices at once. States carry their revision, so order and repetition do no harm.
//!
//! What concerns every service is a workflow, started in the batch of the change: `provision_device` when a device
//! becomes accepted, `decommission_device` when it leaves. The latter is waited for, so that the caller's next read
//! finds the device nowhere.

use ambidex_access::TenantId;
use ambidex_db::Statement;
use ambidex_kit::current_request_id;
use serde_json::{Map, Value, json};

use crate::Devauth;
use crate::error::DevauthError;
use crate::ports::{DeviceState, PortError};
use crate::store::device::{self, DeviceRow};
use crate::store::handover::{self, HandoverRow};

use super::device::identity_object;

/// Devices told in one go.
const BATCH: u64 = 200;

impl Devauth {
    /// Tells of one device right after its change. A failure is logged and left to the next round.
    pub(super) async fn hand_over(&self, tenant: &TenantId, device: &DeviceRow) {
        if let Err(error) = self.tell(tenant, std::slice::from_ref(device)).await {
            tracing::warn!(device = %device.id, %error, "the inventory has not confirmed a change, it is told again");
        }
    }

    /// Starts what makes an accepted device known to every service.
    pub(super) fn provision(&self, tenant: &TenantId, device: &DeviceRow) -> Statement {
        let mut input = workflow_input(tenant, &device.id);
        let known = json!({ "id": device.id, "revision": device.revision });
        input.insert("device".to_owned(), known);
        input.insert("status".to_owned(), json!(device.status.as_str()));
        let workflows = &self.inner.ports.workflows;
        workflows.start(tenant, "provision_device", input).0
    }

    /// Starts what removes a device from every service; also the id of the job.
    pub(super) fn withdraw(&self, tenant: &TenantId, device_id: &str) -> (Statement, String) {
        let input = workflow_input(tenant, device_id);
        let workflows = &self.inner.ports.workflows;
        workflows.start(tenant, "decommission_device", input)
    }

    /// Tells whatever is still owed; returns how many devices were confirmed.
    ///
    /// # Errors
    /// The first failure; what is not confirmed stays owed.
    pub async fn hand_over_outstanding(&self) -> Result<usize, DevauthError> {
        let mut told = 0;
        let mut last = (String::new(), String::new());
        let mut failure = None;
        loop {
            let rows = handover::next(&self.inner.db, (&last.0, &last.1), BATCH).await?;
            let Some(end) = rows.last() else { break };
            last = (end.tenant.clone(), end.device_id.clone());
            for group in rows.chunk_by(|left, right| left.tenant == right.tenant) {
                match self.tell_group(group).await {
                    Ok(count) => told += count,
                    Err(error) => failure = Some(error),
                }
            }
        }
        failure.map_or(Ok(told), Err)
    }

    async fn tell_group(&self, rows: &[HandoverRow]) -> Result<usize, DevauthError> {
        let tenant = TenantId::new(rows[0].tenant.clone());
        let mut devices = Vec::with_capacity(rows.len());
        for row in rows {
            if row.removed {
                let (start, job) = self.withdraw(&tenant, &row.device_id);
                let done = handover::forget(tenant.as_str(), &row.device_id);
                self.inner.db.apply(vec![start, done]).await?;
                self.inner.ports.workflows.settle(&tenant, &job).await;
            } else if let Some(device) =
                device::by_id(&self.inner.db, tenant.as_str(), &row.device_id).await?
            {
                devices.push(device);
            }
        }
        if !devices.is_empty() {
            self.tell(&tenant, &devices).await?;
        }
        Ok(rows.len())
    }

    async fn tell(&self, tenant: &TenantId, devices: &[DeviceRow]) -> Result<(), DevauthError> {
        let states = devices
            .iter()
            .map(|device| DeviceState {
                id: device.id.clone(),
                identity: identity_object(&device.identity),
                status: device.status.as_str(),
                revision: device.revision,
            })
            .collect();
        self.inner
            .ports
            .inventory
            .put_devices(tenant.clone(), states)
            .await
            .map_err(neighbour)?;
        let done = devices
            .iter()
            .map(|device| handover::done(tenant.as_str(), &device.id, device.revision))
            .collect();
        self.inner.db.apply(done).await?;
        Ok(())
    }
}

fn workflow_input(tenant: &TenantId, device_id: &str) -> Map<String, Value> {
    Map::from_iter([
        ("request_id".to_owned(), json!(current_request_id())),
        ("tenant_id".to_owned(), json!(tenant.as_str())),
        ("device_id".to_owned(), json!(device_id)),
    ])
}

fn neighbour(error: PortError) -> DevauthError {
    DevauthError::Neighbour(error.0)
}

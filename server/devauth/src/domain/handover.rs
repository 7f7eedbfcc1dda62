//! Telling the neighbours what changed.
//!
//! Each change writes a hand-over row in its own batch. Right after the commit the neighbours are told, so that the
//! caller's next read sees the change everywhere; the row goes away when they have confirmed. Whatever a crash or a
//! failing neighbour leaves behind is told again by [`Devauth::hand_over_outstanding`], which runs at start-up and
//! from time to time. States carry their revision and removals are final, so order and repetition do no harm.

use ambidex_access::TenantId;

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

    pub(super) async fn hand_over_removal(&self, tenant: &TenantId, device_id: &str) {
        if let Err(error) = self.tell_removal(tenant, device_id).await {
            tracing::warn!(device = %device_id, %error, "a neighbour has not confirmed a removal, it is told again");
        }
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
                self.tell_removal(&tenant, &row.device_id).await?;
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

    async fn tell_removal(&self, tenant: &TenantId, device_id: &str) -> Result<(), DevauthError> {
        let ports = &self.inner.ports;
        ports
            .inventory
            .remove_device(tenant.clone(), device_id.to_owned())
            .await
            .map_err(neighbour)?;
        ports
            .deployments
            .remove_device(tenant.clone(), device_id.to_owned())
            .await
            .map_err(neighbour)?;
        self.inner
            .db
            .apply(vec![handover::done_removed(tenant.as_str(), device_id)])
            .await?;
        Ok(())
    }
}

fn neighbour(error: PortError) -> DevauthError {
    DevauthError::Neighbour(error.0)
}

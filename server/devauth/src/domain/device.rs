//! Devices as operators see and change them.

use ambidex_access::TenantId;
use ambidex_kit::rfc3339;
use ambidex_wire::management::devauth as wire;

use crate::Devauth;
use crate::error::DevauthError;
use crate::ports::TenantInfo;
use crate::store::auth_set::{self, SetRow};
use crate::store::device::{self, DeviceRow, DeviceSelection};
use crate::store::{handover, tally, token};

use super::ATTEMPTS_MAX;
use super::admission::Admission;
use super::audit::{self, By};
use super::change::{Batch, Change};
use super::status::{Decision, DeviceStatus, SetStatus, decide};

/// Decides an operator's change again as long as other writers are faster.
macro_rules! attempt {
    ($attempt:expr) => {{
        let mut outcome = Err(DevauthError::Contended);
        for _ in 0..ATTEMPTS_MAX {
            outcome = $attempt;
            if !matches!(outcome, Err(DevauthError::Contended)) {
                break;
            }
        }
        outcome
    }};
}

impl Devauth {
    /// Devices by age: up to `limit` from `offset` on.
    pub async fn list_devices(
        &self,
        tenant: &TenantId,
        selection: &DeviceSelection,
        limit: u64,
        offset: u64,
    ) -> Result<Vec<wire::Device>, DevauthError> {
        let devices =
            device::list(&self.inner.db, tenant.as_str(), selection, limit, offset).await?;
        let ids: Vec<&str> = devices.iter().map(|device| device.id.as_str()).collect();
        let mut sets = auth_set::of_devices(&self.inner.db, tenant.as_str(), &ids).await?;
        Ok(devices
            .iter()
            .map(|device| show(device, sets.remove(&device.id).unwrap_or_default()))
            .collect())
    }

    /// One device with its sets.
    pub async fn get_device(
        &self,
        tenant: &TenantId,
        id: &str,
    ) -> Result<wire::Device, DevauthError> {
        let device = self.device(tenant, id).await?;
        let sets = auth_set::of_device(&self.inner.db, tenant.as_str(), id).await?;
        Ok(show(&device, sets))
    }

    /// The status of one device, computed over its sets.
    pub async fn device_status(
        &self,
        tenant: &TenantId,
        id: &str,
    ) -> Result<DeviceStatus, DevauthError> {
        Ok(self.device(tenant, id).await?.status)
    }

    /// The identity of one device, as canonical JSON text.
    ///
    /// # Errors
    /// [`DevauthError::DeviceNotFound`].
    pub async fn identity(&self, tenant: &TenantId, id: &str) -> Result<String, DevauthError> {
        Ok(self.device(tenant, id).await?.identity)
    }

    /// Number of devices, in one status or in any.
    pub async fn count_devices(
        &self,
        tenant: &TenantId,
        status: Option<DeviceStatus>,
    ) -> Result<u64, DevauthError> {
        Ok(tally::count(&self.inner.db, tenant.as_str(), status).await?)
    }

    /// Announces an identity and key that may enter without being asked about; returns the device's id. With `force`
    /// the key is added to, or preauthorised on, a device that is known already.
    pub async fn preauthorize(
        &self,
        tenant: &TenantId,
        request: &Admission,
        force: bool,
        by: By<'_>,
    ) -> Result<String, DevauthError> {
        attempt!(self.try_preauthorize(tenant, request, force, by).await)
    }

    async fn try_preauthorize(
        &self,
        tenant: &TenantId,
        request: &Admission,
        force: bool,
        by: By<'_>,
    ) -> Result<String, DevauthError> {
        let db = &self.inner.db;
        let tenant_info = TenantInfo {
            id: tenant.clone(),
            ..self.inner.settings.single_tenant.clone()
        };
        let Some(device) =
            device::by_identity(db, tenant.as_str(), request.identity.hash()).await?
        else {
            return Ok(self
                .create_device(&tenant_info, request, SetStatus::Preauthorized, by)
                .await?
                .id);
        };
        let sets = auth_set::of_device(db, tenant.as_str(), &device.id).await?;
        if !force {
            return Err(DevauthError::DeviceExists(Box::new(show(&device, sets))));
        }
        match auth_set::by_key(db, tenant.as_str(), &device.id, request.key.hash()).await? {
            None => {
                self.add_auth_set(&tenant_info, &device, request, SetStatus::Preauthorized, by)
                    .await?
            }
            // An accepted set needs no announcement; taking its admission away is not what was asked for.
            Some(set) if matches!(set.status, SetStatus::Accepted | SetStatus::Preauthorized) => {}
            Some(set) => {
                let mut change = Change::new(tenant.as_str(), &device, sets);
                change.set_status(&set.id, SetStatus::Preauthorized);
                change.note(self.note(
                    by,
                    audit::PREAUTHORIZE,
                    &device.id,
                    Some(&device.identity),
                    Some(format!("authentication set {}", set.id)),
                ));
                self.apply_change(tenant, change).await?;
                self.noted(by);
            }
        }
        Ok(device.id)
    }

    /// Moves one set to another status.
    pub async fn set_auth_status(
        &self,
        tenant: &TenantId,
        id: &str,
        set_id: &str,
        to: SetStatus,
        by: By<'_>,
    ) -> Result<(), DevauthError> {
        attempt!(self.try_set_auth_status(tenant, id, set_id, to, by).await)
    }

    async fn try_set_auth_status(
        &self,
        tenant: &TenantId,
        id: &str,
        set_id: &str,
        to: SetStatus,
        by: By<'_>,
    ) -> Result<(), DevauthError> {
        let set = auth_set::by_id(&self.inner.db, tenant.as_str(), set_id)
            .await?
            .ok_or(DevauthError::AuthSetNotFound)?;
        let device = self.device(tenant, id).await?;
        if set.device_id != device.id {
            return Err(DevauthError::AuthSetOfAnotherDevice);
        }
        // Read after the device's revision, so that a change in between makes the batch conflict.
        let sets = auth_set::of_device(&self.inner.db, tenant.as_str(), id).await?;
        let from = sets
            .iter()
            .find(|set| set.id == set_id)
            .ok_or(DevauthError::AuthSetNotFound)?
            .status;
        match decide(from, to) {
            Decision::Unchanged => Ok(()),
            Decision::Refused => Err(DevauthError::TransitionRefused),
            Decision::Change => {
                let mut change = Change::new(tenant.as_str(), &device, sets);
                match to {
                    SetStatus::Accepted => change.accept(set_id),
                    to => change.set_status(set_id, to),
                }
                let (action, text) = audit::decision(set_id, to);
                let identity = Some(device.identity.as_str());
                change.note(self.note(by, action, &device.id, identity, Some(text)));
                self.apply_change(tenant, change).await?;
                self.noted(by);
                Ok(())
            }
        }
    }

    /// The status of one set of one device.
    pub async fn auth_status(
        &self,
        tenant: &TenantId,
        id: &str,
        set_id: &str,
    ) -> Result<SetStatus, DevauthError> {
        let set = auth_set::by_id(&self.inner.db, tenant.as_str(), set_id).await?;
        set.filter(|set| set.device_id == id)
            .map(|set| set.status)
            .ok_or(DevauthError::AuthSetNotFound)
    }

    /// Removes one set. A device that consists of one preauthorised set only goes with it.
    pub async fn remove_auth_set(
        &self,
        tenant: &TenantId,
        id: &str,
        set_id: &str,
        by: By<'_>,
    ) -> Result<(), DevauthError> {
        attempt!(self.try_remove_auth_set(tenant, id, set_id, by).await)
    }

    async fn try_remove_auth_set(
        &self,
        tenant: &TenantId,
        id: &str,
        set_id: &str,
        by: By<'_>,
    ) -> Result<(), DevauthError> {
        let Some(device) = device::by_id(&self.inner.db, tenant.as_str(), id).await? else {
            return Err(DevauthError::AuthSetNotFound);
        };
        let sets = auth_set::of_device(&self.inner.db, tenant.as_str(), id).await?;
        let set = sets
            .iter()
            .find(|set| set.id == set_id)
            .ok_or(DevauthError::AuthSetNotFound)?;
        if set.status == SetStatus::Preauthorized && sets.len() == 1 {
            return self.remove_device(tenant, &device, by).await;
        }
        let mut change = Change::new(tenant.as_str(), &device, sets);
        change.remove_set(set_id);
        let text = format!("authentication set {set_id}: removed");
        let identity = Some(device.identity.as_str());
        change.note(self.note(by, audit::UPDATE, &device.id, identity, Some(text)));
        self.apply_change(tenant, change).await?;
        self.noted(by);
        Ok(())
    }

    /// Takes a device out of the fleet: its tokens are void at once, its identity may return as a new device.
    pub async fn decommission(
        &self,
        tenant: &TenantId,
        id: &str,
        by: By<'_>,
    ) -> Result<(), DevauthError> {
        attempt!({
            match self.device(tenant, id).await {
                Ok(device) => self.remove_device(tenant, &device, by).await,
                Err(error) => Err(error),
            }
        })
    }

    async fn remove_device(
        &self,
        tenant: &TenantId,
        device: &DeviceRow,
        by: By<'_>,
    ) -> Result<(), DevauthError> {
        let tenant_id = tenant.as_str();
        let (start, job) = self.withdraw(tenant, &device.id);
        let mut batch = vec![
            device::delete(tenant_id, device),
            auth_set::delete_of_device(tenant_id, &device.id),
            token::delete_of_device(tenant_id, &device.id),
            tally::subtract(tenant_id, device.status),
            handover::forget(tenant_id, &device.id),
            start,
        ];
        let identity = Some(device.identity.as_str());
        batch.extend(self.note(by, audit::DECOMMISSION, &device.id, identity, None));
        self.inner
            .db
            .apply(batch)
            .await
            .map_err(|error| Batch::error(None, error))?;
        self.noted(by);
        self.tokens_revoked(tenant, &device.id).await;
        self.inner.ports.workflows.settle(tenant, &job).await;
        Ok(())
    }

    /// Applies a change and tells the neighbours when the device's status changed by it.
    pub(super) async fn apply_change(
        &self,
        tenant: &TenantId,
        change: Change<'_>,
    ) -> Result<DeviceRow, DevauthError> {
        let mut batch = change.finish(self.inner.clock.now_ms());
        let limit_index = batch.limit_index();
        let admitted = batch.status_changed && batch.after.status == DeviceStatus::Accepted;
        if admitted {
            batch.statements.push(self.provision(tenant, &batch.after));
        }
        self.inner
            .db
            .apply(batch.statements)
            .await
            .map_err(|error| Batch::error(limit_index, error))?;
        if batch.revoked {
            self.tokens_revoked(tenant, &batch.after.id).await;
        }
        if batch.status_changed {
            self.hand_over(tenant, &batch.after).await;
        }
        if admitted {
            self.inner.ports.workflows.wake();
        }
        Ok(batch.after)
    }

    async fn device(&self, tenant: &TenantId, id: &str) -> Result<DeviceRow, DevauthError> {
        device::by_id(&self.inner.db, tenant.as_str(), id)
            .await?
            .ok_or(DevauthError::DeviceNotFound)
    }
}

/// The identity as an object. The text was written by us from an object.
pub(super) fn identity_object(canonical: &str) -> wire::IdentityData {
    serde_json::from_str(canonical).unwrap_or_default()
}

fn show(device: &DeviceRow, sets: Vec<SetRow>) -> wire::Device {
    let identity = identity_object(&device.identity);
    wire::Device {
        id: device.id.clone(),
        status: device.status.as_str().to_owned(),
        created_ts: rfc3339(device.created_ms),
        updated_ts: rfc3339(device.updated_ms),
        auth_sets: sets
            .into_iter()
            .map(|set| wire::AuthSet {
                id: set.id,
                identity_data: identity.clone(),
                pubkey: set.public_key,
                ts: rfc3339(set.created_ms),
                status: set.status.as_str().to_owned(),
            })
            .collect(),
        decommissioning: false,
        check_in_time: (device.check_in_ms > 0).then(|| rfc3339(device.check_in_ms)),
        identity_data: identity,
    }
}

//! What a user's roles leave of the devices of a tenant.

use ambidex_access::{Grants, TenantId};

use super::BATCH;
use crate::Inventory;
use crate::error::InventoryError;
use crate::store::device::{self, DeviceRow};
use crate::store::selection::Condition;

/// Devices that somebody may see and change; all of them unless limited.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Reach(Option<Within>);

#[derive(Debug, Clone, PartialEq, Eq)]
struct Within {
    groups: Vec<String>,
    ids: Vec<String>,
}

impl Within {
    fn contains(&self, device: &DeviceRow) -> bool {
        self.ids.contains(&device.id)
            || (!device.group.is_empty() && self.groups.contains(&device.group))
    }
}

impl From<&Grants> for Reach {
    fn from(grants: &Grants) -> Reach {
        Reach(grants.inventory_groups.as_ref().map(|groups| Within {
            groups: groups.clone(),
            ids: grants.inventory_devices.clone(),
        }))
    }
}

impl Reach {
    /// What the database must check; nothing if there is no limit.
    pub(super) fn condition(&self) -> Option<Condition> {
        self.0.as_ref().map(|within| Condition::Within {
            groups: within.groups.clone(),
            ids: within.ids.clone(),
        })
    }

    /// Whether a group is reached as a whole.
    pub fn contains_group(&self, name: &str) -> bool {
        match &self.0 {
            None => true,
            Some(within) => within.groups.iter().any(|group| group == name),
        }
    }
}

impl Inventory {
    /// Whether a device is within reach.
    ///
    /// # Errors
    /// [`InventoryError::DeviceNotFound`], as for a device that does not exist: whoever may not see it must not
    /// learn that it does.
    pub async fn demand_reach(
        &self,
        tenant: &TenantId,
        reach: &Reach,
        id: &str,
    ) -> Result<(), InventoryError> {
        let Some(within) = &reach.0 else {
            return Ok(());
        };
        match within.contains(&self.device(tenant, id).await?) {
            true => Ok(()),
            false => Err(InventoryError::DeviceNotFound),
        }
    }

    /// Those of the devices that are within reach.
    pub async fn reached(
        &self,
        tenant: &TenantId,
        reach: &Reach,
        ids: Vec<String>,
    ) -> Result<Vec<String>, InventoryError> {
        let Some(within) = &reach.0 else {
            return Ok(ids);
        };
        let mut reached = Vec::new();
        for batch in ids.chunks(BATCH) {
            let rows = device::by_ids(&self.inner.db, tenant.as_str(), batch).await?;
            let within = rows.into_iter().filter(|row| within.contains(row));
            reached.extend(within.map(|row| row.id));
        }
        Ok(reached)
    }
}

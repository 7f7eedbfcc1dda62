//! Devices and their attributes.

use ambidex_access::TenantId;
use ambidex_db::DbError;
use ambidex_kit::rfc3339;
use ambidex_wire::inventory::AttributeValue;
use ambidex_wire::management::inventory::{DeviceInventory, ScopedAttribute};

use super::ATTEMPTS_MAX;
use super::attribute::NewAttribute;
use super::audit::{self, By};
use super::edit::{Edit, blank, decode, store};
use super::scope::Scope;
use crate::Inventory;
use crate::error::InventoryError;
use crate::store::device::{self, DeviceRow};

/// What happens to an edit of a device that is not there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Missing {
    Create,
    Fail,
}

impl Inventory {
    /// Merges what a device tells about itself.
    ///
    /// # Errors
    /// Too many attributes; [`InventoryError::Gone`] for a device that has left the fleet.
    pub async fn assign_attributes(
        &self,
        tenant: &TenantId,
        id: &str,
        attributes: Vec<NewAttribute>,
    ) -> Result<(), InventoryError> {
        let edit = Edit {
            touch: true,
            ..Edit::merging(Scope::Inventory, attributes)
        };
        self.edit(tenant, id, &edit, Missing::Create)
            .await
            .map(|_| ())
    }

    /// Replaces what a device tells about itself.
    ///
    /// # Errors
    /// As [`Inventory::assign_attributes`].
    pub async fn replace_attributes(
        &self,
        tenant: &TenantId,
        id: &str,
        attributes: Vec<NewAttribute>,
    ) -> Result<(), InventoryError> {
        let edit = Edit {
            touch: true,
            clear: vec![Scope::Inventory],
            ..Edit::merging(Scope::Inventory, attributes)
        };
        self.edit(tenant, id, &edit, Missing::Create)
            .await
            .map(|_| ())
    }

    /// Merges attributes of one scope on behalf of another service.
    ///
    /// # Errors
    /// As [`Inventory::assign_attributes`].
    pub async fn merge_scope(
        &self,
        tenant: &TenantId,
        id: &str,
        scope: Scope,
        attributes: Vec<NewAttribute>,
    ) -> Result<(), InventoryError> {
        self.edit(
            tenant,
            id,
            &Edit::merging(scope, attributes),
            Missing::Create,
        )
        .await
        .map(|_| ())
    }

    /// Merges attributes of several scopes on behalf of another service.
    ///
    /// # Errors
    /// As [`Inventory::assign_attributes`].
    pub async fn merge_scopes(
        &self,
        tenant: &TenantId,
        id: &str,
        attributes: Vec<(Scope, NewAttribute)>,
    ) -> Result<(), InventoryError> {
        let edit = Edit {
            merge: attributes,
            ..Edit::default()
        };
        self.edit(tenant, id, &edit, Missing::Create)
            .await
            .map(|_| ())
    }

    /// Creates a device, or merges attributes into the one that exists. Also brings back a device that has left.
    pub async fn initialize(
        &self,
        tenant: &TenantId,
        id: &str,
        attributes: Vec<(Scope, NewAttribute)>,
    ) -> Result<(), InventoryError> {
        self.inner
            .db
            .apply(vec![device::exhume(tenant.as_str(), id)])
            .await?;
        let edit = Edit {
            merge: attributes,
            touch: true,
            ..Edit::default()
        };
        self.edit(tenant, id, &edit, Missing::Create)
            .await
            .map(|_| ())
    }

    /// Drops what a device has told about itself; who it is, its status and its group stay.
    pub async fn clear_inventory(
        &self,
        tenant: &TenantId,
        id: &str,
        by: By<'_>,
    ) -> Result<(), InventoryError> {
        let edit = Edit {
            clear: vec![Scope::Inventory],
            ..Edit::default()
        };
        match self.edit_by(tenant, id, &edit, Missing::Fail, by).await {
            Ok(_) | Err(InventoryError::DeviceNotFound) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// One device with all its attributes.
    pub async fn get_device(
        &self,
        tenant: &TenantId,
        id: &str,
    ) -> Result<DeviceInventory, InventoryError> {
        show(&self.device(tenant, id).await?)
    }

    pub(super) async fn device(
        &self,
        tenant: &TenantId,
        id: &str,
    ) -> Result<DeviceRow, InventoryError> {
        device::by_id(&self.inner.db, tenant.as_str(), id)
            .await?
            .ok_or(InventoryError::DeviceNotFound)
    }

    /// Applies an edit that nobody wants on record.
    pub(super) async fn edit(
        &self,
        tenant: &TenantId,
        id: &str,
        edit: &Edit,
        missing: Missing,
    ) -> Result<DeviceRow, InventoryError> {
        self.edit_by(tenant, id, edit, missing, None).await
    }

    /// Applies an edit; decides it anew as long as other writers are faster.
    pub(super) async fn edit_by(
        &self,
        tenant: &TenantId,
        id: &str,
        edit: &Edit,
        missing: Missing,
        by: By<'_>,
    ) -> Result<DeviceRow, InventoryError> {
        for _ in 0..ATTEMPTS_MAX {
            let now_ms = self.inner.clock.now_ms();
            let before = device::by_id(&self.inner.db, tenant.as_str(), id).await?;
            if before.is_none() && missing == Missing::Fail {
                return Err(InventoryError::DeviceNotFound);
            }
            let after = match &before {
                Some(before) => edit.apply(before, now_ms)?,
                None => edit.apply(&blank(id, now_ms), now_ms)?,
            };
            let mut batch = store(tenant.as_str(), before.as_ref(), &after)?;
            if let (Some(_), Some(before)) = (by, &before) {
                let text = audit::difference(before, &after);
                batch.extend(self.note(by, audit::UPDATE, audit::device(id), text));
            }
            match self.inner.db.apply(batch).await {
                Ok(_) => {
                    self.noted(by);
                    return Ok(after);
                }
                Err(DbError::Conflict { index: 0 }) if before.is_none() => {
                    return Err(InventoryError::Gone);
                }
                Err(DbError::Conflict { .. } | DbError::UniqueViolation { .. }) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Err(InventoryError::Contended)
    }
}

/// A device as clients see it.
pub(super) fn show(row: &DeviceRow) -> Result<DeviceInventory, InventoryError> {
    let mut attributes = Vec::new();
    let mut column = |scope: Scope, name: &str, value: String| {
        attributes.push(ScopedAttribute {
            name: name.to_owned(),
            scope: scope.as_str().to_owned(),
            value: AttributeValue::Text(value),
            description: None,
            timestamp: None,
        });
    };
    if !row.status.is_empty() {
        column(Scope::Identity, "status", row.status.clone());
    }
    column(Scope::System, "created_ts", rfc3339(row.created_ms));
    column(Scope::System, "updated_ts", rfc3339(row.updated_ms));
    if !row.group.is_empty() {
        column(Scope::System, "group", row.group.clone());
    }
    if row.check_in_ms > 0 {
        column(Scope::System, "check_in_time", rfc3339(row.check_in_ms));
    }
    for scope in Scope::ALL {
        for (name, entry) in decode(row, scope)?.0 {
            attributes.push(ScopedAttribute {
                name,
                scope: scope.as_str().to_owned(),
                value: entry.value,
                description: entry.description,
                timestamp: entry.set_ms.map(rfc3339),
            });
        }
    }
    Ok(DeviceInventory {
        id: row.id.clone(),
        attributes,
        updated_ts: Some(rfc3339(row.updated_ms)),
    })
}

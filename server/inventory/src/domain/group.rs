//! Static groups: a device is in at most one, a group exists while a device is in it.

use ambidex_access::TenantId;
use ambidex_db::DbError;
use ambidex_wire::management::inventory::GroupUpdate;

use super::BATCH;
use super::audit::{self, By};
use crate::Inventory;
use crate::error::InventoryError;
use crate::store::selection::{self, Condition};
use crate::store::{device, group};

/// Longest name of a group (reference section 3.1).
pub const NAME_BYTES_MAX: usize = 1024;

/// Ids that an event names one by one.
const LISTED_MAX: usize = 100;

/// A checked name of a group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GroupName(String);

impl GroupName {
    /// # Errors
    /// [`InventoryError::Invalid`] says what a name may be.
    pub fn parse(name: &str) -> Result<GroupName, InventoryError> {
        let wrong = |text: String| Err(InventoryError::Invalid(text));
        if name.is_empty() {
            return wrong("Group name cannot be blank".to_owned());
        }
        if name.len() > NAME_BYTES_MAX {
            return wrong(format!(
                "Group name can at most have {NAME_BYTES_MAX} characters"
            ));
        }
        if !name
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_')
        {
            return wrong(
                "Group name can only contain: upper/lowercase alphanum, -(dash), _(underscore)"
                    .to_owned(),
            );
        }
        Ok(GroupName(name.to_owned()))
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Inventory {
    /// Names of groups in order; with a status, of groups that have a device in it.
    pub async fn list_groups(
        &self,
        tenant: &TenantId,
        status: Option<&str>,
    ) -> Result<Vec<String>, InventoryError> {
        Ok(group::names(&self.inner.db, tenant.as_str(), status).await?)
    }

    /// The group of a device, if it is in one.
    pub async fn device_group(
        &self,
        tenant: &TenantId,
        id: &str,
    ) -> Result<Option<String>, InventoryError> {
        let device = self.device(tenant, id).await?;
        Ok((!device.group.is_empty()).then_some(device.group))
    }

    /// Moves a device to a group.
    pub async fn assign_group(
        &self,
        tenant: &TenantId,
        id: &str,
        name: &GroupName,
        by: By<'_>,
    ) -> Result<(), InventoryError> {
        self.device(tenant, id).await?;
        let mut batch = vec![device::update_group(tenant.as_str(), id, name.as_str())];
        let text = format!("group: {}", name.as_str());
        batch.extend(self.note(by, audit::UPDATE, audit::device(id), text));
        self.inner.db.apply(batch).await?;
        self.noted(by);
        Ok(())
    }

    /// Takes a device out of a group.
    pub async fn clear_group(
        &self,
        tenant: &TenantId,
        id: &str,
        name: &str,
        by: By<'_>,
    ) -> Result<(), InventoryError> {
        if name.is_empty() {
            return Err(InventoryError::DeviceNotFound);
        }
        let mut batch = vec![group::clear_one(tenant.as_str(), id, name).expect_one()];
        let text = format!("no longer in group {name}");
        batch.extend(self.note(by, audit::UPDATE, audit::device(id), text));
        match self.inner.db.apply(batch).await {
            Ok(_) => {
                self.noted(by);
                Ok(())
            }
            Err(DbError::Conflict { .. }) => Err(InventoryError::DeviceNotFound),
            Err(error) => Err(error.into()),
        }
    }

    /// Ids of a group's devices by age, and how many there are.
    pub async fn group_devices(
        &self,
        tenant: &TenantId,
        name: &str,
        limit: u64,
        offset: u64,
    ) -> Result<(Vec<String>, u64), InventoryError> {
        let conditions = [Condition::GroupIn(vec![name.to_owned()])];
        let total = match name {
            "" => 0,
            _ => selection::count(&self.inner.db, tenant.as_str(), &conditions).await?,
        };
        if total == 0 {
            return Err(InventoryError::GroupNotFound);
        }
        Ok((
            selection::ids(&self.inner.db, tenant.as_str(), &conditions, limit, offset).await?,
            total,
        ))
    }

    /// Moves devices to a group.
    pub async fn add_to_group(
        &self,
        tenant: &TenantId,
        name: &GroupName,
        ids: Vec<String>,
        by: By<'_>,
    ) -> Result<GroupUpdate, InventoryError> {
        let change = |ids: &[String]| group::assign(tenant.as_str(), name.as_str(), ids);
        self.update_group(tenant, name, ids, change, "added", by)
            .await
    }

    /// Takes devices out of a group; those that are not in it stay as they are.
    pub async fn remove_from_group(
        &self,
        tenant: &TenantId,
        name: &GroupName,
        ids: Vec<String>,
        by: By<'_>,
    ) -> Result<GroupUpdate, InventoryError> {
        let change = |ids: &[String]| group::clear(tenant.as_str(), name.as_str(), ids);
        self.update_group(tenant, name, ids, change, "removed", by)
            .await
    }

    async fn update_group(
        &self,
        tenant: &TenantId,
        name: &GroupName,
        mut ids: Vec<String>,
        change: impl Fn(&[String]) -> ambidex_db::Statement,
        what: &str,
        by: By<'_>,
    ) -> Result<GroupUpdate, InventoryError> {
        ids.sort_unstable();
        ids.dedup();
        let mut matched_count = 0;
        for batch in ids.chunks(BATCH) {
            matched_count += group::count_existing(&self.inner.db, tenant.as_str(), batch).await?;
        }
        // One batch: the whole list changes group, or none of it.
        let mut batch: Vec<_> = ids.chunks(BATCH).map(change).collect();
        let changes = batch.len();
        if matched_count > 0 {
            let text = format!("devices {what}: {}", listed(&ids));
            batch.extend(self.note(by, audit::UPDATE, audit::group(name.as_str()), text));
        }
        let touched = self.inner.db.apply(batch).await?;
        self.noted(by);
        Ok(GroupUpdate {
            updated_count: touched[..changes].iter().sum(),
            matched_count,
        })
    }

    /// Takes every device out of a group.
    pub async fn dissolve_group(
        &self,
        tenant: &TenantId,
        name: &GroupName,
        by: By<'_>,
    ) -> Result<GroupUpdate, InventoryError> {
        let mut batch = vec![group::dissolve(tenant.as_str(), name.as_str()).expect_at_least(1)];
        batch.extend(self.note(by, audit::DELETE, audit::group(name.as_str()), "dissolved"));
        let updated_count = match self.inner.db.apply(batch).await {
            Ok(touched) => touched[0],
            // There is no such group.
            Err(DbError::Conflict { .. }) => 0,
            Err(error) => return Err(error.into()),
        };
        self.noted(by);
        Ok(GroupUpdate {
            updated_count,
            matched_count: updated_count,
        })
    }
}

/// Ids of an event's text: the first ones, and how many more there are.
fn listed(ids: &[String]) -> String {
    let shown = &ids[..ids.len().min(LISTED_MAX)];
    let more = match ids.len() - shown.len() {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    format!("{}{more}", shown.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_letters_digits_dash_and_underscore() {
        assert!(GroupName::parse("Az-9_").is_ok());
        assert!(GroupName::parse(&"a".repeat(NAME_BYTES_MAX)).is_ok());
        for name in ["", "a b", "ä", "a/b", &"a".repeat(NAME_BYTES_MAX + 1)] {
            assert!(GroupName::parse(name).is_err(), "{name:?}");
        }
    }
}

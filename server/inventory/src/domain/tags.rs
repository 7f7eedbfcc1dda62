//! Tags: attributes that operators set. An entity tag guards against writing over what another operator wrote.

use ambidex_access::TenantId;
use sha2::{Digest, Sha256};

use super::attribute::NewAttribute;
use super::audit::By;
use super::device::Missing;
use super::edit::Edit;
use super::scope::Scope;
use crate::Inventory;
use crate::error::InventoryError;
use crate::store::device::DeviceRow;

pub(super) fn entity_tag(row: &DeviceRow) -> String {
    format!(
        "\"{}\"",
        hex::encode(&Sha256::digest(row.documents[Scope::Tags.index()].as_bytes())[..16])
    )
}

impl Inventory {
    /// The entity tag of a device's tags.
    pub async fn tags_entity_tag(
        &self,
        tenant: &TenantId,
        id: &str,
    ) -> Result<String, InventoryError> {
        Ok(entity_tag(&self.device(tenant, id).await?))
    }

    /// Merges tags, or replaces all of them. With `expected`, only if the tags still have this entity tag.
    ///
    /// # Errors
    /// [`InventoryError::TagsChanged`] when they have not.
    pub async fn set_tags(
        &self,
        tenant: &TenantId,
        id: &str,
        tags: Vec<NewAttribute>,
        replace: bool,
        expected: Option<&str>,
        by: By<'_>,
    ) -> Result<(), InventoryError> {
        let clear = if replace {
            vec![Scope::Tags]
        } else {
            Vec::new()
        };
        let expected_tags = expected
            .filter(|expected| *expected != "*")
            .map(str::to_owned);
        let edit = Edit {
            clear,
            expected_tags,
            ..Edit::merging(Scope::Tags, tags)
        };
        self.edit_by(tenant, id, &edit, Missing::Fail, by)
            .await
            .map(|_| ())
    }
}

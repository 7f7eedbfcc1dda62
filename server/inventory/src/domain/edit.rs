//! Edits of a device's attributes. Pure: a row before, a row after.
//!
//! Some attributes are columns: `identity/status`, `system/group` and the server's own times. An edit that names them
//! changes the column, or is ignored where only the server may set it.

use ambidex_db::{DbError, Statement};
use ambidex_wire::inventory::AttributeValue;

use super::attribute::{INVENTORY_ATTRIBUTES_MAX, NewAttribute, TAGS_MAX};
use super::document::{Document, Entry};
use super::scope::Scope;
use super::{census, tags};
use crate::error::InventoryError;
use crate::store::device::DeviceRow;
use crate::store::{device, shape};

/// What shall happen to a device's attributes.
#[derive(Debug, Clone, Default)]
pub struct Edit {
    /// Scopes that are emptied first.
    pub clear: Vec<Scope>,
    pub merge: Vec<(Scope, NewAttribute)>,
    /// Whether this counts as the device's most recent update.
    pub touch: bool,
    /// The entity tag that the device's tags must still have.
    pub expected_tags: Option<String>,
}

/// A device nobody has told anything about.
pub fn blank(id: &str, now_ms: i64) -> DeviceRow {
    DeviceRow {
        id: id.to_owned(),
        version: 1,
        created_ms: now_ms,
        updated_ms: now_ms,
        documents: std::array::from_fn(|_| "{}".to_owned()),
        ..DeviceRow::default()
    }
}

pub(super) fn decode(row: &DeviceRow, scope: Scope) -> Result<Document, InventoryError> {
    let text = &row.documents[scope.index()];
    Document::decode(text).map_err(|error| {
        DbError::Corrupt(format!(
            "{} attributes of device {}: {error}",
            scope.as_str(),
            row.id
        ))
        .into()
    })
}

impl Edit {
    /// Merges attributes into one scope.
    pub fn merging(scope: Scope, attributes: Vec<NewAttribute>) -> Edit {
        Edit {
            merge: attributes
                .into_iter()
                .map(|attribute| (scope, attribute))
                .collect(),
            ..Edit::default()
        }
    }

    /// The device after this edit.
    pub fn apply(&self, before: &DeviceRow, now_ms: i64) -> Result<DeviceRow, InventoryError> {
        if self
            .expected_tags
            .as_ref()
            .is_some_and(|expected| *expected != tags::entity_tag(before))
        {
            return Err(InventoryError::TagsChanged);
        }
        let mut after = before.clone();
        let mut names_changed = false;
        for scope in Scope::ALL {
            let clear = self.clear.contains(&scope);
            let mut merged = self.merge.iter().filter(|(of, _)| *of == scope).peekable();
            if !clear && merged.peek().is_none() {
                continue;
            }
            let old = decode(before, scope)?;
            let mut new = if clear {
                Document::default()
            } else {
                old.clone()
            };
            for (_, attribute) in merged {
                if !set_column(&mut after, scope, attribute) {
                    let entry = Entry {
                        value: attribute.value.clone(),
                        description: attribute.description.clone(),
                        set_ms: (scope == Scope::Tags).then_some(now_ms),
                    };
                    new.0.insert(attribute.name.clone(), entry);
                }
            }
            let limit = match scope {
                Scope::Tags => TAGS_MAX,
                _ => INVENTORY_ATTRIBUTES_MAX,
            };
            if new.0.len() > limit {
                return Err(InventoryError::TooManyAttributes);
            }
            names_changed |= !new.0.keys().eq(old.0.keys());
            after.documents[scope.index()] = new.encode();
        }
        if names_changed {
            after.shape = census::names(&after)?
                .map(|names| names.shape)
                .unwrap_or_default();
        }
        if self.touch {
            after.updated_ms = now_ms;
        }
        Ok(after)
    }
}

/// Puts an attribute that is a column where it belongs; `false` for ordinary attributes.
fn set_column(device: &mut DeviceRow, scope: Scope, attribute: &NewAttribute) -> bool {
    match (scope, attribute.name.as_str(), &attribute.value) {
        (Scope::Identity, "status", AttributeValue::Text(status)) => {
            device.status.clone_from(status)
        }
        (Scope::System, "group", AttributeValue::Text(group)) => device.group.clone_from(group),
        // The id addresses the device; the times are the server's.
        (Scope::Identity, "id" | "status", _) => {}
        (Scope::System, "group" | "created_ts" | "updated_ts" | "check_in_time", _) => {}
        _ => return false,
    }
    true
}

/// The batch that stores `after` in place of `before`. Conflicts at statement 0 when another writer was faster, or,
/// for a new device, when it has left the fleet.
pub(super) fn store(
    tenant: &str,
    before: Option<&DeviceRow>,
    after: &DeviceRow,
) -> Result<Vec<Statement>, InventoryError> {
    let mut batch = Vec::with_capacity(6);
    match before {
        None => batch.push(device::insert(tenant, after)),
        Some(before) => {
            batch.push(device::update_documents(tenant, after));
            if before.status != after.status {
                batch.push(device::update_status(
                    tenant,
                    &after.id,
                    &after.status,
                    None,
                ));
            }
            if before.group != after.group {
                batch.push(device::update_group(tenant, &after.id, &after.group));
            }
        }
    }
    let old_shape = before
        .map(|before| before.shape.as_str())
        .unwrap_or_default();
    if old_shape != after.shape {
        if !old_shape.is_empty() {
            batch.extend(shape::leave(tenant, old_shape));
        }
        if let Some(names) = census::names(after)? {
            batch.push(shape::enter(tenant, &names.shape, &names.json));
        }
    }
    Ok(batch)
}

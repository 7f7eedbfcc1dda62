//! Which attribute names occur, and how often.
//!
//! Devices of one kind have the same names, so each set of names (a shape) is counted once, in the batch of the
//! change that gives a device another set. Attributes that are columns are counted through their indexes.

use std::collections::HashMap;

use ambidex_access::TenantId;
use ambidex_db::DbError;
use ambidex_wire::management::inventory::FilterAttribute;
use sha2::{Digest, Sha256};

use super::edit::decode;
use super::scope::Scope;
use crate::Inventory;
use crate::error::InventoryError;
use crate::store::device::DeviceRow;
use crate::store::shape;

/// Names in one answer (reference section 3.5).
const NAMES_MAX: usize = 500;

/// The set of names of a device.
pub(super) struct Names {
    pub shape: String,
    /// `[["scope", "name"], …]`
    pub json: String,
}

/// The names of the device's attributes; `None` when it has none.
pub(super) fn names(device: &DeviceRow) -> Result<Option<Names>, InventoryError> {
    let mut names: Vec<(&'static str, String)> = Vec::new();
    for scope in Scope::ALL {
        if device.documents[scope.index()] != "{}" {
            names.extend(
                decode(device, scope)?
                    .0
                    .into_keys()
                    .map(|name| (scope.as_str(), name)),
            );
        }
    }
    if names.is_empty() {
        return Ok(None);
    }
    let json = serde_json::to_string(&names).expect("invariant: pairs of text are JSON");
    let shape = hex::encode(&Sha256::digest(json.as_bytes())[..16]);
    Ok(Some(Names { shape, json }))
}

impl Inventory {
    /// Names in use: most frequent first, then by scope and name.
    pub async fn filterable_attributes(
        &self,
        tenant: &TenantId,
    ) -> Result<Vec<FilterAttribute>, InventoryError> {
        let mut counts: HashMap<(String, String), u64> = HashMap::new();
        for (json, devices) in shape::all(&self.inner.db, tenant.as_str()).await? {
            let names: Vec<(String, String)> = serde_json::from_str(&json)
                .map_err(|error| DbError::Corrupt(format!("names of a shape: {error}")))?;
            for key in names {
                *counts.entry(key).or_default() += devices;
            }
        }
        let columns = shape::column_counts(&self.inner.db, tenant.as_str()).await?;
        for (scope, name, count) in [
            (Scope::Identity, "status", columns.with_status),
            (Scope::System, "group", columns.with_group),
            (Scope::System, "created_ts", columns.devices),
            (Scope::System, "updated_ts", columns.devices),
            (Scope::System, "check_in_time", columns.seen),
        ] {
            if count > 0 {
                *counts
                    .entry((scope.as_str().to_owned(), name.to_owned()))
                    .or_default() += count;
            }
        }
        let mut list: Vec<FilterAttribute> = counts
            .into_iter()
            .map(|((scope, name), count)| FilterAttribute { scope, name, count })
            .collect();
        list.sort_by(|left, right| {
            right
                .count
                .cmp(&left.count)
                .then_with(|| left.scope.cmp(&right.scope))
                .then_with(|| left.name.cmp(&right.name))
        });
        list.truncate(NAMES_MAX);
        Ok(list)
    }
}

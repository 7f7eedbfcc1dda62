//! What device authentication tells about the fleet, and what deployments ask of it.

use std::collections::HashMap;

use ambidex_access::TenantId;
use ambidex_db::{DbError, Statement};
use ambidex_wire::management::inventory::{DeviceRevision, FilterPredicate};
use serde_json::{Map, Value};

use super::attribute::{NewAttribute, identity_value};
use super::edit::{Edit, blank, store};
use super::predicate::Term;
use super::scope::Scope;
use super::search::Search;
use super::{ATTEMPTS_MAX, BATCH};
use crate::Inventory;
use crate::error::InventoryError;
use crate::store::device::{self, DeviceRow};
use crate::store::selection::{self, Condition};
use crate::store::shape;

/// A device as device authentication knows it.
#[derive(Debug, Clone, PartialEq)]
pub struct FleetDevice {
    pub id: String,
    /// The attributes that identify the device.
    pub identity: Map<String, Value>,
    pub status: String,
    /// Grows with each change; an older state than the one known is ignored.
    pub revision: i64,
}

/// The status that lets a device take part.
pub(super) const ACCEPTED: &str = "accepted";
/// The status word that removes a device.
const DECOMMISSIONED: &str = "decommissioned";
const STATUSES: [&str; 5] = [ACCEPTED, "preauthorized", "pending", "rejected", "noauth"];

impl Inventory {
    /// Creates devices or brings their identity attributes and status up to date. Devices that have left the fleet
    /// stay away. Repeating it changes nothing.
    pub async fn put_fleet_devices(
        &self,
        tenant: &TenantId,
        devices: &[FleetDevice],
    ) -> Result<(), InventoryError> {
        for batch in devices.chunks(BATCH) {
            let changes: Vec<Change<'_>> = batch
                .iter()
                .map(|device| Change {
                    id: &device.id,
                    status: &device.status,
                    revision: Some(device.revision),
                    identity: Edit::merging(Scope::Identity, identity_attributes(&device.identity)),
                })
                .collect();
            self.put(tenant, &changes).await?;
        }
        Ok(())
    }

    /// Sets the status of devices, creating those that are not there; `decommissioned` removes them.
    ///
    /// # Errors
    /// [`InventoryError::Stale`] when the only device of the list has a newer status.
    pub async fn update_statuses(
        &self,
        tenant: &TenantId,
        devices: &[DeviceRevision],
        status: &str,
    ) -> Result<(), InventoryError> {
        if status == DECOMMISSIONED {
            for device in devices {
                self.remove_device(tenant, &device.id).await?;
            }
            return Ok(());
        }
        let mut touched = 0;
        for batch in devices.chunks(BATCH) {
            let changes: Vec<Change<'_>> = batch
                .iter()
                .map(|device| Change {
                    id: &device.id,
                    status,
                    revision: device
                        .revision
                        .map(|revision| i64::try_from(revision).unwrap_or(i64::MAX)),
                    identity: Edit::default(),
                })
                .collect();
            touched += self.put(tenant, &changes).await?;
        }
        if devices.len() == 1 && touched == 0 {
            Err(InventoryError::Stale)
        } else {
            Ok(())
        }
    }

    /// Whether a word is a status that [`Inventory::update_statuses`] takes.
    pub fn is_status(status: &str) -> bool {
        status == DECOMMISSIONED || STATUSES.contains(&status)
    }

    /// Removes a device for good: nothing that is still on its way about it brings it back.
    pub async fn remove_device(&self, tenant: &TenantId, id: &str) -> Result<(), InventoryError> {
        let (db, now_ms) = (&self.inner.db, self.inner.clock.now_ms());
        for _ in 0..ATTEMPTS_MAX {
            let mut batch = vec![device::bury(tenant.as_str(), id, now_ms)];
            if let Some(row) = device::by_id(db, tenant.as_str(), id).await? {
                batch.push(device::delete(tenant.as_str(), &row));
                if !row.shape.is_empty() {
                    batch.extend(shape::leave(tenant.as_str(), &row.shape));
                }
            }
            match db.apply(batch).await {
                Ok(_) => return Ok(()),
                Err(DbError::Conflict { .. }) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Err(InventoryError::Contended)
    }

    /// Records when devices were last seen, in milliseconds since 1970.
    pub async fn record_check_ins(
        &self,
        tenant: &TenantId,
        devices: &[(String, i64)],
    ) -> Result<(), InventoryError> {
        for batch in devices.chunks(BATCH) {
            let statements = batch
                .iter()
                .map(|(id, seen_ms)| device::check_in(tenant.as_str(), id, *seen_ms))
                .collect();
            self.inner.db.apply(statements).await?;
        }
        Ok(())
    }

    /// Ids of all accepted devices.
    pub async fn accepted_devices(&self, tenant: &TenantId) -> Result<Vec<String>, InventoryError> {
        let accepted = [Condition::StatusIn(vec![ACCEPTED.to_owned()])];
        Ok(selection::all_ids(&self.inner.db, tenant.as_str(), &accepted).await?)
    }

    /// Ids of the accepted devices of a group.
    pub async fn devices_in_group(
        &self,
        tenant: &TenantId,
        group: &str,
    ) -> Result<Vec<String>, InventoryError> {
        let conditions = [
            Condition::GroupIn(vec![group.to_owned()]),
            Condition::StatusIn(vec![ACCEPTED.to_owned()]),
        ];
        Ok(selection::all_ids(&self.inner.db, tenant.as_str(), &conditions).await?)
    }

    /// Ids of the accepted devices that meet all conditions.
    ///
    /// # Errors
    /// [`InventoryError::Predicate`] when a condition is wrong.
    pub async fn devices_matching(
        &self,
        tenant: &TenantId,
        terms: &[FilterPredicate],
    ) -> Result<Vec<String>, InventoryError> {
        let search = Search {
            terms: Term::compile_all(terms)?,
            ..Search::default()
        };
        self.matching_ids(
            tenant,
            &search,
            vec![Condition::StatusIn(vec![ACCEPTED.to_owned()])],
        )
        .await
    }

    /// Applies changes of status and identity; returns how many devices took the status.
    async fn put(
        &self,
        tenant: &TenantId,
        changes: &[Change<'_>],
    ) -> Result<usize, InventoryError> {
        let db = &self.inner.db;
        let ids: Vec<String> = changes.iter().map(|change| change.id.to_owned()).collect();
        for _ in 0..ATTEMPTS_MAX {
            let rows = device::by_ids(db, tenant.as_str(), &ids).await?;
            let mut known: HashMap<String, DeviceRow> =
                rows.into_iter().map(|row| (row.id.clone(), row)).collect();
            let mut batch: Vec<Statement> = Vec::new();
            let mut inserts = Vec::new();
            let mut taken = 0;
            for change in changes {
                let before = known.get(change.id);
                let outcome = change.plan(tenant, before, self.inner.clock.now_ms())?;
                if before.is_none() {
                    inserts.push((batch.len(), change.id));
                }
                batch.extend(outcome.batch);
                taken += usize::from(outcome.takes_status);
                known.insert(change.id.to_owned(), outcome.after);
            }
            match db.apply(batch).await {
                Ok(_) => return Ok(taken),
                // An insert conflicts only for a device that has left the fleet: go on without it.
                Err(DbError::Conflict { index })
                    if inserts.iter().any(|(insert, _)| *insert == index) =>
                {
                    let gone = inserts
                        .iter()
                        .find(|(insert, _)| *insert == index)
                        .map(|(_, id)| *id);
                    let rest: Vec<Change<'_>> = changes
                        .iter()
                        .filter(|change| Some(change.id) != gone)
                        .cloned()
                        .collect();
                    return Box::pin(self.put(tenant, &rest))
                        .await
                        .map(|taken| taken + 1);
                }
                Err(DbError::Conflict { .. } | DbError::UniqueViolation { .. }) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Err(InventoryError::Contended)
    }
}

#[derive(Clone)]
struct Change<'a> {
    id: &'a str,
    status: &'a str,
    revision: Option<i64>,
    identity: Edit,
}

struct Planned {
    batch: Vec<Statement>,
    after: DeviceRow,
    takes_status: bool,
}

impl Change<'_> {
    fn plan(
        &self,
        tenant: &TenantId,
        before: Option<&DeviceRow>,
        now_ms: i64,
    ) -> Result<Planned, InventoryError> {
        let Some(row) = before else {
            let mut new = blank(self.id, now_ms);
            new.status = self.status.to_owned();
            new.revision = self.revision.unwrap_or(0);
            let after = self.identity.apply(&new, now_ms)?;
            return Ok(Planned {
                batch: store(tenant.as_str(), None, &after)?,
                after,
                takes_status: true,
            });
        };
        let takes_status = self.revision.is_none_or(|revision| revision > row.revision);
        let mut after = self.identity.apply(row, now_ms)?;
        let mut batch = Vec::new();
        // The identity of a device hardly ever changes: mostly only the status is written.
        if after.documents != row.documents {
            batch.extend(store(tenant.as_str(), Some(row), &after)?);
            after.version += 1;
        }
        if takes_status {
            batch.push(device::update_status(
                tenant.as_str(),
                self.id,
                self.status,
                self.revision,
            ));
            after.status = self.status.to_owned();
            after.revision = self.revision.unwrap_or(row.revision);
        }
        Ok(Planned {
            batch,
            after,
            takes_status,
        })
    }
}

fn identity_attributes(identity: &Map<String, Value>) -> Vec<NewAttribute> {
    identity
        .iter()
        // These two names are taken by what the server itself says.
        .filter(|(name, _)| !name.is_empty() && *name != "status" && *name != "id")
        .filter_map(|(name, value)| {
            let value = identity_value(value)?;
            Some(NewAttribute {
                name: name.clone(),
                value,
                description: None,
                scope: None,
            })
        })
        .collect()
}

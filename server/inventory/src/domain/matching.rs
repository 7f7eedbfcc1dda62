//! Whether one device meets conditions: answered from one read of its row, since polls ask.

use ambidex_access::TenantId;
use ambidex_wire::management::inventory::FilterPredicate;

use super::BATCH;
use super::fleet::ACCEPTED;
use super::predicate::Term;
use super::search::{Lookup, Search};
use crate::Inventory;
use crate::error::InventoryError;
use crate::store::device::{self, DeviceRow};
use crate::store::selection::{self, Candidate, Condition};

impl Inventory {
    /// The position of the first list of conditions that an accepted device meets, all of them.
    ///
    /// # Errors
    /// [`InventoryError::Predicate`] when a condition is wrong.
    pub async fn first_match(
        &self,
        tenant: &TenantId,
        id: &str,
        lists: &[Vec<FilterPredicate>],
    ) -> Result<Option<usize>, InventoryError> {
        let row = device::by_id(&self.inner.db, tenant.as_str(), id).await?;
        let Some(row) = row.filter(|row| row.status == ACCEPTED) else {
            return Ok(None);
        };
        for (position, terms) in lists.iter().enumerate() {
            if meets(&row, &Term::compile_all(terms)?)? {
                return Ok(Some(position));
            }
        }
        Ok(None)
    }

    /// Whether one accepted device meets all conditions.
    ///
    /// # Errors
    /// As [`Inventory::devices_matching`].
    pub async fn device_matches(
        &self,
        tenant: &TenantId,
        id: &str,
        terms: &[FilterPredicate],
    ) -> Result<bool, InventoryError> {
        let lists = [terms.to_vec()];
        Ok(self.first_match(tenant, id, &lists).await?.is_some())
    }

    /// How many accepted devices meet all conditions.
    ///
    /// # Errors
    /// As [`Inventory::devices_matching`].
    pub async fn count_matching(
        &self,
        tenant: &TenantId,
        terms: &[FilterPredicate],
    ) -> Result<u64, InventoryError> {
        let search = Search {
            terms: Term::compile_all(terms)?,
            ..Search::default()
        };
        let accepted = vec![Condition::StatusIn(vec![ACCEPTED.to_owned()])];
        self.count_hits(tenant, &search, accepted).await
    }

    /// The group of each of these devices, in their order; `None` for one without a group and for one that is not
    /// there.
    ///
    /// # Errors
    /// The database failed.
    pub async fn groups_of(
        &self,
        tenant: &TenantId,
        ids: &[String],
    ) -> Result<Vec<Option<String>>, InventoryError> {
        let mut found = Vec::with_capacity(ids.len());
        for batch in ids.chunks(BATCH) {
            let groups = selection::groups(&self.inner.db, tenant.as_str(), batch).await?;
            found.extend(batch.iter().map(|id| groups.get(id).cloned()));
        }
        Ok(found)
    }
}

fn meets(row: &DeviceRow, terms: &[Term]) -> Result<bool, InventoryError> {
    let lookup = Lookup::new(terms.iter().map(|term| &term.key));
    let candidate = Candidate {
        id: row.id.clone(),
        created_ms: row.created_ms,
        updated_ms: row.updated_ms,
        check_in_ms: row.check_in_ms,
        status: row.status.clone(),
        group: row.group.clone(),
        documents: lookup
            .scopes()
            .into_iter()
            .map(|scope| row.documents[scope.index()].clone())
            .collect(),
    };
    let found = lookup.find(&candidate)?;
    Ok(terms.iter().all(|term| {
        let position = lookup.position(&term.key);
        term.holds(found.get(position).and_then(Option::as_ref))
    }))
}

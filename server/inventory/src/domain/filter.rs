//! Saved filters: searches under a name. They are evaluated when they are run.

use ambidex_access::TenantId;
use ambidex_db::DbError;
use ambidex_wire::management::inventory::{DeviceInventory, Filter, FilterPredicate, NewFilter};

use super::audit::{self, By};
use super::predicate::{PredicateError, Term};
use super::reach::Reach;
use super::search::Search;
use crate::Inventory;
use crate::error::InventoryError;
use crate::store::filter::{self, FilterRow};

/// Longest name of a filter, in bytes.
pub const NAME_BYTES_MAX: usize = 1024;

impl Inventory {
    /// Keeps a filter; returns its id.
    pub async fn create_filter(
        &self,
        tenant: &TenantId,
        new: &NewFilter,
        by: By<'_>,
    ) -> Result<String, InventoryError> {
        if new.name.is_empty() {
            return Err(InventoryError::Invalid("name: cannot be blank.".to_owned()));
        }
        if new.name.len() > NAME_BYTES_MAX {
            return Err(InventoryError::Invalid(format!(
                "name: the length must be between 1 and {NAME_BYTES_MAX}."
            )));
        }
        let terms = new.terms.as_deref().unwrap_or_default();
        if terms.is_empty() {
            return Err(InventoryError::Invalid(
                "at least one filter term must be provided".to_owned(),
            ));
        }
        Term::compile_all(terms).map_err(|PredicateError(text)| {
            InventoryError::Invalid(format!("validation failed for term: {text}"))
        })?;
        let row = FilterRow {
            id: ambidex_kit::new_id().to_string(),
            name: new.name.clone(),
            terms: serde_json::to_string(terms)
                .map_err(|error| InventoryError::Invalid(error.to_string()))?,
        };
        let now_ms = self.inner.clock.now_ms();
        let mut batch = vec![filter::insert(tenant.as_str(), &row, now_ms)];
        let text = format!("{}: {}", row.name, row.terms);
        batch.extend(self.note(by, audit::CREATE, audit::filter(&row.id), text));
        match self.inner.db.apply(batch).await {
            Ok(_) => {
                self.noted(by);
                Ok(row.id)
            }
            Err(DbError::UniqueViolation { .. }) => Err(InventoryError::FilterExists),
            Err(error) => Err(error.into()),
        }
    }

    /// Filters by name, and how many there are.
    pub async fn list_filters(
        &self,
        tenant: &TenantId,
        limit: u64,
        offset: u64,
    ) -> Result<(Vec<Filter>, u64), InventoryError> {
        let total = filter::count(&self.inner.db, tenant.as_str()).await?;
        let rows = filter::page(&self.inner.db, tenant.as_str(), limit, offset).await?;
        Ok((rows.into_iter().map(show).collect::<Result<_, _>>()?, total))
    }

    pub async fn get_filter(&self, tenant: &TenantId, id: &str) -> Result<Filter, InventoryError> {
        let row = filter::by_id(&self.inner.db, tenant.as_str(), id)
            .await?
            .ok_or(InventoryError::FilterNotFound)?;
        show(row)
    }

    /// Forgets a filter; repeating it changes nothing.
    pub async fn delete_filter(
        &self,
        tenant: &TenantId,
        id: &str,
        by: By<'_>,
    ) -> Result<(), InventoryError> {
        let Some(row) = filter::by_id(&self.inner.db, tenant.as_str(), id).await? else {
            return Ok(());
        };
        let mut batch = vec![filter::delete(tenant.as_str(), id).expect_one()];
        batch.extend(self.note(by, audit::DELETE, audit::filter(id), row.name));
        match self.inner.db.apply(batch).await {
            // Somebody else was faster.
            Ok(_) | Err(DbError::Conflict { .. }) => {}
            Err(error) => return Err(error.into()),
        }
        self.noted(by);
        Ok(())
    }

    /// The devices within reach that meet a saved filter now, and how many there are.
    pub async fn run_filter(
        &self,
        tenant: &TenantId,
        id: &str,
        reach: Reach,
        limit: u64,
        offset: u64,
    ) -> Result<(Vec<DeviceInventory>, u64), InventoryError> {
        let filter = self.get_filter(tenant, id).await?;
        let search = Search {
            terms: Term::compile_all(&filter.terms)?,
            reach,
            ..Search::default()
        };
        self.search(tenant, &search, limit, offset).await
    }
}

fn show(row: FilterRow) -> Result<Filter, InventoryError> {
    let terms: Vec<FilterPredicate> = serde_json::from_str(&row.terms)
        .map_err(|error| DbError::Corrupt(format!("terms of filter {}: {error}", row.id)))?;
    Ok(Filter {
        id: row.id,
        name: row.name,
        terms,
    })
}

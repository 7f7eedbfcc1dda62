//! Inventory: what devices are and have, groups of devices, searches.
//!
//! Owns the attributes of devices in their scopes, static groups and saved filters. Does not decide who may enter:
//! identity and status come from device authentication, in order of revision, and a device that left stays away.
//!
//! One row a device: what is listed by often has an indexed column, attributes are one JSON object a scope. Listing
//! by status, group or age is answered by an index; searching other attributes passes over the rows in slices.

#![forbid(unsafe_code)]

mod api;
pub mod domain;
mod error;
mod store;

use std::sync::Arc;

use ambidex_access::TenantId;
use ambidex_db::{Db, DbError};
use ambidex_jobs::Jobs;
use ambidex_kit::Clock;
use axum::Router;

pub use domain::fleet::FleetDevice;
pub use error::InventoryError;

/// The service. A cheap clone; all clones share one state.
#[derive(Clone)]
pub struct Inventory {
    inner: Arc<Inner>,
}

struct Inner {
    db: Db,
    jobs: Jobs,
    clock: Clock,
}

impl Inventory {
    /// Brings the schema up to date and makes the service.
    ///
    /// # Errors
    /// The schema could not be brought up to date.
    pub fn new(db: Db, jobs: Jobs, clock: Clock) -> Result<Inventory, DbError> {
        db.migrate("inventory", store::MIGRATIONS)?;
        Ok(Inventory {
            inner: Arc::new(Inner { db, jobs, clock }),
        })
    }

    /// Routes of the public listener.
    pub fn routes(&self) -> Router {
        api::device::routes()
            .merge(api::devices::routes())
            .merge(api::groups::routes())
            .merge(api::filters::routes())
            .with_state(self.clone())
    }

    /// Routes of the internal listener.
    pub fn internal_routes(&self) -> Router {
        api::internal::routes().with_state(self.clone())
    }

    /// Whether the service can do its work.
    pub(crate) async fn ping(&self) -> Result<(), DbError> {
        self.inner.db.ping().await
    }

    /// Announces a tenant. Repeating it changes nothing.
    pub(crate) async fn create_tenant(&self, tenant: &TenantId) -> Result<(), InventoryError> {
        self.inner
            .db
            .apply(vec![store::tenant::put(
                tenant.as_str(),
                self.inner.clock.now_ms(),
            )])
            .await?;
        Ok(())
    }
}

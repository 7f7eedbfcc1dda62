//! Tenants and their tokens.
//!
//! Owns the tenants of a server that has several, their plans, limits, status and tokens, and the list
//! of who belongs to which. Does not own passwords or sessions (user administration) nor devices.
//! On a server without tenants nothing is stored here and every answer says so.
//!
//! Not implemented here yet: sign-up, trial, upgrade, cancellation and billing by the tenants
//! themselves; limits are stored and shown, not enforced.

#![forbid(unsafe_code)]

mod api;
mod domain;
mod error;
pub mod ports;
mod store;

use std::sync::Arc;

use ambidex_access::Keys;
use ambidex_db::Db;
use ambidex_kit::Clock;
use ambidex_wire::management::tenantadm as wire;
use axum::Router;

pub use domain::{Plan, Status, Tenant};
pub use error::TenantadmError;
use ports::Accounts;

/// The tenant administration service. Cheap to clone.
#[derive(Clone)]
pub struct Tenantadm(Arc<Inner>);

struct Inner {
    db: Db,
    clock: Clock,
    keys: Arc<Keys>,
    accounts: Arc<dyn Accounts>,
}

impl Tenantadm {
    /// Starts the service: brings its tables up to date.
    ///
    /// # Errors
    /// [`TenantadmError::Db`].
    pub fn new(
        db: Db,
        clock: Clock,
        keys: Arc<Keys>,
        accounts: Arc<dyn Accounts>,
    ) -> Result<Tenantadm, TenantadmError> {
        db.migrate("tenantadm", store::MIGRATIONS)?;
        Ok(Tenantadm(Arc::new(Inner {
            db,
            clock,
            keys,
            accounts,
        })))
    }

    /// Routes of the public listener.
    pub fn routes(&self) -> Router {
        api::management::routes(self.clone())
    }

    /// Routes of the internal listener.
    pub fn internal_routes(&self) -> Router {
        api::internal::routes(self.clone())
    }

    /// Creates an active tenant.
    ///
    /// # Errors
    /// [`TenantadmError::Invalid`] for a bad name.
    pub async fn create(&self, name: &str, plan: Plan) -> Result<Tenant, TenantadmError> {
        domain::tenant::create(&self.0, name, plan).await
    }

    /// Removes a tenant that nobody has used yet (a sign-up that failed half way).
    ///
    /// # Errors
    /// [`TenantadmError::Db`].
    pub async fn remove_unused(&self, id: &str) -> Result<(), TenantadmError> {
        self.0
            .db
            .apply(vec![store::tenant::delete_unused(id)])
            .await?;
        Ok(())
    }

    /// One tenant.
    ///
    /// # Errors
    /// [`TenantadmError::NotFound`].
    pub async fn get(&self, id: &str) -> Result<Tenant, TenantadmError> {
        domain::tenant::get(&self.0, id).await
    }

    /// All tenants in the order of their creation.
    ///
    /// # Errors
    /// [`TenantadmError::Db`].
    pub async fn all(&self) -> Result<Vec<Tenant>, TenantadmError> {
        Ok(store::tenant::list(&self.0.db, None, 0, i64::MAX as u64).await?)
    }

    /// The active tenant that a tenant token names.
    ///
    /// # Errors
    /// [`TenantadmError::Unauthorized`] with the text that the device is shown.
    pub async fn verify_token(&self, token: &str) -> Result<Tenant, TenantadmError> {
        domain::tenant::verify_token(&self.0, token).await
    }

    /// Records that a user belongs to a tenant. Safe to repeat.
    ///
    /// # Errors
    /// [`TenantadmError::Unprocessable`] when the name belongs to another user.
    pub async fn user_saved(
        &self,
        tenant: &str,
        id: &str,
        name: &str,
    ) -> Result<(), TenantadmError> {
        domain::user::saved(&self.0, tenant, id, name).await
    }

    /// Records that a user is gone. Safe to repeat.
    ///
    /// # Errors
    /// [`TenantadmError::Db`].
    pub async fn user_deleted(&self, tenant: &str, id: &str) -> Result<(), TenantadmError> {
        self.0
            .db
            .apply(vec![store::user::delete(tenant, id)])
            .await?;
        Ok(())
    }
}

/// A tenant as the API shows it.
pub fn view(tenant: &Tenant) -> wire::Tenant {
    api::view(tenant)
}

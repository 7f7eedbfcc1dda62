//! Users, login and settings.
//!
//! Owns user accounts, the tokens issued to them and the settings object of a tenant. Does not own
//! tenants: what it must know of them it asks through [`ports`].
//!
//! Not implemented here yet: roles other than full access, two-factor login, password reset by mail.

#![forbid(unsafe_code)]

mod api;
mod domain;
mod error;
pub mod ports;
mod store;

use std::sync::Arc;

use ambidex_access::{Keys, Passwords, TenantId, UserIdentity};
use ambidex_db::Db;
use ambidex_kit::Clock;
use axum::Router;

pub use domain::{NewUser, Secret, User, Vetted};
pub use error::UseradmError;
use ports::Tenants;

/// What can be set.
#[derive(Debug, Clone)]
pub struct Settings {
    /// How long a login lasts, in seconds.
    pub token_lifetime_s: i64,
    /// Logins of one user that count at the same time; the oldest is dropped for a new one.
    pub sessions_max: u32,
}

impl Default for Settings {
    /// One week (reference: user administration 4.1). The number of sessions bounds the table; it leaves
    /// room for machines that log in for every job.
    fn default() -> Settings {
        Settings {
            token_lifetime_s: 604_800,
            sessions_max: 100,
        }
    }
}

/// The user administration service. Cheap to clone.
#[derive(Clone)]
pub struct Useradm(Arc<Inner>);

struct Inner {
    db: Db,
    clock: Clock,
    keys: Arc<Keys>,
    passwords: Passwords,
    tenants: Arc<dyn Tenants>,
    settings: Settings,
}

impl Useradm {
    /// Starts the service: brings its tables up to date.
    ///
    /// # Errors
    /// [`UseradmError::Db`] when the tables cannot be brought up to date.
    pub fn new(
        db: Db,
        clock: Clock,
        keys: Arc<Keys>,
        tenants: Arc<dyn Tenants>,
        settings: Settings,
    ) -> Result<Useradm, UseradmError> {
        db.migrate("useradm", store::MIGRATIONS)?;
        Ok(Useradm(Arc::new(Inner {
            db,
            clock,
            keys,
            passwords: Passwords::new(),
            tenants,
            settings,
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

    /// Whether a token with a good signature still counts: its record exists. One point read.
    ///
    /// # Errors
    /// [`UseradmError::Db`].
    pub async fn token_counts(&self, user: &UserIdentity) -> Result<bool, UseradmError> {
        let jti = user.jti.to_string();
        Ok(store::token::exists(&self.0.db, user.tenant.as_str(), &user.user_id, &jti).await?)
    }

    /// Creates a user and returns its id.
    ///
    /// # Errors
    /// [`UseradmError::Invalid`], [`UseradmError::Unprocessable`] for a taken address or a short password.
    pub async fn create_user(
        &self,
        tenant: &TenantId,
        new: NewUser,
    ) -> Result<String, UseradmError> {
        domain::user::create(&self.0, tenant, new).await
    }

    /// All users of a tenant, in the order of their creation.
    ///
    /// # Errors
    /// [`UseradmError::Db`].
    pub async fn users(&self, tenant: &TenantId) -> Result<Vec<User>, UseradmError> {
        let all = domain::user::Filter::default();
        domain::user::list(&self.0, tenant, &all).await
    }

    /// One user of a tenant.
    ///
    /// # Errors
    /// [`UseradmError::NotFound`].
    pub async fn user(&self, tenant: &TenantId, id: &str) -> Result<User, UseradmError> {
        domain::user::get(&self.0, tenant, id).await
    }

    /// Sets the password of the user with this address, in whichever tenant, and ends all sessions.
    ///
    /// # Errors
    /// [`UseradmError::NotFound`] when there is no such user.
    pub async fn set_password(&self, email: &str, password: String) -> Result<(), UseradmError> {
        domain::user::set_password(&self.0, email, password).await
    }

    /// Whether there is any user at all.
    ///
    /// # Errors
    /// [`UseradmError::Db`].
    pub async fn any_user(&self) -> Result<bool, UseradmError> {
        Ok(store::user::any(&self.0.db).await?)
    }

    /// Ends the sessions of a tenant, or of one of its users.
    ///
    /// # Errors
    /// [`UseradmError::Db`].
    pub async fn revoke_tokens(
        &self,
        tenant: &TenantId,
        user: Option<&str>,
    ) -> Result<(), UseradmError> {
        self.0
            .db
            .apply(vec![store::token::delete_all(tenant.as_str(), user)])
            .await?;
        Ok(())
    }
}

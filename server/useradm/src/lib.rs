//! Users, login, roles and settings.
//!
//! Owns user accounts, their roles, the tokens issued to them, their second factor, the secrets in the links of
//! mails, and the settings of tenants and users. Decides what roles allow ([`Useradm::check_request`]); what they
//! leave of the fleet is enforced by the services that own the things. Does not own tenants and devices: what it
//! must know of them it asks through [`ports`].
//!
//! Not implemented: login through other providers (OAuth, SAML, OpenID Connect).

#![forbid(unsafe_code)]

mod api;
mod domain;
mod error;
pub mod ports;
mod store;

use std::sync::Arc;

use ambidex_access::{Grants, Keys, Passwords, Seal, TenantId, UserIdentity};
use ambidex_db::Db;
use ambidex_jobs::Jobs;
use ambidex_kit::Clock;
use ambidex_mail::Mailer;
use axum::Router;

pub use domain::{NewUser, Secret, TwoFactorStatus, User, Vetted};
pub use error::{RequestDenied, UseradmError};
use ports::{Devices, Tenants};

/// What can be set.
#[derive(Debug, Clone)]
pub struct Settings {
    /// How long a login lasts, in seconds.
    pub token_lifetime_s: i64,
    /// Logins of one user that count at the same time; the oldest is dropped for a new one.
    pub sessions_max: u32,
    /// How browsers reach this server, without a trailing slash; the links of mails begin with it. Without one no
    /// mail with a link is sent: what a request claims in its `Host` must not end up in a mail to somebody else.
    pub public_url: Option<String>,
}

impl Default for Settings {
    /// One week (reference: user administration 4.1). The number of sessions bounds the table; it leaves
    /// room for machines that log in for every job.
    fn default() -> Settings {
        Settings {
            token_lifetime_s: 604_800,
            sessions_max: 100,
            public_url: None,
        }
    }
}

/// What the service stands on.
pub struct Parts {
    /// Its tables.
    pub db: Db,
    /// Its time.
    pub clock: Clock,
    /// Signs tokens.
    pub keys: Arc<Keys>,
    /// Encrypts the secrets of second factors.
    pub seal: Seal,
    /// Carries out what follows a change.
    pub jobs: Jobs,
    /// Sends mails.
    pub mailer: Mailer,
    /// Tenant administration.
    pub tenants: Arc<dyn Tenants>,
    /// The inventory.
    pub devices: Arc<dyn Devices>,
}

/// The user administration service. Cheap to clone.
#[derive(Clone)]
pub struct Useradm(Arc<Inner>);

struct Inner {
    parts: Parts,
    passwords: Passwords,
    settings: Settings,
    rules: domain::rbac::RuleCache,
    throttles: domain::Throttles,
}

impl Inner {
    fn db(&self) -> &Db {
        &self.parts.db
    }

    fn now_ms(&self) -> i64 {
        self.parts.clock.now_ms()
    }
}

impl Useradm {
    /// Starts the service: brings its tables up to date, takes its jobs.
    ///
    /// # Errors
    /// [`UseradmError::Db`] when the tables cannot be brought up to date.
    pub fn new(parts: Parts, settings: Settings) -> Result<Useradm, UseradmError> {
        parts.db.migrate("useradm", store::MIGRATIONS)?;
        let inner = Arc::new(Inner {
            passwords: Passwords::new(),
            settings,
            rules: domain::rbac::RuleCache::default(),
            throttles: domain::Throttles::default(),
            parts,
        });
        domain::mail::register(&inner);
        Ok(Useradm(inner))
    }

    /// Routes of the public listener.
    pub fn routes(&self) -> Router {
        api::routes(self.clone())
    }

    /// Routes of the internal listener.
    pub fn internal_routes(&self) -> Router {
        api::internal::routes(self.clone())
    }

    /// Whether a user's request may go on: the token counts and the user's roles open it. Tells what they leave of
    /// the fleet. `uri` is path and query as they came. Reads the database each time, so that a change of a role or
    /// a logout holds at once, on all instances.
    ///
    /// # Errors
    /// [`RequestDenied`].
    pub async fn check_request(
        &self,
        user: &UserIdentity,
        method: &str,
        uri: &str,
    ) -> Result<Grants, RequestDenied> {
        domain::access::check(&self.0, user, method, uri).await
    }

    /// Whether the token's record still exists, whatever the user's roles say to a request: what has been opened with
    /// it goes on.
    ///
    /// # Errors
    /// [`UseradmError::Db`].
    pub async fn token_counts(&self, user: &UserIdentity) -> Result<bool, UseradmError> {
        let (tenant, jti) = (user.tenant.as_str(), user.jti.to_string());
        let token = store::token::counting(self.0.db(), tenant, &user.user_id, &jti).await?;
        Ok(token.is_some())
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
        domain::user::create(&self.0, tenant, None, new).await
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
        Ok(store::user::any(self.0.db()).await?)
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
            .db()
            .apply(vec![store::token::delete_all(tenant.as_str(), user)])
            .await?;
        Ok(())
    }
}

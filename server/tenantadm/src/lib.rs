//! Tenants and their tokens.
//!
//! Owns the tenants of a server that has several, their plans, limits, status and tokens, and the list
//! of who belongs to which; how tenants sign up, end and ask for plans. Does not own passwords or sessions
//! (user administration) nor devices, and does not count calls: it says what the limits are.
//! On a server without tenants nothing is stored here and every answer says so.

#![forbid(unsafe_code)]

mod api;
mod domain;
mod error;
mod mails;
pub mod ports;
mod recaptcha;
mod settings;
mod store;

use std::sync::Arc;
use std::time::Duration;

use ambidex_access::Keys;
use ambidex_db::Db;
use ambidex_jobs::Jobs;
use ambidex_kit::Clock;
use ambidex_mail::Mailer;
use ambidex_wire::management::tenantadm as wire;
use axum::Router;

pub use domain::standing::Standing;
use domain::standing::Standings;
pub use domain::{Plan, Status, Tenant};
pub use error::TenantadmError;
use ports::Accounts;
pub use recaptcha::{DEFAULT_URL as RECAPTCHA_URL, Recaptcha};
pub use settings::{Billing, Settings};

/// How often ends of trials and what is still to be told are looked for.
const ROUND: Duration = Duration::from_secs(30);
/// What has been pending for longer was left by a request that did not finish.
const PENDING_MS: i64 = 30_000;

/// The tenant administration service. Cheap to clone.
#[derive(Clone)]
pub struct Tenantadm(Arc<Inner>);

struct Inner {
    db: Db,
    clock: Clock,
    keys: Arc<Keys>,
    accounts: Arc<dyn Accounts>,
    jobs: Jobs,
    settings: Settings,
    standings: Standings,
}

impl Tenantadm {
    /// Starts the service: brings its tables up to date and registers its jobs.
    ///
    /// # Errors
    /// [`TenantadmError::Db`].
    pub fn new(
        db: Db,
        clock: Clock,
        keys: Arc<Keys>,
        accounts: Arc<dyn Accounts>,
        jobs: Jobs,
        mailer: Mailer,
        settings: Settings,
    ) -> Result<Tenantadm, TenantadmError> {
        db.migrate("tenantadm", store::MIGRATIONS)?;
        if let Some(to) = settings.support_email.clone() {
            jobs.handle(mails::KIND, Arc::new(mails::SupportMail { mailer, to }));
        }
        Ok(Tenantadm(Arc::new(Inner {
            db,
            clock,
            keys,
            accounts,
            jobs,
            settings,
            standings: Standings::default(),
        })))
    }

    /// Ends accounts whose time is over and tells neighbours what they have not been told, forever. May
    /// be dropped at any await. Several instances may run it on one database.
    pub async fn run(&self) {
        loop {
            if let Err(error) = self.round().await {
                tracing::warn!(%error, "a round over the tenants failed and is repeated");
            }
            tokio::time::sleep(ROUND).await;
        }
    }

    /// One round of [`Tenantadm::run`]; returns how many accounts were ended.
    ///
    /// # Errors
    /// What went wrong first; the next round tries again.
    pub async fn round(&self) -> Result<usize, TenantadmError> {
        let ended = domain::tenant::end_due(&self.0).await?;
        let since_ms = self.0.clock.now_ms() - PENDING_MS;
        domain::pending::finish_all(&self.0, since_ms).await?;
        Ok(ended)
    }

    /// Tells neighbours what an earlier process left untold. Only before anything is served.
    ///
    /// # Errors
    /// [`TenantadmError::Db`]. Neighbours that cannot be told now are told later.
    pub async fn recover(&self) -> Result<(), TenantadmError> {
        match domain::pending::finish_all(&self.0, i64::MAX).await {
            Err(TenantadmError::Db(error)) => Err(error.into()),
            _ => Ok(()),
        }
    }

    /// Routes of the public listener.
    pub fn routes(&self) -> Router {
        api::management::routes(self.clone()).merge(api::billing::routes(self.clone()))
    }

    /// Routes of the internal listener.
    pub fn internal_routes(&self) -> Router {
        api::internal::routes(self.clone())
    }

    /// Creates an active tenant without users.
    ///
    /// # Errors
    /// [`TenantadmError::Invalid`] for a bad name.
    pub async fn create(&self, name: &str, plan: Plan) -> Result<Tenant, TenantadmError> {
        domain::sign_up::create(&self.0, name, plan).await
    }

    /// Creates an active tenant with its first user. A crash half way is finished at the next start.
    ///
    /// # Errors
    /// [`TenantadmError::Invalid`] for a bad name, address or password, [`TenantadmError::Conflict`] for a
    /// taken address.
    pub async fn create_with_user(
        &self,
        name: &str,
        plan: Plan,
        email: &str,
        password: &str,
    ) -> Result<Tenant, TenantadmError> {
        domain::sign_up::create_with_user(&self.0, name, plan, email, password).await
    }

    /// Changes what is given of a tenant, as the internal `PUT /tenants/{tenant_id}` does.
    ///
    /// # Errors
    /// [`TenantadmError::Invalid`], [`TenantadmError::NotFound`].
    pub async fn update(&self, id: &str, update: wire::TenantUpdate) -> Result<(), TenantadmError> {
        domain::tenant::update(&self.0, id, update).await
    }

    /// Suspends (`suspended`) or activates (`active`) an account.
    ///
    /// # Errors
    /// [`TenantadmError::Invalid`], [`TenantadmError::NotFound`].
    pub async fn set_status(&self, id: &str, status: Status) -> Result<(), TenantadmError> {
        domain::tenant::set_status(&self.0, id, status.name()).await
    }

    /// How a tenant stands, for every call: from memory, at most two seconds old; `None` when there is no
    /// such tenant.
    ///
    /// # Errors
    /// [`TenantadmError::Db`].
    pub async fn standing(&self, id: &str) -> Result<Option<Arc<Standing>>, TenantadmError> {
        domain::standing::get(&self.0, id).await
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

//! Device authentication: identities, auth sets, admission, tokens of devices.
//!
//! Owns who may enter: devices by their identity, the keys they come with, the operator's decisions, the limit of
//! accepted devices and the validity of device tokens. Does not own what a device looks like (inventory) or what it
//! is told to do (deployments): it tells those neighbours through [`ports`], durably.
//!
//! Every status change is one atomic batch guarded by the device's revision. Checking a token is one read.

#![forbid(unsafe_code)]

mod api;
pub mod domain;
mod error;
pub mod ports;
mod store;

use std::sync::Arc;
use std::time::Duration;

use ambidex_access::Keys;
use ambidex_db::{Db, DbError};
use ambidex_jobs::Jobs;
use ambidex_kit::Clock;
use axum::Router;

pub use domain::token::TokenDenied;
pub use error::DevauthError;
pub use store::device::DeviceSelection;

use domain::check_in::CheckIns;
use ports::{Ports, TenantInfo};

/// How often noted check-ins are written.
const CHECK_IN_ROUND: Duration = Duration::from_secs(5);
/// Every how many rounds owed hand-overs are told again.
const HAND_OVER_ROUNDS: u32 = 6;

/// What can be set about device authentication.
#[derive(Debug, Clone)]
pub struct Settings {
    /// What tokens tell of the tenant on a server of one tenant.
    pub single_tenant: TenantInfo,
    /// Stands in when a device of a multi-tenant server brings no tenant token, or a wrong one.
    pub default_tenant_token: Option<String>,
    /// Validity of device tokens in seconds.
    pub token_lifetime_s: i64,
    /// The `iss` claim of device tokens.
    pub issuer: String,
}

impl Default for Settings {
    fn default() -> Settings {
        Settings {
            single_tenant: TenantInfo {
                id: ambidex_access::TenantId::default(),
                plan: "enterprise".to_owned(),
                trial: None,
                addons: ambidex_access::Addon::all_enabled(),
            },
            default_tenant_token: None,
            token_lifetime_s: 604_800,
            issuer: "Mender".to_owned(),
        }
    }
}

/// The service. A cheap clone; all clones share one state.
#[derive(Clone)]
pub struct Devauth {
    inner: Arc<Inner>,
}

struct Inner {
    db: Db,
    jobs: Jobs,
    clock: Clock,
    keys: Arc<Keys>,
    ports: Ports,
    settings: Settings,
    check_ins: CheckIns,
}

impl Devauth {
    /// Brings the schema up to date and makes the service.
    ///
    /// # Errors
    /// The schema could not be brought up to date.
    pub fn new(
        db: Db,
        jobs: Jobs,
        clock: Clock,
        keys: Arc<Keys>,
        ports: Ports,
        settings: Settings,
    ) -> Result<Devauth, DbError> {
        db.migrate("devauth", store::MIGRATIONS)?;
        Ok(Devauth {
            inner: Arc::new(Inner {
                db,
                jobs,
                clock,
                keys,
                ports,
                settings,
                check_ins: CheckIns::default(),
            }),
        })
    }

    /// Routes of the public listener.
    pub fn routes(&self) -> Router {
        api::device::routes()
            .merge(api::management::routes())
            .with_state(self.clone())
    }

    /// Routes of the internal listener.
    pub fn internal_routes(&self) -> Router {
        api::internal::routes().with_state(self.clone())
    }

    /// Tells what a crash left untold, then writes check-ins and tells again, forever. May be dropped at any await:
    /// what is not confirmed stays owed.
    pub async fn run(&self) {
        let mut round: u32 = 0;
        loop {
            if round.is_multiple_of(HAND_OVER_ROUNDS)
                && let Err(error) = self.hand_over_outstanding().await
            {
                tracing::warn!(%error, "changes of devices are still owed to a neighbour, they are told again");
            }
            if let Err(error) = self.record_check_ins().await {
                tracing::warn!(%error, "check-in times were not recorded, the next polls renew them");
            }
            round = round.wrapping_add(1);
            tokio::time::sleep(CHECK_IN_ROUND).await;
        }
    }

    /// Numbers of devices by status over all tenants (metrics).
    ///
    /// # Errors
    /// The database refused.
    pub async fn devices_by_status(&self) -> Result<Vec<(String, u64)>, DbError> {
        store::tally::of_everybody(&self.inner.db).await
    }

    /// Whether the service can do its work.
    pub(crate) async fn ping(&self) -> Result<(), DbError> {
        self.inner.db.ping().await
    }
}

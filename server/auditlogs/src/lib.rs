//! The audit log: who changed what, and when.
//!
//! Owns events once they are on record: storage, search, export and their end after a year. Does not own
//! what an event tells: the service that makes a change writes the event as a durable job in the same
//! batch (`ambidex_jobs::audit`), and the [`Handler`] here puts it on record, once, whatever happens in
//! between. Not recorded: logins, reads, calls that failed, and what the internal API does.
//! Nothing changes an event; only its age removes it.

#![forbid(unsafe_code)]

mod api;
mod domain;
mod error;
mod jobs;
pub mod ports;
mod store;

use std::sync::Arc;
use std::time::Duration;

use ambidex_access::TenantId;
use ambidex_db::{Db, DbError};
use ambidex_kit::Clock;
use ambidex_wire::management::auditlogs::Event;
use axum::Router;

pub use error::AuditlogsError;
use ports::Directory;

/// Between two looks for events that are too old.
const SWEEP_PAUSE: Duration = Duration::from_secs(3600);

/// What can be set.
#[derive(Debug, Clone)]
pub struct Settings {
    /// How long events stay on record, in seconds.
    pub retention_s: i64,
}

impl Default for Settings {
    /// 365 days (reference: audit logs).
    fn default() -> Settings {
        Settings {
            retention_s: 31_536_000,
        }
    }
}

/// The audit log service. Cheap to clone.
#[derive(Clone)]
pub struct Auditlogs(Arc<Inner>);

struct Inner {
    db: Db,
    clock: Clock,
    directory: Arc<dyn Directory>,
    settings: Settings,
}

impl Auditlogs {
    /// Starts the service: brings its table up to date.
    ///
    /// # Errors
    /// [`AuditlogsError::Db`].
    pub fn new(
        db: Db,
        clock: Clock,
        directory: Arc<dyn Directory>,
        settings: Settings,
    ) -> Result<Auditlogs, AuditlogsError> {
        db.migrate("auditlogs", store::MIGRATIONS)?;
        Ok(Auditlogs(Arc::new(Inner {
            db,
            clock,
            directory,
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

    /// Puts an event on record. Repeating it with the same id changes nothing.
    ///
    /// # Errors
    /// [`AuditlogsError::Invalid`] when something of the event is missing.
    pub async fn record(
        &self,
        tenant: &TenantId,
        id: &str,
        event: Event,
    ) -> Result<(), AuditlogsError> {
        domain::record::record(&self.0, tenant.as_str(), id, event).await
    }

    /// Removes events that are past their time; returns how many.
    ///
    /// # Errors
    /// [`AuditlogsError::Db`]; what was removed stays removed.
    pub async fn sweep(&self) -> Result<u64, AuditlogsError> {
        domain::record::sweep(&self.0).await
    }

    /// Sweeps from time to time, forever. May be dropped at any await.
    pub async fn run(&self) {
        loop {
            match self.sweep().await {
                Ok(0) => {}
                Ok(gone) => tracing::info!("{gone} audit events were past their time"),
                Err(error) => tracing::warn!(%error, "old audit events were not removed"),
            }
            tokio::time::sleep(SWEEP_PAUSE).await;
        }
    }

    async fn ping(&self) -> Result<(), DbError> {
        self.0.db.ping().await
    }
}

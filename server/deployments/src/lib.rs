//! Artifacts, releases and deployments.
//!
//! Owns the artifact store's index, deployments and the part of every device in them. Does not own
//! devices (inventory and device authentication do) nor the bytes of artifacts (`ambidex-blob` does).
//! Rules: the API specification, and the deployments reference, sections 0 to 6.
//!
//! Concurrency in one paragraph: no state is kept in memory. Each change of a device's part is one
//! batch that changes the device's row on the condition that it is as it was read, and moves the
//! counters of the deployment in the same breath; who loses the race reads again. So statistics add up
//! at any time, a phase is never overfilled, and an answer given is on the disk.
//!
//! Deliberate differences from the reference: a deployment that has not started yet does not hold up
//! newer ones and takes its place at its start; a deployment once in progress does not become pending
//! again through retries; a failure reported twice costs one attempt; aborting an unknown deployment is
//! 404; an upload beyond the storage limit is 413; releases are sorted by ascending name.
//!
//! Not implemented here: deployments by filter (version 2), generated artifacts, configuration
//! deployments, update control maps, tags and notes of releases, direct upload.

#![forbid(unsafe_code)]

mod api;
mod domain;
mod error;
pub mod ports;
mod store;

use std::sync::Arc;

use ambidex_access::TenantId;
use ambidex_blob::Blobs;
use ambidex_db::{Db, DbError};
use ambidex_kit::Clock;
use axum::Router;
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;

pub use domain::recovery::LeftOver;
pub use error::Error;
use ports::Ports;

/// What can be configured.
#[derive(Debug, Clone)]
pub struct Settings {
    /// `scheme://host[:port]` for download links; from the request's `Host` header when `None`.
    pub public_url: Option<String>,
    /// Largest artifact, in bytes.
    pub artifact_bytes_max: u64,
    /// How long the link of an update works, in milliseconds.
    pub update_link_ms: i64,
    /// How long the link of an artifact works, in milliseconds.
    pub artifact_link_ms: i64,
}

impl Default for Settings {
    /// 10 GiB, 24 hours, 15 minutes (reference, sections 1, 3 and 5).
    fn default() -> Self {
        Self {
            public_url: None,
            artifact_bytes_max: 10 << 30,
            update_link_ms: 24 * 60 * 60 * 1000,
            artifact_link_ms: 15 * 60 * 1000,
        }
    }
}

/// What every operation works with. Cheap to clone.
#[derive(Clone)]
struct Context {
    db: Db,
    blobs: Blobs,
    clock: Clock,
    ports: Ports,
    settings: Arc<Settings>,
    intakes: Arc<Semaphore>,
}

/// The service. Cheap to clone; all clones are one.
#[derive(Clone)]
pub struct Deployments {
    context: Context,
}

impl Deployments {
    /// Brings the tables up to date.
    ///
    /// # Errors
    /// When the database refuses.
    pub fn new(
        db: Db,
        blobs: Blobs,
        clock: Clock,
        ports: Ports,
        settings: Settings,
    ) -> Result<Self, DbError> {
        db.migrate("deployments", store::MIGRATIONS)?;
        let settings = Arc::new(settings);
        let intakes = domain::intake::slots();
        Ok(Self {
            context: Context {
                db,
                blobs,
                clock,
                ports,
                settings,
                intakes,
            },
        })
    }

    /// Starts to finish what the last run could not. Call it once and wait for its answer before
    /// serving; the work itself goes on in the returned task, beside requests.
    ///
    /// # Errors
    /// When the database refuses; calling again is safe.
    pub async fn recover(&self) -> Result<JoinHandle<()>, Error> {
        let left = domain::recovery::find(&self.context).await?;
        let context = self.context.clone();
        Ok(tokio::spawn(async move {
            if let Err(error) = domain::recovery::run(&context, left).await {
                tracing::warn!(
                    ?error,
                    "what the last run left is left until the next start"
                );
            }
        }))
    }

    /// Finishes what died with another instance on the same database: whatever was unfinished in the look
    /// `before` and is so still. Living work takes seconds, so looks some minutes apart tell it from dead
    /// work; a creation that was given up wrongly fails when it publishes, it is never half there. Returns
    /// what is unfinished now, for the next look.
    ///
    /// # Errors
    /// When the database refuses; calling again is safe.
    pub async fn finish_abandoned(&self, before: LeftOver) -> Result<LeftOver, Error> {
        let now = domain::recovery::find(&self.context).await?;
        domain::recovery::run(&self.context, before.also_in(&now)).await?;
        Ok(now)
    }

    /// Routes of the public listener, full paths. They need the `ambidex_access::Access` extension.
    pub fn routes(&self) -> Router {
        api::public(self.context.clone())
    }

    /// Routes of the internal listener, full paths.
    pub fn internal_routes(&self) -> Router {
        api::internal(self.context.clone())
    }

    /// Ends the part of a device that is gone in all deployments. Safe to repeat.
    ///
    /// # Errors
    /// When the database refuses; calling again is safe.
    pub async fn decommission(&self, tenant: &TenantId, device_id: &str) -> Result<(), Error> {
        domain::decommission::device(&self.context, tenant, device_id).await
    }

    /// Prepares a new tenant. Safe to repeat.
    ///
    /// # Errors
    /// When the database refuses.
    pub async fn create_tenant(&self, tenant: &TenantId) -> Result<(), Error> {
        self.context
            .db
            .apply(vec![store::storage::ensure(tenant)])
            .await?;
        Ok(())
    }

    /// Numbers of unfinished deployments by status over all tenants (metrics).
    ///
    /// # Errors
    /// When the database refuses.
    pub async fn active_by_status(&self) -> Result<Vec<(String, u64)>, DbError> {
        store::deployment::active_by_status(&self.context.db).await
    }

    /// Bytes of stored artifacts over all tenants (metrics).
    ///
    /// # Errors
    /// When the database refuses.
    pub async fn stored_bytes(&self) -> Result<u64, DbError> {
        store::storage::total(&self.context.db).await
    }

    /// Whether the service and what it needs works at this moment; the error says what does not.
    ///
    /// # Errors
    /// The first thing that does not work.
    pub async fn health(&self) -> Result<(), Error> {
        api::health(&self.context).await
    }
}

//! Remote terminal, file transfer and port forward over the websocket of a device.
//!
//! Owns the sockets of devices and users, the sessions between them, which device is connected, and the
//! recordings of shells. A device and its users may be connected to different instances of the server:
//! they talk over the bus. Does not own users, devices or groups: what it must know of them it asks
//! through [`ports`].

#![forbid(unsafe_code)]

mod api;
mod domain;
mod error;
pub mod ports;
mod store;

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use ambidex_access::TenantId;
use ambidex_bus::Bus;
use ambidex_db::Db;
use ambidex_jobs::Jobs;
use ambidex_kit::Clock;
use axum::Router;

pub use domain::command::tokens_revoked;
use domain::presence;
pub use error::DeviceconnectError;
use ports::Neighbours;

/// Expired recordings are looked for this often.
const RETENTION_INTERVAL: Duration = Duration::from_secs(3600);

/// What can be set.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Between pings to a peer.
    pub ping: Duration,
    /// A peer that gives no sign of life for longer is gone.
    pub silence: Duration,
    /// A peer that takes no data for longer is given up.
    pub write_stall: Duration,
    /// Between signs of life that the two sides of a session give each other.
    pub keepalive: Duration,
    /// Between checks whether a connected device or user may still be here.
    pub recheck: Duration,
    /// An instance that gives no sign of life for longer is dead.
    pub lease: Duration,
    /// Sessions with one device at the same time.
    pub sessions_per_device: usize,
    /// Shell output of one session.
    pub output_bytes_max: u64,
    /// Longest session.
    pub session_max: Duration,
    /// How long a device may be silent during a file transfer over plain HTTP.
    pub transfer_patience: Duration,
    /// Largest file that is taken over plain HTTP.
    pub upload_bytes_max: u64,
    /// Where uploads are kept that cannot be passed on at once; the system's place if not given.
    pub spool: Option<PathBuf>,
    /// How long recordings are kept.
    pub recording_keep: Duration,
}

impl Default for Settings {
    /// The reference's numbers where it has them: pings, silence, 8 MiB of output, 1 GiB of upload,
    /// 30 days of recordings. 64 sessions are four times what its device allows.
    fn default() -> Settings {
        Settings {
            ping: Duration::from_secs(30),
            silence: Duration::from_secs(60),
            write_stall: Duration::from_secs(10),
            keepalive: Duration::from_secs(15),
            recheck: Duration::from_secs(60),
            lease: Duration::from_secs(30),
            sessions_per_device: 64,
            output_bytes_max: 8 << 20,
            session_max: Duration::from_secs(24 * 3600),
            transfer_patience: Duration::from_secs(60),
            upload_bytes_max: 1 << 30,
            spool: None,
            recording_keep: Duration::from_secs(30 * 24 * 3600),
        }
    }
}

/// The device connection service. Cheap to clone.
#[derive(Clone)]
pub struct Deviceconnect(Arc<Inner>);

struct Inner {
    db: Db,
    clock: Clock,
    bus: Bus,
    jobs: Jobs,
    neighbours: Arc<dyn Neighbours>,
    settings: Settings,
    /// Names this process among those of the installation.
    instance: String,
    /// Counts how often others may have taken this instance for dead.
    epoch: AtomicU64,
    /// Connections of devices and of users in this instance.
    devices: Gauge,
    users: Gauge,
}

/// How many there are at the moment.
#[derive(Default)]
struct Gauge(AtomicU64);

impl Gauge {
    /// One more, until the answer is dropped.
    fn count(&self) -> Counted<'_> {
        self.0.fetch_add(1, Ordering::Relaxed);
        Counted(&self.0)
    }
}

struct Counted<'a>(&'a AtomicU64);

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Inner {
    fn lease_ms(&self) -> i64 {
        i64::try_from(self.settings.lease.as_millis()).unwrap_or(i64::MAX)
    }

    async fn kick(&self, tenant: &TenantId, device: &str, reason: &str) {
        domain::command::kick(self, tenant, device, reason).await;
    }
}

impl Deviceconnect {
    /// Starts the service: brings its tables up to date.
    ///
    /// # Errors
    /// [`DeviceconnectError::Db`] when the tables cannot be brought up to date.
    pub fn new(
        db: Db,
        clock: Clock,
        bus: Bus,
        jobs: Jobs,
        neighbours: Arc<dyn Neighbours>,
        settings: Settings,
    ) -> Result<Deviceconnect, DeviceconnectError> {
        db.migrate("deviceconnect", store::MIGRATIONS)?;
        Ok(Deviceconnect(Arc::new(Inner {
            db,
            clock,
            bus,
            jobs,
            neighbours,
            settings,
            instance: ambidex_kit::new_id().to_string(),
            epoch: AtomicU64::new(0),
            devices: Gauge::default(),
            users: Gauge::default(),
        })))
    }

    /// Routes of the public listener.
    pub fn routes(&self) -> Router {
        api::device::routes(self.clone())
            .merge(api::management::routes(self.clone()))
            .merge(api::sessions::routes(self.clone()))
    }

    /// Routes of the internal listener.
    pub fn internal_routes(&self) -> Router {
        api::internal::routes(self.clone())
    }

    /// Tells the others that this instance is there. Call it before serving; `alone` when no other
    /// process can be serving with this database, so that what an earlier one left is cleaned up at once.
    ///
    /// # Errors
    /// [`DeviceconnectError::Db`].
    pub async fn join(&self, alone: bool) -> Result<(), DeviceconnectError> {
        if alone {
            presence::bury_all_others(&self.0).await?;
        }
        Ok(presence::renew(&self.0).await?)
    }

    /// Gives signs of life, cleans up after dead instances and removes expired recordings. May be
    /// dropped at any moment.
    pub async fn run(&self) {
        let inner = &self.0;
        let mut next_retention = tokio::time::Instant::now();
        loop {
            if let Err(error) = presence::renew(inner).await {
                tracing::error!(%error, "this instance cannot give a sign of life");
            } else if let Err(error) = presence::bury(inner).await {
                tracing::error!(%error, "connections of dead instances cannot be cleaned up");
            }
            if tokio::time::Instant::now() >= next_retention {
                next_retention = tokio::time::Instant::now() + RETENTION_INTERVAL;
                if let Err(error) = self.remove_expired().await {
                    tracing::error!(%error, "expired recordings cannot be removed");
                }
            }
            tokio::time::sleep(inner.settings.lease / 3).await;
        }
    }

    /// Removes recordings whose time is over; how many.
    ///
    /// # Errors
    /// [`DeviceconnectError::Db`].
    pub async fn remove_expired(&self) -> Result<usize, DeviceconnectError> {
        let inner = &self.0;
        let keep_ms = i64::try_from(inner.settings.recording_keep.as_millis()).unwrap_or(i64::MAX);
        let before_ms = inner.clock.now_ms().saturating_sub(keep_ms);
        let mut removed = 0;
        loop {
            let expired = store::session::expired(&inner.db, before_ms).await?;
            if expired.is_empty() {
                return Ok(removed);
            }
            removed += expired.len();
            let batch = expired
                .iter()
                .flat_map(|(tenant, session)| {
                    [
                        store::recording::delete(tenant, session),
                        store::session::delete(tenant, session),
                    ]
                })
                .collect();
            inner.db.apply(batch).await?;
        }
    }

    /// This instance stops serving: its devices are disconnected from now on. Call it after the
    /// listeners have stopped.
    ///
    /// # Errors
    /// [`DeviceconnectError::Db`].
    pub async fn leave(&self) -> Result<(), DeviceconnectError> {
        Ok(presence::retire(&self.0).await?)
    }

    /// Makes a device known before it connects. Safe to repeat.
    ///
    /// # Errors
    /// [`DeviceconnectError::Db`].
    pub async fn provision_device(
        &self,
        tenant: &TenantId,
        device: &str,
    ) -> Result<(), DeviceconnectError> {
        Ok(presence::provision(&self.0, tenant, device).await?)
    }

    /// Forgets a device and ends its connection. Safe to repeat. Its recordings stay until they expire.
    ///
    /// # Errors
    /// [`DeviceconnectError::Db`].
    pub async fn remove_device(
        &self,
        tenant: &TenantId,
        device: &str,
    ) -> Result<(), DeviceconnectError> {
        presence::remove(&self.0, tenant, device).await
    }

    /// Connections of devices and of users that this instance holds.
    pub fn connections(&self) -> (u64, u64) {
        let read = |gauge: &Gauge| gauge.0.load(Ordering::Relaxed);
        (read(&self.0.devices), read(&self.0.users))
    }
}

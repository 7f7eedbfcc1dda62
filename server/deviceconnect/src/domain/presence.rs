//! Which devices are connected, truly, whatever happens to an instance.
//!
//! A record says "connected" and names the instance that holds the connection; it counts only while that
//! instance gives signs of life. A crash therefore shows within the lease, without anybody having to
//! clean up, and whoever notices does clean up. Each connection has an id and a version: the newest one
//! owns the record, and the end of an older one changes nothing.

use std::sync::atomic::Ordering;

use ambidex_access::TenantId;
use ambidex_db::DbError;
use uuid::Uuid;

use super::audit;
use crate::{DeviceconnectError, Inner, store};

/// Whether a device can be talked to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Status {
    Connected,
    Disconnected,
    /// Known, but never seen.
    Unknown,
}

impl Status {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Status::Connected => "connected",
            Status::Disconnected => "disconnected",
            Status::Unknown => "unknown",
        }
    }
}

/// What is known of a device.
#[derive(Debug, Clone, Copy)]
pub(crate) struct State {
    pub(crate) status: Status,
    pub(crate) created_ms: i64,
    /// When the status last changed.
    pub(crate) updated_ms: i64,
    /// The last moment at which the device was certainly connected.
    pub(crate) seen_ms: Option<i64>,
}

/// `None`: never heard of.
pub(crate) async fn state(
    inner: &Inner,
    tenant: &TenantId,
    device: &str,
) -> Result<Option<State>, DbError> {
    let Some(record) = store::device::get(&inner.db, tenant.as_str(), device).await? else {
        return Ok(None);
    };
    let stale_ms = inner.clock.now_ms().saturating_sub(inner.lease_ms());
    let alive_ms = record.instance_alive_ms;
    let (status, updated_ms, seen_ms) = match record {
        _ if record.version == 0 => (Status::Unknown, record.updated_ms, None),
        _ if !record.connected => (
            Status::Disconnected,
            record.updated_ms,
            Some(record.updated_ms),
        ),
        _ => match alive_ms {
            Some(alive) if alive >= stale_ms => (
                Status::Connected,
                record.updated_ms,
                Some(alive.max(record.updated_ms)),
            ),
            // The instance died with the connection.
            alive => {
                let last = alive.unwrap_or(record.updated_ms).max(record.updated_ms);
                (Status::Disconnected, last, Some(last))
            }
        },
    };
    Ok(Some(State {
        status,
        created_ms: record.created_ms,
        updated_ms,
        seen_ms,
    }))
}

/// A connection that may own its device's record.
#[derive(Debug, Clone)]
pub(crate) struct Claim {
    pub(crate) connection: String,
}

/// Makes a new connection the owner of the record.
pub(crate) async fn claim(
    inner: &Inner,
    tenant: &TenantId,
    device: &str,
) -> Result<Claim, DbError> {
    let connection = ambidex_kit::new_id().to_string();
    let now_ms = inner.clock.now_ms();
    let statement = store::device::claim(
        tenant.as_str(),
        device,
        &connection,
        &inner.instance,
        now_ms,
    );
    inner.db.apply(vec![statement]).await?;
    Ok(Claim { connection })
}

/// Why the connection of a device ends that the server has forgotten.
pub(crate) const REMOVED: &str = "the device was removed";

/// What has become of a claim.
pub(crate) enum Standing {
    /// It holds; its version.
    Owner(u64),
    /// A newer connection owns the record.
    Replaced,
    /// The device was forgotten in the meantime.
    Removed,
}

/// What has become of the claim of a connection.
pub(crate) async fn standing(
    inner: &Inner,
    tenant: &TenantId,
    device: &str,
    claim: &Claim,
) -> Result<Standing, DbError> {
    let record = store::device::get(&inner.db, tenant.as_str(), device).await?;
    Ok(match record {
        None => Standing::Removed,
        Some(record) if record.connection_id != claim.connection => Standing::Replaced,
        Some(record) => u64::try_from(record.version).map_or(Standing::Replaced, Standing::Owner),
    })
}

/// The connection is over.
pub(crate) async fn release(
    inner: &Inner,
    tenant: &TenantId,
    device: &str,
    claim: &Claim,
) -> Result<(), DbError> {
    let now_ms = inner.clock.now_ms();
    let statement = store::device::release(tenant.as_str(), device, &claim.connection, now_ms);
    inner.db.apply(vec![statement]).await.map(drop)
}

/// The connection lives although this instance was taken for dead.
pub(crate) async fn reassert(
    inner: &Inner,
    tenant: &TenantId,
    device: &str,
    claim: &Claim,
) -> Result<(), DbError> {
    let connection = &claim.connection;
    let statement = store::device::reassert(tenant.as_str(), device, connection, &inner.instance);
    inner.db.apply(vec![statement]).await.map(drop)
}

/// A sign of life of this instance. Connections check [`Inner::epoch`] and reassert themselves when
/// others had taken the instance for dead.
pub(crate) async fn renew(inner: &Inner) -> Result<(), DbError> {
    let now_ms = inner.clock.now_ms();
    let renewed = inner
        .db
        .apply(vec![store::instance::renew(&inner.instance, now_ms)])
        .await?;
    if renewed.first() == Some(&0) {
        inner
            .db
            .apply(vec![store::instance::insert(&inner.instance, now_ms)])
            .await?;
        inner.epoch.fetch_add(1, Ordering::Relaxed);
    }
    Ok(())
}

/// Cleans up after instances that have died.
pub(crate) async fn bury(inner: &Inner) -> Result<(), DbError> {
    let stale_ms = inner.clock.now_ms().saturating_sub(inner.lease_ms());
    for (instance, alive_ms) in store::instance::stale(&inner.db, stale_ms).await? {
        if instance != inner.instance {
            bury_one(inner, &instance, alive_ms).await?;
        }
    }
    Ok(())
}

/// Cleans up after all other instances: for a process that knows that it is the only one.
pub(crate) async fn bury_all_others(inner: &Inner) -> Result<(), DbError> {
    for (instance, alive_ms) in store::instance::others(&inner.db, &inner.instance).await? {
        bury_one(inner, &instance, alive_ms).await?;
    }
    Ok(())
}

async fn bury_one(inner: &Inner, instance: &str, alive_ms: i64) -> Result<(), DbError> {
    end_sessions(inner, instance, alive_ms).await?;
    inner
        .db
        .apply(vec![
            store::device::release_instance(instance, alive_ms),
            store::instance::delete(instance, alive_ms),
        ])
        .await
        .map(drop)
}

/// Ends the sessions that an instance left open.
async fn end_sessions(inner: &Inner, instance: &str, ended_ms: i64) -> Result<(), DbError> {
    loop {
        let open = store::session::open_of(&inner.db, instance).await?;
        if open.is_empty() {
            return Ok(());
        }
        for (tenant, session, device, user) in open {
            let event = audit::terminal(audit::CLOSE_TERMINAL, &user, &device, &session, ended_ms);
            let batch = vec![
                store::session::end(&tenant, &session, ended_ms).expect_one(),
                audit::statement(inner, &tenant, &event),
            ];
            match inner.db.apply(batch).await {
                // Another instance does the same at the same time.
                Ok(_) | Err(DbError::Conflict { .. }) => {}
                Err(error) => return Err(error),
            }
        }
        inner.jobs.wake();
    }
}

/// This instance stops: all its devices are disconnected from now on.
pub(crate) async fn retire(inner: &Inner) -> Result<(), DbError> {
    let now_ms = inner.clock.now_ms();
    end_sessions(inner, &inner.instance, now_ms).await?;
    inner
        .db
        .apply(vec![
            store::device::release_instance(&inner.instance, now_ms),
            store::instance::insert(&inner.instance, now_ms),
            store::instance::delete(&inner.instance, now_ms),
        ])
        .await
        .map(drop)
}

/// Makes a device known before it connects.
pub(crate) async fn provision(
    inner: &Inner,
    tenant: &TenantId,
    device: &str,
) -> Result<(), DbError> {
    let now_ms = inner.clock.now_ms();
    let batch = vec![
        store::tenant::insert(tenant.as_str()),
        store::device::provision(tenant.as_str(), device, now_ms),
    ];
    inner.db.apply(batch).await.map(drop)
}

/// Forgets a device and ends its connection.
pub(crate) async fn remove(
    inner: &Inner,
    tenant: &TenantId,
    device: &str,
) -> Result<(), DeviceconnectError> {
    inner
        .db
        .apply(vec![store::device::delete(tenant.as_str(), device)])
        .await?;
    inner.kick(tenant, device, REMOVED).await;
    Ok(())
}

/// An id for a session.
pub(crate) fn session_id() -> Uuid {
    ambidex_kit::new_id()
}

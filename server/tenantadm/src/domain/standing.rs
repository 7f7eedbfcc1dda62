//! What every call must know of its tenant, kept in memory.
//!
//! A call asks for it thousands of times a second, so it is read from the database only when what is held
//! is older than [`FRESH_MS`] or this process has changed a tenant since. What other processes change is
//! seen after at most that time. Only active tenants are held: whoever was suspended is looked up again
//! each time, so that an un-suspension counts at once. A suspension counts at once everywhere because it
//! deletes the tenant's tokens.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use ambidex_access::{Burst, CallLimits, TenantLimits};
use ambidex_wire::management::tenantadm::{ApiLimits, TenantApiLimits};

use super::Status;
use crate::{Inner, TenantadmError, store};

/// Longest time that a change by another process may stay unseen.
const FRESH_MS: i64 = 2_000;
/// Tenants held; beyond it all are forgotten and read again.
const HELD_MAX: usize = 65_536;

/// How a tenant stands at the moment.
#[derive(Debug)]
pub struct Standing {
    /// Status of the account; a trial that is over counts as suspended.
    pub status: Status,
    /// `None` when nothing is limited.
    pub limits: Option<Arc<TenantLimits>>,
}

struct Held {
    standing: Arc<Standing>,
    read_ms: i64,
    generation: u64,
}

/// Standings in memory. The lock is held for a look-up or an insertion, never across an await.
#[derive(Default)]
pub(crate) struct Standings {
    held: RwLock<HashMap<String, Held>>,
    /// Grows with every change of a tenant by this process.
    generation: AtomicU64,
}

impl Standings {
    /// A tenant was changed: nothing held counts any more.
    pub(crate) fn changed(&self) {
        self.generation.fetch_add(1, Ordering::SeqCst);
    }

    fn get(&self, id: &str, now_ms: i64) -> Option<Arc<Standing>> {
        let held = self.held.read().unwrap_or_else(PoisonError::into_inner);
        let found = held.get(id)?;
        let fresh = found.generation == self.generation.load(Ordering::SeqCst)
            && (0..FRESH_MS).contains(&(now_ms - found.read_ms));
        fresh.then(|| Arc::clone(&found.standing))
    }

    fn put(&self, id: &str, standing: &Arc<Standing>, read_ms: i64, generation: u64) {
        let mut held = self.held.write().unwrap_or_else(PoisonError::into_inner);
        if standing.status != Status::Active {
            held.remove(id);
            return;
        }
        if held.len() >= HELD_MAX && !held.contains_key(id) {
            held.clear();
        }
        let entry = Held {
            standing: Arc::clone(standing),
            read_ms,
            generation,
        };
        held.insert(id.to_owned(), entry);
    }
}

/// `None` when there is no such tenant.
pub(crate) async fn get(inner: &Inner, id: &str) -> Result<Option<Arc<Standing>>, TenantadmError> {
    let now_ms = inner.clock.now_ms();
    if let Some(standing) = inner.standings.get(id, now_ms) {
        return Ok(Some(standing));
    }
    // Taken before reading: a change meanwhile makes what is read old.
    let generation = inner.standings.generation.load(Ordering::SeqCst);
    let Some(tenant) = store::tenant::by_id(&inner.db, id).await? else {
        return Ok(None);
    };
    let limits = of_wire(&tenant.api_limits);
    let standing = Arc::new(Standing {
        status: tenant.status_at(now_ms),
        limits: (!limits.is_empty()).then(|| Arc::new(limits)),
    });
    inner.standings.put(id, &standing, now_ms, generation);
    Ok(Some(standing))
}

fn of_wire(limits: &TenantApiLimits) -> TenantLimits {
    let one = |limits: &ApiLimits| CallLimits {
        quota: (limits.quota.max_calls, limits.quota.interval_sec),
        bursts: limits
            .bursts
            .iter()
            .map(|burst| Burst {
                method: burst.action.clone(),
                path: burst.uri.clone(),
                interval_s: burst.min_interval_sec,
            })
            .collect(),
    };
    TenantLimits {
        management: one(&limits.management),
        devices: one(&limits.devices),
    }
}

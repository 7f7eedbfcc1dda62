//! When devices were last seen, without a write per poll.
//!
//! An issue or a check of a token that finds the recorded time older than [`RECORD_EVERY_MS`] notes the device here
//! (reference section 2.1, "last check-in"). The notes are written in batches by
//! [`crate::Devauth::record_check_ins`]; losing them in a crash costs nothing but an hour. The map is shared by all requests; it is locked only to insert or to take everything, never across an await.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use ambidex_access::TenantId;

use crate::Devauth;
use crate::error::DevauthError;
use crate::store::device::{self, DeviceRow};

/// A device's time is written at most this often.
pub const RECORD_EVERY_MS: i64 = 3_600_000;
/// The inventory is told at most this often (reference section 2.1, "last check-in").
const DAY_MS: i64 = 86_400_000;
/// Notes kept between two rounds; beyond it the next poll of a device notes it again.
const NOTES_MAX: usize = 100_000;
/// Rows of one write.
const BATCH: usize = 500;

#[derive(Debug, Clone, Copy)]
struct Seen {
    before_ms: i64,
    at_ms: i64,
}

/// Devices seen since the last round.
#[derive(Debug, Default)]
pub struct CheckIns {
    notes: Mutex<HashMap<(TenantId, String), Seen>>,
}

impl CheckIns {
    /// Notes a device whose recorded time is old.
    pub fn note(&self, tenant: &TenantId, device_id: &str, before_ms: i64, now_ms: i64) {
        if now_ms - before_ms < RECORD_EVERY_MS {
            return;
        }
        let mut notes = self.notes.lock().unwrap_or_else(PoisonError::into_inner);
        if notes.len() < NOTES_MAX {
            notes
                .entry((tenant.clone(), device_id.to_owned()))
                .or_insert(Seen {
                    before_ms,
                    at_ms: now_ms,
                });
        }
    }

    fn take(&self) -> HashMap<(TenantId, String), Seen> {
        std::mem::take(&mut *self.notes.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Devauth {
    /// Notes that a device has just been given a token.
    pub(super) fn note_check_in(&self, tenant: &TenantId, device: &DeviceRow) {
        let (notes, now_ms) = (&self.inner.check_ins, self.inner.clock.now_ms());
        notes.note(tenant, &device.id, device.check_in_ms, now_ms);
    }

    /// Records that a device was seen somewhere else; an older time than the known one changes nothing.
    ///
    /// # Errors
    /// [`DevauthError::DeviceNotFound`].
    pub async fn record_check_in(
        &self,
        tenant: &TenantId,
        id: &str,
        at_ms: i64,
    ) -> Result<(), DevauthError> {
        let device = device::by_id(&self.inner.db, tenant.as_str(), id)
            .await?
            .ok_or(DevauthError::DeviceNotFound)?;
        let statement = device::check_in(tenant.as_str(), id, at_ms);
        self.inner.db.apply(vec![statement]).await?;
        if device.check_in_ms / DAY_MS < at_ms / DAY_MS {
            let devices = vec![(id.to_owned(), at_ms)];
            let inventory = &self.inner.ports.inventory;
            let told = inventory.checked_in(tenant.clone(), devices).await;
            told.map_err(|error| DevauthError::Neighbour(error.0))?;
        }
        Ok(())
    }

    /// Writes the noted check-ins and mirrors the first of each day to the inventory; returns how many were written.
    ///
    /// # Errors
    /// The database or the inventory failed; the notes of this round are lost, the devices' next polls renew them.
    pub async fn record_check_ins(&self) -> Result<usize, DevauthError> {
        let notes: Vec<_> = self.inner.check_ins.take().into_iter().collect();
        let mut daily: HashMap<TenantId, Vec<(String, i64)>> = HashMap::new();
        for batch in notes.chunks(BATCH) {
            let statements = batch
                .iter()
                .map(|((tenant, id), seen)| device::check_in(tenant.as_str(), id, seen.at_ms))
                .collect();
            self.inner.db.apply(statements).await?;
        }
        let written = notes.len();
        for ((tenant, id), seen) in notes {
            if seen.before_ms / DAY_MS != seen.at_ms / DAY_MS {
                daily.entry(tenant).or_default().push((id, seen.at_ms));
            }
        }
        for (tenant, devices) in daily {
            let told = self.inner.ports.inventory.checked_in(tenant, devices).await;
            told.map_err(|error| DevauthError::Neighbour(error.0))?;
        }
        Ok(written)
    }
}

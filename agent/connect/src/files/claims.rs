//! Who is at work on which unfinished file.
//!
//! A user whose connection was lost comes back in another session while the device may still wait in the
//! old one. Whoever comes last gets the file, as soon as the one before has nothing to do.

use std::collections::HashMap;
use std::ffi::{OsStr, OsString};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;

/// How long to wait for the one before.
const PATIENCE: Duration = Duration::from_secs(5);
/// Silence after which the one before gives way.
pub(super) const IDLE: Duration = Duration::from_secs(1);

/// All unfinished files that are being written, by name.
#[derive(Debug, Default)]
pub(crate) struct Claims {
    held: Mutex<HashMap<OsString, Arc<AtomicBool>>>,
    freed: Condvar,
    /// The same for who only tidies up.
    left: Notify,
}

/// The right to write one. Dropping it frees the file.
#[derive(Debug)]
pub(super) struct Claim<'a> {
    claims: &'a Claims,
    name: OsString,
    wanted: Arc<AtomicBool>,
}

impl Claims {
    fn held(&self) -> MutexGuard<'_, HashMap<OsString, Arc<AtomicBool>>> {
        // the table is whole at every moment
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes a file, from an idle one if need be; `None` while somebody is busy with it.
    pub(super) fn take(&self, name: &OsStr) -> Option<Claim<'_>> {
        let held = self.held();
        if let Some(wanted) = held.get(name) {
            wanted.store(true, Ordering::Relaxed);
        }
        let (mut held, _) = self
            .freed
            .wait_timeout_while(held, PATIENCE, |held| held.contains_key(name))
            .unwrap_or_else(PoisonError::into_inner);
        if held.contains_key(name) {
            return None;
        }
        let wanted = Arc::new(AtomicBool::new(false));
        held.insert(name.to_owned(), Arc::clone(&wanted));
        Some(Claim {
            claims: self,
            name: name.to_owned(),
            wanted,
        })
    }

    /// Whether somebody is at work on it.
    pub(super) fn contains(&self, name: &OsStr) -> bool {
        self.held().contains_key(name)
    }

    /// Waits until somebody has given up a file since the last call.
    pub(super) async fn left(&self) {
        self.left.notified().await;
    }
}

impl Claim<'_> {
    /// Whether somebody else waits for it.
    pub(super) fn is_wanted(&self) -> bool {
        self.wanted.load(Ordering::Relaxed)
    }
}

impl Drop for Claim<'_> {
    fn drop(&mut self) {
        self.claims.held().remove(&self.name);
        self.claims.freed.notify_all();
        self.claims.left.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_next_one_gets_what_the_first_gives_up() {
        let claims = Claims::default();
        let name = OsStr::new("f");
        let first = claims.take(name).unwrap();
        assert!(claims.contains(name) && !first.is_wanted());
        std::thread::scope(|scope| {
            let second = scope.spawn(|| claims.take(name).is_some());
            while !first.is_wanted() {
                std::thread::yield_now();
            }
            drop(first);
            assert!(second.join().unwrap());
        });
        assert!(!claims.contains(name));
    }
}

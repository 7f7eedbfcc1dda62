//! Connections that have left HTTP.
//!
//! A connection task ends when its connection is upgraded; whoever took the connection over holds an
//! [`Upgraded`] for as long as it lives. It counts against a limit of its own, so that idle websockets
//! never keep requests out, and a stop of the listener waits for it.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::Shutdown;

/// Hands out the right to hold an upgraded connection; found in the extensions of every request. Clones
/// share one limit.
#[derive(Debug, Clone)]
pub struct Upgrades {
    slots: Arc<Semaphore>,
    limit: usize,
    shutdown: Shutdown,
}

impl Upgrades {
    /// At most `limit` at the same time, until `shutdown`.
    pub fn new(limit: usize, shutdown: Shutdown) -> Upgrades {
        Upgrades {
            slots: Arc::new(Semaphore::new(limit)),
            limit,
            shutdown,
        }
    }

    /// `None` when the limit is reached or the server is about to stop.
    pub fn take(&self) -> Option<Upgraded> {
        if self.shutdown.is_triggered() {
            return None;
        }
        let slot = Arc::clone(&self.slots).try_acquire_owned().ok()?;
        Some(Upgraded {
            _slot: slot,
            shutdown: self.shutdown.clone(),
        })
    }

    /// How many there are.
    pub fn in_use(&self) -> usize {
        self.limit.saturating_sub(self.slots.available_permits())
    }

    /// Returns once there are none. Meant for after the shutdown, when no new ones are handed out.
    pub(super) async fn ended(&self) {
        let all = u32::try_from(self.limit).unwrap_or(u32::MAX);
        let _ = self.slots.acquire_many(all).await;
    }
}

/// The right to hold one upgraded connection, and the news that it must end.
#[derive(Debug)]
pub struct Upgraded {
    _slot: OwnedSemaphorePermit,
    shutdown: Shutdown,
}

impl Upgraded {
    /// Returns once the server is about to stop: say goodbye to the peer and drop this.
    pub async fn stopping(&self) {
        self.shutdown.wait().await;
    }

    /// Whether the server is about to stop.
    pub fn is_stopping(&self) -> bool {
        self.shutdown.is_triggered()
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests fail loudly")]
mod tests {
    use super::*;

    #[tokio::test]
    async fn slots_are_limited_and_waited_for() {
        let shutdown = Shutdown::new();
        let upgrades = Upgrades::new(2, shutdown.clone());
        let first = upgrades.take().unwrap();
        let second = upgrades.take().unwrap();
        assert!(upgrades.take().is_none());
        drop(second);
        let second = upgrades.take().unwrap();
        assert_eq!(upgrades.in_use(), 2);

        shutdown.trigger();
        assert!(first.is_stopping());
        first.stopping().await;
        drop((first, second));
        assert!(upgrades.take().is_none(), "none begins during a stop");
        upgrades.ended().await;
        assert_eq!(upgrades.in_use(), 0);
    }
}

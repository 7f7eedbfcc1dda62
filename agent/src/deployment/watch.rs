//! The upper bound of the time that a deployment may take without anybody's say.
//!
//! Every single step has a limit of its own; this one is for their sum, and for whatever trickles without ever stopping.
//! The time is measured while a step that may be given up is at work, not while the deployment is held, not on the way
//! back (which must come to its end) and not while the device is off. It is kept in a record of its own, so that
//! restarts do not begin anew; what a death loses of it is less than [`NOTE_EVERY`].

use std::{
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use ambidex_platform::{clock, record::RecordFile};
use serde::{Deserialize, Serialize};

use crate::config::Config;

/// Name of the record file in the state directory.
const NAME: &str = "deployment-time";

/// Between notes of the time: seldom enough for flash memory.
const NOTE_EVERY: Duration = Duration::from_secs(600);

/// What is kept.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Spent {
    deployment_id: String,
    seconds: u64,
}

/// The time of one deployment.
#[derive(Debug)]
pub struct Watch {
    file: RecordFile,
    deployment_id: String,
    /// `None`: any time.
    limit: Option<Duration>,
    spent: Mutex<Duration>,
}

impl Watch {
    /// Goes on where an earlier life has stopped.
    #[must_use]
    pub fn open(config: &Config, deployment_id: &str) -> Self {
        let file = RecordFile::open(&config.roots.state, NAME);
        let spent = file
            .load()
            .ok()
            .and_then(|loaded| serde_json::from_slice::<Spent>(loaded.bytes()?).ok())
            .filter(|spent| spent.deployment_id == deployment_id)
            .map_or(Duration::ZERO, |spent| Duration::from_secs(spent.seconds));
        Self {
            file,
            deployment_id: deployment_id.to_owned(),
            limit: config.deployment_timeout,
            spent: Mutex::new(spent),
        }
    }

    fn spent(&self) -> Duration {
        *self.spent.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Why the deployment has to end, once its time is used up.
    #[must_use]
    pub fn verdict(&self) -> Option<String> {
        let limit = self.limit?;
        (self.spent() >= limit).then(|| {
            format!(
                "the deployment did not come to an end within {} s (deployment_timeout_seconds)",
                limit.as_secs_f64()
            )
        })
    }

    /// Returns when the time is used up, with the reason; it runs while this is waited for.
    pub async fn overdue(&self) -> String {
        let Some(limit) = self.limit else {
            return std::future::pending().await;
        };
        let mut counting = Counting {
            watch: self,
            since: clock::monotonic(),
        };
        loop {
            if let Some(verdict) = self.verdict() {
                return verdict;
            }
            let left = limit.saturating_sub(self.spent());
            tokio::time::sleep(left.min(NOTE_EVERY)).await;
            counting.count();
            self.note();
        }
    }

    fn note(&self) {
        let spent = Spent {
            deployment_id: self.deployment_id.clone(),
            seconds: self.spent().as_secs(),
        };
        let bytes = serde_json::to_vec(&spent).expect("invariant: the time is always JSON");
        if let Err(error) = self.file.save(&bytes) {
            // the time still counts in this life
            log::debug!("{error}");
        }
    }
}

/// Adds the time in which it lives.
struct Counting<'a> {
    watch: &'a Watch,
    since: Instant,
}

impl Counting<'_> {
    fn count(&mut self) {
        let now = clock::monotonic();
        let mut spent = self
            .watch
            .spent
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        *spent = spent.saturating_add(now.saturating_duration_since(self.since));
        self.since = now;
    }
}

impl Drop for Counting<'_> {
    fn drop(&mut self) {
        self.count();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn watch(dir: &std::path::Path, id: &str, limit: Option<Duration>) -> Watch {
        let file = RecordFile::open(dir, NAME);
        let spent = file
            .load()
            .unwrap()
            .bytes()
            .map(|bytes| serde_json::from_slice::<Spent>(bytes).unwrap())
            .filter(|spent| spent.deployment_id == id)
            .map_or(Duration::ZERO, |spent| Duration::from_secs(spent.seconds));
        Watch {
            file,
            deployment_id: id.into(),
            limit,
            spent: Mutex::new(spent),
        }
    }

    #[tokio::test]
    async fn time_adds_up_over_steps_and_lives_and_ends() {
        let dir = tempfile::tempdir().unwrap();
        let first = watch(dir.path(), "d1", Some(Duration::from_secs(100)));
        for _ in 0..2 {
            let step = tokio::time::timeout(Duration::from_millis(20), first.overdue());
            assert!(step.await.is_err(), "there is time left");
        }
        assert!(first.spent() >= Duration::from_millis(40));
        assert_eq!(first.verdict(), None);
        *first.spent.lock().unwrap() = Duration::from_secs(60);
        first.note();

        let other = watch(dir.path(), "d2", Some(Duration::from_secs(1)));
        assert_eq!(other.spent(), Duration::ZERO);
        let second = watch(dir.path(), "d1", Some(Duration::from_secs(60)));
        let reason = second.overdue().await;
        assert!(reason.contains("deployment_timeout_seconds"), "{reason}");
        assert_eq!(second.verdict(), Some(reason));
        let endless = watch(dir.path(), "d1", None);
        assert_eq!(endless.verdict(), None);
    }
}

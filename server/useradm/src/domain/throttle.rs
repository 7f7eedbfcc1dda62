//! Slows down guessing. Buckets are named by what is guessed and from where, so that nobody can use them to lock
//! out others: whoever guesses at somebody's password from elsewhere empties a bucket of his own.
//!
//! Buckets live in this process: with several instances a guesser has as many tries as there are instances.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use crate::UseradmError;

/// Buckets in use at the same time. Each costs a guesser a password check of tens of milliseconds, so that the map
/// is not filled by guessing; when it is full, those that have recovered go, else all.
const BUCKETS_MAX: usize = 65_536;

/// Tries that come at once, then one an interval.
pub(crate) struct Throttle {
    burst: i64,
    interval_ms: i64,
    /// When the bucket of a name will be full again.
    full_again_ms: Mutex<HashMap<String, i64>>,
}

impl Throttle {
    fn new(burst: i64, interval_ms: i64) -> Throttle {
        Throttle {
            burst,
            interval_ms,
            full_again_ms: Mutex::default(),
        }
    }

    /// Whether another try counts at the moment.
    ///
    /// # Errors
    /// [`UseradmError::TooMany`] when there were too many.
    pub(crate) fn check(&self, name: &str, now_ms: i64) -> Result<(), UseradmError> {
        let buckets = self
            .full_again_ms
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        self.wait(buckets.get(name).copied(), now_ms).map(|_| ())
    }

    /// Counts a try.
    ///
    /// # Errors
    /// As [`Throttle::check`].
    pub(crate) fn charge(&self, name: &str, now_ms: i64) -> Result<(), UseradmError> {
        let mut buckets = self
            .full_again_ms
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if buckets.len() >= BUCKETS_MAX {
            buckets.retain(|_, full_again_ms| *full_again_ms > now_ms);
            if buckets.len() >= BUCKETS_MAX {
                buckets.clear();
            }
        }
        let full_again_ms = self.wait(buckets.get(name).copied(), now_ms)?;
        buckets.insert(name.to_owned(), full_again_ms + self.interval_ms);
        Ok(())
    }

    /// When a bucket will be full again, if it is not empty.
    fn wait(&self, full_again_ms: Option<i64>, now_ms: i64) -> Result<i64, UseradmError> {
        let full_again_ms = full_again_ms.unwrap_or(now_ms).max(now_ms);
        let wait_ms = full_again_ms - now_ms - (self.burst - 1) * self.interval_ms;
        if wait_ms > 0 {
            return Err(UseradmError::TooMany {
                retry_after_s: u64::try_from(wait_ms).unwrap_or(0).div_ceil(1000),
            });
        }
        Ok(full_again_ms)
    }

    /// Forgets the tries: the last one was right.
    pub(crate) fn forgive(&self, name: &str) {
        self.full_again_ms
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .remove(name);
    }
}

/// All that is throttled.
pub(crate) struct Throttles {
    /// Wrong passwords, by address of the user and of the caller. Right ones are not counted: many machines may log
    /// in at once with one account. What is under way at the same time is bounded by the pool that checks passwords.
    pub(crate) login: Throttle,
    /// Codes and current passwords, by user: whoever guesses at them has the password or a token already.
    pub(crate) second: Throttle,
    /// Requests for mails, by address of the caller.
    pub(crate) mail: Throttle,
}

impl Default for Throttles {
    fn default() -> Throttles {
        Throttles {
            login: Throttle::new(10, 30_000),
            second: Throttle::new(10, 60_000),
            mail: Throttle::new(20, 6_000),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_empty_and_recover() {
        let throttle = Throttle::new(3, 1000);
        let at = |name: &str, ms: i64| match throttle.charge(name, ms) {
            Ok(()) => 0,
            Err(UseradmError::TooMany { retry_after_s }) => retry_after_s,
            Err(_) => u64::MAX,
        };
        assert_eq!([at("a", 0), at("a", 0), at("a", 0)], [0, 0, 0]);
        assert_eq!((at("a", 0), at("b", 0)), (1, 0), "others are not touched");
        assert_eq!((at("a", 999), at("a", 1000), at("a", 1000)), (1, 0, 1));
        throttle.forgive("a");
        assert_eq!(at("a", 1000), 0);
    }

    #[test]
    fn memory_is_bounded() {
        let throttle = Throttle::new(1, 1000);
        for n in 0..BUCKETS_MAX * 2 {
            assert!(throttle.charge(&n.to_string(), 0).is_ok());
        }
        let held = throttle
            .full_again_ms
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .len();
        assert!(held <= BUCKETS_MAX, "{held}");
    }
}

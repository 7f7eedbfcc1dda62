//! Counting calls in fixed windows of time, in bounded memory.
//!
//! Shared by everything that limits calls. Each caller-and-rule pair has one counter, found by a keyed
//! 128-bit fingerprint, so that a counter costs the same whatever its name and nobody can aim at another
//! one's. Shards are locked one at a time and never across an await; a call locks one shard for well below
//! a microsecond. Counts live in this process: several instances count each for itself.

use std::collections::HashMap;
use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher as _, Hash};
use std::sync::{Mutex, PoisonError};

const SHARDS: usize = 64;
/// Counters of all shards together: about 50 MB when full. A shard that is full first forgets the windows
/// that are over; if none are, further callers are let through uncounted until some are.
const COUNTERS_MAX: usize = 1 << 20;
/// A full shard is searched for windows that are over at most this often.
const SWEEP_EVERY_MS: i64 = 1000;

/// Counters of calls. See the module.
pub struct Windows {
    shards: Vec<Mutex<Shard>>,
    shard_max: usize,
    hash: [RandomState; 2],
}

#[derive(Default)]
struct Shard {
    counters: HashMap<u128, Counter>,
    swept_ms: i64,
}

#[derive(Clone, Copy)]
struct Counter {
    ends_ms: i64,
    calls: u32,
}

/// A call beyond the limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Exceeded {
    /// Seconds until the window is over, at least 1.
    pub retry_after_s: u64,
}

impl Default for Windows {
    fn default() -> Windows {
        Windows::new()
    }
}

impl Windows {
    /// No call was counted yet.
    pub fn new() -> Windows {
        Windows::bounded(COUNTERS_MAX)
    }

    fn bounded(counters_max: usize) -> Windows {
        Windows {
            shards: (0..SHARDS).map(|_| Mutex::default()).collect(),
            shard_max: counters_max / SHARDS,
            hash: [RandomState::new(), RandomState::new()],
        }
    }

    /// Counts a call of `key` in the window that `now_ms` falls into: windows begin at multiples of
    /// `interval_s` since 1970. An interval of 0 never exceeds.
    ///
    /// # Errors
    /// [`Exceeded`] from call number `max` + 1 on.
    pub fn count(
        &self,
        key: &impl Hash,
        max: u64,
        interval_s: u64,
        now_ms: i64,
    ) -> Result<(), Exceeded> {
        let Some(interval_ms) = i64::try_from(interval_s)
            .ok()
            .and_then(|s| s.checked_mul(1000))
            .filter(|ms| *ms > 0)
        else {
            return Ok(());
        };
        let ends_ms = (now_ms.div_euclid(interval_ms))
            .saturating_add(1)
            .saturating_mul(interval_ms);
        let fingerprint = self.fingerprint(key);
        let index = usize::try_from(fingerprint % SHARDS as u128).unwrap_or(0);
        let mut shard = self.shards[index]
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if shard.counters.len() >= self.shard_max
            && !shard.counters.contains_key(&fingerprint)
            && !shard.make_room(now_ms, self.shard_max)
        {
            return Ok(());
        }
        let counter = shard
            .counters
            .entry(fingerprint)
            .or_insert(Counter { ends_ms, calls: 0 });
        if counter.ends_ms != ends_ms {
            *counter = Counter { ends_ms, calls: 0 };
        }
        counter.calls = counter.calls.saturating_add(1);
        if u64::from(counter.calls) <= max {
            return Ok(());
        }
        let left_ms = u64::try_from(ends_ms.saturating_sub(now_ms)).unwrap_or(1);
        Err(Exceeded {
            retry_after_s: left_ms.div_ceil(1000).max(1),
        })
    }

    /// Counters held at the moment.
    pub fn len(&self) -> usize {
        let held = |shard: &Mutex<Shard>| {
            let shard = shard.lock().unwrap_or_else(PoisonError::into_inner);
            shard.counters.len()
        };
        self.shards.iter().map(held).sum()
    }

    /// Whether no counter is held.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn fingerprint(&self, key: &impl Hash) -> u128 {
        let [high, low] =
            [&self.hash[0], &self.hash[1]].map(|state| u128::from(state.hash_one(key)));
        high << 64 | low
    }
}

impl Shard {
    /// Forgets windows that are over, also those of a clock that was set back.
    fn make_room(&mut self, now_ms: i64, max: usize) -> bool {
        let due = self.swept_ms.saturating_add(SWEEP_EVERY_MS);
        if now_ms < due && now_ms >= self.swept_ms {
            return false;
        }
        self.swept_ms = now_ms;
        self.counters.retain(|_, counter| counter.ends_ms > now_ms);
        self.counters.len() < max
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const T: i64 = 1_612_173_600_000;

    #[test]
    fn calls_are_counted_by_key_and_window() {
        let windows = Windows::new();
        let call = |key: &str, at_ms: i64| windows.count(&key, 2, 60, at_ms);
        let wait = |s| Err(Exceeded { retry_after_s: s });
        assert_eq!(call("a", T), Ok(()));
        assert_eq!(call("a", T + 1_500), Ok(()));
        assert_eq!(call("a", T + 1_500), wait(59));
        assert_eq!(call("b", T + 1_500), Ok(()), "another caller");
        assert_eq!(call("a", T + 59_999), wait(1));
        assert_eq!(call("a", T + 60_000), Ok(()), "the next window");
        assert_eq!(call("a", T + 60_000), Ok(()));
        assert_eq!(call("a", T + 60_000), wait(60));
        assert_eq!(windows.len(), 2);
    }

    #[test]
    fn no_interval_is_no_limit_and_no_calls_is_no_call() {
        let windows = Windows::new();
        for _ in 0..3 {
            assert_eq!(windows.count(&"a", 1, 0, T), Ok(()));
            assert_eq!(windows.count(&"a", 1, u64::MAX, T), Ok(()));
        }
        assert!(windows.is_empty());
        assert!(windows.count(&"a", 0, 10, T).is_err());
    }

    #[test]
    fn the_memory_is_bounded_and_freed_when_windows_are_over() {
        let max = 64 * 256;
        let windows = Windows::bounded(max);
        let callers = (max + max / 4) as u64;
        for caller in 0..callers {
            let _ = windows.count(&caller, 1, 60, T);
        }
        assert!(windows.len() <= max);
        assert!(windows.len() > max * 9 / 10);
        assert!(windows.count(&0u64, 1, 60, T).is_err(), "still counted");
        for caller in 0..callers {
            let _ = windows.count(&(caller + callers), 1, 60, T + 60_000);
        }
        assert!(windows.len() <= max);
        assert!(windows.count(&callers, 1, 60, T + 60_001).is_err());
    }

    #[test]
    fn callers_at_the_same_time_are_all_counted() {
        let windows = Windows::new();
        let passed = std::sync::atomic::AtomicU32::new(0);
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    for _ in 0..1000 {
                        if windows.count(&"a", 500, 3600, T).is_ok() {
                            passed.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
                        }
                    }
                });
            }
        });
        assert_eq!(passed.into_inner(), 500);
    }
}

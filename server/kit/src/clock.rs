//! Time and ids, passed in so that tests can steer them.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use uuid::Uuid;

/// Where "now" comes from. Cheap to clone; clones of a manual clock share their time.
#[derive(Debug, Clone, Default)]
pub struct Clock(Option<Arc<AtomicI64>>);

impl Clock {
    /// The clock of the machine.
    pub fn system() -> Clock {
        Clock(None)
    }

    /// A clock that only moves when told to (tests).
    pub fn manual(now_ms: i64) -> Clock {
        Clock(Some(Arc::new(AtomicI64::new(now_ms))))
    }

    /// Milliseconds since 1970-01-01 UTC.
    pub fn now_ms(&self) -> i64 {
        match &self.0 {
            Some(now) => now.load(Ordering::Relaxed),
            None => jiff::Timestamp::now().as_millisecond(),
        }
    }

    /// Moves a manual clock; the system clock is left alone.
    pub fn advance(&self, by_ms: i64) {
        if let Some(now) = &self.0 {
            now.fetch_add(by_ms, Ordering::Relaxed);
        }
    }
}

/// RFC 3339 in UTC with at most milliseconds and without trailing zeros: `2021-02-01T10:00:00.12Z`.
/// Times outside of what the calendar can express become its ends.
pub fn rfc3339(ms: i64) -> String {
    jiff::Timestamp::from_millisecond(ms)
        .unwrap_or(if ms < 0 {
            jiff::Timestamp::MIN
        } else {
            jiff::Timestamp::MAX
        })
        .to_string()
}

/// A random id (version 4) from this thread's cryptographic generator: the system is not asked each time.
pub fn new_id() -> Uuid {
    uuid::Builder::from_random_bytes(rand::random()).into_uuid()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timestamps_have_no_trailing_zeros() {
        for (ms, text) in [
            (1_612_173_600_120, "2021-02-01T10:00:00.12Z"),
            (1_612_173_600_000, "2021-02-01T10:00:00Z"),
            (1_612_173_600_007, "2021-02-01T10:00:00.007Z"),
            (0, "1970-01-01T00:00:00Z"),
        ] {
            assert_eq!(rfc3339(ms), text);
        }
    }

    #[test]
    fn a_manual_clock_moves_with_its_clones() {
        let clock = Clock::manual(5);
        let other = clock.clone();
        other.advance(10);
        assert_eq!(clock.now_ms(), 15);
    }
}

//! How long to wait before a call to the server is tried again.

use std::time::Duration;

/// The reference client's backoff: three tries at each interval, doubling from `smallest` to `largest`.
///
/// With `count` 0 it gives up after the three tries at `largest`; otherwise after `count` waits in all.
/// `agent-behaviour` section 2; jitter (weakness W4) is the caller's, who has a source of randomness.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Backoff {
    pub smallest: Duration,
    pub largest: Duration,
    pub count: u32,
}

/// Tries at each interval.
const TRIES_PER_INTERVAL: u32 = 3;

impl Backoff {
    /// The wait before retry number `retry` (the first is 0), or `None` when it is time to give up.
    #[must_use]
    pub fn wait(&self, retry: u32) -> Option<Duration> {
        if self.count > 0 && retry >= self.count {
            return None;
        }
        let mut interval = self.smallest;
        for _ in 0..retry / TRIES_PER_INTERVAL {
            if interval >= self.largest {
                // The three tries at the largest interval are used up.
                return (self.count > 0).then_some(self.largest.max(self.smallest));
            }
            interval = interval.saturating_mul(2).min(self.largest);
        }
        Some(interval)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn waits(smallest: u64, largest: u64, count: u32) -> Vec<u64> {
        let backoff =
            Backoff { smallest: Duration::from_secs(smallest), largest: Duration::from_secs(largest), count };
        (0..100).map_while(|retry| backoff.wait(retry)).map(|wait| wait.as_secs()).collect()
    }

    #[test]
    fn doubles_every_three_tries_and_gives_up_after_three_at_the_cap() {
        assert_eq!(waits(60, 300, 0), [60, 60, 60, 120, 120, 120, 240, 240, 240, 300, 300, 300]);
    }

    #[test]
    fn a_count_replaces_the_formula() {
        assert_eq!(waits(60, 120, 8), [60, 60, 60, 120, 120, 120, 120, 120]);
        assert_eq!(waits(60, 300, 2), [60, 60]);
    }

    #[test]
    fn a_cap_below_the_smallest_wait_is_three_tries() {
        assert_eq!(waits(60, 5, 0), [60, 60, 60]);
    }

    #[test]
    fn a_zero_cap_does_not_spin_for_ever() {
        assert_eq!(waits(0, 0, 0).len(), 3);
    }
}

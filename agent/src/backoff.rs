//! Waiting between tries: growing, capped, giving up, and never in step with other devices.

use std::time::Duration;

use crate::config::PollConfig;

/// How often one step of the backoff is taken before it doubles.
const TRIES_PER_STEP: u32 = 3;

/// Waits between tries: 60 s three times, 120 s three times, … up to the cap, then no more.
///
/// Source: reference agent, section 2 (defaults: twelve waits, about 36 minutes).
#[derive(Debug, Clone)]
pub struct Backoff {
    first: Duration,
    cap: Duration,
    /// 0: three at every step, three at the cap.
    count: u32,
    taken: u32,
}

impl Backoff {
    #[must_use]
    pub const fn new(polls: &PollConfig) -> Self {
        Self {
            first: polls.retry_interval_min,
            cap: polls.retry_interval_max,
            count: polls.retry_count,
            taken: 0,
        }
    }

    /// The next wait, without jitter, or `None` when it is time to give up.
    pub fn next_wait(&mut self) -> Option<Duration> {
        let step = self.taken / TRIES_PER_STEP;
        let grown = self
            .first
            .saturating_mul(1_u32.checked_shl(step).unwrap_or(u32::MAX));
        let limit = match self.count {
            0 => TRIES_PER_STEP * (self.steps_to_cap() + 1),
            count => count,
        };
        if self.taken >= limit {
            return None;
        }
        self.taken += 1;
        Some(grown.min(self.cap))
    }

    /// Starts over after a success.
    pub const fn reset(&mut self) {
        self.taken = 0;
    }

    /// Doublings until the cap is reached.
    fn steps_to_cap(&self) -> u32 {
        (0..31)
            .find(|step| self.first.saturating_mul(1 << step) >= self.cap)
            .unwrap_or(31)
    }
}

/// The duration, changed at random by at most a tenth, so that a fleet that was started or cut off
/// together does not come back together.
#[must_use]
pub fn jittered(wait: Duration) -> Duration {
    wait.mul_f64(0.9 + 0.2 * rand::random::<f64>())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn waits(first: u64, cap: u64, count: u32) -> Vec<u64> {
        let mut backoff = Backoff {
            first: Duration::from_secs(first),
            cap: Duration::from_secs(cap),
            count,
            taken: 0,
        };
        std::iter::from_fn(|| backoff.next_wait())
            .map(|d| d.as_secs())
            .take(100)
            .collect()
    }

    #[test]
    fn the_reference_sequence() {
        assert_eq!(
            waits(60, 300, 0),
            [60, 60, 60, 120, 120, 120, 240, 240, 240, 300, 300, 300]
        );
    }

    #[test]
    fn a_count_stays_at_the_cap() {
        assert_eq!(waits(60, 120, 5), [60, 60, 60, 120, 120]);
        assert_eq!(waits(60, 60, 1), [60]);
    }

    #[test]
    fn a_cap_below_the_first_step_is_a_fixed_step() {
        assert_eq!(waits(60, 5, 0), [5, 5, 5]);
    }

    #[test]
    fn jitter_stays_within_a_tenth() {
        for _ in 0..200 {
            let wait = jittered(Duration::from_secs(100)).as_secs_f64();
            assert!((90.0..=110.0).contains(&wait), "{wait}");
        }
    }
}

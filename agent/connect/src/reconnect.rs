//! How long to wait before the next connection. Pure.
//!
//! The reference's schedule (facts, section 8): the n-th try in a row waits `2^(n/3)` seconds and up to
//! five at random. Its cap of half an hour is cut to five minutes: after an outage somebody waits for the
//! device. A connection starts the count anew, unless it and the one before both ended at once: two devices
//! that share an identity, and drive each other out, must not storm the server.

use std::time::Duration;

const STEP_TRIES: u32 = 3;
const CAP: Duration = Duration::from_secs(300);
const SPREAD: Duration = Duration::from_secs(5);
/// After a goodbye that meant this device alone.
const SPREAD_ALONE: Duration = Duration::from_secs(1);
/// A connection that lasted.
pub const LASTING: Duration = Duration::from_secs(10);

/// Counts tries in a row.
#[derive(Debug, Default, Clone)]
pub struct Waits {
    tries: u32,
    /// The last connection ended at once.
    short: bool,
    /// It ended for this device alone, not for a fleet.
    alone: bool,
}

impl Waits {
    /// A connection that lasted this long has ended; `alone` when that was no end of the server, or of the
    /// network, which sends a whole fleet back.
    pub fn ended(&mut self, lasted: Duration, alone: bool) {
        let short = lasted < LASTING;
        if !(short && self.short) {
            self.tries = 0;
        }
        self.short = short;
        self.alone = alone;
    }

    /// The wait before the next try; `chance` is between 0 and 1.
    pub fn next(&mut self, chance: f64) -> Duration {
        let spread = if std::mem::take(&mut self.alone) && self.tries == 0 {
            SPREAD_ALONE
        } else {
            SPREAD
        };
        let grown = Duration::from_secs(1)
            .saturating_mul(
                1_u32
                    .checked_shl(self.tries / STEP_TRIES)
                    .unwrap_or(u32::MAX),
            )
            .min(CAP);
        // the first wait is the random part alone
        let base = if self.tries == 0 {
            Duration::ZERO
        } else {
            grown
        };
        self.tries = self.tries.saturating_add(1);
        base + spread.mul_f64(chance.clamp(0.0, 1.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_to_the_cap_and_begin_anew_after_a_connection() {
        let mut waits = Waits::default();
        let seconds: Vec<u64> = (0..12).map(|_| waits.next(0.0).as_secs()).collect();
        assert_eq!(seconds, [0, 1, 1, 2, 2, 2, 4, 4, 4, 8, 8, 8]);
        for _ in 0..200 {
            assert!(waits.next(0.0) <= CAP);
        }
        assert_eq!(waits.next(1.0), CAP + SPREAD);
        waits.ended(LASTING, true);
        assert_eq!(waits.next(1.0), SPREAD_ALONE);
        waits.ended(LASTING, false);
        assert_eq!(waits.next(1.0), SPREAD);
        // a storm of connections that end at once is slowed down
        let seconds: Vec<u64> = (0..6)
            .map(|_| {
                waits.ended(Duration::from_secs(1), true);
                waits.next(0.0).as_secs()
            })
            .collect();
        assert_eq!(seconds, [0, 1, 1, 2, 2, 2]);
        waits.ended(LASTING, true);
        assert_eq!(waits.next(0.0).as_secs(), 0);
    }
}

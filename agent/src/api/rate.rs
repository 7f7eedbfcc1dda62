//! A limit on bytes a second, as a bucket of tokens. Pure: time comes in as an argument.

use std::time::{Duration, Instant};

/// So much time's worth of bytes may come at once after a pause.
const BURST: Duration = Duration::from_secs(1);

/// Never less than this at once: one read of the network.
const BURST_BYTES_MIN: u64 = 16 * 1024;

/// Tokens that come at a constant rate; spending more than there are means to wait.
#[derive(Debug, Clone)]
pub(super) struct Bucket {
    bytes_per_second: u64,
    /// Below zero while somebody waits.
    level: f64,
    at: Option<Instant>,
}

impl Bucket {
    pub fn new(bytes_per_second: u64) -> Self {
        Self {
            bytes_per_second: bytes_per_second.max(1),
            level: 0.0,
            at: None,
        }
    }

    /// Spends what was received; returns how long to wait before more is received.
    #[expect(
        clippy::cast_precision_loss,
        reason = "rates and pieces are far below 2^52"
    )]
    pub fn take(&mut self, bytes: u64, now: Instant) -> Duration {
        let rate = self.bytes_per_second as f64;
        let burst = (rate * BURST.as_secs_f64()).max(BURST_BYTES_MIN as f64);
        if let Some(last) = self.at {
            let earned = now.saturating_duration_since(last).as_secs_f64() * rate;
            self.level = (self.level + earned).min(burst);
        }
        self.at = Some(now);
        self.level -= bytes as f64;
        if self.level >= 0.0 {
            Duration::ZERO
        } else {
            Duration::from_secs_f64(-self.level / rate)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Receives this much in pieces, waiting as told; returns the time it took.
    fn receive(bucket: &mut Bucket, start: Instant, bytes: u64, piece: u64) -> Duration {
        let mut now = start;
        for _ in 0..bytes / piece {
            now += bucket.take(piece, now);
        }
        now - start
    }

    #[test]
    fn the_rate_is_kept_whatever_the_pieces() {
        for rate in [1_000, 50_000, 10_000_000] {
            for piece in [100, 16_384, 262_144] {
                let bytes = rate * 60 / piece * piece;
                let mut bucket = Bucket::new(rate);
                let took = receive(&mut bucket, Instant::now(), bytes, piece).as_secs_f64();
                let expected = bytes as f64 / rate as f64;
                assert!(
                    (took - expected).abs() < 0.01,
                    "{rate} B/s in pieces of {piece}: {took} s instead of {expected} s"
                );
            }
        }
    }

    #[test]
    fn a_pause_saves_no_more_than_a_burst() {
        let mut bucket = Bucket::new(100_000);
        let start = Instant::now();
        receive(&mut bucket, start, 1_000_000, 10_000);
        let later = start + Duration::from_secs(1000);
        let took = receive(&mut bucket, later, 1_000_000, 10_000).as_secs_f64();
        assert!((took - 9.0).abs() < 0.01, "{took}");
    }

    #[test]
    fn a_clock_that_stands_still_does_no_harm() {
        let mut bucket = Bucket::new(1);
        let now = Instant::now();
        assert_eq!(bucket.take(10, now), Duration::from_secs(10));
        assert_eq!(bucket.take(10, now), Duration::from_secs(20));
    }
}

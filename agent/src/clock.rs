//! What is known about the wall clock of a device that may have no battery: it cannot stand before the day on which
//! this program was built.
//!
//! The day is taken from `SOURCE_DATE_EPOCH` of the build, so that building twice gives the same program; without that
//! it is a day long before.

use std::time::Duration;

use ambidex_platform::clock;
use rustls_pki_types::UnixTime;

/// No build of this program is older: 2025-01-01.
const OLDEST: u64 = 1_735_689_600;

/// Seconds since 1970 before which the clock is certainly wrong.
pub const FLOOR: u64 = floor(option_env!("SOURCE_DATE_EPOCH"));

/// Between looks at the clock.
const LOOK_EVERY: Duration = Duration::from_millis(500);

const fn floor(epoch: Option<&str>) -> u64 {
    let Some(epoch) = epoch else { return OLDEST };
    let digits = epoch.as_bytes();
    let (mut at, mut seconds) = (0, 0_u64);
    // what is no number, or beyond any date, is nobody's build day
    while at < digits.len() {
        if !digits[at].is_ascii_digit() || at >= 10 {
            return OLDEST;
        }
        seconds = seconds * 10 + (digits[at] - b'0') as u64;
        at += 1;
    }
    if seconds > OLDEST { seconds } else { OLDEST }
}

/// Whether the clock stands before the floor.
#[must_use]
pub fn is_certainly_wrong() -> bool {
    clock::wall_unix_ms() / 1000 < FLOOR
}

/// The time at which certificates are judged: the clock's, but with the floor not before it.
///
/// A certificate that is not valid yet at the floor stays refused, and so does one that had expired by then. What the
/// floor adds is that a clock at 1970 no longer refuses everything. What it costs: a certificate that has expired since
/// the build is taken by a device whose clock stands before the build. Whoever could use that could set such a
/// device's clock as well, since nothing authenticates it.
#[must_use]
pub fn for_certificates(with_floor: bool) -> UnixTime {
    judged(clock::wall_unix_ms(), with_floor)
}

fn judged(now_ms: u64, with_floor: bool) -> UnixTime {
    let floor = if with_floor { FLOOR * 1000 } else { 0 };
    UnixTime::since_unix_epoch(Duration::from_millis(now_ms.max(floor)))
}

/// Waits until the clock may be right, but no longer than this. True when it may.
pub async fn wait_until_plausible(limit: Duration) -> bool {
    wait(limit, &|| !is_certainly_wrong() || clock::is_synchronised()).await
}

async fn wait(limit: Duration, plausible: &(dyn Fn() -> bool + Sync)) -> bool {
    let until = clock::monotonic() + limit;
    loop {
        if plausible() {
            return true;
        }
        let left = until.saturating_duration_since(clock::monotonic());
        if left.is_zero() {
            return false;
        }
        tokio::time::sleep(left.min(LOOK_EVERY)).await;
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;

    #[test]
    fn the_build_day_is_a_number_or_long_ago() {
        assert_eq!(floor(Some("1800000000")), 1_800_000_000);
        for nonsense in [None, Some(""), Some("0"), Some("soon"), Some("99999999999")] {
            assert_eq!(floor(nonsense), OLDEST, "{nonsense:?}");
        }
    }

    #[test]
    fn a_clock_before_the_floor_is_not_believed() {
        assert_eq!(judged(0, true).as_secs(), FLOOR);
        assert_eq!(judged(0, false).as_secs(), 0);
        let later = (FLOOR + 5) * 1000;
        assert_eq!(judged(later, true).as_secs(), FLOOR + 5);
    }

    #[tokio::test]
    async fn the_wait_ends_with_the_clock_or_with_the_limit() {
        let looks = AtomicU32::new(0);
        let set_later = || looks.fetch_add(1, Ordering::Relaxed) == 1;
        assert!(wait(Duration::from_secs(60), &set_later).await);
        assert!(!wait(Duration::from_millis(20), &|| false).await);
    }
}

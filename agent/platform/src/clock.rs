//! The two clocks. Durations are measured with [`monotonic`], stamps for people and servers are
//! taken from [`wall`], which may jump and may be wrong on a device without a battery.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// A reading that never goes back. Stops while the device is suspended.
#[must_use]
pub fn monotonic() -> Instant {
    Instant::now()
}

/// The calendar time as the device believes it to be.
#[must_use]
pub fn wall() -> SystemTime {
    SystemTime::now()
}

/// Milliseconds since 1970 by the wall clock; 0 when the clock stands before that.
#[must_use]
pub fn wall_unix_ms() -> u64 {
    wall()
        .duration_since(UNIX_EPOCH)
        .unwrap_or(Duration::ZERO)
        .as_millis()
        .try_into()
        .unwrap_or(u64::MAX)
}

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

/// Where systemd-timesyncd notes that it has set the clock since the start.
const TIMESYNC: &str = "/run/systemd/timesync/synchronized";

/// Whether a time service keeps the wall clock right: the kernel believes so, or systemd's says so.
#[must_use]
pub fn is_synchronised() -> bool {
    kernel_is_synchronised() || std::path::Path::new(TIMESYNC).exists()
}

fn kernel_is_synchronised() -> bool {
    // SAFETY: plain data that the call fills in; all zero it asks without changing anything.
    let state = unsafe {
        let mut timex: nix::libc::timex = std::mem::zeroed();
        nix::libc::adjtimex(&raw mut timex)
    };
    state >= 0 && state != nix::libc::TIME_ERROR
}

/// The name that the system has given to this boot.
#[must_use]
pub fn boot_id() -> Option<String> {
    let text = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?;
    Some(text.trim().to_owned()).filter(|id| !id.is_empty())
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

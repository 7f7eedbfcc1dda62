//! How far a long verb is, for whoever watches it in a terminal.

use std::io::{IsTerminal as _, Write as _};
use std::time::{Duration, Instant};

/// Between two looks at the line.
const REFRESH: Duration = Duration::from_millis(200);

/// One line on standard error that is written over. Nothing is shown when that is not a terminal.
pub(crate) struct Progress {
    shown: bool,
    wanted: bool,
    last: Option<Instant>,
}

impl Progress {
    pub(crate) fn new() -> Progress {
        Progress {
            shown: false,
            wanted: std::io::stderr().is_terminal(),
            last: None,
        }
    }

    /// `done` of `total` bytes of something.
    pub(crate) fn bytes(&mut self, what: &str, done: u64, total: u64) {
        let now = Instant::now();
        if !self.wanted || self.last.is_some_and(|last| now - last < REFRESH) {
            return;
        }
        self.last = Some(now);
        let percent = done
            .saturating_mul(100)
            .checked_div(total)
            .map_or(String::new(), |percent| format!(" ({}%)", percent.min(100)));
        self.shown = true;
        let mut out = std::io::stderr().lock();
        let _ = write!(out, "\r\x1b[K{what}: {}{percent}", size(done));
        let _ = out.flush();
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if self.shown {
            let _ = write!(std::io::stderr(), "\r\x1b[K");
        }
    }
}

/// A number of bytes as people read it.
pub(crate) fn size(bytes: u64) -> String {
    const UNITS: [&str; 4] = ["KiB", "MiB", "GiB", "TiB"];
    if bytes < 1024 {
        return format!("{bytes} B");
    }
    let mut value = bytes as f64 / 1024.0;
    let mut unit = 0;
    while value >= 1024.0 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    format!("{value:.1} {}", UNITS[unit])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_readable() {
        for (bytes, text) in [
            (0, "0 B"),
            (1023, "1023 B"),
            (1024, "1.0 KiB"),
            (1 << 20, "1.0 MiB"),
            (3 * (1 << 30) / 2, "1.5 GiB"),
            (u64::MAX, "16777216.0 TiB"),
        ] {
            assert_eq!(size(bytes), text);
        }
    }
}

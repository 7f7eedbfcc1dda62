//! A progress bar, on a terminal only.

use std::io::{self, IsTerminal as _, Read};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// Shows how far a known number of bytes has been worked through.
pub struct Progress(ProgressBar);

impl Progress {
    /// A bar with `label` for `total` bytes; hidden when `quiet` or standard error is no terminal.
    pub fn new(label: &'static str, total: u64, quiet: bool) -> Self {
        let target = if quiet || !io::stderr().is_terminal() {
            ProgressDrawTarget::hidden()
        } else {
            ProgressDrawTarget::stderr_with_hz(10)
        };
        let bar = ProgressBar::with_draw_target(Some(total), target);
        if let Ok(style) = ProgressStyle::with_template(
            "{prefix:>10} [{bar:36}] {percent:>3}% {bytes}/{total_bytes} {eta}",
        ) {
            bar.set_style(style.progress_chars("=> "));
        }
        bar.set_prefix(label);
        bar.enable_steady_tick(Duration::from_millis(200));
        Self(bar)
    }

    pub fn advance(&self, bytes: u64) {
        self.0.inc(bytes);
    }

    /// Says something on standard error, above the bar.
    pub fn say(&self, text: &str) {
        self.0.suspend(|| eprintln!("ambidex: {text}"));
    }

    /// Counts what is read from `input`.
    pub fn reading<R: Read>(&self, input: R) -> impl Read + use<R> {
        self.0.wrap_read(input)
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.0.finish_and_clear();
    }
}

//! Progress on the terminal: one line per phase with the time since the start.

use std::io::Write as _;
use std::time::Instant;

#[derive(Debug, Clone, Copy)]
pub(crate) struct Progress {
    started: Instant,
}

impl Progress {
    pub(crate) fn start() -> Self {
        Self {
            started: Instant::now(),
        }
    }

    /// A finished or beginning phase.
    pub(crate) fn phase(&self, text: &str) {
        self.line(&format!(
            "[{:7.1} s] {text}",
            self.started.elapsed().as_secs_f64()
        ));
    }

    /// Something that belongs to the phase above.
    pub(crate) fn detail(&self, text: &str) {
        for line in text.lines() {
            self.line(&format!("            {line}"));
        }
    }

    /// A heading between two acts.
    pub(crate) fn heading(&self, text: &str) {
        self.line(&format!("\n== {text}"));
    }

    fn line(&self, text: &str) {
        let mut out = std::io::stdout().lock();
        // a closed pipe (`demo | head`) must not stop the clean-up
        let _ = writeln!(out, "{text}").and_then(|()| out.flush());
    }
}

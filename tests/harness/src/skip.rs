//! Skipping a test loudly: printed, and counted by `cargo xtask test`.

use std::cell::Cell;
use std::fs::OpenOptions;
use std::io::Write as _;

thread_local! {
    static SKIPPED: Cell<bool> = const { Cell::new(false) };
}

/// Whether [`skip`] was called on this thread since the last time this was asked.
pub(crate) fn take_skipped() -> bool {
    SKIPPED.replace(false)
}

/// Records that the running test is skipped and why. The caller returns right after it.
pub fn skip(reason: &str) {
    SKIPPED.set(true);
    let thread = std::thread::current();
    let test = thread.name().unwrap_or("?");
    eprintln!("SKIPPED {test}: {reason}");
    if let Some(path) = std::env::var_os("AMBIDEX_SKIP_LOG") {
        let line = format!("{test}: {}\n", reason.replace('\n', " "));
        // one write call, so lines of parallel tests do not mix
        let written = OpenOptions::new()
            .create(true)
            .append(true)
            .open(&path)
            .and_then(|mut file| file.write_all(line.as_bytes()));
        if let Err(error) = written {
            panic!("the skip cannot be recorded in {}: {error}", path.display());
        }
    }
}

//! Skipping a test loudly: printed, and counted by `cargo xtask test`.

use std::fs::OpenOptions;
use std::io::Write as _;

pub(crate) fn skip(reason: &str) {
    let thread = std::thread::current();
    let test = thread.name().unwrap_or("?");
    eprintln!("SKIPPED {test}: {reason}");
    let Some(path) = std::env::var_os("AMBIDEX_SKIP_LOG") else {
        return;
    };
    // one write call, so lines of parallel tests do not mix
    let line = format!("{test}: {reason}\n");
    let written = OpenOptions::new()
        .create(true)
        .append(true)
        .open(&path)
        .and_then(|mut file| file.write_all(line.as_bytes()));
    if let Err(error) = written {
        panic!("the skip cannot be recorded in {}: {error}", path.display());
    }
}

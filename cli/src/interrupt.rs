//! Ctrl-C and termination: nothing half-written stays behind.
//!
//! Files that are being written register here. When a signal comes, the registered files are
//! removed and the program ends; the thread that was writing dies with it.

use std::collections::BTreeSet;
use std::fs;
use std::future::Future;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::{Mutex, PoisonError};

use tokio::signal::unix::{SignalKind, signal};

static UNFINISHED: Mutex<BTreeSet<PathBuf>> = Mutex::new(BTreeSet::new());

/// A file to be removed if the program is interrupted while this value lives.
#[derive(Debug)]
pub struct Unfinished(PathBuf);

impl Unfinished {
    pub fn register(path: &Path) -> Self {
        lock().insert(path.to_owned());
        Self(path.to_owned())
    }
}

impl Drop for Unfinished {
    fn drop(&mut self) {
        lock().remove(&self.0);
    }
}

fn lock() -> std::sync::MutexGuard<'static, BTreeSet<PathBuf>> {
    // The set is whole whoever panicked while holding it.
    UNFINISHED.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Runs `work` to its end or until a signal asks to stop.
pub async fn guarded(work: impl Future<Output = ExitCode>) -> ExitCode {
    let signals = (
        signal(SignalKind::interrupt()),
        signal(SignalKind::terminate()),
        signal(SignalKind::hangup()),
    );
    let (Ok(mut interrupt), Ok(mut terminate), Ok(mut hangup)) = signals else {
        return work.await;
    };
    tokio::select! {
        code = work => code,
        _ = interrupt.recv() => stopped(),
        _ = terminate.recv() => stopped(),
        _ = hangup.recv() => stopped(),
    }
}

fn stopped() -> ExitCode {
    // Holding the lock keeps a writer from publishing or adding a file meanwhile.
    let unfinished = lock();
    for path in unfinished.iter() {
        // Gone already is as good; anything else cannot be helped on the way out.
        drop(fs::remove_file(path));
    }
    eprintln!("ambidex: interrupted");
    ExitCode::FAILURE
}

//! Ctrl-C and termination: nothing half-written stays behind.
//!
//! Files that are being written register here. When a signal comes, the registered files are
//! removed and the program ends; the thread that was writing dies with it.

use std::collections::BTreeSet;
use std::fs;
use std::future::Future;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use tokio::signal::unix::{Signal, SignalKind, signal};

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

/// How many verbs want to hear of Ctrl-C, termination and hangup themselves.
static OWNERS: AtomicUsize = AtomicUsize::new(0);

/// While this lives, Ctrl-C, termination and hangup are told to a verb that ends in its own way.
pub struct Own {
    interrupt: Signal,
    terminate: Signal,
    hangup: Signal,
}

impl Own {
    pub fn take() -> io::Result<Self> {
        let own = Self {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
            hangup: signal(SignalKind::hangup())?,
        };
        OWNERS.fetch_add(1, Ordering::Relaxed);
        Ok(own)
    }

    /// The outcome of `work`; none when a signal comes first. `work` is dropped then.
    pub async fn unless_asked<T>(&mut self, work: impl Future<Output = T>) -> Option<T> {
        tokio::select! {
            outcome = work => Some(outcome),
            () = self.asked_to_end() => None,
        }
    }

    /// Waits for a signal.
    pub async fn asked_to_end(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
            _ = self.hangup.recv() => {}
        }
    }
}

impl Drop for Own {
    fn drop(&mut self) {
        OWNERS.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Runs `work` to its end or until a signal asks to stop. `work` is dropped before anything is said,
/// so that a terminal it has changed is as it was.
pub async fn guarded(work: impl Future<Output = ExitCode>) -> ExitCode {
    let signals = (
        signal(SignalKind::interrupt()),
        signal(SignalKind::terminate()),
        signal(SignalKind::hangup()),
        signal(SignalKind::quit()),
    );
    let (Ok(mut interrupt), Ok(mut terminate), Ok(mut hangup), Ok(mut quit)) = signals else {
        return work.await;
    };
    let asked = async {
        loop {
            tokio::select! {
                _ = interrupt.recv() => {}
                _ = terminate.recv() => {}
                _ = hangup.recv() => {}
                _ = quit.recv() => return,
            }
            if OWNERS.load(Ordering::Relaxed) == 0 {
                return;
            }
        }
    };
    tokio::select! {
        code = work => code,
        () = asked => stopped(),
    }
}

fn stopped() -> ExitCode {
    // Holding the lock keeps a writer from publishing or adding a file meanwhile.
    let unfinished = lock();
    for path in unfinished.iter() {
        // Gone already is as good; anything else cannot be helped on the way out.
        drop(fs::remove_file(path));
    }
    // After a hangup there may be nobody to tell.
    drop(writeln!(io::stderr(), "ambidex: interrupted"));
    ExitCode::FAILURE
}

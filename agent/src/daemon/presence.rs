//! One daemon a state directory, and how the verbs reach it.
//!
//! The daemon holds the lock in `<state>/daemon` for its whole life; its process id is in the lock
//! file. The lock of the state directory itself is only held while somebody works on the device, so
//! that the standalone verbs can be used while the daemon is idle.

use std::path::{Path, PathBuf};

use ambidex_platform::{
    fs::{self, FsError},
    lock::{LockError, StateLock},
    process::{Nudge, nudge},
};

/// Why a running daemon was not reached.
#[derive(Debug, thiserror::Error)]
pub enum PresenceError {
    #[error("no daemon runs on '{}': start it with 'ambidex-agent daemon' (or: systemctl start ambidex-agent)", .0.display())]
    Absent(PathBuf),
    #[error("the daemon on '{}' cannot be told: {reason}", .state.display())]
    Unreachable { state: PathBuf, reason: String },
}

fn folder(state: &Path) -> PathBuf {
    state.join("daemon")
}

/// Claims the state directory for this daemon. `None` on a read-only file system: there the daemon
/// runs without a lock, so that it can still report why it does not install anything.
pub(super) fn claim(state: &Path) -> Result<Option<StateLock>, LockError> {
    let folder = folder(state);
    match fs::create_dir(&folder, 0o700)
        .map_err(LockError::from)
        .and_then(|()| StateLock::acquire(&folder))
    {
        Ok(lock) => Ok(Some(lock)),
        Err(LockError::Fs(error)) if error.is_read_only() => {
            log::error!(
                "{error}; the state directory is read-only: nothing can be installed until it is writable"
            );
            Ok(None)
        }
        Err(error) => Err(error),
    }
}

/// The process id of the daemon that runs on this state directory.
///
/// # Errors
/// When there is none, or it cannot be told who it is.
pub fn daemon_pid(state: &Path) -> Result<i32, PresenceError> {
    let folder = folder(state);
    let unreachable = |reason: String| PresenceError::Unreachable {
        state: state.to_owned(),
        reason,
    };
    if !folder.join("lock").exists() {
        return Err(PresenceError::Absent(state.to_owned()));
    }
    match StateLock::acquire(&folder) {
        Ok(_) => Err(PresenceError::Absent(state.to_owned())),
        Err(LockError::Fs(error)) => Err(unreachable(format!("{error}; run this as root"))),
        Err(LockError::Held { path, .. }) => {
            let text = fs::read_bounded(&path, 32)
                .map_err(|error: FsError| unreachable(error.to_string()))?;
            String::from_utf8_lossy(&text)
                .trim()
                .parse()
                .ok()
                .filter(|pid| *pid > 0)
                .ok_or_else(|| unreachable(format!("'{}' holds no process id", path.display())))
        }
    }
}

fn tell(state: &Path, what: Nudge) -> Result<(), PresenceError> {
    let pid = daemon_pid(state)?;
    nudge(pid, what).map_err(|error| PresenceError::Unreachable {
        state: state.to_owned(),
        reason: format!("process {pid}: {error}; run this as root"),
    })
}

/// Asks the daemon to check for a deployment now.
///
/// # Errors
/// When no daemon runs or it cannot be reached.
pub fn trigger_update(state: &Path) -> Result<(), PresenceError> {
    tell(state, Nudge::First)
}

/// Asks the daemon to send the inventory now.
///
/// # Errors
/// As [`trigger_update`].
pub fn trigger_inventory(state: &Path) -> Result<(), PresenceError> {
    tell(state, Nudge::Second)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_one_daemon_and_it_can_be_found() {
        let dir = tempfile::tempdir().unwrap();
        assert!(matches!(
            daemon_pid(dir.path()),
            Err(PresenceError::Absent(_))
        ));
        let held = claim(dir.path()).unwrap().unwrap();
        assert_eq!(
            daemon_pid(dir.path()).unwrap(),
            i32::try_from(std::process::id()).unwrap()
        );
        assert!(matches!(claim(dir.path()), Err(LockError::Held { .. })));
        drop(held);
        assert!(matches!(
            daemon_pid(dir.path()),
            Err(PresenceError::Absent(_))
        ));
    }
}

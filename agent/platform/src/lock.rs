//! One writer of the state directory at a time: the daemon and the command line share it.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Read, Seek, SeekFrom, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use crate::fs::{Context, FsError};

/// Held until dropped; the kernel releases it even after `kill -9`.
#[derive(Debug)]
pub struct StateLock {
    _file: File,
}

/// Why the lock was not obtained.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    /// Another process holds it.
    #[error(
        "{path} is locked by {holder}: another agent is at work on this state directory; wait for it or stop it",
        path = .path.display()
    )]
    Held {
        /// The lock file.
        path: PathBuf,
        /// `process N` as written by the holder, or `another process`.
        holder: String,
    },
    /// The lock file cannot be created or opened.
    #[error(transparent)]
    Fs(#[from] FsError),
}

impl StateLock {
    /// Takes the lock of the directory `dir` without waiting.
    ///
    /// # Errors
    /// [`LockError::Held`] when another process has it, otherwise what the file system answered.
    pub fn acquire(dir: &Path) -> Result<Self, LockError> {
        let path = dir.join("lock");
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(&path)
            .context("open", &path)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                return Err(LockError::Held {
                    holder: holder(&mut file),
                    path,
                });
            }
            Err(TryLockError::Error(cause)) => {
                return Err(FsError::new("lock", path, cause).into());
            }
        }
        // only a hint for the error text of the next one: a failure to write it is no failure
        let _ = file
            .set_len(0)
            .and_then(|()| file.write_all(format!("{}\n", std::process::id()).as_bytes()));
        Ok(Self { _file: file })
    }
}

fn holder(file: &mut File) -> String {
    let mut text = String::new();
    let read = file
        .seek(SeekFrom::Start(0))
        .and_then(|_| file.take(32).read_to_string(&mut text));
    match (read, text.trim().parse::<u32>()) {
        (Ok(_), Ok(pid)) => format!("process {pid}"),
        _ => "another process".to_owned(),
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests fail loudly")]
mod tests {
    use super::*;

    #[test]
    fn the_second_one_is_told_who_holds_it() {
        let dir = tempfile::tempdir().unwrap();
        let first = StateLock::acquire(dir.path()).unwrap();
        let text = StateLock::acquire(dir.path()).unwrap_err().to_string();
        assert!(
            text.contains(&format!("process {}", std::process::id())),
            "{text}"
        );
        drop(first);
        StateLock::acquire(dir.path()).unwrap();
    }
}

//! The directory that holds everything the server keeps.

use std::fs::{DirBuilder, File, OpenOptions, TryLockError};
use std::io::{ErrorKind, Write as _};
use std::net::SocketAddr;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use serde::Serialize;

const LISTEN_FILE: &str = "listen.json";

/// Makes the directory (mode 0700) and proves that it can be written.
pub(crate) fn prepare(dir: &Path) -> anyhow::Result<()> {
    let explain = |error: std::io::Error| {
        let remedy = match error.kind() {
            ErrorKind::StorageFull | ErrorKind::QuotaExceeded => "free space on its disk",
            _ => "create it for the user of the server",
        };
        anyhow::anyhow!(
            "the data directory {} cannot be used: {error}; {remedy}, or choose another one with --data-dir",
            dir.display()
        )
    };
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(dir)
        .map_err(explain)?;
    let probe = dir.join(format!(".probe-{}", std::process::id()));
    let written = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&probe)
        .and_then(|mut file| file.write_all(b"probe"));
    let removed = std::fs::remove_file(&probe);
    written.and(removed).map_err(explain)
}

/// Held by a running server. The kernel frees it when the process ends, however it ends.
pub(crate) struct Lock(#[expect(dead_code, reason = "the open file is the lock")] File);

/// Two servers on one directory would each clean up after the other.
pub(crate) fn lock(dir: &Path) -> anyhow::Result<Lock> {
    let path = dir.join("lock");
    let file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(&path)
        .with_context(|| format!("cannot open {}", path.display()))?;
    match file.try_lock() {
        Ok(()) => Ok(Lock(file)),
        Err(TryLockError::WouldBlock) => bail!(
            "the data directory {} is in use by another ambidex-server serve; stop it or choose another directory with --data-dir",
            dir.display()
        ),
        Err(TryLockError::Error(error)) => {
            Err(error).with_context(|| format!("cannot lock {}", path.display()))
        }
    }
}

#[derive(Serialize)]
struct Listen {
    public: SocketAddr,
    internal: SocketAddr,
}

/// The file that says where a running server listens. Removed when dropped.
pub(crate) struct ListenFile(PathBuf);

impl ListenFile {
    /// Removes what a killed server left. Call it with the lock held, before anything listens.
    pub(crate) fn clear(dir: &Path) -> anyhow::Result<()> {
        let path = dir.join(LISTEN_FILE);
        match std::fs::remove_file(&path) {
            Err(error) if error.kind() != ErrorKind::NotFound => {
                Err(error).with_context(|| format!("cannot remove {}", path.display()))
            }
            _ => Ok(()),
        }
    }

    /// Appears whole, once the listeners accept connections.
    pub(crate) fn write(
        dir: &Path,
        public: SocketAddr,
        internal: SocketAddr,
    ) -> anyhow::Result<ListenFile> {
        let path = dir.join(LISTEN_FILE);
        let temporary = dir.join(format!(".{LISTEN_FILE}"));
        let text = serde_json::to_string(&Listen { public, internal })?;
        std::fs::write(&temporary, text)
            .and_then(|()| std::fs::rename(&temporary, &path))
            .with_context(|| format!("cannot write {}", path.display()))?;
        Ok(ListenFile(path))
    }
}

impl Drop for ListenFile {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

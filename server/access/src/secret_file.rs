//! Secrets that the server makes for itself at its first start.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{ErrorKind, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::Path;

use rand::RngCore as _;
use rand::rngs::OsRng;

use crate::KeyError;

/// Reads `dir/name`, or creates it with `make`. The file appears whole or not at all, readable by its
/// owner only; of two programs that start together one wins and both use its secret.
pub(crate) fn read_or_create(
    dir: &Path,
    name: &str,
    make: impl FnOnce() -> Result<Vec<u8>, KeyError>,
) -> Result<Vec<u8>, KeyError> {
    let path = dir.join(name);
    let fail = |reason: std::io::Error| KeyError::File {
        path: path.clone(),
        reason: reason.to_string(),
    };
    match read(&path) {
        Ok(bytes) => return Ok(bytes),
        Err(error) if error.kind() == ErrorKind::NotFound => {}
        Err(error) => return Err(fail(error)),
    }
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(dir)
        .map_err(fail)?;
    let secret = make()?;
    let temporary = dir.join(format!(".{name}.{}", OsRng.next_u64()));
    let written = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&temporary)
        .and_then(|mut file| {
            file.write_all(&secret)?;
            file.sync_all()
        })
        // A link, not a rename: it never replaces a secret that somebody else made meanwhile.
        .and_then(|()| match std::fs::hard_link(&temporary, &path) {
            Err(error) if error.kind() == ErrorKind::AlreadyExists => Ok(()),
            other => other,
        });
    let _ = std::fs::remove_file(&temporary);
    written.map_err(fail)?;
    File::open(dir).and_then(|d| d.sync_all()).map_err(fail)?;
    read(&path).map_err(fail)
}

fn read(path: &Path) -> std::io::Result<Vec<u8>> {
    let bytes = std::fs::read(path)?;
    let mode = std::fs::metadata(path)?.mode();
    if mode & 0o077 != 0 {
        tracing::warn!(
            "{} can be read by other users (mode {:o}): run chmod 600 on it",
            path.display(),
            mode & 0o777
        );
    }
    Ok(bytes)
}

/// A 256-bit secret kept in `dir/name`, made at the first call.
///
/// # Errors
/// [`KeyError`] when the file cannot be read or written or has another size.
pub fn secret(dir: &Path, name: &str) -> Result<[u8; 32], KeyError> {
    let bytes = read_or_create(dir, name, || {
        let mut secret = vec![0; 32];
        OsRng.fill_bytes(&mut secret);
        Ok(secret)
    })?;
    <[u8; 32]>::try_from(bytes).map_err(|_| KeyError::Unusable {
        path: dir.join(name),
        reason: "it must be 32 bytes long".to_owned(),
    })
}

/// Keeps a secret of another instance in `dir/name`, unless there is one already; returns what is there.
///
/// # Errors
/// [`KeyError`] when the file cannot be read or written.
pub fn adopt_secret(dir: &Path, name: &str, secret: &[u8]) -> Result<Vec<u8>, KeyError> {
    read_or_create(dir, name, || Ok(secret.to_vec()))
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests fail loudly")]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_made_once_and_private() {
        let dir = tempfile::tempdir().unwrap();
        let keys = dir.path().join("keys");
        let first = secret(&keys, "links.key").unwrap();
        assert_ne!(first, [0; 32]);
        assert_eq!(secret(&keys, "links.key").unwrap(), first);
        assert_ne!(secret(&keys, "other.key").unwrap(), first);
        let mode = |path: &Path| std::fs::metadata(path).unwrap().mode() & 0o777;
        assert_eq!(mode(&keys.join("links.key")), 0o600);
        assert_eq!(mode(&keys), 0o700);
        assert_eq!(
            std::fs::read_dir(&keys).unwrap().count(),
            2,
            "no temporary file stays"
        );
    }

    #[test]
    fn a_damaged_secret_is_named() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("links.key"), "short").unwrap();
        let error = secret(dir.path(), "links.key").unwrap_err().to_string();
        assert!(
            error.contains("links.key") && error.contains("32 bytes"),
            "{error}"
        );
    }

    #[test]
    fn concurrent_first_starts_agree() {
        let dir = tempfile::tempdir().unwrap();
        let secrets: Vec<_> = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..8)
                .map(|_| scope.spawn(|| secret(dir.path(), "s").unwrap()))
                .collect();
            threads.into_iter().map(|t| t.join().unwrap()).collect()
        });
        assert!(secrets.windows(2).all(|pair| pair[0] == pair[1]));
    }
}

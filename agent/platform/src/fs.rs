//! Files that survive a power cut, and the few questions the agent asks about a file system.

use std::fs::{File, OpenOptions, Permissions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

/// A failed operation on one path. The text names both and the cause.
#[derive(Debug, thiserror::Error)]
#[error("cannot {action} {path}: {cause}", path = .path.display())]
pub struct FsError {
    /// What was attempted, for example `write`.
    pub action: &'static str,
    /// The path it was attempted on.
    pub path: PathBuf,
    /// What the operating system answered.
    pub cause: io::Error,
}

impl FsError {
    /// Wraps the answer of the operating system with what was attempted on which path.
    pub fn new(action: &'static str, path: impl Into<PathBuf>, cause: io::Error) -> Self {
        Self {
            action,
            path: path.into(),
            cause,
        }
    }

    /// True when the file system or its quota is full.
    #[must_use]
    pub fn is_full(&self) -> bool {
        matches!(
            self.cause.kind(),
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded
        )
    }

    /// True when the file system cannot be written at all.
    #[must_use]
    pub fn is_read_only(&self) -> bool {
        self.cause.kind() == io::ErrorKind::ReadOnlyFilesystem
    }
}

/// Attaches action and path to an [`io::Error`].
pub trait Context<T> {
    /// Names what failed on which path.
    ///
    /// # Errors
    /// The original error, dressed.
    fn context(self, action: &'static str, path: &Path) -> Result<T, FsError>;
}

impl<T> Context<T> for io::Result<T> {
    fn context(self, action: &'static str, path: &Path) -> Result<T, FsError> {
        self.map_err(|cause| FsError::new(action, path, cause))
    }
}

impl<T> Context<T> for nix::Result<T> {
    fn context(self, action: &'static str, path: &Path) -> Result<T, FsError> {
        self.map_err(|errno| FsError::new(action, path, errno.into()))
    }
}

/// Replaces `path` by `bytes` so that after a power cut either the old or the new content is
/// there, complete: writes a sibling, fsyncs it, renames it over, fsyncs it and the directory.
///
/// # Errors
/// Any step that failed; `path` then holds its old content, or the new one that was not flushed.
pub fn write_durable(path: &Path, bytes: &[u8], mode: u32) -> Result<(), FsError> {
    let sibling = sibling(path, ".tmp");
    let mut file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(mode)
        .open(&sibling)
        .context("create", &sibling)?;
    let written = file
        .set_permissions(Permissions::from_mode(mode))
        .and_then(|()| file.write_all(bytes))
        .and_then(|()| file.sync_all());
    if let Err(cause) = written {
        // a half-written sibling is of no use to anyone; losing it is not an error of its own
        let _ = std::fs::remove_file(&sibling);
        return Err(FsError::new("write", path, cause));
    }
    std::fs::rename(&sibling, path).context("replace", path)?;
    // FAT keeps where a file begins with the file, and not with its directory: flushing the directory alone would
    // free the old content and leave the name pointing to it
    file.sync_all().context("flush", path)?;
    sync_dir(parent(path))
}

/// Writes a file in place without atomicity: for fresh trees that are synced as a whole later
/// (see [`sync_tree`]).
///
/// # Errors
/// When the file cannot be created or written.
pub fn write_plain(path: &Path, bytes: &[u8], mode: u32) -> Result<(), FsError> {
    let mut file = create(path, mode)?;
    file.write_all(bytes).context("write", path)
}

/// Creates or truncates a file with exactly this mode. Never follows a symbolic link.
///
/// # Errors
/// When the file cannot be created.
pub fn create(path: &Path, mode: u32) -> Result<File, FsError> {
    let file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(mode)
        .custom_flags(nix::libc::O_NOFOLLOW)
        .open(path)
        .context("create", path)?;
    file.set_permissions(Permissions::from_mode(mode))
        .context("set the mode of", path)?;
    Ok(file)
}

/// Creates a directory and its parents; existing ones are left as they are.
///
/// # Errors
/// When one of them cannot be created.
pub fn create_dir(path: &Path, mode: u32) -> Result<(), FsError> {
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(mode)
        .create(path)
        .context("create the directory", path)
}

/// Makes the entries of a directory durable.
///
/// # Errors
/// When the directory cannot be opened or flushed.
pub fn sync_dir(path: &Path) -> Result<(), FsError> {
    File::open(path)
        .and_then(|dir| dir.sync_all())
        .context("flush the directory", path)
}

/// Makes every regular file and directory below `path`, and `path` itself, durable. Symbolic
/// links are not followed; FIFOs, sockets and devices have no content to flush.
///
/// # Errors
/// The first entry that could not be flushed.
pub fn sync_tree(path: &Path) -> Result<(), FsError> {
    for entry in std::fs::read_dir(path).context("list", path)? {
        let entry = entry.context("list", path)?;
        let kind = entry.file_type().context("inspect", &entry.path())?;
        if kind.is_dir() {
            sync_tree(&entry.path())?;
        } else if kind.is_file() {
            let file = entry.path();
            File::open(&file)
                .and_then(|handle| handle.sync_all())
                .context("flush", &file)?;
        }
    }
    sync_dir(path)
}

/// Removes a file, link or whole directory; what is already absent is fine. Symbolic links are
/// removed, never followed.
///
/// # Errors
/// The first entry that could not be removed.
pub fn remove_tree(path: &Path) -> Result<(), FsError> {
    let kind = match std::fs::symlink_metadata(path) {
        Ok(metadata) => metadata.file_type(),
        Err(cause) if cause.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(cause) => return Err(FsError::new("inspect", path, cause)),
    };
    let removed = if kind.is_dir() {
        std::fs::remove_dir_all(path)
    } else {
        std::fs::remove_file(path)
    };
    match removed {
        Err(cause) if cause.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other.context("remove", path),
    }
}

/// Removes everything inside a directory and keeps the directory.
///
/// # Errors
/// The first entry that could not be removed. An absent directory is fine.
pub fn clear_dir(path: &Path) -> Result<(), FsError> {
    let entries = match std::fs::read_dir(path) {
        Ok(entries) => entries,
        Err(cause) if cause.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(cause) => return Err(FsError::new("list", path, cause)),
    };
    for entry in entries {
        remove_tree(&entry.context("list", path)?.path())?;
    }
    Ok(())
}

/// Reads a file that must not be larger than `bytes_max`, so that a runaway file cannot exhaust
/// the memory.
///
/// # Errors
/// When it cannot be read or is larger.
pub fn read_bounded(path: &Path, bytes_max: u64) -> Result<Vec<u8>, FsError> {
    let file = File::open(path).context("open", path)?;
    let mut bytes = Vec::new();
    file.take(bytes_max.saturating_add(1))
        .read_to_end(&mut bytes)
        .context("read", path)?;
    if bytes.len() as u64 > bytes_max {
        let cause = io::Error::other(format!("it is larger than the limit of {bytes_max} bytes"));
        return Err(FsError::new("read", path, cause));
    }
    Ok(bytes)
}

/// [`read_bounded`], or `None` when the file does not exist.
///
/// # Errors
/// When it exists and cannot be read, or is larger.
pub fn read_if_present(path: &Path, bytes_max: u64) -> Result<Option<Vec<u8>>, FsError> {
    match read_bounded(path, bytes_max) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(error) if error.cause.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// Bytes an unprivileged writer may still add to the file system that holds `path`.
///
/// # Errors
/// When the file system cannot be asked.
pub fn free_bytes(path: &Path) -> Result<u64, FsError> {
    let stat = nix::sys::statvfs::statvfs(path).context("ask for the free space of", path)?;
    // the field widths differ between 32-bit and 64-bit targets
    #[cfg_attr(
        target_pointer_width = "64",
        expect(clippy::useless_conversion, reason = "u64 already on this target")
    )]
    let (blocks, size) = (
        u64::from(stat.blocks_available()),
        u64::from(stat.fragment_size()),
    );
    Ok(blocks.saturating_mul(size))
}

/// Size of a block device in bytes.
///
/// # Errors
/// When `path` is no block device or cannot be opened.
pub fn block_device_size(path: &Path) -> Result<u64, FsError> {
    let file = File::open(path).context("open", path)?;
    let kind = file.metadata().context("inspect", path)?.file_type();
    if !kind.is_block_device() {
        let cause = io::Error::new(io::ErrorKind::InvalidInput, "it is not a block device");
        return Err(FsError::new("measure", path, cause));
    }
    crate::block::device_bytes(&file).context("measure", path)
}

/// True when somebody may execute the regular file at `path` (links are followed, as `exec` does).
#[must_use]
pub fn is_executable_file(path: &Path) -> bool {
    std::fs::metadata(path)
        .is_ok_and(|meta| meta.is_file() && meta.permissions().mode() & 0o111 != 0)
}

/// Finds a program on `PATH`, as a shell would.
#[must_use]
pub fn find_program(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path)
        .map(|dir| dir.join(name))
        .find(|candidate| is_executable_file(candidate))
}

fn sibling(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.file_name().unwrap_or_default().to_os_string();
    name.push(suffix);
    path.with_file_name(name)
}

fn parent(path: &Path) -> &Path {
    match path.parent() {
        Some(dir) if !dir.as_os_str().is_empty() => dir,
        _ => Path::new("."),
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests fail loudly")]
mod tests {
    use super::*;

    #[test]
    fn a_durable_write_replaces_content_and_mode_and_leaves_no_sibling() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("value");
        write_durable(&path, b"one", 0o644).unwrap();
        write_durable(&path, b"two", 0o600).unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"two");
        assert_eq!(
            std::fs::metadata(&path).unwrap().permissions().mode() & 0o777,
            0o600
        );
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_failed_write_names_the_path_and_the_cause() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("absent/value");
        let text = write_durable(&path, b"x", 0o600).unwrap_err().to_string();
        assert!(
            text.contains("absent/value") && text.contains("No such file"),
            "{text}"
        );
    }

    #[test]
    fn removing_a_tree_does_not_follow_links() {
        let dir = tempfile::tempdir().unwrap();
        let outside = dir.path().join("outside");
        create_dir(&outside, 0o755).unwrap();
        write_plain(&outside.join("kept"), b"x", 0o644).unwrap();
        let tree = dir.path().join("tree");
        create_dir(&tree.join("deep/er"), 0o755).unwrap();
        std::os::unix::fs::symlink(&outside, tree.join("deep/link")).unwrap();
        remove_tree(&tree).unwrap();
        assert!(!tree.exists() && outside.join("kept").exists());

        let link = dir.path().join("link");
        std::os::unix::fs::symlink(&outside, &link).unwrap();
        remove_tree(&link).unwrap();
        assert!(outside.join("kept").exists());
        remove_tree(&link).unwrap();
    }

    #[test]
    fn clearing_keeps_the_directory() {
        let dir = tempfile::tempdir().unwrap();
        create_dir(&dir.path().join("a/b"), 0o755).unwrap();
        write_plain(&dir.path().join("c"), b"x", 0o644).unwrap();
        clear_dir(dir.path()).unwrap();
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
        clear_dir(&dir.path().join("absent")).unwrap();
    }

    #[test]
    fn a_bounded_read_stops_one_past_the_limit() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("f");
        write_plain(&path, b"12345", 0o644).unwrap();
        assert_eq!(read_bounded(&path, 5).unwrap(), b"12345");
        let text = read_bounded(&path, 4).unwrap_err().to_string();
        assert!(text.contains("limit of 4 bytes"), "{text}");
        assert!(
            read_if_present(&dir.path().join("absent"), 4)
                .unwrap()
                .is_none()
        );
    }

    #[test]
    fn free_space_is_a_plausible_number() {
        assert!(free_bytes(&std::env::temp_dir()).unwrap() > 4096);
    }

    #[test]
    fn a_fresh_file_never_goes_through_a_link() {
        let dir = tempfile::tempdir().unwrap();
        let victim = dir.path().join("victim");
        write_plain(&victim, b"precious", 0o644).unwrap();
        let link = dir.path().join("link");
        std::os::unix::fs::symlink(&victim, &link).unwrap();
        assert!(write_plain(&link, b"x", 0o644).is_err());
        assert_eq!(std::fs::read(&victim).unwrap(), b"precious");
    }
}

//! A restored data directory, first beside the real one, then in its place.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use ambidex_blob::Blobs;
use anyhow::{Context as _, bail};
use bytes::Bytes;
use nix::fcntl::{AT_FDCWD, RenameFlags, renameat2};
use tokio::runtime::Handle;

use super::write::directory;
use super::{About, DATABASE, Totals, read};

/// What is read of an artifact at a time.
const PIECE_BYTES: usize = 256 * 1024;

/// A directory that is removed again unless it took its place.
pub(crate) struct Stage {
    dir: PathBuf,
    target: PathBuf,
}

impl Stage {
    /// Makes an empty directory beside `target`.
    pub(crate) fn new(target: &Path) -> anyhow::Result<Stage> {
        let name = target
            .file_name()
            .context("the data directory has no name; give it with --data-dir")?
            .to_string_lossy();
        let dir = directory(target).join(format!(".{name}.restore-{}", std::process::id()));
        std::fs::create_dir_all(directory(target))
            .and_then(|()| DirBuilder::new().mode(0o700).create(&dir))
            .with_context(|| {
                format!(
                    "cannot make {}: a backup is restored beside the data directory first, so its parent must be writable",
                    dir.display()
                )
            })?;
        Ok(Stage {
            dir,
            target: target.to_owned(),
        })
    }

    pub(crate) fn dir(&self) -> &Path {
        &self.dir
    }

    /// Unpacks an archive and checks it. Blocks.
    pub(crate) fn unpack(
        &self,
        archive: &Path,
        handle: &Handle,
    ) -> anyhow::Result<(About, Totals)> {
        let blobs = Blobs::local(&self.dir.join("artifacts"), [0; 32])?;
        let private = || DirBuilder::new().mode(0o700).create(self.dir.join("keys"));
        private().context("cannot make the directory of keys")?;
        let unpacked = read::walk(archive, &mut |name, content| {
            match name.split_once('/') {
                None if name == DATABASE => self.file(DATABASE, content),
                Some(("keys", key)) if is_plain(key) => self.file(name, content),
                // The store itself checks what a key may look like.
                Some(("artifacts", key)) => artifact(&blobs, key, content, handle),
                _ => bail!("{name:?} does not belong into a backup"),
            }
        })?;
        if !self.dir.join(DATABASE).exists() {
            bail!("the backup {} has no database", archive.display());
        }
        Ok(unpacked)
    }

    fn file(&self, name: &str, content: &mut dyn Read) -> anyhow::Result<()> {
        let path = self.dir.join(name);
        let mut write = || -> io::Result<()> {
            let mut file = OpenOptions::new()
                .write(true)
                .create_new(true)
                .mode(0o600)
                .open(&path)?;
            io::copy(content, &mut file)?;
            file.sync_all()
        };
        write().with_context(|| format!("cannot write {}", path.display()))
    }

    /// Puts the directory in the place of the real one, in one step. What was there is kept beside it; returns where.
    pub(crate) fn take_place(self, now: &str) -> anyhow::Result<Option<PathBuf>> {
        let occupied = std::fs::metadata(&self.target).ok();
        if let Some(old) = &occupied {
            give_to(&self.dir, old.uid(), old.gid())?;
        }
        sync_tree(&self.dir)?;
        let empty = occupied.is_none() || is_empty(&self.target)?;
        let moved = |error: io::Error| {
            anyhow::Error::new(error).context(format!(
                "cannot put the restored data in the place of {}; if it is a mount point, restore into a directory inside of it",
                self.target.display()
            ))
        };
        let mut kept = None;
        if empty {
            // Over nothing, or over an empty directory.
            std::fs::rename(&self.dir, &self.target).map_err(moved)?;
        } else {
            let mut name = self.target.as_os_str().to_owned();
            name.push(format!(".before-restore-{}", now.replace(':', "")));
            let before = PathBuf::from(name);
            let exchanged = renameat2(
                AT_FDCWD,
                &self.dir,
                AT_FDCWD,
                &self.target,
                RenameFlags::RENAME_EXCHANGE,
            );
            match exchanged {
                Ok(()) => std::fs::rename(&self.dir, &before).map_err(moved)?,
                // A file system that cannot exchange: two steps, and the old data back if the second fails.
                Err(nix::errno::Errno::EINVAL | nix::errno::Errno::ENOSYS) => {
                    std::fs::rename(&self.target, &before).map_err(moved)?;
                    if let Err(error) = std::fs::rename(&self.dir, &self.target) {
                        let _ = std::fs::rename(&before, &self.target);
                        return Err(moved(error));
                    }
                }
                Err(errno) => return Err(moved(errno.into())),
            }
            kept = Some(before);
        }
        File::open(directory(&self.target))
            .and_then(|parent| parent.sync_all())
            .context("cannot sync the parent of the data directory")?;
        Ok(kept)
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.dir);
    }
}

/// Whether a directory has nothing in it.
pub(crate) fn is_empty(dir: &Path) -> anyhow::Result<bool> {
    match std::fs::read_dir(dir) {
        Ok(mut entries) => Ok(entries.next().is_none()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(true),
        Err(error) => Err(error).with_context(|| format!("cannot read {}", dir.display())),
    }
}

fn is_plain(name: &str) -> bool {
    !name.is_empty() && !name.starts_with('.') && !name.contains(['/', '\\', '\0'])
}

fn artifact(
    blobs: &Blobs,
    key: &str,
    content: &mut dyn Read,
    handle: &Handle,
) -> anyhow::Result<()> {
    let mut upload = handle.block_on(blobs.put_begin(key))?;
    let mut buffer = vec![0; PIECE_BYTES];
    loop {
        let count = match content.read(&mut buffer) {
            Ok(0) => break,
            Ok(count) => count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error.into()),
        };
        handle.block_on(upload.write(Bytes::copy_from_slice(&buffer[..count])))?;
    }
    handle.block_on(upload.commit())?;
    Ok(())
}

/// Calls `each` for a directory and everything in it; links are not followed.
fn walk_tree(dir: &Path, each: &mut dyn FnMut(&Path) -> io::Result<()>) -> io::Result<()> {
    for entry in std::fs::read_dir(dir)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            walk_tree(&entry.path(), each)?;
        } else {
            each(&entry.path())?;
        }
    }
    each(dir)
}

fn sync_tree(dir: &Path) -> anyhow::Result<()> {
    walk_tree(dir, &mut |path| File::open(path)?.sync_all())
        .context("cannot sync the restored data")
}

/// A restore by root must not leave data that the server's own user cannot read.
fn give_to(dir: &Path, uid: u32, gid: u32) -> anyhow::Result<()> {
    let own = std::fs::metadata(dir).context("the restored data")?;
    if (own.uid(), own.gid()) == (uid, gid) {
        return Ok(());
    }
    walk_tree(dir, &mut |path| {
        std::os::unix::fs::lchown(path, Some(uid), Some(gid))
    })
    .context("cannot give the restored data to the owner of the data directory")
}

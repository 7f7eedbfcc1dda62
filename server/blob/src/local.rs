//! Objects as files: `objects/<key>`, and `uploads/<random>` while they are being written.
//!
//! Files are used from the blocking pool, a piece at a time: a slow disk holds up one task, not a
//! runtime thread. A finished upload is renamed into place after its data reached the disk, so a power
//! cut leaves either the whole object or none.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{ErrorKind, Write as _};
use std::ops::Range;
use std::os::unix::fs::{DirBuilderExt as _, FileExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::UNIX_EPOCH;

use bytes::{Bytes, BytesMut};
use futures_util::stream;

use crate::key::Key;
use crate::{BlobError, BlobMeta, Content};

/// A read or write of the disk; small enough that thousands of transfers fit into memory.
const PIECE_BYTES: usize = 256 * 1024;

pub(crate) struct LocalStore {
    dir: PathBuf,
    objects: PathBuf,
    uploads: PathBuf,
}

/// Turns an I/O error into one that names the file and the remedy.
fn unavailable(path: &Path, error: &std::io::Error) -> BlobError {
    let remedy = match error.kind() {
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded => {
            "; free space on the disk of the data directory"
        }
        ErrorKind::PermissionDenied | ErrorKind::ReadOnlyFilesystem => {
            "; check that the data directory is writable and belongs to the user of the server"
        }
        _ => "",
    };
    BlobError::Unavailable(format!("{}: {error}{remedy}", path.display()))
}

fn make_dir(path: &Path) -> Result<(), BlobError> {
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
        .map_err(|e| unavailable(path, &e))
}

fn sync_dir(path: &Path) -> std::io::Result<()> {
    File::open(path)?.sync_all()
}

/// Runs file work on the blocking pool.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, BlobError> + Send + 'static,
) -> Result<T, BlobError> {
    tokio::task::spawn_blocking(work)
        .await
        .unwrap_or_else(|e| Err(BlobError::Unavailable(e.to_string())))
}

fn meta(file: &std::fs::Metadata) -> BlobMeta {
    let modified = file
        .modified()
        .ok()
        .and_then(|time| time.duration_since(UNIX_EPOCH).ok())
        .and_then(|since| i64::try_from(since.as_millis()).ok());
    BlobMeta {
        size: file.len(),
        modified_ms: modified.unwrap_or(0),
    }
}

impl LocalStore {
    pub(crate) fn open(dir: &Path) -> Result<LocalStore, BlobError> {
        let store = LocalStore {
            dir: dir.to_owned(),
            objects: dir.join("objects"),
            uploads: dir.join("uploads"),
        };
        make_dir(&store.objects)?;
        make_dir(&store.uploads)?;
        Ok(store)
    }

    pub(crate) async fn remove_unfinished(&self) -> Result<(), BlobError> {
        let uploads = self.uploads.clone();
        blocking(move || {
            let stale = std::fs::read_dir(&uploads).map_err(|e| unavailable(&uploads, &e))?;
            for entry in stale.flatten() {
                let path = entry.path();
                std::fs::remove_file(&path).map_err(|e| unavailable(&path, &e))?;
            }
            Ok(())
        })
        .await
    }

    pub(crate) async fn usage(&self) -> Result<u64, BlobError> {
        let objects = self.objects.clone();
        blocking(move || {
            let mut sum = 0;
            let mut dirs = vec![objects];
            while let Some(dir) = dirs.pop() {
                for entry in std::fs::read_dir(&dir).map_err(|e| unavailable(&dir, &e))? {
                    let entry = entry.map_err(|e| unavailable(&dir, &e))?;
                    match entry.metadata() {
                        Ok(found) if found.is_dir() => dirs.push(entry.path()),
                        Ok(found) => sum += found.len(),
                        Err(e) if is_absent(&e) => {}
                        Err(e) => return Err(unavailable(&entry.path(), &e)),
                    }
                }
            }
            Ok(sum)
        })
        .await
    }

    pub(crate) fn dir(&self) -> &Path {
        &self.dir
    }

    fn path(&self, key: &Key) -> PathBuf {
        self.objects.join(key.as_str())
    }

    pub(crate) async fn begin(&self, key: &Key) -> Result<LocalUpload, BlobError> {
        let target = self.path(key);
        let objects = self.objects.clone();
        let temporary = self.uploads.join(uuid::Uuid::new_v4().to_string());
        blocking(move || {
            let file = OpenOptions::new()
                .write(true)
                .create_new(true)
                .mode(0o600)
                .open(&temporary)
                .map_err(|e| unavailable(&temporary, &e))?;
            Ok(LocalUpload {
                file: Arc::new(file),
                temporary: Temporary(temporary),
                target,
                objects,
                gathered: BytesMut::new(),
                written: 0,
            })
        })
        .await
    }

    pub(crate) async fn get(
        &self,
        key: &Key,
        range: Option<Range<u64>>,
    ) -> Result<(BlobMeta, Content), BlobError> {
        let path = self.path(key);
        let name = key.as_str().to_owned();
        let (file, meta) = blocking({
            let path = path.clone();
            move || {
                let file = File::open(&path).map_err(|e| match e.kind() {
                    ErrorKind::NotFound => BlobError::NotFound(name.clone()),
                    _ => unavailable(&path, &e),
                })?;
                let metadata = file.metadata().map_err(|e| unavailable(&path, &e))?;
                if !metadata.is_file() {
                    return Err(BlobError::NotFound(name));
                }
                Ok((Arc::new(file), meta(&metadata)))
            }
        })
        .await?;
        let range = match range {
            None => 0..meta.size,
            Some(range) if range.start >= meta.size => {
                return Err(BlobError::Range {
                    start: range.start,
                    size: meta.size,
                });
            }
            Some(range) => range.start..range.end.clamp(range.start, meta.size),
        };
        let pieces = stream::try_unfold(range, move |left| {
            let (file, path) = (Arc::clone(&file), path.clone());
            async move {
                if left.is_empty() {
                    return Ok(None);
                }
                let length = (left.end - left.start).min(PIECE_BYTES as u64);
                let start = left.start;
                let piece = blocking(move || {
                    let mut piece = vec![0; length as usize];
                    file.read_exact_at(&mut piece, start)
                        .map_err(|e| unavailable(&path, &e))?;
                    Ok(Bytes::from(piece))
                })
                .await?;
                Ok(Some((piece, start + length..left.end)))
            }
        });
        Ok((meta, Box::pin(pieces)))
    }

    pub(crate) async fn head(&self, key: &Key) -> Result<Option<BlobMeta>, BlobError> {
        let path = self.path(key);
        blocking(move || match std::fs::metadata(&path) {
            Ok(found) if found.is_file() => Ok(Some(meta(&found))),
            Ok(_) => Ok(None),
            Err(e) if is_absent(&e) => Ok(None),
            Err(e) => Err(unavailable(&path, &e)),
        })
        .await
    }

    pub(crate) async fn delete(&self, key: &Key) -> Result<(), BlobError> {
        let path = self.path(key);
        blocking(move || {
            match std::fs::remove_file(&path) {
                Err(e) if is_absent(&e) => return Ok(()),
                other => other.map_err(|e| unavailable(&path, &e))?,
            }
            let parent = path.parent().unwrap_or(&path);
            sync_dir(parent).map_err(|e| unavailable(parent, &e))
        })
        .await
    }

    pub(crate) async fn ping(&self) -> Result<(), BlobError> {
        let probe = self.uploads.join(format!("probe-{}", uuid::Uuid::new_v4()));
        blocking(move || {
            std::fs::write(&probe, b"probe")
                .and_then(|()| std::fs::remove_file(&probe))
                .map_err(|e| unavailable(&probe, &e))
        })
        .await
    }
}

/// A key whose parent is an object of its own names nothing either.
fn is_absent(error: &std::io::Error) -> bool {
    matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory)
}

/// Removes the file when dropped, unless it has been renamed away.
struct Temporary(PathBuf);

impl Drop for Temporary {
    fn drop(&mut self) {
        // Unlinking is quick; the store removes what a crash leaves at its next start.
        let _ = std::fs::remove_file(&self.0);
    }
}

pub(crate) struct LocalUpload {
    file: Arc<File>,
    temporary: Temporary,
    target: PathBuf,
    objects: PathBuf,
    gathered: BytesMut,
    written: u64,
}

impl LocalUpload {
    pub(crate) async fn write(&mut self, piece: Bytes) -> Result<(), BlobError> {
        self.written += piece.len() as u64;
        if piece.len() >= PIECE_BYTES && self.gathered.is_empty() {
            return self.flush(piece).await;
        }
        self.gathered.extend_from_slice(&piece);
        if self.gathered.len() >= PIECE_BYTES {
            let full = self.gathered.split().freeze();
            return self.flush(full).await;
        }
        Ok(())
    }

    async fn flush(&self, bytes: Bytes) -> Result<(), BlobError> {
        let (file, path) = (Arc::clone(&self.file), self.temporary.0.clone());
        blocking(move || {
            (&*file)
                .write_all(&bytes)
                .map_err(|e| unavailable(&path, &e))
        })
        .await
    }

    pub(crate) fn written(&self) -> u64 {
        self.written
    }

    pub(crate) async fn commit(mut self) -> Result<u64, BlobError> {
        let rest = self.gathered.split().freeze();
        if !rest.is_empty() {
            self.flush(rest).await?;
        }
        blocking(move || {
            let from = &self.temporary.0;
            self.file.sync_all().map_err(|e| unavailable(from, &e))?;
            let parent = self.target.parent().unwrap_or(&self.objects).to_owned();
            make_dir(&parent)?;
            std::fs::rename(from, &self.target).map_err(|e| unavailable(&self.target, &e))?;
            // New directories on the way must reach the disk as well, the innermost first.
            for dir in parent
                .ancestors()
                .take_while(|dir| dir.starts_with(&self.objects))
            {
                sync_dir(dir).map_err(|e| unavailable(dir, &e))?;
            }
            Ok(self.written)
        })
        .await
    }
}

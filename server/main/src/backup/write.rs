//! Writing an archive beside a running server.

use std::fs::{File, OpenOptions};
use std::io::{self, BufWriter, Read, Write};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use ambidex_blob::{BlobError, Blobs, Content};
use ambidex_db::Db;
use ambidex_kit::{Clock, rfc3339};
use anyhow::{Context as _, bail};
use bytes::{Buf as _, Bytes};
use futures_util::StreamExt as _;
use sha2::{Digest as _, Sha256};
use tokio::runtime::Handle;

use super::progress::Progress;
use super::{
    ABOUT, ARTIFACTS, About, CHECKSUMS, Checksum, Checksums, DATABASE, FORMAT, KEYS, Totals,
};

/// How often a backup starts again because artifacts were deleted under it.
const ATTEMPTS_MAX: usize = 5;
/// Artifacts are compressed already; a low level costs little on them and halves the database.
const LEVEL: i32 = 3;

/// What is saved.
pub(crate) struct Source {
    pub(crate) db: Db,
    pub(crate) blobs: Blobs,
    pub(crate) keys: PathBuf,
}

/// Writes an archive to `to`, whole or not at all.
pub(crate) async fn write(source: &Source, to: &Path) -> anyhow::Result<Totals> {
    for _ in 0..ATTEMPTS_MAX {
        match attempt(source, to).await? {
            Some(totals) => return Ok(totals),
            None => tracing::info!("an artifact was deleted meanwhile, the backup starts again"),
        }
    }
    bail!("artifacts are being deleted faster than they can be saved; try again at a quieter time")
}

/// `None` when an artifact of the snapshot is gone.
async fn attempt(source: &Source, to: &Path) -> anyhow::Result<Option<Totals>> {
    let partial = Partial(with_suffix(to, ".partial"));
    let snapshot = Partial(with_suffix(to, ".snapshot"));
    // A reader of the snapshot may let go of it after it was removed: then the engine leaves these behind.
    let _beside = ["-wal", "-shm"].map(|suffix| Partial(with_suffix(&snapshot.0, suffix)));
    let _ = std::fs::remove_file(&snapshot.0);
    let mut progress = Progress::new();
    source
        .db
        .backup_to(&snapshot.0, move |done, total| {
            progress.bytes("database", done, total);
        })
        .await
        .context("cannot take a snapshot of the database")?;
    let files = {
        let moment = Db::open_sqlite(&snapshot.0)?;
        let files = ambidex_deployments::stored_files(&moment).await?;
        moment.close().await?;
        files
    };
    let archive = Archive::create(&partial.0)?;
    let (blobs, keys, handle) = (source.blobs.clone(), source.keys.clone(), Handle::current());
    let database = snapshot.0.clone();
    let work = tokio::task::spawn_blocking(move || {
        let mut archive = archive;
        archive.about()?;
        let file = File::open(&database)?;
        archive.add(DATABASE, file.metadata()?.len(), file)?;
        archive.keys(&keys)?;
        let total: u64 = files.iter().map(|file| file.size_bytes).sum();
        let mut progress = Progress::new();
        for file in &files {
            progress.bytes("artifacts", archive.totals.artifact_bytes, total);
            let (meta, content) = match handle.block_on(blobs.get(&file.key, None)) {
                Ok(found) => found,
                Err(BlobError::NotFound(_)) => return Ok(None),
                Err(error) => {
                    return Err(error).with_context(|| format!("artifact {}", file.key));
                }
            };
            let reader = Pieces {
                handle: handle.clone(),
                content,
                piece: Bytes::new(),
            };
            archive.add(&format!("{ARTIFACTS}/{}", file.key), meta.size, reader)?;
        }
        archive.finish().map(Some)
    });
    let Some(totals) = work
        .await?
        .with_context(|| format!("cannot write {}", partial.0.display()))?
    else {
        return Ok(None);
    };
    std::fs::rename(&partial.0, to)
        .and_then(|()| File::open(directory(to))?.sync_all())
        .with_context(|| format!("cannot write {}", to.display()))?;
    Ok(Some(totals))
}

fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    PathBuf::from(name)
}

pub(super) fn directory(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}

/// A file that is removed unless it was renamed.
struct Partial(PathBuf);

impl Drop for Partial {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

struct Archive {
    tar: tar::Builder<zstd::Encoder<'static, BufWriter<File>>>,
    checksums: Checksums,
    totals: Totals,
}

impl Archive {
    /// Only its owner may read it: it holds password hashes and signing keys.
    fn create(path: &Path) -> anyhow::Result<Archive> {
        let open = || -> io::Result<_> {
            let file = OpenOptions::new()
                .write(true)
                .create(true)
                .truncate(true)
                .mode(0o600)
                .open(path)?;
            let mut encoder = zstd::Encoder::new(BufWriter::with_capacity(1 << 20, file), LEVEL)?;
            encoder.include_checksum(true)?;
            Ok(encoder)
        };
        let encoder = open().with_context(|| format!("cannot write {}", path.display()))?;
        Ok(Archive {
            tar: tar::Builder::new(encoder),
            checksums: Checksums::new(),
            totals: Totals::default(),
        })
    }

    fn about(&mut self) -> anyhow::Result<()> {
        let about = About {
            format: FORMAT,
            version: env!("CARGO_PKG_VERSION").to_owned(),
            created: rfc3339(Clock::system().now_ms()),
        };
        let text = serde_json::to_vec_pretty(&about)?;
        self.add(ABOUT, text.len() as u64, &*text)
    }

    fn keys(&mut self, dir: &Path) -> anyhow::Result<()> {
        let mut names: Vec<_> = std::fs::read_dir(dir)
            .with_context(|| format!("cannot read {}", dir.display()))?
            .collect::<io::Result<_>>()?;
        names.sort_unstable_by_key(std::fs::DirEntry::file_name);
        for entry in names {
            let name = entry.file_name();
            let Some(name) = name.to_str().filter(|_| entry.path().is_file()) else {
                continue;
            };
            let bytes = std::fs::read(entry.path())?;
            self.add(&format!("{KEYS}/{name}"), bytes.len() as u64, &*bytes)?;
        }
        Ok(())
    }

    fn add(&mut self, path: &str, bytes: u64, content: impl Read) -> anyhow::Result<()> {
        let mut header = tar::Header::new_gnu();
        header.set_size(bytes);
        header.set_mode(0o600);
        header.set_entry_type(tar::EntryType::Regular);
        let mut content = Hashing::new(content.take(bytes));
        self.tar.append_data(&mut header, path, &mut content)?;
        let checksum = content.checksum();
        if checksum.bytes != bytes {
            bail!("{path} ended after {} of {bytes} bytes", checksum.bytes);
        }
        self.totals.count(path, bytes);
        self.checksums.insert(path.to_owned(), checksum);
        Ok(())
    }

    fn finish(mut self) -> anyhow::Result<Totals> {
        let checksums = serde_json::to_vec(&self.checksums)?;
        let totals = self.totals;
        self.add(CHECKSUMS, checksums.len() as u64, &*checksums)?;
        let mut file = self.tar.into_inner()?.finish()?;
        file.flush()?;
        file.get_ref().sync_all()?;
        Ok(totals)
    }
}

/// Counts and hashes what passes.
pub(super) struct Hashing<R> {
    inner: R,
    bytes: u64,
    sha256: Sha256,
}

impl<R: Read> Hashing<R> {
    pub(super) fn new(inner: R) -> Hashing<R> {
        Hashing {
            inner,
            bytes: 0,
            sha256: Sha256::new(),
        }
    }

    pub(super) fn checksum(self) -> Checksum {
        Checksum {
            bytes: self.bytes,
            sha256: hex::encode(self.sha256.finalize()),
        }
    }
}

impl<R: Read> Read for Hashing<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(buffer)?;
        self.bytes += count as u64;
        self.sha256.update(&buffer[..count]);
        Ok(count)
    }
}

/// The pieces of an artifact as something to read from, on a thread that may wait.
struct Pieces {
    handle: Handle,
    content: Content,
    piece: Bytes,
}

impl Read for Pieces {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.piece.is_empty() {
            match self.handle.block_on(self.content.next()) {
                None => return Ok(0),
                Some(piece) => self.piece = piece.map_err(io::Error::other)?,
            }
        }
        let count = buffer.len().min(self.piece.len());
        self.piece.copy_to_slice(&mut buffer[..count]);
        Ok(count)
    }
}

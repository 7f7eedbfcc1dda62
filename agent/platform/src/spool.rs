//! A file that grows while it is received and whose beginning survives a power cut.
//!
//! Two things in a directory of its own: `data`, which is only ever appended to, and the record `checkpoint`, which says
//! how much of it is durable, its checksum, and what it belongs to (`label`, the caller's words). A thread of
//! its own flushes the data and then saves the record, from time to time, so that whoever appends never waits for the
//! disk's cache. What lies behind the checkpoint after a power cut is cut off.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{SyncSender, sync_channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use nix::fcntl::{PosixFadviseAdvice, posix_fadvise};

use crate::fs::{self, Context, FsError};
use crate::record::{Loaded, RecordError, RecordFile};

/// On a slow line less than asked for is made durable, after this time.
pub const CHECKPOINT_INTERVAL: Duration = Duration::from_secs(30);

const DATA: &str = "data";
const RECORD: &str = "checkpoint";
const RECORD_FILES: [&str; 5] = [
    "checkpoint.a",
    "checkpoint.b",
    "checkpoint.tmp",
    "checkpoint.a.broken",
    "checkpoint.b.broken",
];
const READ_BYTES: usize = 64 * 1024;

/// What is known to be durable.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Mark {
    offset: u64,
    crc: u32,
}

/// The beginning that an earlier life has left.
#[derive(Debug)]
pub struct Checkpoint {
    dir: PathBuf,
    mark: Mark,
    label: Vec<u8>,
}

/// A file that is being received. Dropping it waits until its thread has ended; the files stay.
#[derive(Debug)]
pub struct Spool {
    path: PathBuf,
    data: File,
    end: Mark,
    hasher: crc32fast::Hasher,
    marked: u64,
    every: u64,
    marked_at: Instant,
    marks: Option<SyncSender<Mark>>,
    thread: Option<JoinHandle<()>>,
}

/// Removes a spool and what it has received; other files in the directory stay.
///
/// # Errors
/// When something of it stays.
pub fn remove(dir: &Path) -> Result<(), FsError> {
    // without its record the data is nothing, so that half a removal is a whole one
    for name in RECORD_FILES.into_iter().chain([DATA]) {
        fs::remove_tree(&dir.join(name))?;
    }
    // not empty: somebody else uses it, too
    let _ = std::fs::remove_dir(dir);
    Ok(())
}

impl Checkpoint {
    /// Looks for a beginning. Damaged or missing records are none.
    ///
    /// # Errors
    /// When the directory cannot be read.
    pub fn find(dir: &Path) -> Result<Option<Self>, RecordError> {
        if !dir.join(DATA).is_file() {
            return Ok(None);
        }
        let Loaded::Record { bytes, .. } = RecordFile::open(dir, RECORD).load()? else {
            return Ok(None);
        };
        Ok(decode(&bytes).map(|(mark, label)| Self {
            dir: dir.to_owned(),
            mark,
            label: label.to_vec(),
        }))
    }

    /// What it belongs to.
    #[must_use]
    pub fn label(&self) -> &[u8] {
        &self.label
    }

    /// Bytes that are there.
    #[must_use]
    pub fn offset(&self) -> u64 {
        self.mark.offset
    }

    /// Verifies the beginning and opens it for going on: the spool, and a reader of what it has already. `None` when
    /// the data is not what was received. `every` as for [`Spool::create`].
    ///
    /// # Errors
    /// When the file cannot be read or cut.
    pub fn resume(self, every: u64) -> Result<Option<(Spool, impl Read + Send + use<>)>, FsError> {
        let path = self.dir.join(DATA);
        let mut data = OpenOptions::new()
            .read(true)
            .write(true)
            .custom_flags(nix::libc::O_NOFOLLOW)
            .open(&path)
            .context("open", &path)?;
        let mut hasher = crc32fast::Hasher::new();
        let mut left = self.mark.offset;
        let mut buffer = vec![0; READ_BYTES];
        while left > 0 {
            let want = buffer
                .len()
                .min(usize::try_from(left).unwrap_or(usize::MAX));
            let count = data.read(&mut buffer[..want]).context("read", &path)?;
            if count == 0 {
                return Ok(None);
            }
            hasher.update(&buffer[..count]);
            left -= count as u64;
        }
        if hasher.clone().finalize() != self.mark.crc {
            return Ok(None);
        }
        data.set_len(self.mark.offset)
            .and_then(|()| data.seek(SeekFrom::End(0)))
            .context("cut", &path)?;
        let beginning = File::open(&path)
            .context("open", &path)?
            .take(self.mark.offset);
        let spool = Spool::start(&self.dir, data, self.label, self.mark, hasher, every)?;
        Ok(Some((spool, beginning)))
    }
}

impl Spool {
    /// Begins an empty one in `dir`, which is made; what was there is removed. So many bytes are made durable at a time.
    ///
    /// # Errors
    /// When it cannot be made.
    pub fn create(dir: &Path, label: &[u8], every: u64) -> Result<Self, RecordError> {
        remove(dir)?;
        fs::create_dir(dir, 0o700)?;
        let data = fs::create(&dir.join(DATA), 0o600)?;
        fs::sync_dir(dir)?;
        let nothing = Mark { offset: 0, crc: 0 };
        let hasher = crc32fast::Hasher::new();
        // at once, so that from now on there is something to take up
        make_durable(&data, &RecordFile::open(dir, RECORD), nothing, label)?;
        Ok(Self::start(
            dir,
            data,
            label.to_vec(),
            nothing,
            hasher,
            every,
        )?)
    }

    fn start(
        dir: &Path,
        data: File,
        label: Vec<u8>,
        end: Mark,
        hasher: crc32fast::Hasher,
        every: u64,
    ) -> Result<Self, FsError> {
        let path = dir.join(DATA);
        let flushed = data.try_clone().context("open", &path)?;
        let record = RecordFile::open(dir, RECORD);
        let (marks, received) = sync_channel(1);
        let thread = std::thread::Builder::new()
            .name("spool".into())
            .spawn(move || {
                while let Ok(mark) = received.recv() {
                    if let Err(error) = make_durable(&flushed, &record, mark, &label) {
                        log::warn!("what was received is not kept: {error}");
                        return;
                    }
                }
            })
            .context("start the thread of", &path)?;
        Ok(Self {
            path,
            data,
            end,
            hasher,
            marked: end.offset,
            every,
            marked_at: Instant::now(),
            marks: Some(marks),
            thread: Some(thread),
        })
    }

    /// Bytes that were received in all lives.
    #[must_use]
    pub fn offset(&self) -> u64 {
        self.end.offset
    }

    /// Takes what was received.
    ///
    /// # Errors
    /// When it cannot be written, for lack of space mostly; then this spool is of no more use.
    pub fn append(&mut self, bytes: &[u8]) -> Result<(), FsError> {
        self.data.write_all(bytes).context("write", &self.path)?;
        self.hasher.update(bytes);
        self.end.offset += bytes.len() as u64;
        let new = self.end.offset - self.marked;
        if new >= self.every || self.marked_at.elapsed() >= CHECKPOINT_INTERVAL {
            self.end.crc = self.hasher.clone().finalize();
            self.mark();
            self.marked = self.end.offset;
            self.marked_at = Instant::now();
        }
        Ok(())
    }

    /// When the thread is still busy with the last one, the next one will do.
    fn mark(&self) {
        if let Some(marks) = &self.marks {
            let _ = marks.try_send(self.end);
        }
    }
}

impl Drop for Spool {
    fn drop(&mut self) {
        self.marks = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn make_durable(
    data: &File,
    record: &RecordFile,
    mark: Mark,
    label: &[u8],
) -> Result<(), RecordError> {
    data.sync_data()
        .map_err(|cause| FsError::new("flush", DATA, cause))?;
    // nobody reads it again soon: other programs need the memory more (no length: all that is flushed)
    let _ = posix_fadvise(data, 0, 0, PosixFadviseAdvice::POSIX_FADV_DONTNEED);
    record.save(&encode(mark, label))
}

fn encode(mark: Mark, label: &[u8]) -> Vec<u8> {
    [
        &mark.offset.to_le_bytes()[..],
        &mark.crc.to_le_bytes(),
        label,
    ]
    .concat()
}

fn decode(bytes: &[u8]) -> Option<(Mark, &[u8])> {
    let (offset, rest) = bytes.split_first_chunk::<8>()?;
    let (crc, label) = rest.split_first_chunk::<4>()?;
    let mark = Mark {
        offset: u64::from_le_bytes(*offset),
        crc: u32::from_le_bytes(*crc),
    };
    Some((mark, label))
}

/// Whether a file of this size may be kept in `dir` (or where it will be made) and so much stay free.
///
/// # Errors
/// When the file system cannot be asked.
pub fn has_room(dir: &Path, bytes: u64, keep_free: u64) -> Result<bool, FsError> {
    let mut place = dir;
    while !place.is_dir() {
        place = place
            .parent()
            .ok_or_else(|| FsError::new("find", dir, io::Error::from(io::ErrorKind::NotFound)))?;
    }
    Ok(fs::free_bytes(place)? >= bytes.saturating_add(keep_free))
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests fail loudly")]
mod tests {
    use super::*;

    const EVERY: u64 = 1_000_000;

    fn bytes(count: usize) -> Vec<u8> {
        (0..count).map(|n| u8::try_from(n % 241).unwrap()).collect()
    }

    /// A spool that was received up to behind its last checkpoint and lost its process.
    fn interrupted(dir: &Path, count: usize) -> Checkpoint {
        let mut spool = Spool::create(dir, b"mine", EVERY).unwrap();
        for piece in bytes(count).chunks(100_000) {
            spool.append(piece).unwrap();
        }
        drop(spool);
        Checkpoint::find(dir).unwrap().unwrap()
    }

    #[test]
    fn what_is_durable_is_taken_up() {
        let dir = tempfile::tempdir().unwrap();
        let dir = dir.path().join("spool");
        let whole = bytes(10_000_000);
        let found = interrupted(&dir, 5_000_000);
        assert_eq!(found.label(), b"mine");
        // the last piece may or may not have been made durable
        assert!((EVERY..=5_000_000).contains(&found.offset()));
        let offset = usize::try_from(found.offset()).unwrap();
        let (mut spool, mut beginning) = found.resume(EVERY).unwrap().unwrap();
        let mut read = Vec::new();
        beginning.read_to_end(&mut read).unwrap();
        assert!(read == whole[..offset]);
        spool.append(&whole[offset..]).unwrap();
        assert_eq!(spool.offset(), 10_000_000);
        drop(spool);
        assert!(std::fs::read(dir.join(DATA)).unwrap() == whole);
        let again = Checkpoint::find(&dir).unwrap().unwrap();
        assert_eq!(again.offset(), 10_000_000);
        assert!(again.resume(EVERY).unwrap().is_some());
    }

    #[test]
    fn nothing_received_is_a_beginning_too() {
        let dir = tempfile::tempdir().unwrap();
        let dir = dir.path().join("spool");
        let found = interrupted(&dir, 10);
        assert_eq!(found.offset(), 0);
        let (spool, _) = found.resume(EVERY).unwrap().unwrap();
        drop(spool);
        assert_eq!(std::fs::metadata(dir.join(DATA)).unwrap().len(), 0);
    }

    #[test]
    fn damage_is_seen() {
        let dir = tempfile::tempdir().unwrap();
        let dir = dir.path().join("spool");
        interrupted(&dir, 5_000_000);
        let path = dir.join(DATA);
        let mut data = std::fs::read(&path).unwrap();
        data[1_000_000] ^= 1;
        std::fs::write(&path, &data).unwrap();
        let found = Checkpoint::find(&dir).unwrap().unwrap();
        assert!(found.resume(EVERY).unwrap().is_none());
        // shorter than the checkpoint says: the file system lost its end
        std::fs::write(&path, &data[..100]).unwrap();
        let found = Checkpoint::find(&dir).unwrap().unwrap();
        assert!(found.resume(EVERY).unwrap().is_none());
        for copy in ["checkpoint.a", "checkpoint.b"] {
            let _ = std::fs::write(dir.join(copy), b"junk");
        }
        assert!(Checkpoint::find(&dir).unwrap().is_none());
        remove(&dir).unwrap();
        assert!(Checkpoint::find(&dir).unwrap().is_none());
    }

    #[test]
    fn room_is_asked_for_where_the_directory_will_be() {
        let dir = tempfile::tempdir().unwrap();
        let dir = dir.path().join("not/yet");
        assert!(has_room(&dir, 1, 0).unwrap());
        assert!(!has_room(&dir, u64::MAX, 1).unwrap());
    }
}

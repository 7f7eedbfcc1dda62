//! One small record that survives power cuts: the last saved value, or the one before it, never a
//! mixture and never nothing.
//!
//! Two files `NAME.a` and `NAME.b` hold the newest and the previous generation. A save writes
//! `NAME.tmp`, fsyncs it, renames it over the *older* of the two and fsyncs the directory; so one
//! valid generation stands at every moment. Each file carries a magic, its generation, its length
//! and a CRC over all of them.

use std::io;
use std::path::{Path, PathBuf};

use crate::fs::{self, Context, FsError};

/// Larger records are refused: the agent's state is a few kilobytes, anything else is a defect.
pub const RECORD_BYTES_MAX: usize = 4 * 1024 * 1024;

const MAGIC: &[u8; 8] = b"AMBXREC1";
const HEADER_BYTES: usize = 8 + 8 + 8 + 4;
/// 0 stands for an absent or damaged file; one more than the last can still be counted.
const GENERATIONS: std::ops::Range<u64> = 1..u64::MAX;

/// A record in one directory. Two processes may share it only under a [`crate::lock::StateLock`].
#[derive(Debug, Clone)]
pub struct RecordFile {
    dir: PathBuf,
    name: String,
}

/// What [`RecordFile::load`] found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Loaded {
    /// The newest readable generation.
    Record {
        /// The saved bytes.
        bytes: Vec<u8>,
        /// Counts the saves from 1.
        generation: u64,
        /// A file that was damaged, when the value comes from the other one. It may have been the
        /// newer one: the caller then continues from the state before the last save.
        damaged: Option<PathBuf>,
    },
    /// Nothing was ever saved, or nothing readable is left.
    Empty {
        /// Where the damaged file was put aside, when there was one.
        broken: Option<PathBuf>,
    },
}

impl Loaded {
    /// The saved bytes, if any.
    #[must_use]
    pub fn bytes(&self) -> Option<&[u8]> {
        match self {
            Loaded::Record { bytes, .. } => Some(bytes),
            Loaded::Empty { .. } => None,
        }
    }
}

/// Why a record could not be loaded or saved.
#[derive(Debug, thiserror::Error)]
pub enum RecordError {
    /// The file system refused.
    #[error(transparent)]
    Fs(#[from] FsError),
    /// The value is larger than [`RECORD_BYTES_MAX`].
    #[error("the record {name} would be {bytes} bytes; the limit is {RECORD_BYTES_MAX}")]
    TooLarge {
        /// Name of the record.
        name: String,
        /// Size asked for.
        bytes: usize,
    },
}

impl RecordError {
    /// True when the disk is full.
    #[must_use]
    pub fn is_full(&self) -> bool {
        matches!(self, RecordError::Fs(error) if error.is_full())
    }
}

enum Slot {
    Absent,
    Valid { generation: u64, bytes: Vec<u8> },
    Damaged,
}

impl RecordFile {
    /// Names the record; touches no file.
    pub fn open(dir: impl Into<PathBuf>, name: impl Into<String>) -> Self {
        Self {
            dir: dir.into(),
            name: name.into(),
        }
    }

    /// The newest readable generation. When nothing is readable but damaged files exist they are
    /// renamed to `*.broken`, so that the next save starts afresh and the evidence stays.
    ///
    /// # Errors
    /// When a file exists but the operating system refuses to read it: nothing is decided then.
    pub fn load(&self) -> Result<Loaded, RecordError> {
        let mut best: Option<(u64, Vec<u8>)> = None;
        let mut damaged = Vec::new();
        for path in self.slots() {
            match read_slot(&path)? {
                Slot::Absent => {}
                Slot::Damaged => damaged.push(path),
                Slot::Valid { generation, bytes } => {
                    if best.as_ref().is_none_or(|(newest, _)| generation > *newest) {
                        best = Some((generation, bytes));
                    }
                }
            }
        }
        if let Some((generation, bytes)) = best {
            return Ok(Loaded::Record {
                bytes,
                generation,
                damaged: damaged.into_iter().next(),
            });
        }
        let mut broken = None;
        for path in damaged {
            let aside = path.with_extension(match path.extension().and_then(|e| e.to_str()) {
                Some("b") => "b.broken",
                _ => "a.broken",
            });
            std::fs::rename(&path, &aside).context("put aside", &path)?;
            broken.get_or_insert(aside);
        }
        if broken.is_some() {
            fs::sync_dir(&self.dir)?;
        }
        Ok(Loaded::Empty { broken })
    }

    /// Makes `bytes` the newest generation. When this returns, the value survives a power cut.
    ///
    /// # Errors
    /// When the value is too large or the disk refuses; the value before is then still loaded.
    pub fn save(&self, bytes: &[u8]) -> Result<(), RecordError> {
        if bytes.len() > RECORD_BYTES_MAX {
            return Err(RecordError::TooLarge {
                name: self.name.clone(),
                bytes: bytes.len(),
            });
        }
        let [a, b] = self.slots();
        let (generation_a, generation_b) = (generation_of(&a)?, generation_of(&b)?);
        // the older, damaged or absent file gives way; the newest stays untouched
        let (victim, other, newest) = if generation_a <= generation_b {
            (a, b, generation_b)
        } else {
            (b, a, generation_a)
        };
        let temp = self.dir.join(format!("{}.tmp", self.name));
        let next = Some(newest + 1).filter(|next| GENERATIONS.contains(next));
        write_temp(&temp, &encode(next.unwrap_or(1), bytes))?;
        std::fs::rename(&temp, &victim).context("replace", &victim)?;
        fs::sync_dir(&self.dir)?;
        if next.is_none() {
            // no device saves so often; a file may say so all the same. The count begins anew with its end
            std::fs::remove_file(&other).context("remove", &other)?;
            fs::sync_dir(&self.dir)?;
        }
        Ok(())
    }

    fn slots(&self) -> [PathBuf; 2] {
        [
            self.dir.join(format!("{}.a", self.name)),
            self.dir.join(format!("{}.b", self.name)),
        ]
    }
}

fn write_temp(path: &Path, image: &[u8]) -> Result<(), FsError> {
    use std::io::Write;
    let mut file = fs::create(path, 0o600)?;
    let written = file.write_all(image).and_then(|()| file.sync_all());
    if written.is_err() {
        // gives the space back on a full disk; the save has failed either way
        let _ = std::fs::remove_file(path);
    }
    written.context("write", path)
}

/// 0 for an absent or damaged file, so that it is the one to be replaced.
fn generation_of(path: &Path) -> Result<u64, FsError> {
    Ok(match read_slot(path)? {
        Slot::Valid { generation, .. } => generation,
        Slot::Absent | Slot::Damaged => 0,
    })
}

fn read_slot(path: &Path) -> Result<Slot, FsError> {
    let limit = (RECORD_BYTES_MAX + HEADER_BYTES) as u64;
    let image = match std::fs::metadata(path) {
        Ok(meta) if !meta.is_file() || meta.len() > limit => return Ok(Slot::Damaged),
        Ok(_) => fs::read_bounded(path, limit)?,
        Err(cause) if cause.kind() == io::ErrorKind::NotFound => return Ok(Slot::Absent),
        Err(cause) => return Err(FsError::new("inspect", path, cause)),
    };
    Ok(match decode(&image) {
        Some((generation, bytes)) => Slot::Valid {
            generation,
            bytes: bytes.to_vec(),
        },
        None => Slot::Damaged,
    })
}

fn encode(generation: u64, bytes: &[u8]) -> Vec<u8> {
    let mut image = Vec::with_capacity(HEADER_BYTES + bytes.len());
    image.extend_from_slice(MAGIC);
    image.extend_from_slice(&generation.to_le_bytes());
    image.extend_from_slice(&(bytes.len() as u64).to_le_bytes());
    image.extend_from_slice(&checksum(&image, bytes).to_le_bytes());
    image.extend_from_slice(bytes);
    image
}

fn decode(image: &[u8]) -> Option<(u64, &[u8])> {
    let (header, bytes) = image.split_at_checked(HEADER_BYTES)?;
    let (covered, sum) = header.split_at_checked(HEADER_BYTES - 4)?;
    let generation = u64::from_le_bytes(covered.get(8..16)?.try_into().ok()?);
    let length = u64::from_le_bytes(covered.get(16..24)?.try_into().ok()?);
    let valid = covered.starts_with(MAGIC)
        && GENERATIONS.contains(&generation)
        && length == bytes.len() as u64
        && sum == checksum(covered, bytes).to_le_bytes();
    valid.then_some((generation, bytes))
}

fn checksum(header: &[u8], bytes: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(header);
    hasher.update(bytes);
    hasher.finalize()
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests fail loudly")]
mod tests {
    use super::*;

    fn loaded(record: &RecordFile) -> Option<Vec<u8>> {
        record.load().unwrap().bytes().map(<[u8]>::to_vec)
    }

    /// A record that was saved as `old`, and the image the save of `new` would produce.
    fn before_second_save() -> (tempfile::TempDir, RecordFile, Vec<u8>) {
        let dir = tempfile::tempdir().unwrap();
        let record = RecordFile::open(dir.path(), "state");
        record.save(b"older").unwrap();
        record.save(b"old value").unwrap();
        (dir, record, encode(3, b"the new value"))
    }

    #[test]
    fn a_count_at_its_end_begins_anew() {
        let dir = tempfile::tempdir().unwrap();
        let record = RecordFile::open(dir.path(), "state");
        let last = GENERATIONS.end - 1;
        std::fs::write(dir.path().join("state.b"), encode(last, b"last")).unwrap();
        assert_eq!(loaded(&record).unwrap(), b"last");
        for value in [b"first of the new count".as_slice(), b"second"] {
            record.save(value).unwrap();
            assert_eq!(loaded(&record).unwrap(), value);
        }
    }

    #[test]
    fn saves_are_read_back_and_the_previous_is_kept() {
        let dir = tempfile::tempdir().unwrap();
        let record = RecordFile::open(dir.path(), "state");
        assert_eq!(record.load().unwrap(), Loaded::Empty { broken: None });
        for value in 0..5u8 {
            record.save(&[value; 100]).unwrap();
            assert_eq!(loaded(&record).unwrap(), [value; 100]);
        }
        let [a, b] = record.slots();
        let generations = [generation_of(&a).unwrap(), generation_of(&b).unwrap()];
        assert_eq!(generations, [5, 4]);
    }

    #[test]
    fn a_generation_that_no_save_can_follow_is_damage() {
        let (dir, record, _) = before_second_save();
        std::fs::write(dir.path().join("state.a"), encode(u64::MAX, b"last")).unwrap();
        assert_eq!(loaded(&record).unwrap(), b"old value");
        record.save(b"new value").unwrap();
        assert_eq!(loaded(&record).unwrap(), b"new value");
    }

    #[test]
    fn a_power_cut_while_the_temporary_file_is_written_keeps_the_old_value() {
        let (dir, record, image) = before_second_save();
        for cut in 0..=image.len() {
            std::fs::write(dir.path().join("state.tmp"), &image[..cut]).unwrap();
            assert_eq!(loaded(&record).unwrap(), b"old value", "cut at byte {cut}");
        }
        // and the next save works over the leftovers
        record.save(b"later").unwrap();
        assert_eq!(loaded(&record).unwrap(), b"later");
    }

    #[test]
    fn a_rename_over_torn_data_falls_back_to_the_previous_value() {
        let (_dir, record, image) = before_second_save();
        let [a, _] = record.slots();
        for cut in 0..image.len() {
            std::fs::write(&a, &image[..cut]).unwrap();
            let Loaded::Record { bytes, damaged, .. } = record.load().unwrap() else {
                panic!("nothing readable after a cut at byte {cut}");
            };
            assert_eq!(
                (bytes.as_slice(), damaged),
                (&b"old value"[..], Some(a.clone()))
            );
        }
        std::fs::write(&a, &image).unwrap();
        assert_eq!(loaded(&record).unwrap(), b"the new value");
    }

    #[test]
    fn every_flipped_bit_of_the_newest_is_noticed() {
        let (_dir, record, image) = before_second_save();
        let [a, _] = record.slots();
        for bit in 0..image.len() * 8 {
            let mut torn = image.clone();
            torn[bit / 8] ^= 1 << (bit % 8);
            std::fs::write(&a, &torn).unwrap();
            assert_eq!(loaded(&record).unwrap(), b"old value", "bit {bit}");
        }
    }

    #[test]
    fn a_damaged_file_is_the_one_replaced_by_the_next_save() {
        let (_dir, record, _) = before_second_save();
        let [a, b] = record.slots();
        std::fs::write(&b, b"junk").unwrap();
        assert_eq!(loaded(&record).unwrap(), b"older");
        record.save(b"next").unwrap();
        assert_eq!(generation_of(&a).unwrap(), 1);
        assert_eq!(loaded(&record).unwrap(), b"next");
    }

    #[test]
    fn both_damaged_are_put_aside_and_life_goes_on() {
        let (_dir, record, _) = before_second_save();
        for path in record.slots() {
            std::fs::write(path, b"AMBXREC1 but nothing more").unwrap();
        }
        let Loaded::Empty {
            broken: Some(aside),
        } = record.load().unwrap()
        else {
            panic!("damaged files were not put aside");
        };
        assert!(aside.exists() && aside.to_string_lossy().ends_with(".broken"));
        assert_eq!(record.load().unwrap(), Loaded::Empty { broken: None });
        record.save(b"fresh").unwrap();
        assert_eq!(loaded(&record).unwrap(), b"fresh");
    }

    #[test]
    fn the_size_limit_holds() {
        let dir = tempfile::tempdir().unwrap();
        let record = RecordFile::open(dir.path(), "state");
        record.save(&vec![7; RECORD_BYTES_MAX]).unwrap();
        let error = record.save(&vec![7; RECORD_BYTES_MAX + 1]).unwrap_err();
        assert!(error.to_string().contains("limit"), "{error}");
        assert_eq!(loaded(&record).unwrap().len(), RECORD_BYTES_MAX);
    }

    #[test]
    fn an_unwritable_directory_is_an_error_that_names_it() {
        let record = RecordFile::open("/proc/self", "state");
        let error = record.save(b"x").unwrap_err().to_string();
        assert!(error.contains("/proc/self/state.tmp"), "{error}");
    }

    proptest::proptest! {
        #[test]
        fn decoding_anything_never_panics(image in proptest::collection::vec(proptest::num::u8::ANY, 0..64)) {
            let _ = decode(&image);
        }
    }
}

//! The U-Boot environment, read and written natively: one copy or a redundant pair, in files or
//! on block devices.
//!
//! A redundant pair is written by replacing the copy that does not count, with a higher counter
//! and its own checksum, in one write and one flush: torn, it fails its checksum and the other
//! copy still counts. A single copy in a file is replaced by rename; on a block device a power
//! cut can damage it, which is why boards should use two.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, FileTypeExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use ambidex_platform::fs::{self, Context, FsError};

use super::fw_config::{self, Location};
use super::uboot_image::{Image, decode, encode, second_is_newer};
use super::{BootConfig, BootError};

const CONFIG_BYTES_MAX: u64 = 64 * 1024;
const DEFAULTS_BYTES_MAX: u64 = 4 * 1024 * 1024;
/// A file that is replaced as a whole, with the environment somewhere in it.
const FILE_BYTES_MAX: u64 = 64 * 1024 * 1024;

/// Shared with `fw_printenv` and `fw_setenv`, so that a write of theirs is never lost.
const LOCK: &str = "/var/lock/fw_printenv.lock";
const LOCK_WAIT: Duration = Duration::from_secs(5);

/// The environment of one `fw_env.config`.
#[derive(Debug, Clone)]
pub struct UbootEnv {
    copies: Vec<Location>,
    defaults: PathBuf,
}

impl UbootEnv {
    /// Reads the configuration and checks that it can be used natively.
    ///
    /// # Errors
    /// When it cannot be read, is malformed, or names a flash device (MTD, UBI), for which
    /// `fw_setenv` is needed.
    pub fn open(config: &BootConfig) -> Result<Self, BootError> {
        let path = &config.fw_env_config;
        let bytes = fs::read_bounded(path, CONFIG_BYTES_MAX)?;
        let copies = fw_config::parse(&String::from_utf8_lossy(&bytes)).map_err(|problem| {
            BootError::Configuration(format!("{}: {problem}", path.display()))
        })?;
        for copy in &copies {
            let device = &copy.device;
            let kind = std::fs::metadata(device).map(|meta| meta.file_type());
            match kind {
                Ok(kind) if kind.is_file() || kind.is_block_device() => {}
                // a file that U-Boot has not created yet
                Err(error)
                    if error.kind() == io::ErrorKind::NotFound && !device.starts_with("/dev") => {}
                Err(cause) => return Err(FsError::new("inspect", device, cause).into()),
                Ok(_) => {
                    return Err(BootError::Configuration(format!(
                        "{}: {} is neither a file nor a block device; install fw_printenv and fw_setenv and set [boot] kind = \"tools\"",
                        path.display(),
                        device.display()
                    )));
                }
            }
        }
        Ok(Self {
            copies,
            defaults: config.uboot_defaults.clone(),
        })
    }

    fn redundant(&self) -> bool {
        self.copies.len() > 1
    }

    pub(super) fn read(&self) -> Result<BTreeMap<String, String>, BootError> {
        let _lock = lock()?;
        Ok(self.current()?.0.vars().collect())
    }

    pub(super) fn write(&self, changes: &[(&str, &str)]) -> Result<(), BootError> {
        let _lock = lock()?;
        let (place, bytes) = self.plan(changes)?;
        let copy = &self.copies[place];
        write_copy(copy, &bytes, self.redundant()).map_err(BootError::from)
    }

    /// Which copy is replaced, and by what.
    fn plan(&self, changes: &[(&str, &str)]) -> Result<(usize, Vec<u8>), BootError> {
        let (mut image, current) = self.current()?;
        for (key, value) in changes {
            image.set(key, value);
        }
        let place = match (self.redundant(), current) {
            (true, Some(0)) => 1,
            _ => 0,
        };
        image.flags = image.flags.wrapping_add(1);
        let size = self.copies[place].bytes;
        let bytes = encode(&image, size, self.redundant()).map_err(|needed| {
            BootError::Values(format!(
                "they take {needed} bytes; the environment has {size}"
            ))
        })?;
        Ok((place, bytes))
    }

    /// What counts, and in which copy it stands; `None` for the defaults.
    fn current(&self) -> Result<(Image, Option<usize>), BootError> {
        let mut images = Vec::new();
        let mut problems = Vec::new();
        for (place, copy) in self.copies.iter().enumerate() {
            match read_copy(copy)?.and_then(|bytes| decode(&bytes, self.redundant())) {
                Some(image) => images.push((image, Some(place))),
                None => problems.push(format!(
                    "{} at {:#x} has no valid checksum",
                    copy.device.display(),
                    copy.offset
                )),
            }
        }
        if let [(first, _), (second, _)] = images.as_slice()
            && second_is_newer(first.flags, second.flags)
        {
            images.swap(0, 1);
        }
        if let Some(current) = images.into_iter().next() {
            for problem in problems {
                log::warn!("{problem}; using the other copy, the next write repairs it");
            }
            return Ok(current);
        }
        match self.default_image()? {
            Some(image) => Ok((image, None)),
            None => Err(BootError::Damaged(problems.join("; "))),
        }
    }

    fn default_image(&self) -> Result<Option<Image>, FsError> {
        let Some(text) = fs::read_if_present(&self.defaults, DEFAULTS_BYTES_MAX)? else {
            return Ok(None);
        };
        let entries = text
            .split(|byte| matches!(byte, b'\n' | 0))
            .filter(|line| line.contains(&b'=') && !line.starts_with(b"#"))
            .map(<[u8]>::to_vec)
            .collect();
        Ok(Some(Image { flags: 0, entries }))
    }
}

fn offset_of(copy: &Location) -> Result<u64, FsError> {
    if let Ok(offset) = u64::try_from(copy.offset) {
        return Ok(offset);
    }
    let metadata = std::fs::metadata(&copy.device).context("inspect", &copy.device)?;
    let size = if metadata.file_type().is_block_device() {
        fs::block_device_size(&copy.device)?
    } else {
        metadata.len()
    };
    size.checked_sub(copy.offset.unsigned_abs()).ok_or_else(|| {
        let cause = io::Error::other(format!("its offset {} lies before its start", copy.offset));
        FsError::new("use", &copy.device, cause)
    })
}

/// The bytes of a copy; `None` when the device ends before it or cannot be read there.
fn read_copy(copy: &Location) -> Result<Option<Vec<u8>>, FsError> {
    let file = match File::open(&copy.device) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(cause) => return Err(FsError::new("open", &copy.device, cause)),
    };
    let mut bytes = vec![0; copy.bytes];
    let read = offset_of(copy).and_then(|offset| {
        file.read_exact_at(&mut bytes, offset)
            .context("read the environment in", &copy.device)
    });
    match read {
        Ok(()) => Ok(Some(bytes)),
        Err(error) => {
            log::warn!("{error}");
            Ok(None)
        }
    }
}

fn write_copy(copy: &Location, bytes: &[u8], redundant: bool) -> Result<(), FsError> {
    let path = &copy.device;
    let offset = offset_of(copy)?;
    let kind = std::fs::metadata(path).map(|meta| (meta.file_type(), meta.permissions().mode()));
    if let (false, Ok((kind, mode))) = (redundant, &kind)
        && kind.is_file()
    {
        return replace_in_file(path, offset, bytes, *mode);
    }
    let fresh = kind.is_err();
    let file = OpenOptions::new()
        .write(true)
        .create(fresh)
        .open(path)
        .context("open", path)?;
    file.write_all_at(bytes, offset).context("write", path)?;
    file.sync_all().context("flush", path)?;
    if fresh && let Some(dir) = path.parent() {
        fs::sync_dir(dir)?;
    }
    Ok(())
}

/// A single copy in a file has no second one to fall back on: the file is replaced as a whole.
fn replace_in_file(path: &Path, offset: u64, bytes: &[u8], mode: u32) -> Result<(), FsError> {
    let real = std::fs::canonicalize(path).context("resolve", path)?;
    let mut whole = fs::read_bounded(&real, FILE_BYTES_MAX)?;
    let start = usize::try_from(offset)
        .ok()
        .filter(|start| *start as u64 <= FILE_BYTES_MAX)
        .ok_or_else(|| FsError::new("write", path, io::ErrorKind::FileTooLarge.into()))?;
    let end = start + bytes.len();
    if whole.len() < end {
        whole.resize(end, 0);
    }
    whole[start..end].copy_from_slice(bytes);
    fs::write_durable(&real, &whole, mode & 0o7777)
}

/// Waits for the tools to finish; without the lock directory there is nobody to wait for.
fn lock() -> Result<Option<File>, BootError> {
    let opened = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(false)
        .open(LOCK);
    let Ok(file) = opened else {
        return Ok(None);
    };
    let started = ambidex_platform::clock::monotonic();
    while file.try_lock().is_err() {
        if started.elapsed() > LOCK_WAIT {
            return Err(BootError::Tool(format!(
                "{LOCK} is held by another program for more than {} s; wait for fw_setenv to end",
                LOCK_WAIT.as_secs()
            )));
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    Ok(Some(file))
}

#[cfg(test)]
#[path = "uboot_tests.rs"]
mod tests;

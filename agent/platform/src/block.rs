//! A storage slot opened for writing: a block device, or a plain file where there is none
//! (emulation and tests).
//!
//! Owns the system calls that keep a long write from flooding the page cache: write-back is
//! started early, waited for a little later, and the pages are then given back.
//! Decides nothing about which slot may be written; [`in_use`] answers the question whether
//! somebody has it mounted.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileExt, FileTypeExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use crate::fs::{Context, FsError};
use crate::mounts::{self, DeviceNumber};

#[cfg(target_pointer_width = "64")]
nix::ioctl_read!(blkgetsize64, 0x12, 114, u64);

/// Size in bytes of an open block device.
pub(crate) fn device_bytes(file: &File) -> io::Result<u64> {
    let mut bytes: u64 = 0;
    // SAFETY: BLKGETSIZE64 writes one u64 through the pointer, which lives until the call returns.
    let result = unsafe { request_bytes(file, &raw mut bytes) };
    result.map_err(io::Error::from)?;
    Ok(bytes)
}

#[cfg(target_pointer_width = "64")]
unsafe fn request_bytes(file: &File, bytes: *mut u64) -> nix::Result<i32> {
    // SAFETY: forwarded from the caller.
    unsafe { blkgetsize64(file.as_raw_fd(), bytes) }
}

#[cfg(not(target_pointer_width = "64"))]
unsafe fn request_bytes(file: &File, bytes: *mut u64) -> nix::Result<i32> {
    // the kernel's header spells the argument size_t: 4 bytes in the number, 8 bytes stored
    const BLKGETSIZE64: nix::libc::c_ulong = 0x8004_1272;
    // SAFETY: forwarded from the caller.
    nix::errno::Errno::result(unsafe {
        nix::libc::ioctl(file.as_raw_fd(), BLKGETSIZE64 as _, bytes)
    })
}

/// An open slot.
#[derive(Debug)]
pub struct Slot {
    file: File,
    path: PathBuf,
    bytes: u64,
    is_device: bool,
}

impl Slot {
    /// Opens a slot for reading and writing. A block device is opened exclusively (`O_EXCL`), so
    /// the kernel refuses when a file system, swap or device mapper holds it.
    ///
    /// # Errors
    /// When it cannot be opened or is neither a block device nor a regular file.
    pub fn open(path: &Path) -> Result<Self, FsError> {
        let kind = std::fs::metadata(path)
            .context("inspect", path)?
            .file_type();
        let is_device = kind.is_block_device();
        if !is_device && !kind.is_file() {
            let cause = io::Error::new(
                io::ErrorKind::InvalidInput,
                "it is neither a block device nor a regular file",
            );
            return Err(FsError::new("use as a slot", path, cause));
        }
        let flags = if is_device { nix::libc::O_EXCL } else { 0 };
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .custom_flags(flags)
            .open(path)
            .context("open", path)?;
        let bytes = if is_device {
            device_bytes(&file).context("measure", path)?
        } else {
            file.metadata().context("measure", path)?.len()
        };
        Ok(Self {
            file,
            path: path.to_owned(),
            bytes,
            is_device,
        })
    }

    /// Where it was opened.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Its capacity in bytes. A plain file stands for a slot of exactly its size.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// False for a plain file.
    #[must_use]
    pub fn is_device(&self) -> bool {
        self.is_device
    }

    /// Reads exactly `buffer.len()` bytes.
    ///
    /// # Errors
    /// When the device fails or ends before.
    pub fn read_at(&self, buffer: &mut [u8], offset: u64) -> Result<(), FsError> {
        self.file
            .read_exact_at(buffer, offset)
            .context("read", &self.path)
    }

    /// Writes all bytes.
    ///
    /// # Errors
    /// When the device fails or is full.
    pub fn write_at(&self, bytes: &[u8], offset: u64) -> Result<(), FsError> {
        self.file
            .write_all_at(bytes, offset)
            .context("write", &self.path)
    }

    /// Announces that the slot is read from start to end, so that the kernel reads ahead.
    pub fn expect_sequential(&self) {
        self.advise(0, 0, nix::fcntl::PosixFadviseAdvice::POSIX_FADV_SEQUENTIAL);
    }

    /// Asks the kernel to read a range ahead of its use.
    pub fn will_need(&self, offset: u64, bytes: u64) {
        self.advise(
            offset,
            bytes,
            nix::fcntl::PosixFadviseAdvice::POSIX_FADV_WILLNEED,
        );
    }

    /// Gives the clean pages of a range back.
    pub fn forget(&self, offset: u64, bytes: u64) {
        self.advise(
            offset,
            bytes,
            nix::fcntl::PosixFadviseAdvice::POSIX_FADV_DONTNEED,
        );
    }

    fn advise(&self, offset: u64, bytes: u64, advice: nix::fcntl::PosixFadviseAdvice) {
        if let (Ok(offset), Ok(bytes)) = (offset.try_into(), bytes.try_into()) {
            // advice only: a kernel that does not take it loses nothing but speed
            let _ = nix::fcntl::posix_fadvise(&self.file, offset, bytes, advice);
        }
    }

    /// Starts writing the dirty pages of a range to the device, without waiting for them.
    ///
    /// # Errors
    /// When the device reports a failed write.
    pub fn start_write_back(&self, offset: u64, bytes: u64) -> Result<(), FsError> {
        self.sync_range(offset, bytes, nix::libc::SYNC_FILE_RANGE_WRITE)
    }

    /// Waits until the dirty pages of a range are on the device. Not a durability promise: the
    /// device's own cache is flushed by [`Slot::sync`] only.
    ///
    /// # Errors
    /// When the device reports a failed write.
    pub fn wait_write_back(&self, offset: u64, bytes: u64) -> Result<(), FsError> {
        self.sync_range(
            offset,
            bytes,
            nix::libc::SYNC_FILE_RANGE_WAIT_BEFORE
                | nix::libc::SYNC_FILE_RANGE_WRITE
                | nix::libc::SYNC_FILE_RANGE_WAIT_AFTER,
        )
    }

    fn sync_range(&self, offset: u64, bytes: u64, flags: u32) -> Result<(), FsError> {
        let (Ok(offset), Ok(bytes)) = (offset.try_into(), bytes.try_into()) else {
            return self.sync();
        };
        // SAFETY: the descriptor is open for the lifetime of `self`; no memory is passed.
        let result =
            unsafe { nix::libc::sync_file_range(self.file.as_raw_fd(), offset, bytes, flags) };
        match nix::errno::Errno::result(result) {
            Ok(_) => Ok(()),
            // not every kernel and file system offers it: the full flush bounds the dirty data too
            Err(
                nix::errno::Errno::ENOSYS | nix::errno::Errno::ESPIPE | nix::errno::Errno::EINVAL,
            ) => self.file.sync_data().context("flush", &self.path),
            Err(errno) => Err(FsError::new("write back", &self.path, errno.into())),
        }
    }

    /// Makes everything written so far durable, through the cache of the device.
    ///
    /// # Errors
    /// When the device reports a failed write.
    pub fn sync(&self) -> Result<(), FsError> {
        self.file.sync_all().context("flush", &self.path)
    }
}

/// Opens a slot that is in use, to read what it holds.
///
/// # Errors
/// When it cannot be opened.
pub fn open_to_read(path: &Path) -> Result<File, FsError> {
    File::open(path).context("open", path)
}

/// The number of the device node at `path`, `None` for anything but a block device.
///
/// # Errors
/// When `path` cannot be inspected.
pub fn device_number(path: &Path) -> Result<Option<DeviceNumber>, FsError> {
    let metadata = std::fs::metadata(path).context("inspect", path)?;
    Ok(metadata
        .file_type()
        .is_block_device()
        .then(|| DeviceNumber::from_raw(metadata.rdev())))
}

/// The number of the device that holds the file system of `path`; anonymous (major 0) for
/// overlay and other file systems without a device.
///
/// # Errors
/// When `path` cannot be inspected.
pub fn holding_device(path: &Path) -> Result<DeviceNumber, FsError> {
    let metadata = std::fs::metadata(path).context("inspect", path)?;
    Ok(DeviceNumber::from_raw(metadata.dev()))
}

/// Where the block device at `path` is mounted, if it is.
///
/// # Errors
/// When the mount table cannot be read or `path` cannot be inspected.
pub fn in_use(path: &Path) -> Result<Option<PathBuf>, FsError> {
    let Some(number) = device_number(path)? else {
        return Ok(None);
    };
    let table = mounts::mounts()?;
    Ok(table
        .into_iter()
        .find(|mount| mount.device == number)
        .map(|mount| mount.mount_point))
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests fail loudly")]
mod tests {
    use super::*;

    #[test]
    fn a_plain_file_stands_for_a_slot_of_its_size() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("slot");
        std::fs::write(&path, vec![1; 8192]).unwrap();
        let slot = Slot::open(&path).unwrap();
        assert!(slot.bytes() == 8192 && !slot.is_device());
        slot.write_at(&[2; 4096], 4096).unwrap();
        slot.start_write_back(0, 8192).unwrap();
        slot.wait_write_back(0, 8192).unwrap();
        slot.forget(0, 8192);
        slot.sync().unwrap();
        let mut half = [0; 4096];
        slot.read_at(&mut half, 4096).unwrap();
        assert_eq!(half, [2; 4096]);
        assert!(slot.read_at(&mut half, 4097).is_err());
        assert_eq!(in_use(&path).unwrap(), None);
    }

    #[test]
    fn other_things_are_no_slots() {
        let text = Slot::open(Path::new("/dev/null")).unwrap_err().to_string();
        assert!(
            text.contains("neither a block device nor a regular file"),
            "{text}"
        );
        let text = Slot::open(Path::new("/no/slot")).unwrap_err().to_string();
        assert!(text.contains("/no/slot"), "{text}");
        let error = crate::fs::block_device_size(Path::new("/dev/null")).unwrap_err();
        assert!(error.to_string().contains("not a block device"), "{error}");
    }

    #[test]
    fn the_root_file_system_has_a_device_number() {
        assert_eq!(device_number(Path::new("/dev/null")).unwrap(), None);
        holding_device(Path::new("/")).unwrap();
    }
}

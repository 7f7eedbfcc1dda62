//! Named pipes towards another process, written from a blocking thread that can always be
//! stopped: nothing here waits in the kernel without looking around every few milliseconds.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::stat::Mode;

use crate::fs::{Context, FsError};

/// How often a waiting writer looks whether it should stop.
const LOOK_AROUND: Duration = Duration::from_millis(20);

/// Creates a FIFO.
///
/// # Errors
/// When the file system refuses.
pub fn make(path: &Path, mode: u32) -> Result<(), FsError> {
    #[expect(
        clippy::useless_conversion,
        reason = "mode_t is not u32 on every target"
    )]
    let mode = Mode::from_bits_truncate(mode.into());
    nix::unistd::mkfifo(path, mode).context("create the FIFO", path)
}

/// How an attempt to write ended.
#[derive(Debug, PartialEq, Eq, Clone, Copy)]
pub enum Delivery {
    /// All bytes are in the pipe.
    Done,
    /// The reader has closed its end.
    ReaderGone,
    /// `stop` said so.
    Stopped,
}

/// The writing end of a FIFO.
#[derive(Debug)]
pub struct FifoWriter {
    file: File,
    path: PathBuf,
}

impl FifoWriter {
    /// Waits until somebody opens the reading end; `None` when `stop` answers true before.
    ///
    /// # Errors
    /// When the FIFO cannot be opened for another reason than a missing reader.
    pub fn open(path: &Path, stop: &dyn Fn() -> bool) -> Result<Option<Self>, FsError> {
        loop {
            let attempt = OpenOptions::new()
                .write(true)
                .custom_flags(nix::libc::O_NONBLOCK | nix::libc::O_NOFOLLOW)
                .open(path);
            match attempt {
                Ok(file) => {
                    return Ok(Some(Self {
                        file,
                        path: path.to_owned(),
                    }));
                }
                // no reader yet
                Err(error) if error.raw_os_error() == Some(Errno::ENXIO as i32) => {
                    if stop() {
                        return Ok(None);
                    }
                    std::thread::sleep(LOOK_AROUND / 4);
                }
                Err(cause) => return Err(FsError::new("open the FIFO", path, cause)),
            }
        }
    }

    /// Writes everything, waiting for the reader as long as `stop` answers false.
    ///
    /// # Errors
    /// Anything but a reader that went away.
    pub fn write_all(
        &mut self,
        mut bytes: &[u8],
        stop: &dyn Fn() -> bool,
    ) -> Result<Delivery, FsError> {
        while !bytes.is_empty() {
            match self.file.write(bytes) {
                Ok(written) => bytes = &bytes[written..],
                Err(error) => match error.kind() {
                    io::ErrorKind::Interrupted => {}
                    io::ErrorKind::BrokenPipe => return Ok(Delivery::ReaderGone),
                    io::ErrorKind::WouldBlock => {
                        if stop() {
                            return Ok(Delivery::Stopped);
                        }
                        self.wait_writable()?;
                    }
                    _ => return Err(FsError::new("write to the FIFO", &self.path, error)),
                },
            }
        }
        Ok(Delivery::Done)
    }

    fn wait_writable(&self) -> Result<(), FsError> {
        let mut entries = [PollFd::new(self.file.as_fd(), PollFlags::POLLOUT)];
        let timeout = PollTimeout::try_from(LOOK_AROUND).unwrap_or(PollTimeout::ZERO);
        match poll(&mut entries, timeout) {
            Ok(_) | Err(Errno::EINTR) => Ok(()),
            Err(errno) => Err(FsError::new("wait for the FIFO", &self.path, errno.into())),
        }
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests fail loudly")]
mod tests {
    use super::*;
    use std::io::Read;

    #[test]
    fn more_than_a_pipe_holds_arrives_whole() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("fifo");
        make(&path, 0o600).unwrap();
        let reading = path.clone();
        let reader = std::thread::spawn(move || {
            let mut bytes = Vec::new();
            File::open(reading)
                .unwrap()
                .read_to_end(&mut bytes)
                .unwrap();
            bytes
        });
        let sent: Vec<u8> = (0..300_000u32).map(|n| n as u8).collect();
        let mut writer = FifoWriter::open(&path, &|| false).unwrap().unwrap();
        assert_eq!(writer.write_all(&sent, &|| false).unwrap(), Delivery::Done);
        drop(writer);
        assert!(reader.join().unwrap() == sent);
    }

    #[test]
    fn a_reader_that_never_comes_or_leaves_early_does_not_hold_us() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("fifo");
        make(&path, 0o600).unwrap();
        assert!(FifoWriter::open(&path, &|| true).unwrap().is_none());

        // a reader that opens without blocking, as the writer does
        let reader = OpenOptions::new()
            .read(true)
            .custom_flags(nix::libc::O_NONBLOCK)
            .open(&path)
            .unwrap();
        let mut writer = FifoWriter::open(&path, &|| false).unwrap().unwrap();
        let full = vec![0; 1 << 20];
        assert_eq!(
            writer.write_all(&full, &|| true).unwrap(),
            Delivery::Stopped
        );
        drop(reader);
        assert_eq!(
            writer.write_all(b"x", &|| false).unwrap(),
            Delivery::ReaderGone
        );
    }
}

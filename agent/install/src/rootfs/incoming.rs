//! An image on its way from the artifact into the slot: as it is, or as its difference to the one that runs.

use std::io::{self, Read};
use std::path::Path;

use ambidex_artifact::{PayloadFile, Sha256Digest};
use ambidex_delta::{ApplyError, apply};
use ambidex_platform::block::{self, Slot};
use ambidex_platform::fs::FsError;

use super::DownloadError;
use crate::context::{CancelFlag, Progress};
use crate::handler::HandlerError;
use crate::sink::{BlockSink, Written};

/// What the slot must hold afterwards.
pub(super) struct Image {
    pub bytes: u64,
    pub sha256: Sha256Digest,
}

pub(super) struct Incoming<'a> {
    name: String,
    sink: BlockSink,
    room: Room,
    done: u64,
    /// Size of the image.
    total: u64,
    progress: &'a dyn Progress,
    cancel: &'a CancelFlag,
}

/// The slot, which the sink has taken.
struct Room {
    slot: std::path::PathBuf,
    bytes: u64,
}

impl<'a> Incoming<'a> {
    pub fn new<R: Read>(
        file: &PayloadFile<'_, R>,
        slot: Slot,
        progress: &'a dyn Progress,
        cancel: &'a CancelFlag,
    ) -> Self {
        let room = Room {
            slot: slot.path().to_owned(),
            bytes: slot.bytes(),
        };
        Self {
            name: file.name().to_owned(),
            sink: BlockSink::new(slot),
            room,
            done: 0,
            total: 0,
            progress,
            cancel,
        }
    }

    /// The payload file is the image.
    pub fn whole<R: Read>(&mut self, mut file: PayloadFile<'_, R>) -> Result<Image, DownloadError> {
        let image = Image {
            bytes: file.size(),
            sha256: file.sha256_expected(),
        };
        self.begin(image.bytes)?;
        while let Some(chunk) = file.chunk()? {
            self.take(chunk)?;
        }
        Ok(image)
    }

    /// The payload file says how the image differs from the one in `running`. The artifact depends on the digest of
    /// that one, which was checked before; whether it was changed since shows in the digest of what comes out.
    pub fn difference<R: Read>(
        &mut self,
        mut file: PayloadFile<'_, R>,
        running: &Path,
    ) -> Result<Image, DownloadError> {
        let old = block::open_to_read(running)?;
        // two closures want the same thing, one after the other
        let this = std::cell::RefCell::new(self);
        let header = apply(
            &mut file,
            &old,
            |header| this.borrow_mut().begin(header.new.bytes),
            |piece| this.borrow_mut().take(piece),
        );
        let header = header.map_err(|error| match error {
            ApplyError::Taker(error) => error,
            ApplyError::Input(error) => unreadable(error),
            other => DownloadError::Handler(HandlerError::State(format!(
                "{}: {other}; deploy the whole image",
                running.display()
            ))),
        })?;
        Ok(Image {
            bytes: header.new.bytes,
            sha256: header.new.sha256.into(),
        })
    }

    /// Refuses what does not fit before anything is written.
    fn begin(&mut self, bytes: u64) -> Result<(), DownloadError> {
        if bytes > self.room.bytes {
            return Err(DownloadError::TooLarge {
                name: self.name.clone(),
                image: bytes,
                slot: self.room.slot.clone(),
                bytes: self.room.bytes,
            });
        }
        log::info!(
            "writing {} ({bytes} bytes) to {}",
            self.name,
            self.room.slot.display()
        );
        self.total = bytes;
        Ok(())
    }

    fn take(&mut self, piece: &[u8]) -> Result<(), DownloadError> {
        if self.cancel.is_cancelled() {
            return Err(DownloadError::Cancelled);
        }
        self.sink.write(piece)?;
        self.done += piece.len() as u64;
        self.progress.payload(&self.name, self.done, self.total);
        Ok(())
    }

    pub fn finish(self) -> Result<(Slot, Written), FsError> {
        self.sink.finish()
    }
}

/// What the reader of the artifact said, in its own words.
fn unreadable(error: io::Error) -> DownloadError {
    if error.kind() == io::ErrorKind::UnexpectedEof && error.get_ref().is_none() {
        return DownloadError::Handler(HandlerError::State(
            "the difference ends before the image is complete; the artifact is damaged, make it anew"
                .to_owned(),
        ));
    }
    DownloadError::Artifact(
        error
            .downcast::<ambidex_artifact::Error>()
            .unwrap_or_else(ambidex_artifact::Error::Source),
    )
}

//! What is received of an artifact is kept until the payload is in place, so that a restart does not begin at zero.
//!
//! [`Spooled`] stands between the download and whoever unpacks it: what comes over the network is written to a
//! [`Spool`] on its way, and what an earlier life has received is read from there first. The installation goes on
//! while the download does, and never waits for the spool's disk. Keeping is a service, never a condition: without
//! room, or when it cannot be written, the bytes just pass through.

use std::io::Read;

use ambidex_platform::{
    fs,
    spool::{self, Checkpoint, Spool},
};
use serde::{Deserialize, Serialize};

use crate::{
    api::{Beginning, Download, Position},
    config::DownloadConfig,
};

/// Between looks whether there is still room.
const ROOM_CHECK_BYTES: u64 = 1024 * 1024;

/// What a spool belongs to.
#[derive(Debug, Serialize, Deserialize)]
struct Label {
    deployment_id: String,
    total: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    etag: Option<String>,
}

/// What an earlier life has received of this deployment's artifact.
pub struct Kept {
    pub position: Position,
    spool: Spool,
    beginning: Box<dyn Read + Send>,
}

fn find(config: &DownloadConfig, deployment_id: &str) -> Option<(Checkpoint, Label)> {
    if !config.resume_after_restart {
        return None;
    }
    let checkpoint = Checkpoint::find(&config.directory)
        .map_err(|error| log::warn!("what was received before cannot be used: {error}"))
        .ok()??;
    let label: Label = serde_json::from_slice(checkpoint.label()).ok()?;
    let fits = label.deployment_id == deployment_id && checkpoint.offset() <= label.total;
    fits.then_some((checkpoint, label))
}

/// How much of this deployment's artifact is durable; `None` when its download cannot be taken up.
pub fn checkpoint(config: &DownloadConfig, deployment_id: &str) -> Option<u64> {
    find(config, deployment_id).map(|(checkpoint, _)| checkpoint.offset())
}

/// Verifies what an earlier life has received, if it did. Blocks.
pub fn take_up(config: &DownloadConfig, deployment_id: &str) -> Option<Kept> {
    let (checkpoint, label) = find(config, deployment_id)?;
    let position = Position {
        offset: checkpoint.offset(),
        total: label.total,
        etag: label.etag,
    };
    match checkpoint.resume(config.checkpoint_bytes) {
        Ok(Some((spool, beginning))) => {
            log::info!(
                "{} of {} bytes of the artifact are here already",
                position.offset,
                position.total
            );
            Some(Kept {
                position,
                spool,
                beginning: Box::new(beginning),
            })
        }
        Ok(None) => {
            log::warn!("what was received before is damaged; the download begins anew");
            None
        }
        Err(error) => {
            log::warn!("{error}; the download begins anew");
            None
        }
    }
}

/// Removes what is kept, whatever it belongs to.
pub fn discard(config: &DownloadConfig) {
    if let Err(error) = spool::remove(&config.directory) {
        log::warn!("{error}");
    }
}

/// See the module's text.
pub struct Spooled {
    download: Download,
    config: DownloadConfig,
    deployment_id: String,
    state: State,
}

enum State {
    /// No server has answered yet.
    Asking(Option<Kept>),
    Beginning(Box<dyn Read + Send>, Spool),
    Through(Option<Spool>),
}

impl Spooled {
    /// `download` begins where `kept` ends.
    pub fn new(
        download: Download,
        kept: Option<Kept>,
        config: DownloadConfig,
        deployment_id: String,
    ) -> Self {
        Self {
            download,
            config,
            deployment_id,
            state: State::Asking(kept),
        }
    }

    /// A spool for a download from its first byte, if there is to be one.
    fn spool(&self, position: Option<Position>) -> Option<Spool> {
        discard(&self.config);
        let position = position.filter(|_| self.config.resume_after_restart)?;
        // the payload may need as much again
        let needed = position.total.saturating_mul(2);
        match spool::has_room(&self.config.directory, needed, self.config.keep_free_bytes) {
            Ok(true) => {}
            Ok(false) => {
                log::info!(
                    "'{}' has no room for {} bytes twice: a restart would end the download",
                    self.config.directory.display(),
                    position.total
                );
                return None;
            }
            Err(error) => return unkept(&error),
        }
        let label = Label {
            deployment_id: self.deployment_id.clone(),
            total: position.total,
            etag: position.etag,
        };
        let label = serde_json::to_vec(&label).ok()?;
        Spool::create(&self.config.directory, &label, self.config.checkpoint_bytes)
            .map_or_else(|error| unkept(&error), Some)
    }

    /// Keeps what came, as long as that does no harm.
    fn keep(&mut self, bytes: &[u8]) {
        let State::Through(slot) = &mut self.state else {
            return;
        };
        let Some(spool) = slot else { return };
        let before = spool.offset();
        let mut kept = spool.append(bytes);
        if before / ROOM_CHECK_BYTES != spool.offset() / ROOM_CHECK_BYTES && kept.is_ok() {
            kept = room_left(&self.config);
        }
        if let Err(error) = kept {
            unkept(&error);
            *slot = None;
            discard(&self.config);
        }
    }
}

fn room_left(config: &DownloadConfig) -> Result<(), fs::FsError> {
    if fs::free_bytes(&config.directory)? >= config.keep_free_bytes {
        return Ok(());
    }
    let full = std::io::Error::from(std::io::ErrorKind::StorageFull);
    Err(fs::FsError::new(
        "keep the download in",
        &config.directory,
        full,
    ))
}

fn unkept(error: &dyn std::fmt::Display) -> Option<Spool> {
    log::warn!("{error}; a restart would end the download");
    None
}

impl Read for Spooled {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        loop {
            match &mut self.state {
                State::Asking(kept) => {
                    let beginning = self.download.beginning()?;
                    self.state = match (beginning, kept.take()) {
                        (Beginning::Rest, Some(kept)) => {
                            State::Beginning(kept.beginning, kept.spool)
                        }
                        (Beginning::Rest, None) => State::Through(None),
                        (Beginning::Whole(position), kept) => {
                            drop(kept);
                            State::Through(self.spool(position))
                        }
                    };
                }
                State::Beginning(beginning, _) => {
                    let count = beginning.read(buffer)?;
                    if count > 0 || buffer.is_empty() {
                        return Ok(count);
                    }
                    let before = std::mem::replace(&mut self.state, State::Through(None));
                    if let State::Beginning(_, spool) = before {
                        self.state = State::Through(Some(spool));
                    }
                }
                State::Through(_) => {
                    let count = self.download.read(buffer)?;
                    self.keep(&buffer[..count]);
                    return Ok(count);
                }
            }
        }
    }
}

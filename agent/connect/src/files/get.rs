//! From a file to the user: `stat` and `get_file`.

use std::fs::File;
use std::io::Read as _;
use std::os::unix::fs::MetadataExt as _;
use std::sync::Arc;

use ambidex_wire::session::file as wire;
use tokio::sync::watch;

use super::{FileError, Request, blocking, chunk_head, limits};
use crate::Shared;
use crate::settings::FileLimits;

/// Read at once, and once more while that is being sent: so much, in whole pieces.
const BLOCK_BYTES: usize = 256 << 10;
/// Largest piece of content, whoever asks: a window of twenty of them must fit into what servers let be
/// under way in one session.
const CHUNK_BYTES_MAX: usize = 16 << 10;

/// What is known of a path.
pub(super) fn stat(limits: &FileLimits, path: &str) -> Result<wire::FileInfo, FileError> {
    let found = limits::confinement(limits)?
        .metadata(&limits::absolute(path)?)
        .map_err(|error| FileError::at("look at", path, &error))?;
    limits::may_get(limits, path, &found)?;
    Ok(wire::FileInfo {
        path: path.to_owned(),
        size: Some(found.size()),
        uid: Some(found.uid()),
        gid: Some(found.gid()),
        mode: Some(wire::mode_of(found.mode())),
        modtime: Some(wire::Timestamp {
            seconds: found.mtime(),
            nanos: u32::try_from(found.mtime_nsec()).unwrap_or_default(),
        }),
    })
}

fn open(limits: &FileLimits, path: &str) -> Result<File, FileError> {
    let absolute = limits::absolute(path)?;
    let file = limits::confinement(limits)?
        .open(&absolute)
        .map_err(|error| FileError::at("read", path, &error))?;
    // judged by what was opened, which nobody can exchange any more
    let found = file
        .metadata()
        .map_err(|error| FileError::at("look at", path, &error))?;
    limits::plain(path, &found)?;
    limits::may_get(limits, path, &found)?;
    Ok(file)
}

/// Fills a block, as far as there is content.
fn read(mut file: File, path: &str, bytes: usize) -> Result<(File, Vec<u8>), FileError> {
    let mut block = vec![0; bytes];
    let mut filled = 0;
    while filled < block.len() {
        match file.read(&mut block[filled..]) {
            Ok(0) => break,
            Ok(count) => filled += count,
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(error) => return Err(FileError::at("read", path, &error)),
        }
    }
    block.truncate(filled);
    Ok((file, block))
}

/// One download.
pub(super) struct Download<'a> {
    shared: &'a Arc<Shared>,
    request: &'a Request,
    /// How far the receiver says it is.
    feedback: watch::Receiver<u64>,
    chunk_bytes: usize,
    sent: u64,
    received: u64,
}

impl<'a> Download<'a> {
    pub(super) fn new(
        shared: &'a Arc<Shared>,
        request: &'a Request,
        feedback: watch::Receiver<u64>,
    ) -> Download<'a> {
        let wanted = request.props.int(wire::CHUNK_BYTES_WANTED);
        let wanted = wanted.and_then(|bytes| usize::try_from(bytes).ok());
        Download {
            shared,
            request,
            feedback,
            chunk_bytes: wanted
                .unwrap_or_default()
                .clamp(wire::CHUNK_BYTES, CHUNK_BYTES_MAX),
            sent: 0,
            received: 0,
        }
    }

    /// Sends the whole file and returns when the receiver has it, or has gone.
    pub(super) async fn run(&mut self, path: &str) -> Result<(), FileError> {
        let shared = Arc::clone(self.shared);
        let name = path.to_owned();
        let bytes = BLOCK_BYTES - BLOCK_BYTES % self.chunk_bytes;
        let (mut file, mut block) = blocking(move || {
            let file = open(&shared.settings.file_transfer.limits, &name)?;
            read(file, &name, bytes)
        })
        .await?;
        while !block.is_empty() {
            let last = block.len() < bytes;
            let name = path.to_owned();
            // the next block is read while this one is sent
            let ahead = tokio::task::spawn_blocking(move || {
                if last {
                    Ok((file, Vec::new()))
                } else {
                    read(file, &name, bytes)
                }
            });
            for chunk in block.chunks(self.chunk_bytes) {
                self.shared.counters.send(chunk.len())?;
                if !self.send(chunk).await {
                    return Ok(());
                }
            }
            (file, block) = ahead.await.unwrap_or_else(|error| {
                Err(FileError(format!("this device has failed: {error}")))
            })?;
        }
        // the end is a chunk without content
        if !self.send(b"").await {
            return Ok(());
        }
        while self.received < self.sent {
            if !self.listen().await {
                break;
            }
        }
        Ok(())
    }

    /// Waits for room and sends one chunk. False when there is nobody any more.
    async fn send(&mut self, chunk: &[u8]) -> bool {
        let window = (self.chunk_bytes * wire::WINDOW_CHUNKS) as u64;
        self.note();
        while self.sent - self.received >= window {
            if !self.listen().await {
                return false;
            }
        }
        let head = chunk_head(self.request, wire::CHUNK).prop("offset", self.sent);
        self.sent += chunk.len() as u64;
        let sent = self.request.out.send_bytes(head.encode_with(chunk)).await;
        sent.is_ok()
    }

    async fn listen(&mut self) -> bool {
        let told = self.feedback.changed().await.is_ok();
        self.note();
        told
    }

    /// What was never sent is not received, whatever is said.
    fn note(&mut self) {
        let offset = *self.feedback.borrow_and_update();
        self.received = self.received.max(offset.min(self.sent));
    }
}

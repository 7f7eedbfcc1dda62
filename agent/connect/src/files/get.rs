//! From a file to the user: `stat` and `get_file`.

use std::fs::File;
use std::io::{Read as _, Seek as _, SeekFrom};
use std::os::unix::fs::MetadataExt as _;
use std::sync::Arc;

use ambidex_wire::session::file as wire;
use tokio::sync::watch;

use super::digest::Digest;
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

/// What the receiver says it has of the content.
#[derive(Debug, Clone)]
struct Resume {
    bytes: u64,
    sha256: String,
}

impl Resume {
    /// `None` where the receiver knows nothing of that.
    fn of(request: &Request) -> Option<Resume> {
        let bytes = request.props.int(wire::RESUME_FROM)?;
        Some(Resume {
            bytes: u64::try_from(bytes).unwrap_or_default(),
            sha256: request
                .props
                .text(wire::SHA256)
                .unwrap_or_default()
                .to_owned(),
        })
    }
}

/// The content, from where the receiver needs it.
struct Content {
    file: File,
    path: String,
    begin: u64,
    /// Of all from the very start, where the receiver wants to know it.
    digest: Option<Digest>,
}

impl Content {
    /// What the receiver has is passed over if it is what is here. `wanted` tells whether it is still there.
    fn open(
        limits: &FileLimits,
        path: String,
        resume: Option<Resume>,
        wanted: impl Fn() -> bool,
    ) -> Result<Content, FileError> {
        let mut file = open(limits, &path)?;
        let failed = |error: std::io::Error| FileError::at("read", &path, &error);
        let Some(resume) = resume else {
            return Ok(Content {
                file,
                path,
                begin: 0,
                digest: None,
            });
        };
        let known = Digest::of(&file, resume.bytes, wanted).map_err(failed)?;
        let known = known.filter(|known| resume.bytes > 0 && known.hex() == resume.sha256);
        let begin = known.as_ref().map_or(0, |_| resume.bytes);
        file.seek(SeekFrom::Start(begin)).map_err(failed)?;
        if begin > 0 {
            log::info!("the download goes on after {begin} bytes");
        }
        Ok(Content {
            file,
            path,
            begin,
            digest: Some(known.unwrap_or_default()),
        })
    }

    /// Fills a block, as far as there is content.
    fn read(mut self, bytes: usize) -> Result<(Content, Vec<u8>), FileError> {
        let mut block = vec![0; bytes];
        let mut filled = 0;
        while filled < block.len() {
            match self.file.read(&mut block[filled..]) {
                Ok(0) => break,
                Ok(count) => filled += count,
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                Err(error) => return Err(FileError::at("read", &self.path, &error)),
            }
        }
        block.truncate(filled);
        if let Some(digest) = &mut self.digest {
            digest.update(&block);
        }
        Ok((self, block))
    }
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

    /// Sends what the receiver needs and returns when the receiver has it, or has gone.
    pub(super) async fn run(&mut self, path: &str) -> Result<(), FileError> {
        let shared = Arc::clone(self.shared);
        let name = path.to_owned();
        let resume = Resume::of(self.request);
        let resumable = resume.is_some();
        let bytes = BLOCK_BYTES - BLOCK_BYTES % self.chunk_bytes;
        let feedback = self.feedback.clone();
        let (mut content, mut block) = blocking(move || {
            let limits = &shared.settings.file_transfer.limits;
            // an error: the session has dropped its end
            Content::open(limits, name, resume, || feedback.has_changed().is_ok())?.read(bytes)
        })
        .await?;
        (self.sent, self.received) = (content.begin, content.begin);
        if resumable {
            let begin = chunk_head(self.request, wire::ACK).prop("offset", content.begin);
            if self.request.out.send(&begin).await.is_err() {
                return Ok(());
            }
        }
        while !block.is_empty() {
            let last = block.len() < bytes;
            // the next block is read while this one is sent
            let ahead = tokio::task::spawn_blocking(move || {
                if last {
                    Ok((content, Vec::new()))
                } else {
                    content.read(bytes)
                }
            });
            for chunk in block.chunks(self.chunk_bytes) {
                self.shared.counters.send(chunk.len())?;
                if !self.send(chunk, None).await {
                    return Ok(());
                }
            }
            (content, block) = ahead.await.unwrap_or_else(|error| {
                Err(FileError(format!("this device has failed: {error}")))
            })?;
        }
        // the end is a chunk without content
        let sha256 = content.digest.map(|digest| digest.hex());
        if !self.send(b"", sha256.as_deref()).await {
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
    async fn send(&mut self, chunk: &[u8], sha256: Option<&str>) -> bool {
        let window = (self.chunk_bytes * wire::WINDOW_CHUNKS) as u64;
        self.note();
        while self.sent - self.received >= window {
            if !self.listen().await {
                return false;
            }
        }
        let mut head = chunk_head(self.request, wire::CHUNK).prop("offset", self.sent);
        if let Some(sha256) = sha256 {
            head = head.prop(wire::SHA256, sha256);
        }
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

//! The file transfer protocol, from the user's end: one file at a time in an open session.
//!
//! Files are read, written and hashed by a thread of their own. The reference's protocol begins every file
//! at its start; our devices understand properties (`ambidex_wire::session::file`) by which a transfer goes
//! on where an earlier one was cut. What each side has is compared first, and the whole at the end.

use std::fs::File;
use std::io::{self, Read, Seek as _, SeekFrom, Write as _};

use ambidex_wire::session::{Message, PROTO_CONTROL, PROTO_FILE, control, file};
use anyhow::Context as _;
use indicatif::HumanBytes;
use sha2::{Digest as _, Sha256};
use tokio::sync::mpsc;
use tokio::task::{JoinHandle, spawn_blocking};
use tokio::time::{Duration, timeout};

use super::copy_local::hashed;
use super::socket::{ANSWER_LIMIT, Problem, Session, plain};
use crate::progress::Progress;

/// Largest piece of content that is sent. Larger ones gain nothing.
const CHUNK_BYTES_MAX: usize = 128 << 10;
/// Largest piece that is asked for: a window of them must fit into what the server lets be under way in
/// a session, or other sessions of the device wait for this one.
const CHUNK_BYTES_WANTED: usize = 16 << 10;
/// Received bytes that are acknowledged at the latest.
const ACK_BYTES: u64 = 512 << 10;
/// Pieces between the session and the disk.
const QUEUE_CHUNKS: usize = 16;
/// How long a device may take to rename a file after it has acknowledged all of it.
const LATE_FAILURE: Duration = Duration::from_secs(5);

/// What a slow device hashes in a second, at least.
const HASHED_BYTES_A_SECOND: u64 = 4 << 20;
/// Longer nobody waits for that.
const HASHING_MAX: Duration = Duration::from_secs(3600);

/// What was moved.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Moved {
    pub bytes: u64,
    pub sha256: String,
    /// So many bytes had been moved before.
    pub resumed_at: u64,
}

/// A content as a whole: its size and its SHA-256.
type Whole = (u64, String);

/// Where a download goes, and what is there already.
pub struct Target {
    file: Option<File>,
    digest: Sha256,
    bytes: u64,
}

impl Target {
    /// Content is only hashed.
    pub fn nothing() -> Self {
        Self {
            file: None,
            digest: Sha256::new(),
            bytes: 0,
        }
    }

    /// Goes on with what is in the file.
    pub async fn continuing(file: &File) -> anyhow::Result<Self> {
        let mut file = file
            .try_clone()
            .context("cannot duplicate a file descriptor")?;
        let reading = spawn_blocking(move || {
            file.seek(SeekFrom::Start(0))?;
            let (digest, bytes) = hashed(&mut file, u64::MAX)?;
            io::Result::Ok(Self {
                file: Some(file),
                digest,
                bytes,
            })
        });
        reading
            .await?
            .context("cannot read what was received before")
    }

    /// Forgets what is there.
    fn begin_again(&mut self) -> io::Result<()> {
        if let Some(file) = &mut self.file {
            file.set_len(0)?;
            file.seek(SeekFrom::Start(0))?;
        }
        self.digest = Sha256::new();
        self.bytes = 0;
        Ok(())
    }
}

/// What is said of an upload.
#[derive(Debug, Clone, Copy)]
pub struct Sending<'a> {
    pub announce: &'a file::PutFile,
    /// The same for the same content.
    pub key: &'a str,
    /// A later call may go on, not only this one.
    pub keep_long: bool,
    /// It is not the first try.
    pub again: bool,
}

impl Sending<'_> {
    fn message(&self) -> Message {
        let message = self.announce.message("").prop(file::RESUME_KEY, self.key);
        if self.keep_long {
            message.prop(file::KEEP_SECONDS, file::KEEP_SECONDS_MAX)
        } else {
            message
        }
    }
}

/// The next message about files.
async fn next(session: &mut Session) -> Result<Message, Problem> {
    next_within(session, ANSWER_LIMIT).await
}

async fn next_within(session: &mut Session, limit: Duration) -> Result<Message, Problem> {
    loop {
        let message = session.answer_within(limit).await?;
        if let Some(message) = sort(message)? {
            return Ok(message);
        }
    }
}

/// How long a device may be busy with what it has of a file.
fn patience(bytes: u64) -> Duration {
    let hashing = Duration::from_secs(bytes / HASHED_BYTES_A_SECOND);
    ANSWER_LIMIT + hashing.min(HASHING_MAX)
}

/// Tells the device that nothing will come of it, so that it keeps nothing.
pub async fn give_up(session: &mut Session) {
    let failure = file::Failure {
        err: "the copy was given up".to_owned(),
        ..file::Failure::default()
    };
    // A session that has ended has nobody to tell.
    drop(session.send(failure.message("")).await);
}

fn sort(message: Message) -> Result<Option<Message>, Problem> {
    let says = |text: &str| Problem::text(format!("the device says: {}", plain(text)));
    match (message.proto, message.typ.as_str()) {
        (PROTO_FILE, file::ERROR) => {
            let failure = file::Failure::decode(&message.body).unwrap_or_default();
            Err(says(&failure.err))
        }
        (PROTO_CONTROL, control::ERROR) => {
            let failure = control::Failure::decode(&message.body).unwrap_or_default();
            Err(says(&failure.err))
        }
        (PROTO_FILE, _) | (PROTO_CONTROL, control::PONG) => Ok(Some(message)),
        _ => Ok(None),
    }
}

/// What the device knows of a path.
pub async fn stat(session: &mut Session, path: &str) -> Result<file::FileInfo, Problem> {
    let ask = file::Path {
        path: path.to_owned(),
    };
    session.send(ask.message(file::STAT, "")).await?;
    loop {
        let message = next(session).await?;
        if message.typ == file::INFO {
            return file::FileInfo::decode(&message.body)
                .map_err(|error| Problem::text(format!("the device sent {error}")));
        }
    }
}

/// Content goes to a thread that hashes it, and writes it where there is a file.
fn receive(target: Target) -> (mpsc::Sender<Vec<u8>>, JoinHandle<io::Result<Whole>>) {
    let (chunks, mut queue) = mpsc::channel::<Vec<u8>>(QUEUE_CHUNKS);
    let task = spawn_blocking(move || {
        let Target {
            mut file,
            mut digest,
            mut bytes,
        } = target;
        while let Some(chunk) = queue.blocking_recv() {
            digest.update(&chunk);
            bytes += chunk.len() as u64;
            if let Some(file) = &mut file {
                file.write_all(&chunk)?;
            }
        }
        Ok((bytes, hex::encode(digest.finalize())))
    });
    (chunks, task)
}

/// Downloads a file, from where `target` ends if that is the beginning of it.
pub async fn get(
    session: &mut Session,
    path: &str,
    mut target: Target,
    progress: &Progress,
    reached: &mut u64,
) -> Result<Moved, Problem> {
    let ask = file::Path {
        path: path.to_owned(),
    };
    let mut ask = ask
        .message(file::GET, "")
        .prop(file::CHUNK_BYTES_WANTED, CHUNK_BYTES_WANTED as u64)
        .prop(file::RESUME_FROM, target.bytes);
    if target.bytes > 0 {
        let sha256 = hex::encode(target.digest.clone().finalize());
        ask = ask.prop(file::SHA256, sha256.as_str());
    }
    session.send(ask).await?;
    let first = loop {
        let message = next_within(session, patience(target.bytes)).await?;
        if message.typ == file::ACK || message.typ == file::CHUNK {
            break message;
        }
    };
    let resumable = first.typ == file::ACK;
    let (begin, first) = if resumable {
        (first.props.offset().unwrap_or_default(), None)
    } else {
        (0, Some(first))
    };
    if begin != 0 && begin != target.bytes {
        return Err(misplaced(target.bytes));
    }
    if target.bytes > 0 {
        progress.say(&match (begin, resumable) {
            (1.., _) => format!("going on after {}", HumanBytes(begin)),
            (0, true) => {
                "the device's file is not the one that was begun; beginning again from the start"
                    .to_owned()
            }
            (0, false) => CANNOT_GO_ON.to_owned(),
        });
    }
    if begin == 0 {
        target
            .begin_again()
            .context("cannot empty the file")
            .map_err(|error| Problem::Failed(error.into()))?;
    }
    progress.advance(begin);
    let (chunks, task) = receive(target);
    let mut pull = Pull {
        session,
        progress,
        received: begin,
    };
    let outcome = pull.all(first, &chunks).await;
    if resumable {
        *reached = pull.received.max(*reached);
    }
    // Also when the connection is lost: what has come is to be on the disk.
    drop(chunks);
    let written = task.await.map_err(|_| Problem::text("writing failed"))?;
    let told = outcome?;
    let (bytes, sha256) = written
        .context("cannot write the file")
        .map_err(|error| Problem::Failed(error.into()))?;
    if let Some(told) = told.filter(|told| *told != sha256) {
        return Err(Problem::text(format!(
            "what has arrived has the SHA-256 {sha256}, but the device has sent {}",
            plain(&told)
        )));
    }
    Ok(Moved {
        bytes,
        sha256,
        resumed_at: begin,
    })
}

/// What a device of another maker is told of.
const CANNOT_GO_ON: &str =
    "the device cannot go on in the middle of a file; beginning again from the start";

fn misplaced(wanted: u64) -> Problem {
    Problem::text(format!(
        "the device sent a piece of another place than {wanted}"
    ))
}

/// A download under way.
struct Pull<'a> {
    session: &'a mut Session,
    progress: &'a Progress,
    received: u64,
}

impl Pull<'_> {
    /// Takes everything; what the device says of the whole.
    async fn all(
        &mut self,
        mut first: Option<Message>,
        chunks: &mpsc::Sender<Vec<u8>>,
    ) -> Result<Option<String>, Problem> {
        let (mut acked, mut pieces) = (self.received, 0_usize);
        loop {
            let message = match first.take() {
                Some(message) => message,
                None => next(self.session).await?,
            };
            if message.typ != file::CHUNK {
                continue;
            }
            if message.props.offset() != Some(self.received) {
                return Err(misplaced(self.received));
            }
            let count = message.body.len() as u64;
            self.received += count;
            pieces += 1;
            let due = pieces.is_multiple_of(file::ACK_CHUNKS) || self.received - acked >= ACK_BYTES;
            if count == 0 || due {
                acked = self.received;
                self.session.send(file::ack("", self.received)).await?;
            }
            if count == 0 {
                return Ok(message.props.text(file::SHA256).map(str::to_owned));
            }
            self.progress.advance(count);
            if chunks.send(message.body).await.is_err() {
                // The thread has failed, and tells why.
                return Ok(None);
            }
        }
    }
}

/// Content comes from a thread that reads and hashes it; an empty piece is the end.
fn provide(
    mut source: File,
    (mut digest, mut bytes): (Sha256, u64),
    chunk_bytes: usize,
) -> (mpsc::Receiver<io::Result<Vec<u8>>>, JoinHandle<Whole>) {
    let (chunks, queue) = mpsc::channel(QUEUE_CHUNKS);
    let task = spawn_blocking(move || {
        loop {
            let mut chunk = vec![0; chunk_bytes];
            let filled = fill(&mut source, &mut chunk);
            let over = !matches!(filled, Ok(1..));
            let piece = filled.map(|count| {
                chunk.truncate(count);
                digest.update(&chunk);
                bytes += count as u64;
                chunk
            });
            if chunks.blocking_send(piece).is_err() || over {
                break;
            }
        }
        (bytes, hex::encode(digest.finalize()))
    });
    (queue, task)
}

/// Fills the buffer as far as there is content.
fn fill(source: &mut impl Read, buffer: &mut [u8]) -> io::Result<usize> {
    let mut filled = 0;
    while filled < buffer.len() {
        match source.read(&mut buffer[filled..]) {
            Ok(0) => break,
            Ok(count) => filled += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}

/// Bytes that may be under way without an acknowledgement: as many pieces as the reference has, of
/// whatever size. Devices hold no more.
fn window(chunk_bytes: usize) -> u64 {
    (chunk_bytes * file::WINDOW_CHUNKS) as u64
}

/// Announces an upload. Where the content goes on, with the hash of what the device has, as far as it tells.
async fn announce(
    session: &mut Session,
    sending: Sending<'_>,
) -> Result<(u64, Option<String>), Problem> {
    session.send(sending.message()).await?;
    let limit = patience(sending.announce.size.unwrap_or_default());
    loop {
        let message = next_within(session, limit).await?;
        if message.typ == file::ACK {
            let sha256 = message.props.text(file::SHA256).map(str::to_owned);
            let offset = message.props.offset().filter(|_| sha256.is_some());
            return Ok((offset.unwrap_or_default(), sha256));
        }
    }
}

/// Reads what the device has already; none when it has something else.
async fn passed_over(
    source: &mut File,
    bytes: u64,
    sha256: &str,
) -> Result<Option<Sha256>, Problem> {
    let mut again = source
        .try_clone()
        .context("cannot duplicate a file descriptor")
        .map_err(|error| Problem::Failed(error.into()))?;
    let reading = spawn_blocking(move || {
        again.seek(SeekFrom::Start(0))?;
        hashed(&mut again, bytes)
    });
    let (digest, read) = reading
        .await
        .map_err(|_| Problem::text("reading failed"))?
        .context("cannot read the file")
        .map_err(|error| Problem::Failed(error.into()))?;
    let same = read == bytes && hex::encode(digest.clone().finalize()) == sha256;
    Ok(same.then_some(digest))
}

/// Uploads a file, from where an earlier try has ended if the device has kept that. Returns once the device
/// has it in place, or has had the time to complain.
pub async fn put(
    session: &mut Session,
    sending: Sending<'_>,
    mut source: File,
    progress: &Progress,
    reached: &mut u64,
) -> Result<Moved, Problem> {
    let (mut begin, mut kept) = announce(session, sending).await?;
    let mut digest = None;
    if let Some(sha256) = kept.as_deref().filter(|_| begin > 0) {
        digest = passed_over(&mut source, begin, sha256).await?;
        if digest.is_none() {
            give_up(session).await;
            (begin, kept) = announce(session, sending).await?;
            if begin > 0 {
                return Err(Problem::text("the device does not forget what it has kept"));
            }
        }
    }
    let resumable = kept.is_some();
    if begin > 0 {
        progress.say(&format!("going on after {}", HumanBytes(begin)));
    } else if sending.again {
        progress.say(if resumable {
            "the device has nothing of this file; beginning again from the start"
        } else {
            CANNOT_GO_ON
        });
    }
    source
        .seek(SeekFrom::Start(begin))
        .context("cannot read the file")
        .map_err(|error| Problem::Failed(error.into()))?;
    progress.advance(begin);
    let mut push = Push {
        session,
        progress,
        acked: begin,
        sent: begin,
        complete: false,
    };
    let digest = digest.unwrap_or_default();
    let outcome = push.all(source, digest, resumable).await;
    if resumable {
        *reached = push.acked.max(*reached);
    }
    let (bytes, sha256) = outcome?;
    Ok(Moved {
        bytes,
        sha256,
        resumed_at: begin,
    })
}

/// An upload under way.
struct Push<'a> {
    session: &'a mut Session,
    progress: &'a Progress,
    acked: u64,
    sent: u64,
    /// What was acknowledged last is the end of what was sent.
    complete: bool,
}

impl Push<'_> {
    /// Sends everything from here on.
    async fn all(
        &mut self,
        source: File,
        digest: Sha256,
        resumable: bool,
    ) -> Result<Whole, Problem> {
        let chunk_bytes = self
            .session
            .content_bytes(file::CHUNK_BYTES, CHUNK_BYTES_MAX);
        let window = window(chunk_bytes);
        let (mut chunks, task) = provide(source, (digest, self.sent), chunk_bytes);
        loop {
            let chunk = match chunks.recv().await {
                Some(chunk) => chunk
                    .context("cannot read the file")
                    .map_err(|error| Problem::Failed(error.into()))?,
                None => Vec::new(),
            };
            // What is here already, so that a refusal is heard at once.
            while let Some(message) = self.session.next_now() {
                if let Some(message) = sort(message?)? {
                    self.note(message.props.offset().unwrap_or_default());
                }
            }
            while self.sent >= self.acked + window {
                self.wait().await?;
            }
            let count = chunk.len() as u64;
            if count == 0 {
                break;
            }
            let chunk = file::chunk("", self.sent, &chunk);
            self.session.send(chunk).await?;
            self.sent += count;
            self.progress.advance(count);
        }
        let (bytes, sha256) = task.await.map_err(|_| Problem::text("reading failed"))?;
        let mut end = file::chunk("", self.sent, b"");
        if resumable {
            end = end.prop(file::SHA256, sha256.as_str());
        }
        self.session.send(end).await?;
        // Devices acknowledge the beginning of a chunk; the end has no length, so it is exact. Ours does so
        // once the file is in place, also where nothing was missing.
        while self.acked < self.sent || (resumable && !self.complete) {
            self.wait().await?;
        }
        settle(self.session).await?;
        Ok((bytes, sha256))
    }

    async fn wait(&mut self) -> Result<(), Problem> {
        let offset = acknowledged(self.session).await?;
        self.note(offset);
        self.complete = offset >= self.sent;
        Ok(())
    }

    fn note(&mut self, offset: u64) {
        self.acked = self.acked.max(offset);
    }
}

async fn acknowledged(session: &mut Session) -> Result<u64, Problem> {
    loop {
        let message = next(session).await?;
        if message.typ == file::ACK {
            return Ok(message.props.offset().unwrap_or_default());
        }
    }
}

/// The device changes owners and names after its last acknowledgement. Waits until a failure of that
/// would have been heard.
async fn settle(session: &mut Session) -> Result<(), Problem> {
    session
        .send(Message::new(PROTO_CONTROL, control::PING, ""))
        .await?;
    let pong = async {
        loop {
            let message = next(session).await?;
            if (message.proto, message.typ.as_str()) == (PROTO_CONTROL, control::PONG) {
                return Ok(());
            }
        }
    };
    timeout(LATE_FAILURE, pong).await.unwrap_or(Ok(()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn windows() {
        for (chunk_bytes, bytes) in [
            // The reference's device, exactly.
            (4096, 81_920),
            (60 << 10, 1_228_800),
        ] {
            assert_eq!(window(chunk_bytes), bytes, "{chunk_bytes}");
        }
    }
}

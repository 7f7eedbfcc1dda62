//! The file transfer protocol, from the user's end: one file at a time in an open session.
//!
//! Files are read, written and hashed by a thread of their own. The protocol begins every file at its
//! start; there is no way to ask for the rest of one.

use std::fs::File;
use std::io::{self, Read, Write as _};

use ambidex_wire::session::{Message, PROTO_CONTROL, PROTO_FILE, control, file};
use anyhow::Context as _;
use sha2::{Digest as _, Sha256};
use tokio::sync::mpsc;
use tokio::task::{JoinHandle, spawn_blocking};
use tokio::time::{Duration, timeout};

use super::socket::{Problem, Session, plain};
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

/// What was moved.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Moved {
    pub bytes: u64,
    pub sha256: String,
}

/// The next message about files.
async fn next(session: &mut Session) -> Result<Message, Problem> {
    loop {
        let message = session.answer().await?;
        if let Some(message) = sort(message)? {
            return Ok(message);
        }
    }
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
fn receive(target: Option<File>) -> (mpsc::Sender<Vec<u8>>, JoinHandle<io::Result<Moved>>) {
    let (chunks, mut queue) = mpsc::channel::<Vec<u8>>(QUEUE_CHUNKS);
    let task = spawn_blocking(move || {
        let mut digest = Sha256::new();
        let mut bytes = 0;
        while let Some(chunk) = queue.blocking_recv() {
            digest.update(&chunk);
            bytes += chunk.len() as u64;
            if let Some(mut target) = target.as_ref() {
                target.write_all(&chunk)?;
            }
        }
        Ok(Moved {
            bytes,
            sha256: hex::encode(digest.finalize()),
        })
    });
    (chunks, task)
}

/// Downloads a file into `target`; without one it is only hashed.
pub async fn get(
    session: &mut Session,
    path: &str,
    target: Option<File>,
    progress: &Progress,
) -> Result<Moved, Problem> {
    let ask = file::Path {
        path: path.to_owned(),
    };
    let ask = ask
        .message(file::GET, "")
        .prop(file::CHUNK_BYTES_WANTED, CHUNK_BYTES_WANTED as u64);
    session.send(ask).await?;
    let (chunks, task) = receive(target);
    let (mut received, mut acked, mut pieces) = (0_u64, 0_u64, 0_usize);
    loop {
        let message = next(session).await?;
        if message.typ != file::CHUNK {
            continue;
        }
        if message.props.offset() != Some(received) {
            return Err(Problem::text(format!(
                "the device sent a piece of another place than {received}"
            )));
        }
        let count = message.body.len() as u64;
        received += count;
        pieces += 1;
        if count == 0 || pieces.is_multiple_of(file::ACK_CHUNKS) || received - acked >= ACK_BYTES {
            acked = received;
            session.send(file::ack("", received)).await?;
        }
        if count == 0 {
            break;
        }
        progress.advance(count);
        if chunks.send(message.body).await.is_err() {
            // The thread has failed, and tells why below.
            break;
        }
    }
    drop(chunks);
    let moved = task.await.map_err(|_| Problem::text("writing failed"))?;
    moved
        .context("cannot write the file")
        .map_err(|error| Problem::Failed(error.into()))
}

/// Content comes from a thread that reads and hashes it; an empty piece is the end.
fn provide(
    mut source: File,
    chunk_bytes: usize,
) -> (mpsc::Receiver<io::Result<Vec<u8>>>, JoinHandle<Moved>) {
    let (chunks, queue) = mpsc::channel(QUEUE_CHUNKS);
    let task = spawn_blocking(move || {
        let mut digest = Sha256::new();
        let mut bytes = 0;
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
        Moved {
            bytes,
            sha256: hex::encode(digest.finalize()),
        }
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

/// Uploads a file. Returns once the device has it in place, or has had the time to complain.
pub async fn put(
    session: &mut Session,
    announce: &file::PutFile,
    source: File,
    progress: &Progress,
) -> Result<Moved, Problem> {
    session.send(announce.message("")).await?;
    let mut acked = acknowledged(session).await?;
    let chunk_bytes = session.content_bytes(file::CHUNK_BYTES, CHUNK_BYTES_MAX);
    let window = window(chunk_bytes);
    let (mut chunks, task) = provide(source, chunk_bytes);
    let mut sent = 0_u64;
    loop {
        let chunk = match chunks.recv().await {
            Some(chunk) => chunk
                .context("cannot read the file")
                .map_err(|error| Problem::Failed(error.into()))?,
            None => Vec::new(),
        };
        // What is here already, so that a refusal is heard at once.
        while let Some(message) = session.next_now() {
            if let Some(message) = sort(message?)? {
                acked = acked.max(message.props.offset().unwrap_or_default());
            }
        }
        while sent >= acked + window {
            acked = acked.max(acknowledged(session).await?);
        }
        let count = chunk.len() as u64;
        session.send(file::chunk("", sent, &chunk)).await?;
        if count == 0 {
            break;
        }
        sent += count;
        progress.advance(count);
    }
    // Devices acknowledge the beginning of a chunk; the end has no length, so it is exact.
    while acked < sent {
        acked = acked.max(acknowledged(session).await?);
    }
    settle(session).await?;
    task.await.map_err(|_| Problem::text("reading failed"))
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

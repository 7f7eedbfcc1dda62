//! From the user to a file: `put_file`.
//!
//! On a thread that may wait for the disk. What is not complete is an [`Unfinished`]. A sender that has a key
//! for its content may continue after its connection was lost; what has come is compared with the SHA-256 that
//! it tells at the end, before it gets its name.

use std::io::Write as _;
use std::sync::mpsc::{Receiver, RecvTimeoutError, TryRecvError};
use std::time::Duration;

use ambidex_platform::fs;
use ambidex_wire::session::{Message, file as wire};

use super::leftovers::{self, Sweep};
use super::unfinished::{Announced, Unfinished};
use super::{FileError, Request, chunk_head, claims, limits};
use crate::Shared;
use crate::inbox::Incoming;
use crate::settings::FileLimits;

/// Written between two waits for the disk: what is lost at most, and what the last wait has to write.
const SYNC_BYTES: u64 = 16 << 20;
/// How long we wait for more before we acknowledge less than [`wire::ACK_CHUNKS`]: for peers whose window is
/// smaller than that.
const ACK_WAIT: Duration = Duration::from_millis(2);

/// How receiving ends, where nothing is wrong.
enum Received {
    /// Everything is there; the acknowledgement of the end.
    All(Message),
    /// The user has gone, and may come back; so many bytes are there.
    Gone(u64),
    /// The user goes on in another session; so many bytes are there.
    Elsewhere(u64),
    /// The user does not want it any more.
    GivenUp,
}

/// Receives one file. Returns when it is in place, when the user has gone, or with what the user must know.
pub(super) fn receive(
    shared: &Shared,
    request: &Request,
    put: &wire::PutFile,
    chunks: &Receiver<Incoming>,
) -> Result<(), FileError> {
    let allowed = &shared.settings.file_transfer.limits;
    let target = limits::may_put(allowed, put)?;
    let announced = Announced::of(put, &request.props);
    let (mut unfinished, ending) = Unfinished::open(shared, target, announced)?;
    make_room(shared, put, &unfinished)?;
    let mut ready = chunk_head(request, wire::ACK).prop("offset", unfinished.bytes());
    if let Some(resumable) = &unfinished.resumable {
        ready = ready.prop(wire::SHA256, resumable.digest.hex().as_str());
        if resumable.bytes > 0 {
            log::info!("the upload goes on after {} bytes", resumable.bytes);
        }
    }
    if request.out.send_blocking(&ready).is_err() {
        let bytes = unfinished.bytes();
        unfinished.leave(bytes);
        return Ok(());
    }
    let end = match write(shared, request, put, &mut unfinished, chunks)? {
        Received::All(end) => end,
        Received::Gone(bytes) => {
            unfinished.leave(bytes);
            return Ok(());
        }
        Received::Elsewhere(bytes) => {
            unfinished.leave(bytes);
            let text = format!("'{}': the upload goes on in another session", put.path);
            return Err(FileError(text));
        }
        Received::GivenUp => return Ok(()),
    };
    compare(put, &unfinished, &end)?;
    unfinished
        .finish(&ending)
        .map_err(|error| FileError::at("finish", &put.path, &error))?;
    // only now: whoever hears of the end can count on the file
    let _ = request.out.send_blocking(&end);
    Ok(())
}

/// Refuses what does not fit on the disk, for which other unfinished files have to go.
fn make_room(
    shared: &Shared,
    put: &wire::PutFile,
    unfinished: &Unfinished<'_>,
) -> Result<(), FileError> {
    let missing = put
        .size
        .unwrap_or_default()
        .saturating_sub(unfinished.bytes());
    // a disk that cannot be asked will say so when it is full
    let free = || fs::free_bytes(&unfinished.place).unwrap_or(u64::MAX);
    if missing <= free() {
        return Ok(());
    }
    leftovers::sweep(&shared.settings.state, &shared.claims, Sweep::All);
    let free = free();
    if missing <= free {
        return Ok(());
    }
    Err(FileError(format!(
        "'{}': there is room for {free} bytes, not for {missing}",
        put.path
    )))
}

/// What has come must be what the sender has sent.
fn compare(
    put: &wire::PutFile,
    unfinished: &Unfinished<'_>,
    end: &Message,
) -> Result<(), FileError> {
    let Some(resumable) = &unfinished.resumable else {
        return Ok(());
    };
    let wanted = end.props.text(wire::SHA256).unwrap_or("none");
    let found = resumable.digest.hex();
    if wanted == found {
        return Ok(());
    }
    Err(FileError(format!(
        "'{}': what has come has the SHA-256 {found}, but {wanted} was sent",
        put.path
    )))
}

/// Writes everything that comes.
fn write(
    shared: &Shared,
    request: &Request,
    put: &wire::PutFile,
    unfinished: &mut Unfinished<'_>,
    chunks: &Receiver<Incoming>,
) -> Result<Received, FileError> {
    let allowed: &FileLimits = &shared.settings.file_transfer.limits;
    let failed = |error: std::io::Error| FileError::at("write", &put.path, &error);
    let mut written = unfinished.bytes();
    let mut synced = written;
    let mut waiting: Option<Message> = None;
    let mut unacknowledged = 0;
    loop {
        let chunk = match chunks.try_recv() {
            Err(TryRecvError::Empty) if waiting.is_some() => chunks.recv_timeout(ACK_WAIT),
            Err(TryRecvError::Empty) if unfinished.resumable.is_some() => {
                chunks.recv_timeout(claims::IDLE)
            }
            Err(TryRecvError::Empty) => chunks.recv().map_err(|_| RecvTimeoutError::Disconnected),
            Err(TryRecvError::Disconnected) => return Ok(Received::Gone(written)),
            Ok(chunk) => Ok(chunk),
        };
        let acknowledge = match chunk {
            Err(RecvTimeoutError::Disconnected) => return Ok(Received::Gone(written)),
            Err(RecvTimeoutError::Timeout) => {
                let resumable = unfinished.resumable.as_ref();
                if waiting.is_none() && resumable.is_some_and(|r| r.claim.is_wanted()) {
                    return Ok(Received::Elsewhere(written));
                }
                true
            }
            Ok(incoming) => {
                // checked when it was read
                let Ok(message) = incoming.message() else {
                    continue;
                };
                if message.typ == wire::ERROR {
                    return Ok(Received::GivenUp);
                }
                let props = message.props().unwrap_or_default();
                let offset = props
                    .offset()
                    .ok_or_else(|| FileError("missing offset property".to_owned()))?;
                if offset != written {
                    return Err(FileError(format!(
                        "got a piece for byte {offset} of '{}' where byte {written} is next",
                        put.path
                    )));
                }
                // the head of the chunk comes back, its offset included, as by the reference
                let mut ack = chunk_head(request, wire::ACK);
                ack.props = props;
                if message.body.is_empty() {
                    return Ok(Received::All(ack));
                }
                let length = message.body.len();
                limits::fits(allowed, &put.path, written + length as u64)?;
                shared.counters.receive(length)?;
                (&unfinished.file).write_all(message.body).map_err(failed)?;
                if let Some(resumable) = &mut unfinished.resumable {
                    resumable.digest.update(message.body);
                }
                written += length as u64;
                if written - synced >= SYNC_BYTES {
                    unfinished.file.sync_data().map_err(failed)?;
                    synced = written;
                }
                waiting = Some(ack);
                unacknowledged += 1;
                unacknowledged >= wire::ACK_CHUNKS
            }
        };
        if acknowledge && let Some(ack) = waiting.take() {
            unacknowledged = 0;
            if request.out.send_blocking(&ack).is_err() {
                return Ok(Received::Gone(written));
            }
        }
    }
}

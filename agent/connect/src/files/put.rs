//! From the user to a file: `put_file`.
//!
//! On a thread that may wait for the disk. The content goes to a file beside the target, under a name that
//! nobody looks for; it gets owner, permissions and its name only when it is complete and on the disk. Every
//! other end removes it, also a power cut: a record of it is in the state directory before it exists.

use std::ffi::{OsStr, OsString};
use std::fs::{File, Permissions};
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::sync::mpsc::{Receiver, RecvTimeoutError, TryRecvError};
use std::time::Duration;

use ambidex_platform::confined::{self, Folder};
use ambidex_platform::fs;
use ambidex_wire::session::file as wire;

use super::leftovers::Record;
use super::{FileError, Request, chunk_head, limits};
use crate::Shared;
use crate::inbox::Incoming;
use crate::settings::FileLimits;

/// Written between two waits for the disk: what is lost at most, and what the last wait has to write.
const SYNC_BYTES: u64 = 16 << 20;
/// How long we wait for more before we acknowledge less than [`wire::ACK_CHUNKS`]: for peers whose window is
/// smaller than that.
const ACK_WAIT: Duration = Duration::from_millis(2);

/// The file while it is not complete. Dropping it removes it.
struct Unfinished {
    folder: Folder,
    name: OsString,
    file: File,
    record: Option<Record>,
    renamed: bool,
}

impl Unfinished {
    fn create(shared: &Shared, folder: Folder) -> Result<Unfinished, FileError> {
        let name = OsString::from(super::leftovers::name());
        let place = folder
            .path()
            .map_err(|error| FileError(error.to_string()))?;
        let shown = place.display().to_string();
        let record = Record::write(&shared.settings.state, &place, &name)
            .inspect_err(|error| {
                log::warn!("{error}; after a power cut now, an unfinished file stays");
            })
            .ok();
        match folder.create(&name) {
            Ok(file) => Ok(Unfinished {
                folder,
                name,
                file,
                record,
                renamed: false,
            }),
            Err(error) => {
                if let Some(record) = record {
                    record.remove();
                }
                Err(FileError::at("store a file in", &shown, &error))
            }
        }
    }

    fn finish(
        mut self,
        name: &OsStr,
        mode: u32,
        uid: Option<u32>,
        gid: Option<u32>,
    ) -> std::io::Result<()> {
        // the owner first: changing it takes set-id bits away
        confined::set_owner(&self.file, uid, gid)?;
        self.file.set_permissions(Permissions::from_mode(mode))?;
        self.file.sync_all()?;
        self.folder.rename(&self.name, name)?;
        self.renamed = true;
        Ok(())
    }
}

impl Drop for Unfinished {
    fn drop(&mut self) {
        let removed = self.renamed || self.folder.remove(&self.name).is_ok();
        if let Some(record) = self.record.take().filter(|_| removed) {
            record.remove();
        }
    }
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
    let there = target
        .folder
        .path()
        .map_err(|error| FileError(error.to_string()))?;
    if let (Some(size), Ok(free)) = (put.size, fs::free_bytes(&there))
        && size > free
    {
        return Err(FileError(format!(
            "'{}': there is room for {free} bytes, not for {size}",
            put.path
        )));
    }
    let unfinished = Unfinished::create(shared, target.folder)?;
    let ready = chunk_head(request, wire::ACK).prop("offset", 0_u64);
    if request.out.send_blocking(&ready).is_err() {
        return Ok(());
    }
    let Some(end) = write(shared, request, put, &unfinished.file, chunks)? else {
        return Ok(());
    };
    unfinished
        .finish(&target.name, target.mode, target.uid, target.gid)
        .map_err(|error| FileError::at("finish", &put.path, &error))?;
    // only now: whoever hears of the end can count on the file
    let _ = request.out.send_blocking(&end);
    Ok(())
}

/// Writes everything that comes; the acknowledgement of the end, or `None` when the user has gone.
fn write(
    shared: &Shared,
    request: &Request,
    put: &wire::PutFile,
    mut file: &File,
    chunks: &Receiver<Incoming>,
) -> Result<Option<ambidex_wire::session::Message>, FileError> {
    let allowed: &FileLimits = &shared.settings.file_transfer.limits;
    let failed = |error: std::io::Error| FileError::at("write", &put.path, &error);
    let (mut written, mut synced) = (0_u64, 0_u64);
    let mut waiting: Option<ambidex_wire::session::Message> = None;
    let mut unacknowledged = 0;
    loop {
        let chunk = match chunks.try_recv() {
            Err(TryRecvError::Empty) if waiting.is_some() => chunks.recv_timeout(ACK_WAIT),
            Err(TryRecvError::Empty) => chunks.recv().map_err(|_| RecvTimeoutError::Disconnected),
            Err(TryRecvError::Disconnected) => return Ok(None),
            Ok(chunk) => Ok(chunk),
        };
        let acknowledge = match chunk {
            Err(RecvTimeoutError::Disconnected) => return Ok(None),
            Err(RecvTimeoutError::Timeout) => true,
            Ok(incoming) => {
                // checked when it was read
                let Ok(message) = incoming.message() else {
                    continue;
                };
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
                    return Ok(Some(ack));
                }
                let length = message.body.len();
                limits::fits(allowed, &put.path, written + length as u64)?;
                shared.counters.receive(length)?;
                file.write_all(message.body).map_err(failed)?;
                written += length as u64;
                if written - synced >= SYNC_BYTES {
                    file.sync_data().map_err(failed)?;
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
                return Ok(None);
            }
        }
    }
}

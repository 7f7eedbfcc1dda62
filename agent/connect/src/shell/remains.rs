//! Shells that run are recorded, so that what ignores the hang-up does not outlive an agent that was killed:
//! the next one ends it.

use std::path::{Path, PathBuf};

use ambidex_platform::fs;
use ambidex_platform::pty;

/// Below the agent's own directory; a file a session, named by its number.
const FOLDER: &str = "shells";
/// Tells a shell, and what it starts, in which remote session it runs.
pub(super) const NAME: &str = "AMBIDEX_SESSION";
/// A mark is never longer.
const MARK_BYTES_MAX: u64 = 1024;

/// The record of one shell; dropping it removes it.
#[derive(Debug)]
pub(super) struct Record(PathBuf);

impl Record {
    /// Needs not survive a power cut, which no process survives either.
    pub(super) fn write(state: &Path, session: i32, mark: &str) -> Option<Record> {
        let folder = state.join(FOLDER);
        let path = folder.join(session.to_string());
        fs::create_dir(&folder, 0o700)
            .and_then(|()| fs::write_plain(&path, mark.as_bytes(), 0o600))
            .map(|()| Record(path))
            .inspect_err(|error| {
                log::warn!("{error}; if the agent is killed now, a job of the shell may go on");
            })
            .ok()
    }
}

impl Drop for Record {
    fn drop(&mut self) {
        forget(&self.0);
    }
}

fn forget(record: &Path) {
    if let Err(error) = fs::remove_tree(record) {
        log::warn!("{error}");
    }
}

/// Ends what an agent that was killed has left. At a start, before there are shells.
pub(crate) fn end(state: &Path) {
    let Ok(entries) = std::fs::read_dir(state.join(FOLDER)) else {
        // there was never a shell
        return;
    };
    for record in entries.filter_map(Result::ok) {
        let session = record.file_name().to_str().and_then(|n| n.parse().ok());
        let mark = fs::read_bounded(&record.path(), MARK_BYTES_MAX).ok();
        let mark = mark.and_then(|mark| String::from_utf8(mark).ok());
        if let (Some(session), Some(mark)) = (session, mark) {
            let ended = pty::end_session(session, &mark);
            if ended > 0 {
                log::info!("{ended} processes of a shell that was cut off were ended");
            }
        }
        forget(&record.path());
    }
}

//! Copies one moment of the database while it is written to.

use std::fs::OpenOptions;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::thread;
use std::time::Duration;

use rusqlite::Connection;
use rusqlite::backup::{Backup, StepResult};

use super::connection::{self, Access};
use crate::DbError;

/// Pages copied between two reports of the progress (4 KiB each).
const STEP_PAGES: i32 = 2048;
/// Before another try when another process holds a lock.
const BUSY_PAUSE: Duration = Duration::from_millis(50);

/// The copy's connection holds one read transaction from beginning to end: what is written meanwhile goes into the
/// write-ahead log behind it, so the copy never has to start again and no writer waits.
pub(super) fn run(
    from: &Path,
    to: &Path,
    mut progress: impl FnMut(u64, u64),
) -> Result<(), DbError> {
    let doing = |e: rusqlite::Error| DbError::sqlite(&e, "copying the database");
    OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(to)
        .map_err(|e| DbError::Unavailable(format!("cannot create {}: {e}", to.display())))?;
    let source = connection::open(from, Access::Read)?;
    source.execute_batch("BEGIN").map_err(doing)?;
    let page_bytes: u64 = source
        .query_row("PRAGMA page_size", [], |row| row.get::<_, i64>(0))
        .map_err(doing)?
        .unsigned_abs();
    source
        .query_row("SELECT COUNT(*) FROM schema_migrations", [], |_| Ok(()))
        .map_err(doing)?;
    let mut copy = Connection::open(to).map_err(doing)?;
    let backup = Backup::new(&source, &mut copy).map_err(doing)?;
    loop {
        let step = backup.step(STEP_PAGES).map_err(doing)?;
        let state = backup.progress();
        let total = u64::try_from(state.pagecount).unwrap_or(0);
        let left = u64::try_from(state.remaining).unwrap_or(0);
        progress(total.saturating_sub(left) * page_bytes, total * page_bytes);
        match step {
            StepResult::Done => break,
            StepResult::Busy | StepResult::Locked => thread::sleep(BUSY_PAUSE),
            _ => {}
        }
    }
    drop(backup);
    source.execute_batch("COMMIT").map_err(doing)?;
    // One file without a log beside it, whole in itself.
    let check: String = copy
        .query_row("PRAGMA journal_mode = DELETE", [], |_| Ok(()))
        .and_then(|()| copy.query_row("PRAGMA quick_check(1)", [], |row| row.get(0)))
        .map_err(doing)?;
    if check != "ok" {
        return Err(DbError::Corrupt(format!(
            "the copy of the database: {check}"
        )));
    }
    copy.close().map_err(|(_, e)| doing(e))
}

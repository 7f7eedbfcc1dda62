//! What the agent says: lines on standard error, and during a deployment also its log file.
//!
//! Owns the only implementation behind the `log` facade. Lines on standard error are logfmt-like;
//! under journald they carry its priority and leave the time to it. The deployment log is kept by
//! [`file::LogFile`]; a failure to write it never stops an update.
//!
//! Source: reference agent section 9, weakness W10.

mod file;
mod report;

use std::{
    io::Write as _,
    path::{Path, PathBuf},
    sync::{Mutex, MutexGuard, OnceLock, PoisonError},
};

use ambidex_platform::{clock, fs::FsError};
use file::LogFile;
use log::{Level, LevelFilter, Log, Metadata, Record};

pub use report::report;

/// Lines of libraries below the agent are only kept from this level on.
const FOREIGN_LEVEL: LevelFilter = LevelFilter::Warn;

struct Logbook {
    journald: bool,
    file: Option<Mutex<std::fs::File>>,
    deployment: Mutex<Option<LogFile>>,
}

static LOGBOOK: OnceLock<Logbook> = OnceLock::new();

/// Starts logging; `file` gets the lines instead of standard error. The first call of a process decides where;
/// every call sets the level.
///
/// # Errors
/// When the file cannot be opened.
pub fn start(level: LevelFilter, file: Option<&Path>) -> Result<(), FsError> {
    let file = file.map(open_plain).transpose()?.map(Mutex::new);
    let book = LOGBOOK.get_or_init(|| Logbook {
        journald: file.is_none() && std::env::var_os("JOURNAL_STREAM").is_some(),
        file,
        deployment: Mutex::new(None),
    });
    // a second start finds the logger set already, which is what it wants
    let _ = log::set_logger(book);
    log::set_max_level(level);
    Ok(())
}

fn open_plain(path: &Path) -> Result<std::fs::File, FsError> {
    std::fs::OpenOptions::new()
        .create(true)
        .append(true)
        .open(path)
        .map_err(|cause| FsError::new("open the log file", path, cause))
}

/// From now on every line also goes into the log of this deployment. A log that a restart left is
/// continued; older ones are rotated.
///
/// # Errors
/// When the log cannot be opened, or the disk is nearly full; the deployment can go on without.
pub fn attach(folder: &Path, deployment_id: &str) -> Result<(), FsError> {
    let opened = LogFile::open(folder, deployment_id)?;
    if let Some(book) = LOGBOOK.get() {
        *book.deployment() = Some(opened);
    }
    Ok(())
}

/// Ends the log of the deployment and makes it durable.
pub fn detach() {
    if let Some(mut file) = LOGBOOK.get().and_then(|book| book.deployment().take()) {
        file.sync();
    }
}

/// Makes the log of the deployment durable, before something that may not return.
pub fn sync() {
    if let Some(book) = LOGBOOK.get()
        && let Some(file) = book.deployment().as_mut()
    {
        file.sync();
    }
}

/// Where the log of a deployment is kept while it is the newest.
#[must_use]
pub fn path(folder: &Path, deployment_id: &str) -> PathBuf {
    file::path(folder, 0, deployment_id)
}

impl Logbook {
    fn deployment(&self) -> MutexGuard<'_, Option<LogFile>> {
        self.deployment
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self, line: &str) {
        // nowhere to complain when even this fails
        let _ = match &self.file {
            None => std::io::stderr().lock().write_all(line.as_bytes()),
            Some(file) => file
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .write_all(line.as_bytes()),
        };
    }
}

impl Log for Logbook {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        let own = metadata.target().starts_with("ambidex");
        let level = log::max_level();
        metadata.level() <= if own { level } else { level.min(FOREIGN_LEVEL) }
    }

    fn log(&self, record: &Record<'_>) {
        if !self.enabled(record.metadata()) {
            return;
        }
        let message = record.args().to_string();
        let now = timestamp();
        self.write(&line(self.journald, record.level(), &now, &message));
        if let Some(file) = self.deployment().as_mut() {
            file.append(&now, word(record.level()), &message);
        }
    }

    fn flush(&self) {}
}

/// The wall clock as RFC 3339 with milliseconds.
fn timestamp() -> String {
    let ms = i64::try_from(clock::wall_unix_ms()).unwrap_or(0);
    jiff::Timestamp::from_millisecond(ms)
        .unwrap_or(jiff::Timestamp::UNIX_EPOCH)
        .to_string()
}

const fn word(level: Level) -> &'static str {
    match level {
        Level::Error => "error",
        Level::Warn => "warning",
        Level::Info => "info",
        Level::Debug | Level::Trace => "debug",
    }
}

fn line(journald: bool, level: Level, now: &str, message: &str) -> String {
    let message = message.replace('\n', " ");
    if journald {
        let priority = match level {
            Level::Error => 3,
            Level::Warn => 4,
            Level::Info => 6,
            Level::Debug | Level::Trace => 7,
        };
        format!("<{priority}>{message}\n")
    } else {
        let quoted = message.replace('\\', "\\\\").replace('"', "\\\"");
        format!("time=\"{now}\" level={} msg=\"{quoted}\"\n", word(level))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_record_is_one_line() {
        assert_eq!(
            line(false, Level::Warn, "T", "a \"b\"\nc\\"),
            "time=\"T\" level=warning msg=\"a \\\"b\\\" c\\\\\"\n"
        );
        assert_eq!(line(true, Level::Info, "T", "x"), "<6>x\n");
    }

    #[test]
    fn the_time_is_rfc_3339() {
        assert!(timestamp().parse::<jiff::Timestamp>().is_ok());
    }
}

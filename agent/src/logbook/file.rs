//! The log file of one deployment: bounded, one JSON object a line, head and tail kept.
//!
//! Files are `deployments.NNNN.<id>.log`; 0000 is the newest, five are kept. When a file grows
//! beyond its limit, its middle is cut out: the beginning tells what was wanted, the end what went
//! wrong.

use std::{
    fs::File,
    io::Write as _,
    path::{Path, PathBuf},
};

use ambidex_platform::fs::{self, FsError};
use ambidex_wire::deployments::LogMessage;

/// Below the server's limit of 1 MiB for the upload, with room for its envelope.
pub(super) const FILE_BYTES_MAX: usize = 768 * 1024;
const HEAD_BYTES: usize = 192 * 1024;
const TAIL_BYTES: usize = 256 * 1024;
const MESSAGE_BYTES_MAX: usize = 8 * 1024;
pub(super) const FILES_MAX: u32 = 5;
/// Without this much room no log is begun: the space belongs to the update.
const FREE_BYTES_MIN: u64 = 100 * 1024;
const MODE: u32 = 0o600;

pub(super) struct LogFile {
    path: PathBuf,
    file: File,
    bytes: usize,
}

pub(super) fn path(folder: &Path, number: u32, deployment_id: &str) -> PathBuf {
    folder.join(format!("deployments.{number:04}.{deployment_id}.log"))
}

impl LogFile {
    /// Continues the log of this deployment or begins it.
    pub fn open(folder: &Path, deployment_id: &str) -> Result<Self, FsError> {
        let path = path(folder, 0, deployment_id);
        if !path.exists() {
            fs::create_dir(folder, 0o700)?;
            let free = fs::free_bytes(folder)?;
            if free < FREE_BYTES_MIN {
                let cause = std::io::Error::new(
                    std::io::ErrorKind::StorageFull,
                    format!("only {free} bytes are free, {FREE_BYTES_MIN} are needed"),
                );
                return Err(FsError::new("begin the deployment log", path, cause));
            }
            rotate(folder)?;
        }
        let file = open_append(&path)?;
        let bytes = file
            .metadata()
            .map_or(0, |meta| usize::try_from(meta.len()).unwrap_or(usize::MAX));
        let mut log = Self { path, file, bytes };
        // a power cut may have left half a line: it must not spoil the next one
        if bytes > 0 {
            log.write(b"\n");
        }
        Ok(log)
    }

    pub fn append(&mut self, timestamp: &str, level: &str, message: &str) {
        let mut line = json_line(timestamp, level, message);
        if self.bytes.saturating_add(line.len()) > FILE_BYTES_MAX {
            self.cut_middle(timestamp);
            if self.bytes.saturating_add(line.len()) > FILE_BYTES_MAX {
                // the cut failed (a full or broken disk): keep the bound, lose the line
                line.clear();
            }
        }
        self.write(&line);
    }

    pub fn sync(&mut self) {
        // the log is a help, not a record: an update does not fail for it
        let _ = self.file.sync_data();
    }

    fn write(&mut self, bytes: &[u8]) {
        if self.file.write_all(bytes).is_ok() {
            self.bytes = self.bytes.saturating_add(bytes.len());
        }
    }

    /// Keeps the head and the tail, at line ends, with a note between them.
    fn cut_middle(&mut self, timestamp: &str) {
        let Ok(whole) = fs::read_bounded(&self.path, 4 * FILE_BYTES_MAX as u64) else {
            return;
        };
        let note = json_line(
            timestamp,
            "warning",
            "lines were left out here to keep the log below the server's limit",
        );
        let head = line_end_before(&whole, HEAD_BYTES);
        let tail = line_start_after(&whole, whole.len().saturating_sub(TAIL_BYTES).max(head));
        let mut kept = Vec::with_capacity(head + note.len() + whole.len() - tail);
        kept.extend_from_slice(&whole[..head]);
        kept.extend_from_slice(&note);
        kept.extend_from_slice(&whole[tail..]);
        if fs::write_durable(&self.path, &kept, MODE).is_ok()
            && let Ok(file) = open_append(&self.path)
        {
            self.file = file;
            self.bytes = kept.len();
        }
    }
}

fn open_append(path: &Path) -> Result<File, FsError> {
    use std::os::unix::fs::OpenOptionsExt as _;
    std::fs::OpenOptions::new()
        .create(true)
        .append(true)
        .mode(MODE)
        .open(path)
        .map_err(|cause| FsError::new("open", path, cause))
}

/// End of the last line that ends within the first `limit` bytes.
fn line_end_before(bytes: &[u8], limit: usize) -> usize {
    bytes[..limit.min(bytes.len())]
        .iter()
        .rposition(|b| *b == b'\n')
        .map_or(0, |at| at + 1)
}

/// Start of the first line at or after `from`.
fn line_start_after(bytes: &[u8], from: usize) -> usize {
    if from == 0 || bytes[from - 1] == b'\n' {
        return from;
    }
    bytes[from..]
        .iter()
        .position(|b| *b == b'\n')
        .map_or(bytes.len(), |at| from + at + 1)
}

fn json_line(timestamp: &str, level: &str, message: &str) -> Vec<u8> {
    let mut end = message.len().min(MESSAGE_BYTES_MAX);
    while !message.is_char_boundary(end) {
        end -= 1;
    }
    let text = if end < message.len() {
        format!("{} […]", &message[..end])
    } else {
        message.to_owned()
    };
    let entry = LogMessage {
        timestamp: timestamp.to_owned(),
        level: level.to_owned(),
        message: text,
    };
    let mut line = serde_json::to_vec(&entry).expect("invariant: a struct of texts is always JSON");
    line.push(b'\n');
    line
}

/// Makes room for a new 0000: every log moves up by one, the oldest goes.
fn rotate(folder: &Path) -> Result<(), FsError> {
    let mut logs: Vec<(u32, String, PathBuf)> = std::fs::read_dir(folder)
        .map_err(|cause| FsError::new("list", folder, cause))?
        .filter_map(Result::ok)
        .filter_map(|entry| {
            let name = entry.file_name().into_string().ok()?;
            let rest = name.strip_prefix("deployments.")?.strip_suffix(".log")?;
            let (number, id) = rest.split_once('.')?;
            let plain = number.len() == 4 && number.bytes().all(|b| b.is_ascii_digit());
            plain.then(|| Some((number.parse().ok()?, id.to_owned(), entry.path())))?
        })
        .collect();
    // the oldest first, so that nobody is overwritten
    logs.sort_by(|a, b| b.cmp(a));
    for (number, id, from) in logs {
        if number + 1 >= FILES_MAX {
            fs::remove_tree(&from)?;
        } else {
            let to = path(folder, number + 1, &id);
            std::fs::rename(&from, &to).map_err(|cause| FsError::new("rename", &from, cause))?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(path: &Path) -> Vec<LogMessage> {
        std::fs::read_to_string(path)
            .unwrap()
            .lines()
            .filter(|line| !line.is_empty())
            .map(|line| serde_json::from_str(line).unwrap())
            .collect()
    }

    #[test]
    fn head_and_tail_are_kept_below_the_limit() {
        let dir = tempfile::tempdir().unwrap();
        let mut log = LogFile::open(dir.path(), "d").unwrap();
        for number in 0..40_000 {
            log.append(
                "2026-01-01T00:00:00Z",
                "info",
                &format!("line {number} \"\u{1}ü"),
            );
        }
        let path = path(dir.path(), 0, "d");
        assert!(std::fs::metadata(&path).unwrap().len() <= FILE_BYTES_MAX as u64);
        let lines = lines(&path);
        assert!(lines[0].message.starts_with("line 0 "));
        assert!(lines.last().unwrap().message.starts_with("line 39999 "));
        assert_eq!(
            lines
                .iter()
                .filter(|l| l.message.contains("left out"))
                .count(),
            1
        );
    }

    #[test]
    fn a_huge_message_is_cut_at_a_character() {
        let dir = tempfile::tempdir().unwrap();
        let mut log = LogFile::open(dir.path(), "d").unwrap();
        log.append("2026-01-01T00:00:00Z", "info", &"ü".repeat(1_000_000));
        let lines = lines(&path(dir.path(), 0, "d"));
        assert!(lines[0].message.ends_with("ü […]"));
    }

    #[test]
    fn half_a_line_does_not_spoil_the_next() {
        let dir = tempfile::tempdir().unwrap();
        let path = path(dir.path(), 0, "d");
        std::fs::write(&path, b"{\"timestamp\":\"2026").unwrap();
        LogFile::open(dir.path(), "d")
            .unwrap()
            .append("2026-01-01T00:00:00Z", "info", "next");
        let text = std::fs::read_to_string(&path).unwrap();
        let last: LogMessage = serde_json::from_str(text.lines().last().unwrap()).unwrap();
        assert_eq!(last.message, "next");
    }

    #[test]
    fn five_logs_are_kept_and_a_restart_continues_its_own() {
        let dir = tempfile::tempdir().unwrap();
        for id in ["a", "b", "c", "d", "e", "f", "f"] {
            LogFile::open(dir.path(), id)
                .unwrap()
                .append("2026-01-01T00:00:00Z", "info", id);
        }
        let mut names: Vec<String> = std::fs::read_dir(dir.path())
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        let expected = ["0000.f", "0001.e", "0002.d", "0003.c", "0004.b"]
            .map(|n| format!("deployments.{n}.log"));
        assert_eq!(names, expected);
        assert_eq!(lines(&path(dir.path(), 0, "f")).len(), 2);
    }
}

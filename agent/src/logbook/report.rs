//! The deployment log as the server takes it.

use std::path::Path;

use ambidex_platform::{
    clock,
    fs::{self, FsError},
};
use ambidex_wire::deployments::{LogMessage, LogReport};

use super::file;

/// The server takes 1 MiB; the rest is left for escapes and the envelope.
const REPORT_BYTES_MAX: usize = 1_000_000;

/// The log of a deployment, ready for upload. Lines that are damaged are left out with a note; when
/// there is no log at all, the report says so.
///
/// # Errors
/// When the file is there and cannot be read.
pub fn report(folder: &Path, deployment_id: &str) -> Result<LogReport, FsError> {
    // a later deployment may have moved it up
    let path = (0..file::FILES_MAX)
        .map(|number| file::path(folder, number, deployment_id))
        .find(|path| path.exists());
    let bytes = match path {
        Some(path) => fs::read_if_present(&path, 4 * file::FILE_BYTES_MAX as u64)?,
        None => None,
    };
    Ok(match bytes {
        Some(bytes) => LogReport {
            messages: messages(&bytes),
        },
        None => LogReport {
            messages: vec![note(
                "the log of this deployment is not on the device any more".to_owned(),
            )],
        },
    })
}

fn messages(bytes: &[u8]) -> Vec<LogMessage> {
    let mut messages = Vec::new();
    let mut damaged = 0_usize;
    let mut size = 0_usize;
    // from the end: if anything has to go, the end is what matters
    for line in bytes
        .rsplit(|b| *b == b'\n')
        .filter(|line| !line.is_empty())
    {
        let Some(message) = parse(line) else {
            damaged += 1;
            continue;
        };
        size += line.len() + 1;
        if size > REPORT_BYTES_MAX {
            messages.push(note(
                "earlier lines were left out to stay below the server's limit".to_owned(),
            ));
            break;
        }
        messages.push(message);
    }
    messages.reverse();
    if damaged > 0 {
        messages.push(note(format!(
            "{damaged} damaged lines were left out of this log"
        )));
    }
    messages
}

/// A line of ours: three texts, the time a real one, or the server would refuse the whole log.
fn parse(line: &[u8]) -> Option<LogMessage> {
    let message: LogMessage = serde_json::from_slice(line).ok()?;
    message.timestamp.parse::<jiff::Timestamp>().ok()?;
    Some(message)
}

fn note(message: String) -> LogMessage {
    let ms = i64::try_from(clock::wall_unix_ms()).unwrap_or(0);
    let timestamp = jiff::Timestamp::from_millisecond(ms).unwrap_or(jiff::Timestamp::UNIX_EPOCH);
    LogMessage {
        timestamp: timestamp.to_string(),
        level: "warning".to_owned(),
        message,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn damaged_lines_are_left_out_with_a_note() {
        let good = r#"{"timestamp":"2026-01-01T00:00:00Z","level":"info","message":"good"}"#;
        let text = [
            good.as_bytes(),
            b"\n{\"times\n\xff\xfe\n\n",
            good.as_bytes(),
            b"\n",
        ]
        .concat();
        let messages = messages(&text);
        assert_eq!(messages.len(), 3);
        assert_eq!(messages[0].message, "good");
        assert!(messages[2].message.starts_with("2 damaged lines"));
    }

    #[test]
    fn the_end_survives_the_limit() {
        let mut text = String::new();
        for number in 0..20_000 {
            text += &format!(
                "{{\"timestamp\":\"2026-01-01T00:00:00Z\",\"level\":\"info\",\"message\":\"{number}\"}}\n"
            );
        }
        let messages = messages(text.as_bytes());
        assert_eq!(messages.last().unwrap().message, "19999");
        assert!(messages[0].message.contains("left out"));
        assert!(serde_json::to_vec(&LogReport { messages }).unwrap().len() < 1 << 20);
    }

    #[test]
    fn an_absent_log_is_told() {
        let dir = tempfile::tempdir().unwrap();
        let report = report(dir.path(), "d").unwrap();
        assert!(report.messages[0].message.contains("not on the device"));
    }
}

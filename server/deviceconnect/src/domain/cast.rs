//! Recordings as asciicast v2, which any player of terminal recordings reads.

use serde_json::json;

use super::recording::{Event, What};
use crate::store::session::Session;

/// Writes the lines of a file. Output is text there: a character that is cut by the end of an event is
/// completed by the next one.
pub(crate) struct Cast {
    cut: Vec<u8>,
}

impl Cast {
    pub(crate) fn new() -> Cast {
        Cast { cut: Vec::new() }
    }

    /// The first line.
    pub(crate) fn head(session: &Session) -> String {
        let head = json!({
            "version": 2,
            "width": session.width,
            "height": session.height,
            "timestamp": session.started_ms.div_euclid(1000),
            "title": format!("device {}", session.device_id),
            "env": { "TERM": "xterm-256color" },
        });
        format!("{head}\n")
    }

    pub(crate) fn line(&mut self, event: &Event) -> String {
        let seconds = event.at_ms as f64 / 1000.0;
        match &event.what {
            What::Resize(columns, rows) => {
                format!("{}\n", json!([seconds, "r", format!("{columns}x{rows}")]))
            }
            What::Output(output) => {
                let text = self.text(output);
                if text.is_empty() {
                    return String::new();
                }
                format!("{}\n", json!([seconds, "o", text]))
            }
        }
    }

    /// What is left over at the end.
    pub(crate) fn tail(&mut self, at_ms: u64) -> String {
        if self.cut.is_empty() {
            return String::new();
        }
        let text = String::from_utf8_lossy(&std::mem::take(&mut self.cut)).into_owned();
        format!("{}\n", json!([at_ms as f64 / 1000.0, "o", text]))
    }

    fn text(&mut self, output: &[u8]) -> String {
        let mut bytes = std::mem::take(&mut self.cut);
        bytes.extend_from_slice(output);
        let mut text = String::with_capacity(bytes.len());
        let mut rest = bytes.as_slice();
        loop {
            match std::str::from_utf8(rest) {
                Ok(valid) => {
                    text.push_str(valid);
                    return text;
                }
                Err(error) => {
                    let (valid, bad) = rest.split_at(error.valid_up_to());
                    text.push_str(&String::from_utf8_lossy(valid));
                    match error.error_len() {
                        Some(length) => {
                            text.push('\u{fffd}');
                            rest = &bad[length..];
                        }
                        None => {
                            self.cut = bad.to_vec();
                            return text;
                        }
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn characters_that_are_cut_are_put_together() {
        let mut cast = Cast::new();
        let mut line = |at_ms, output: &[u8]| {
            let what = What::Output(output.to_vec());
            cast.line(&Event { at_ms, what })
        };
        assert_eq!(line(1500, b"a\xc3"), "[1.5,\"o\",\"a\"]\n");
        assert_eq!(
            line(1501, b"\xa4\x1b["),
            "[1.501,\"o\",\"\u{e4}\\u001b[\"]\n"
        );
        assert_eq!(line(1502, b"\xff!\xe2"), "[1.502,\"o\",\"\u{fffd}!\"]\n");
        assert_eq!(line(1503, b"\x82"), "");
        assert_eq!(cast.tail(2000), "[2.0,\"o\",\"\u{fffd}\"]\n");
        let resize = Event {
            at_ms: 0,
            what: What::Resize(132, 50),
        };
        assert_eq!(Cast::new().line(&resize), "[0.0,\"r\",\"132x50\"]\n");
    }
}

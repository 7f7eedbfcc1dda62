//! Results as a table, or as the JSON that the server gave.

use std::io::{self, Write as _};

use serde_json::Value;

use crate::exit::Failure;

/// Text for a cell, so that it cannot steer the terminal.
pub fn plain(text: &str) -> String {
    text.chars()
        .map(|c| if c.is_control() { '\u{fffd}' } else { c })
        .collect()
}

/// Columns as wide as their widest cell; the last one as long as it is.
pub fn print(head: &[&str], rows: &[Vec<String>]) -> Result<(), Failure> {
    let mut widths: Vec<usize> = head.iter().map(|text| text.chars().count()).collect();
    for row in rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let mut out = String::new();
    let head: Vec<String> = head.iter().map(|text| (*text).to_owned()).collect();
    for row in std::iter::once(&head).chain(rows) {
        let mut line = String::new();
        for (cell, width) in row.iter().zip(&widths) {
            line.push_str(&format!("{cell:width$}  "));
        }
        out.push_str(line.trim_end());
        out.push('\n');
    }
    emit(&out)
}

/// Indented JSON.
pub fn print_json(value: &Value) -> Result<(), Failure> {
    emit(&(serde_json::to_string_pretty(value)? + "\n"))
}

/// Writes to standard output; a reader that went away is no error.
pub fn emit(text: &str) -> Result<(), Failure> {
    match io::stdout().lock().write_all(text.as_bytes()) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        outcome => Ok(outcome?),
    }
}

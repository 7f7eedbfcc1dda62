//! What goes into real images, checked as far as a machine without a distribution's build system can:
//! see `tests/images`. This library only runs programs.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail};

/// Runs a program to its end and returns its standard output; everything it said is in the error.
pub fn output(command: &mut Command) -> Result<String> {
    let output = command
        .output()
        .with_context(|| format!("starting {command:?}"))?;
    let stdout = String::from_utf8_lossy(&output.stdout).into_owned();
    if !output.status.success() {
        bail!(
            "{command:?} ended with {}:\n{stdout}{}",
            output.status,
            String::from_utf8_lossy(&output.stderr)
        );
    }
    Ok(stdout)
}

/// Reads a text file.
pub fn text(path: &Path) -> Result<String> {
    std::fs::read_to_string(path).with_context(|| format!("reading {}", path.display()))
}

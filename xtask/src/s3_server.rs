//! The S3 server that tests run against: a Python package, in a folder of its own below `target`.

use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

use crate::workspace;

/// Verifies every signature, presigned links included, and installs in seconds.
const PACKAGE: &str = "nanio==0.1.7";

/// Installs it unless it is there. Without it the tests that need it skip, loudly.
pub fn ensure() {
    if let Err(error) = install() {
        eprintln!(
            "warning: the S3 server {PACKAGE} is missing ({error:#}); tests that need it will be skipped"
        );
    }
}

fn install() -> Result<()> {
    let folder = workspace::target_dir().join("tools/nanio");
    if std::env::var_os("AMBIDEX_S3_BIN").is_some() || folder.join("bin/nanio").is_file() {
        return Ok(());
    }
    eprintln!("installing the S3 server {PACKAGE} for tests");
    // Half an installation of an earlier attempt would stay in the way.
    if folder.exists() {
        std::fs::remove_dir_all(&folder).context("removing an earlier attempt")?;
    }
    // A Python of the user's may come without this module; Debian's has it with python3-venv.
    let made = ["python3", "/usr/bin/python3"]
        .iter()
        .any(|python| quiet(Command::new(python).args(["-m", "venv"]).arg(&folder)).is_ok());
    if !made {
        bail!("`python3 -m venv` does not work; install the Debian package python3-venv");
    }
    let outcome = quiet(Command::new(folder.join("bin/pip")).args([
        "install",
        "--disable-pip-version-check",
        PACKAGE,
    ]));
    if outcome.is_err() {
        remove(&folder);
    }
    outcome
}

fn remove(folder: &Path) {
    if let Err(error) = std::fs::remove_dir_all(folder) {
        eprintln!("warning: {}: {error}", folder.display());
    }
}

fn quiet(command: &mut Command) -> Result<()> {
    let output = command
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("starting {command:?}"))?;
    if !output.status.success() {
        bail!("{}", String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(())
}

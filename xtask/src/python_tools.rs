//! Python packages that tests run, each in a folder of its own below `target/tools`.

use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

use crate::workspace;

/// The program, its package, and the variable that names another copy of it.
const TOOLS: &[(&str, &str, &str)] = &[
    // An S3 server: verifies every signature, presigned links included.
    ("nanio", "nanio==0.1.7", "AMBIDEX_S3_BIN"),
    // A fuzzer that reads OpenAPI documents.
    (
        "schemathesis",
        "schemathesis==4.32.5",
        "AMBIDEX_SCHEMATHESIS_BIN",
    ),
];

/// Installs what is not there. Without a tool the tests that need it skip, loudly.
pub fn ensure() {
    for (program, package, variable) in TOOLS {
        if std::env::var_os(variable).is_some() {
            continue;
        }
        if let Err(error) = install(program, package) {
            eprintln!(
                "warning: {package} is missing ({error:#}); tests that need it will be skipped"
            );
        }
    }
}

fn install(program: &str, package: &str) -> Result<()> {
    let folder = workspace::target_dir().join("tools").join(program);
    if folder.join("bin").join(program).is_file() {
        return Ok(());
    }
    eprintln!("installing {package} for tests");
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
        package,
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

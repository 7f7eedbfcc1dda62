//! Child processes that do not outlive the test process.

use std::ffi::OsStr;
use std::path::Path;
use std::process::Stdio;
use std::sync::OnceLock;

use anyhow::{Context, Result};
use tokio::process::{Child, Command};

/// A command whose process is killed when this process dies, however it dies. `setpriv` (package
/// util-linux) becomes the program, so the process id stays the same.
pub(crate) fn command(program: impl AsRef<OsStr>) -> Command {
    let mut command = attached(program);
    // a process group of its own: Ctrl-C reaches us, and we decide what to stop in which order
    command.process_group(0).stdin(Stdio::null());
    command
}

/// The same for a program that may use our terminal.
pub(crate) fn attached(program: impl AsRef<OsStr>) -> Command {
    static SETPRIV: OnceLock<bool> = OnceLock::new();
    let setpriv = *SETPRIV.get_or_init(|| crate::binaries::find_tool("setpriv").is_some());
    let mut command = if setpriv {
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL", "--"]).arg(program);
        command
    } else {
        Command::new(program)
    };
    command.kill_on_drop(true);
    command
}

/// Starts `command` with its output appended to the file `log`.
pub(crate) fn spawn_logged(command: &mut Command, log: &Path) -> Result<Child> {
    let file = std::fs::OpenOptions::new()
        .create(true)
        .append(true)
        .open(log)
        .with_context(|| format!("opening {}", log.display()))?;
    let copy = file
        .try_clone()
        .context("duplicating the log's file descriptor")?;
    command
        .stdout(file)
        .stderr(copy)
        .spawn()
        .with_context(|| format!("starting {:?}", command.as_std()))
}

/// The end of a text file, for error messages.
pub(crate) fn tail(path: &Path, bytes: usize) -> String {
    let content = std::fs::read(path).unwrap_or_default();
    let start = content.len().saturating_sub(bytes);
    String::from_utf8_lossy(content.get(start..).unwrap_or_default()).into_owned()
}

/// Runs a program to its end and returns its standard output; an exit code other than 0 is an error that
/// shows what the program said.
pub(crate) async fn run(command: &mut Command) -> Result<String> {
    let output = command
        .stdin(Stdio::null())
        .output()
        .await
        .with_context(|| format!("starting {:?}", command.as_std()))?;
    let stdout = String::from_utf8_lossy(&output.stdout).into_owned();
    if !output.status.success() {
        anyhow::bail!(
            "{:?} ended with {}: {}{}",
            command.as_std(),
            output.status,
            stdout,
            String::from_utf8_lossy(&output.stderr)
        );
    }
    Ok(stdout)
}

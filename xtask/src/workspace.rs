//! Where things are, and how cargo is called.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

/// The root of the repository.
pub fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .expect("invariant: xtask lies in the root")
}

/// Where cargo puts what it builds.
pub fn target_dir() -> PathBuf {
    std::env::var_os("CARGO_TARGET_DIR")
        .map_or_else(|| root().join("target"), |dir| root().join(dir))
}

/// A program built with the `dev` profile.
pub fn built(name: &str) -> PathBuf {
    target_dir().join("debug").join(name)
}

/// The cargo that runs us, in the root.
pub fn cargo() -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(root());
    command
}

/// Builds binaries as they ship.
pub fn build(binaries: &[&str]) -> Result<()> {
    let mut command = cargo();
    command.args(["build", "--locked", "--workspace"]);
    for binary in binaries {
        command.args(["--bin", binary]);
    }
    check(&mut command)
}

/// Builds all binaries and all tests at once: what tests need of a dependency (a clock that can be stopped, say) makes
/// another dependency of it, and with it of everything above it. Apart, most of the workspace would be compiled twice.
pub fn build_with_tests() -> Result<()> {
    check(cargo().args(["build", "--locked", "--workspace", "--bins", "--tests"]))
}

/// Runs a command to its end with our own terminal.
pub fn check(command: &mut Command) -> Result<()> {
    let status = command
        .status()
        .with_context(|| format!("starting {command:?}"))?;
    if !status.success() {
        bail!("{command:?} ended with {status}");
    }
    Ok(())
}

/// The environment that makes the harness use what was just built instead of asking cargo per test.
pub fn use_built(command: &mut Command) {
    for (variable, binary) in [
        ("AMBIDEX_SERVER_BIN", "ambidex-server"),
        ("AMBIDEX_AGENT_BIN", "ambidex-agent"),
        ("AMBIDEX_CLI_BIN", "ambidex"),
        ("AMBIDEX_XTASK_BIN", "xtask"),
    ] {
        if std::env::var_os(variable).is_none() && built(binary).is_file() {
            command.env(variable, built(binary));
        }
    }
}

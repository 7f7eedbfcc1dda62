//! Finding or building the programs under test.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use anyhow::{Context, Result, bail};

/// The server, or `AMBIDEX_SERVER_BIN`.
pub fn server() -> Result<PathBuf> {
    static PATH: OnceLock<PathBuf> = OnceLock::new();
    once(&PATH, || {
        locate("AMBIDEX_SERVER_BIN", "ambidex-server", "ambidex-server")
    })
}

/// The agent for this machine, or `AMBIDEX_AGENT_BIN`. (Boards get a static one: `qemu/agent`.)
pub fn agent() -> Result<PathBuf> {
    static PATH: OnceLock<PathBuf> = OnceLock::new();
    once(&PATH, || {
        locate("AMBIDEX_AGENT_BIN", "ambidex-agent", "ambidex-agent")
    })
}

/// The agent's helper for keys in tokens. The agent looks for it beside itself, so it is built where the agent is.
pub fn pkcs11_helper() -> Result<PathBuf> {
    static PATH: OnceLock<PathBuf> = OnceLock::new();
    const NAME: &str = "ambidex-pkcs11";
    once(&PATH, || {
        let beside = agent()?.with_file_name(NAME);
        if std::env::var_os("AMBIDEX_AGENT_BIN").is_some() {
            if !beside.is_file() {
                bail!(
                    "AMBIDEX_AGENT_BIN is set, but there is no {} beside that agent",
                    beside.display()
                );
            }
            return Ok(beside);
        }
        build(NAME, NAME)
    })
}

/// The operator CLI, or `AMBIDEX_CLI_BIN`.
pub fn cli() -> Result<PathBuf> {
    static PATH: OnceLock<PathBuf> = OnceLock::new();
    once(&PATH, || locate("AMBIDEX_CLI_BIN", "ambidex", "ambidex"))
}

/// The developer commands, or `AMBIDEX_XTASK_BIN`.
pub fn xtask() -> Result<PathBuf> {
    static PATH: OnceLock<PathBuf> = OnceLock::new();
    once(&PATH, || locate("AMBIDEX_XTASK_BIN", "xtask", "xtask"))
}

/// The root of the repository.
pub fn repository() -> &'static Path {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.parent()
        .and_then(Path::parent)
        .expect("invariant: tests/harness is two levels below the root")
}

/// A tool of the system: the first hit on the PATH, including the sbin folders.
pub fn find_tool(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .chain(["/usr/sbin", "/sbin"].map(PathBuf::from))
        .map(|folder| folder.join(name))
        .find(|candidate| candidate.is_file())
}

fn once(cell: &OnceLock<PathBuf>, make: impl FnOnce() -> Result<PathBuf>) -> Result<PathBuf> {
    if let Some(path) = cell.get() {
        return Ok(path.clone());
    }
    let path = make()?;
    Ok(cell.get_or_init(|| path).clone())
}

/// Where cargo puts what it builds.
pub fn target_dir() -> Result<PathBuf> {
    let folder = profile_dir()?;
    let target = folder
        .parent()
        .context("the profile folder has no parent")?;
    Ok(target.to_owned())
}

fn profile_dir() -> Result<PathBuf> {
    // The test program lies in TARGET/PROFILE/deps, the demo in TARGET/PROFILE.
    let own = std::env::current_exe().context("finding the path of this program")?;
    let mut folder = own.parent().context("this program has no folder")?;
    if folder.ends_with("deps") || folder.ends_with("examples") {
        folder = folder.parent().context("the deps folder has no parent")?;
    }
    Ok(folder.to_owned())
}

fn locate(variable: &str, package: &str, binary: &str) -> Result<PathBuf> {
    if let Some(path) = std::env::var_os(variable) {
        let path = PathBuf::from(path);
        if !path.is_file() {
            bail!("{variable} names {}, which is not a file", path.display());
        }
        return Ok(path);
    }
    build(package, binary)
}

fn build(package: &str, binary: &str) -> Result<PathBuf> {
    let profile_dir = profile_dir()?;
    let target_dir = target_dir()?;
    let profile = match profile_dir.file_name().and_then(|name| name.to_str()) {
        Some("debug") | None => "dev",
        Some(name) => name,
    };
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    // a binary left over from an older source tree would make the test lie: always ask cargo
    let status = Command::new(cargo)
        .current_dir(repository())
        .args([
            "build",
            "--quiet",
            "--profile",
            profile,
            "--workspace",
            "--bin",
            binary,
        ])
        .env("CARGO_TARGET_DIR", target_dir)
        .status()
        .with_context(|| format!("running cargo to build {binary}"))?;
    if !status.success() {
        bail!(
            "building {binary} failed: run `cargo build -p {package}` to see why (AMBIDEX_*_BIN names one that is built)"
        );
    }
    Ok(profile_dir.join(binary))
}

//! What `login` remembers: server, token, certificate. One file a profile, for its owner only.

use std::env;
use std::fs;
use std::io::Write as _;
use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use serde::{Deserialize, Serialize};

/// A logged-in user at a server.
#[derive(Serialize, Deserialize)]
pub struct Profile {
    /// Base URL of the server.
    pub server: String,
    /// Bearer token.
    pub token: String,
    /// Certificates to trust beside the public ones, PEM.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub server_cert: Option<PathBuf>,
}

/// Checks that a profile name is a plain file name.
pub fn check_name(name: &str) -> Result<String, String> {
    let permitted = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    if name.is_empty() || name.starts_with('.') || name.len() > 64 || !name.chars().all(permitted) {
        return Err("a profile name has letters, digits, `-`, `_` and `.`".into());
    }
    Ok(name.to_owned())
}

/// `$XDG_CONFIG_HOME/ambidex/profiles` or `~/.config/ambidex/profiles`.
fn folder() -> anyhow::Result<PathBuf> {
    let base = match env::var_os("XDG_CONFIG_HOME").map(PathBuf::from) {
        Some(path) if path.is_absolute() => path,
        _ => PathBuf::from(
            env::var_os("HOME").context("HOME is not set; set it, or XDG_CONFIG_HOME")?,
        )
        .join(".config"),
    };
    Ok(base.join("ambidex/profiles"))
}

fn path(name: &str) -> anyhow::Result<PathBuf> {
    Ok(folder()?.join(format!("{name}.json")))
}

impl Profile {
    /// `None` when there has been no login under this name.
    pub fn load(name: &str) -> anyhow::Result<Option<Self>> {
        let path = path(name)?;
        let text = match fs::read(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => {
                return Err(error).with_context(|| format!("cannot read {}", path.display()));
            }
        };
        let mode = fs::metadata(&path)?.permissions().mode();
        if mode & 0o077 != 0 {
            bail!(
                "{} holds a token and others may read it; run: chmod 600 {0}",
                path.display()
            );
        }
        // The parser's message would show a piece of the file, which may be the token.
        match serde_json::from_slice(&text) {
            Ok(profile) => Ok(Some(profile)),
            Err(_) => bail!("{} is damaged; remove it and log in again", path.display()),
        }
    }

    /// Writes the profile, readable by its owner only.
    pub fn save(&self, name: &str) -> anyhow::Result<PathBuf> {
        let path = path(name)?;
        let folder = path.parent().unwrap_or(Path::new("."));
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(folder)
            .with_context(|| format!("cannot make the directory {}", folder.display()))?;
        let cannot = || format!("cannot write {}", path.display());
        // Temporary files are 0600 from the start.
        let mut file = tempfile::NamedTempFile::new_in(folder).with_context(cannot)?;
        serde_json::to_writer_pretty(&mut file, self).with_context(cannot)?;
        file.write_all(b"\n").with_context(cannot)?;
        file.persist(&path).with_context(cannot)?;
        Ok(path)
    }

    /// Forgets the profile; whether there was one.
    pub fn remove(name: &str) -> anyhow::Result<bool> {
        let path = path(name)?;
        match fs::remove_file(&path) {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(error).with_context(|| format!("cannot remove {}", path.display())),
        }
    }
}

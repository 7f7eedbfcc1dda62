//! Certificates for the servers of a test.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::{binaries, skip};

/// A fresh self-signed certificate for `localhost` and 127.0.0.1 and its key, as PEM files in `folder`.
/// `None`, and the test counts as skipped, when the tool `openssl` is missing.
pub fn self_signed(folder: &Path) -> Result<Option<(PathBuf, PathBuf)>> {
    let Some(openssl) = binaries::find_tool("openssl") else {
        skip("openssl is not installed (Debian package openssl)");
        return Ok(None);
    };
    let (cert, key) = (folder.join("cert.pem"), folder.join("key.pem"));
    let output = Command::new(openssl)
        .args(["req", "-x509", "-nodes", "-days", "2"])
        .args(["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1"])
        .args(["-subj", "/CN=localhost"])
        .args(["-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"])
        .args(["-addext", "basicConstraints=critical,CA:FALSE"])
        .arg("-keyout")
        .arg(&key)
        .arg("-out")
        .arg(&cert)
        .output()
        .context("starting openssl")?;
    if !output.status.success() {
        bail!("openssl: {}", String::from_utf8_lossy(&output.stderr));
    }
    Ok(Some((cert, key)))
}

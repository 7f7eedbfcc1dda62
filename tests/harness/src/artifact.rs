//! Writing artifacts and signing keys with the tools a user has: the operator CLI and openssl.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::{binaries, child};

/// A fresh P-256 key pair as two PEM files.
#[derive(Debug, Clone)]
pub struct SigningKey {
    pub private: PathBuf,
    pub public: PathBuf,
}

impl SigningKey {
    /// Makes `NAME.key` and `NAME.pub` in `folder`.
    pub async fn generate(folder: &Path, name: &str) -> Result<Self> {
        let private = folder.join(format!("{name}.key"));
        let public = folder.join(format!("{name}.pub"));
        child::run(
            child::command("openssl")
                .args([
                    "genpkey",
                    "-quiet",
                    "-algorithm",
                    "EC",
                    "-pkeyopt",
                    "ec_paramgen_curve:P-256",
                    "-out",
                ])
                .arg(&private),
        )
        .await
        .context("making a signing key with openssl (Debian package openssl)")?;
        child::run(
            child::command("openssl")
                .args(["pkey", "-pubout", "-in"])
                .arg(&private)
                .arg("-out")
                .arg(&public),
        )
        .await
        .context("extracting the public key with openssl")?;
        Ok(Self { private, public })
    }
}

/// Writes a rootfs-image artifact with the operator CLI.
pub async fn write_rootfs_image(
    name: &str,
    device_type: &str,
    image: &Path,
    key: Option<&SigningKey>,
    out: &Path,
) -> Result<()> {
    write_rootfs_image_with(name, device_type, image, key, &[], out).await
}

/// The same with state scripts, whose names say when they run.
pub async fn write_rootfs_image_with(
    name: &str,
    device_type: &str,
    image: &Path,
    key: Option<&SigningKey>,
    scripts: &[&Path],
    out: &Path,
) -> Result<()> {
    let mut command = child::command(binaries::cli()?);
    command
        .args([
            "artifact",
            "write",
            "rootfs-image",
            "--artifact-name",
            name,
            "--device-type",
            device_type,
        ])
        .args(["--compression", "zstd"])
        .arg("--file")
        .arg(image)
        .arg("--output-path")
        .arg(out);
    for script in scripts {
        command.arg("--script").arg(script);
    }
    if let Some(key) = key {
        command.arg("--key").arg(&key.private);
    }
    child::run(&mut command)
        .await
        .with_context(|| format!("writing the artifact {name}"))?;
    Ok(())
}

/// Writes an artifact for the update module `module` with one small file, beside `out`.
pub async fn write_module_image(
    name: &str,
    device_type: &str,
    module: &str,
    out: &Path,
) -> Result<()> {
    let payload = out.with_extension("txt");
    std::fs::write(&payload, format!("content of {name}\n")).context("writing the payload")?;
    let mut command = child::command(binaries::cli()?);
    command
        .args(["artifact", "write", "module-image", "--type", module])
        .args(["--artifact-name", name, "--device-type", device_type])
        .arg("--file")
        .arg(&payload)
        .arg("--output-path")
        .arg(out);
    child::run(&mut command)
        .await
        .with_context(|| format!("writing the artifact {name}"))?;
    Ok(())
}

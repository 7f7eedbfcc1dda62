//! Payloads and artifacts of the tests.

use std::{
    fs,
    path::{Path, PathBuf},
};

use ambidex_harness::{artifact::SigningKey, binaries};
use anyhow::{Context, Result, bail};
use tokio::process::Command;

use crate::device::DEVICE_TYPE;

/// Bytes that differ in every block from those of another seed.
#[must_use]
pub fn image(seed: u8, bytes: usize) -> Vec<u8> {
    let mut state = u64::from(seed).wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut content = Vec::with_capacity(bytes);
    while content.len() < bytes {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        content.extend_from_slice(&state.to_le_bytes());
    }
    content.truncate(bytes);
    content
}

/// Writes `content` as a rootfs-image artifact called `name`, for another device type if `device_type` says so.
pub async fn rootfs_artifact(
    folder: &Path,
    name: &str,
    content: &[u8],
    key: Option<&SigningKey>,
    device_type: Option<&str>,
) -> Result<PathBuf> {
    let payload = folder.join(format!("{name}.img"));
    fs::write(&payload, content).with_context(|| format!("writing {}", payload.display()))?;
    let target = folder.join(format!("{name}.mender"));
    let device_type = device_type.unwrap_or(DEVICE_TYPE);
    ambidex_harness::artifact::write_rootfs_image(name, device_type, &payload, key, &target)
        .await?;
    Ok(target)
}

/// Writes an artifact for the update module `module` with one small file.
pub async fn module_artifact(folder: &Path, name: &str, module: &str) -> Result<PathBuf> {
    let payload = folder.join(format!("{name}.txt"));
    fs::write(&payload, format!("content of {name}\n"))?;
    let target = folder.join(format!("{name}.mender"));
    let output = Command::new(binaries::cli()?)
        .args([
            "artifact",
            "write",
            "module-image",
            "--type",
            module,
            "--artifact-name",
            name,
        ])
        .args(["--device-type", DEVICE_TYPE, "--file"])
        .arg(&payload)
        .arg("--output-path")
        .arg(&target)
        .output()
        .await
        .context("starting the operator CLI")?;
    if !output.status.success() {
        bail!(
            "writing the artifact {name}: {}",
            String::from_utf8_lossy(&output.stderr)
        );
    }
    Ok(target)
}

/// Writes the artifact `new` with the difference between the images that [`rootfs_artifact`] has left of two releases.
pub async fn delta_artifact(folder: &Path, old: &str, new: &str) -> Result<PathBuf> {
    let target = folder.join(format!("{new}-delta.mender"));
    let output = Command::new(binaries::cli()?)
        .current_dir(folder)
        .args(["artifact", "write", "rootfs-delta"])
        .args(["--from", &format!("{old}.img"), "-f", &format!("{new}.img")])
        .args(["-n", new, "-c", DEVICE_TYPE, "-o"])
        .arg(&target)
        .output()
        .await
        .context("starting the operator CLI")?;
    if !output.status.success() {
        bail!(
            "writing the difference between {old} and {new}: {}",
            String::from_utf8_lossy(&output.stderr)
        );
    }
    Ok(target)
}

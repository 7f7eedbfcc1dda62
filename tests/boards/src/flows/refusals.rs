//! Updates that are refused before anything is written.

use ambidex_harness::artifact::SigningKey;
use anyhow::{Context, Result, ensure};

use super::updates::succeeds;
use crate::rig::{Deployment, Rig};

const MIB: u64 = 1024 * 1024;

/// A checksum of the other slot, where the disk can be looked at.
fn other_slot(rig: &Rig) -> Result<Option<u32>> {
    rig.dut
        .emulated()
        .map(|board| board.disk().fingerprint(rig.other_part()))
        .transpose()
}

/// Waits for the failure: no reboot, nothing written; returns the log.
async fn refused(
    rig: &mut Rig,
    deployment: &Deployment,
    starts: usize,
    slot: Option<u32>,
) -> Result<String> {
    rig.wait(deployment, &["failure"]).await?;
    let log = rig.log_of(deployment).await?;
    rig.dut.output("sync").await?;
    ensure!(
        other_slot(rig)? == slot,
        "something was written to the other slot"
    );
    rig.expect_started(starts, &[])?;
    Ok(log)
}

pub async fn too_large(rig: &mut Rig) -> Result<()> {
    let (starts, slot) = (rig.starts(), other_slot(rig)?);
    let good = rig.image(rig.running()).await?;
    let bytes = std::fs::metadata(&good)
        .with_context(|| format!("asking for {}", good.display()))?
        .len();
    let image = rig.folder().join("too-large.ext4");
    std::fs::copy(&good, &image).context("copying an image")?;
    // images are as large as their slots
    std::fs::File::options()
        .write(true)
        .open(&image)
        .and_then(|file| file.set_len(bytes + MIB))
        .context("making the image larger")?;
    let key = rig.key().clone();
    let deployment = rig
        .deploy_image("too-large", &image, Some(&key), &[])
        .await?;
    let log = refused(rig, &deployment, starts, slot).await?;
    std::fs::remove_file(&image).context("removing the image")?;
    ensure!(
        log.contains(&(bytes + MIB).to_string()),
        "the log names the size: {log}"
    );
    rig.both_sides_agree().await?;
    rig.environment_at_rest().await
}

pub async fn signature(rig: &mut Rig) -> Result<()> {
    let wrong = SigningKey::generate(rig.folder(), "wrong").await?;
    let (starts, slot) = (rig.starts(), other_slot(rig)?);
    let version = rig.fresh_version();
    let image = rig.image(version).await?;
    for (name, key) in [("wrong-key", Some(&wrong)), ("unsigned", None)] {
        let deployment = rig.deploy_image(name, &image, key, &[]).await?;
        let log = refused(rig, &deployment, starts, slot).await?;
        ensure!(
            log.to_lowercase().contains("signature"),
            "the log names the cause: {log}"
        );
    }
    // control: the same image signed by the right key is installed
    let deployment = rig.deploy(version, rig.good).await?;
    succeeds(rig, &deployment).await?;
    rig.environment_at_rest().await
}

//! Damage to the boot environment, found by the next boot.

use anyhow::{Context as _, Result, ensure};

use super::updates::succeeds;
use crate::rig::Rig;

/// Spoils copies of the environment while the board is off: the signature of the one format, the checksum of the other.
/// Returns them as they were.
async fn spoil(rig: &mut Rig, copies: &[u8]) -> Result<Vec<Vec<u8>>> {
    rig.dut.output("sync").await?;
    rig.dut.power_cut().await?;
    let disk = rig.dut.inside()?.disk();
    let mut whole = Vec::new();
    for &copy in copies {
        let mut block = disk.environment_block(copy).await?;
        whole.push(block.clone());
        *block.first_mut().context("the environment is empty")? ^= 1;
        disk.write_environment(copy, &block).await?;
        ensure!(
            disk.environment(copy).await.is_err(),
            "a damaged copy is none"
        );
    }
    Ok(whole)
}

pub async fn one_copy(rig: &mut Rig) -> Result<()> {
    spoil(rig, &[1]).await?;
    rig.boot().await?;
    let deployment = rig.deploy_fresh().await?;
    succeeds(rig, &deployment).await?;
    // reads both copies
    rig.environment_at_rest().await
}

pub async fn both_copies(rig: &mut Rig) -> Result<()> {
    // without an environment slot A starts
    if !rig.in_slot_a() {
        let deployment = rig.deploy_fresh().await?;
        succeeds(rig, &deployment).await?;
    }
    let whole = spoil(rig, &[1, 2]).await?;
    rig.boot().await?;
    rig.both_sides_agree().await?;
    let deployment = rig.deploy_fresh().await?;
    if rig.kind.has_equal_copies() {
        // this boot loader has no defaults that the agent could go by: people have to look
        rig.wait(&deployment, &["failure"]).await?;
        let log = rig.log_of(&deployment).await?;
        ensure!(log.contains("environment is readable"), "the log: {log}");
        restore(rig, &whole).await?;
    } else {
        succeeds(rig, &deployment).await?;
    }
    rig.both_sides_agree().await?;
    rig.environment_at_rest().await
}

/// Writes the copies back while the board is off.
async fn restore(rig: &mut Rig, whole: &[Vec<u8>]) -> Result<()> {
    rig.dut.output("sync").await?;
    rig.dut.power_cut().await?;
    for (copy, block) in (1..).zip(whole) {
        rig.dut
            .inside()?
            .disk()
            .write_environment(copy, block)
            .await?;
    }
    rig.boot().await
}

//! Damage to the boot environment, found by the next boot.

use anyhow::{Context as _, Result, ensure};

use super::updates::succeeds;
use crate::rig::Rig;

/// Spoils copies of the environment while the board is off: the signature of the one format, the checksum of the other.
async fn spoil(rig: &mut Rig, copies: &[u8]) -> Result<()> {
    rig.dut.output("sync").await?;
    rig.dut.power_cut().await?;
    let disk = rig.dut.inside()?.disk();
    for &copy in copies {
        let mut block = disk.environment_block(copy).await?;
        *block.first_mut().context("the environment is empty")? ^= 1;
        disk.write_environment(copy, &block).await?;
        ensure!(
            disk.environment(copy).await.is_err(),
            "a damaged copy is none"
        );
    }
    Ok(())
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
    spoil(rig, &[1, 2]).await?;
    rig.boot().await?;
    rig.both_sides_agree().await?;
    let deployment = rig.deploy_fresh().await?;
    succeeds(rig, &deployment).await?;
    rig.environment_at_rest().await
}

//! Updates that are committed.

use std::time::Duration;

use anyhow::{Result, ensure};

use crate::rig::{Deployment, Rig, VERSIONS};

/// How long the server stays away.
const SERVER_AWAY: Duration = Duration::from_secs(3);

/// Waits for the commit and checks what every committed update must leave behind.
pub(super) async fn succeeds(rig: &mut Rig, deployment: &Deployment) -> Result<()> {
    rig.wait(deployment, &["success"]).await?;
    rig.committed(deployment);
    rig.boots_running().await?;
    rig.both_sides_agree().await
}

pub async fn commit(rig: &mut Rig) -> Result<()> {
    let (starts, other) = (rig.starts(), rig.other_part());
    let deployment = rig.deploy_fresh().await?;
    succeeds(rig, &deployment).await?;
    rig.expect_started(starts, &[other])?;
    ensure!(
        rig.slot_is(&deployment.image).await?,
        "the slot holds exactly the image"
    );
    rig.environment_at_rest().await?;
    // committed: it stays after a loss of power, and nothing is counted any more
    rig.dut.output("sync").await?;
    rig.dut.power_cut().await?;
    rig.boot().await?;
    rig.both_sides_agree().await?;
    rig.environment_at_rest().await
}

pub async fn there_and_back(rig: &mut Rig) -> Result<()> {
    // A has been reached twice, each time from B
    let mut returns = 0;
    while returns < 2 {
        let deployment = rig.deploy_fresh().await?;
        succeeds(rig, &deployment).await?;
        returns += usize::from(rig.in_slot_a());
    }
    rig.environment_at_rest().await
}

pub async fn downgrade(rig: &mut Rig) -> Result<()> {
    let [first, second, third, _] = VERSIONS;
    if rig.running() == first {
        let newer = rig.deploy(third, rig.good).await?;
        succeeds(rig, &newer).await?;
    }
    let older = if rig.running() == second {
        first
    } else {
        second
    };
    let deployment = rig.deploy(older, rig.good).await?;
    succeeds(rig, &deployment).await?;
    rig.environment_at_rest().await
}

pub async fn server_killed(rig: &mut Rig) -> Result<()> {
    rig.blank_other_slot().await?;
    let deployment = rig.deploy_fresh().await?;
    rig.wait_written(&deployment.image, 8).await?;
    rig.server.kill().await?;
    tokio::time::sleep(SERVER_AWAY).await;
    rig.server.restart().await?;
    succeeds(rig, &deployment).await
}

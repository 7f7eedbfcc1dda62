//! Updates that are committed.

use std::time::Duration;

use anyhow::{Result, ensure};

use crate::rig::{Deployment, Rig};

/// How long the server stays away.
const SERVER_AWAY: Duration = Duration::from_secs(3);

/// Waits for the commit and checks what every committed update must leave behind.
pub(super) async fn succeeds(rig: &mut Rig, deployment: &Deployment) -> Result<()> {
    rig.wait(deployment, &["success"]).await?;
    rig.committed(deployment);
    rig.boots_running().await?;
    rig.both_sides_agree().await
}

/// The agent finds nothing wrong with the board's integration.
pub async fn self_test(rig: &mut Rig) -> Result<()> {
    let report = rig.dut.output("ambidex-agent board check").await?;
    let found = report
        .lines()
        .filter(|line| line.starts_with("ok "))
        .count();
    ensure!(found > 3, "board check: {report}");
    Ok(())
}

pub async fn commit(rig: &mut Rig) -> Result<()> {
    let (starts, other) = (rig.starts(), rig.other_number());
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

/// A was reached twice from B. What earlier flows have done on this board counts.
pub async fn there_and_back(rig: &mut Rig) -> Result<()> {
    while rig.history().returns < 2 {
        let deployment = rig.deploy_fresh().await?;
        succeeds(rig, &deployment).await?;
    }
    rig.both_sides_agree().await?;
    rig.environment_at_rest().await
}

/// An older release was installed over a newer one. What earlier flows have done on this board counts.
pub async fn downgrade(rig: &mut Rig) -> Result<()> {
    while rig.history().downgrades == 0 {
        // the oldest that neither slot holds
        let deployment = rig.deploy_fresh().await?;
        succeeds(rig, &deployment).await?;
    }
    rig.both_sides_agree().await?;
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

//! Updates that end where they began: the board comes back to the old release by itself and says so.

use ambidex_harness::board::Fault;
use anyhow::{Context, Result, ensure};

use crate::rig::{Deployment, Rig, UPDATE_LIMIT};

/// Waits for the failure and checks what every rollback must leave behind; returns the log.
async fn fails(rig: &mut Rig, deployment: &Deployment, starts: usize) -> Result<String> {
    rig.wait(deployment, &["failure"]).await?;
    rig.rolled_back(deployment);
    rig.boots_running().await?;
    let log = rig.log_of(deployment).await?;
    ensure!(log.lines().count() > 3, "the log tells a story: {log}");
    came_back(rig, starts).await?;
    Ok(log)
}

async fn came_back(rig: &mut Rig, starts: usize) -> Result<()> {
    rig.expect_started(starts, &[rig.other_number(), rig.current_number()])?;
    rig.both_sides_agree().await?;
    rig.environment_at_rest().await
}

pub async fn kernel_panic(rig: &mut Rig) -> Result<()> {
    let (starts, panics) = (rig.starts(), rig.seen("Kernel panic"));
    let deployment = rig.deploy("panicking", Fault::KernelPanic).await?;
    fails(rig, &deployment, starts).await?;
    ensure!(rig.seen("Kernel panic") > panics, "the kernel did panic");
    Ok(())
}

pub async fn hang(rig: &mut Rig) -> Result<()> {
    let starts = rig.starts();
    let deployment = rig.deploy("hanging", Fault::Hang).await?;
    rig.dut
        .wait_console("board: fault: hang", UPDATE_LIMIT)
        .await?;
    fails(rig, &deployment, starts).await.map(drop)
}

pub async fn no_network(rig: &mut Rig) -> Result<()> {
    boots_and_fails(rig, "unreachable", Fault::NoNetwork)
        .await
        .map(drop)
}

pub async fn unhealthy(rig: &mut Rig) -> Result<()> {
    let log = boots_and_fails(rig, "unhealthy", Fault::Unhealthy).await?;
    ensure!(
        log.contains("health check"),
        "the log names the cause: {log}"
    );
    Ok(())
}

pub async fn hung_check(rig: &mut Rig) -> Result<()> {
    let log = boots_and_fails(rig, "hung-check", Fault::HungCheck).await?;
    ensure!(
        log.contains("health check"),
        "the log names the cause: {log}"
    );
    Ok(())
}

/// The new system comes up, and is left all the same.
async fn boots_and_fails(rig: &mut Rig, version: &str, fault: Fault) -> Result<String> {
    let starts = rig.starts();
    let deployment = rig.deploy(version, fault).await?;
    rig.trial_boots(&deployment).await?;
    fails(rig, &deployment, starts).await
}

pub async fn refused_commit(rig: &mut Rig) -> Result<()> {
    let script = rig.folder().join("ArtifactCommit_Enter_00_refuse");
    std::fs::write(&script, "#!/bin/sh\necho \"not this one\" >&2\nexit 1\n")
        .context("writing the state script")?;
    // a good image: only the script stands against it
    let (image, key) = (rig.image("refused").await?, rig.key().clone());
    let starts = rig.starts();
    let deployment = rig
        .deploy_image("refused", &image, Some(&key), &[&script])
        .await?;
    rig.trial_boots(&deployment).await?;
    let log = fails(rig, &deployment, starts).await?;
    ensure!(
        log.contains("ArtifactCommit_Enter"),
        "the log names the cause: {log}"
    );
    Ok(())
}

pub async fn aborted(rig: &mut Rig) -> Result<()> {
    let starts = rig.starts();
    let deployment = rig.deploy_fresh().await?;
    rig.wait(&deployment, &["rebooting"]).await?;
    rig.api.abort(&deployment.id).await?;
    rig.trial_boots(&deployment).await?;
    rig.rolled_back(&deployment);
    rig.boots_running().await?;
    rig.wait(&deployment, &["aborted"]).await?;
    came_back(rig, starts).await
}

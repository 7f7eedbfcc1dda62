//! The power goes at the moments that matter. The slot holds exactly one release afterwards, and the server ends up with
//! the truth. That a further update works is shown by whatever comes after.

use anyhow::{Result, ensure};

use crate::rig::{Rig, UPDATE_LIMIT};

pub async fn in_the_write(rig: &mut Rig) -> Result<()> {
    rig.blank_other_slot().await?;
    let deployment = rig.deploy_fresh().await?;
    rig.wait_written(&deployment.image, 8).await?;
    rig.dut.power_cut().await?;
    let part = rig.other_part();
    ensure!(
        !rig.dut.inside()?.holds(part, &deployment.image)?,
        "the cut came in the middle of the write"
    );
    rig.boot().await?;
    // a release is either installed by a new attempt or reported as failed, never anything between
    rig.the_truth(&deployment).await?;
    rig.both_sides_agree().await
}

pub async fn at_the_reboot(rig: &mut Rig) -> Result<()> {
    let deployment = rig.deploy_fresh().await?;
    rig.wait(&deployment, &["rebooting"]).await?;
    rig.dut.power_cut().await?;
    if let Some(board) = rig.dut.emulated() {
        ensure!(
            board.holds(rig.other_part(), &deployment.image)?,
            "the image was on the disk before the reboot was announced"
        );
    }
    rig.dut.boot().await?;
    rig.the_truth(&deployment).await?;
    rig.both_sides_agree().await
}

pub async fn in_the_trial(rig: &mut Rig) -> Result<()> {
    let deployment = rig.deploy_fresh().await?;
    let started = format!("ambidex: booting slot {}", rig.other_number());
    rig.dut.wait_console(&started, UPDATE_LIMIT).await?;
    rig.dut.power_cut().await?;
    // boot loaders do not flush the count of trials: with it the trial is used up, without it the trial begins again
    let wanted = ends_of_the_cut_trial(rig).await?;
    rig.dut.boot().await?;
    let outcome = rig.the_truth(&deployment).await?;
    ensure!(
        wanted.contains(&outcome.as_str()),
        "{outcome} instead of {}",
        wanted.join(" or ")
    );
    rig.both_sides_agree().await?;
    rig.environment_at_rest().await
}

pub async fn before_the_commit(rig: &mut Rig) -> Result<()> {
    let deployment = rig.deploy_fresh().await?;
    rig.wait(&deployment, &["rebooting"]).await?;
    // the new release runs, but has not committed: init prints this line before it starts the agent
    rig.trial_boots(&deployment).await?;
    rig.dut.power_cut().await?;
    if let (Some(board), true) = (rig.dut.emulated(), rig.kind.has_environment()) {
        let variables = board.disk().variables().await?;
        ensure!(
            variables.get("upgrade_available") == "1",
            "not committed yet: {variables:?}"
        );
    }
    // an uncommitted release is rolled back
    rig.boot().await?;
    let outcome = rig.the_truth(&deployment).await?;
    ensure!(outcome == "failure", "{outcome}");
    rig.both_sides_agree().await?;
    rig.environment_at_rest().await
}

/// What may come of a trial that the power cut: the disk tells, where it can be looked at.
async fn ends_of_the_cut_trial(rig: &Rig) -> Result<&'static [&'static str]> {
    if !rig.kind.has_environment() {
        // the restart carried the trial, and no file counts it
        return Ok(&["failure"]);
    }
    let Some(board) = rig.dut.emulated() else {
        return Ok(&["failure", "success"]);
    };
    let variables = board.disk().variables().await?;
    ensure!(
        variables.get("upgrade_available") == "1",
        "a trial is on: {variables:?}"
    );
    Ok(match variables.get("bootcount") {
        "0" => &["success"],
        _ => &["failure"],
    })
}

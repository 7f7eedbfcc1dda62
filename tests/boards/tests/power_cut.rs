//! Power cuts (SIGKILL of QEMU) at the three moments that matter. After each the board boots a slot that
//! holds exactly one release, and the server ends up with the truth.

use ambidex_harness::board::{Fault, Kind};
use ambidex_harness::flow;
use ambidex_test_boards::{Fleet, UPDATE_LIMIT};
use anyhow::{Result, ensure};

/// What the server says must be what runs, and the slot must hold exactly that release.
async fn the_truth(fleet: &mut Fleet, deployment: &str) -> Result<String> {
    let outcome = fleet
        .api
        .wait_status(
            deployment,
            &fleet.device,
            &["success", "failure"],
            UPDATE_LIMIT,
        )
        .await?;
    fleet.board.console_settles().await?;
    let version = fleet
        .board
        .output("cat /etc/board/version")
        .await?
        .trim()
        .to_owned();
    let expected = if outcome == "success" { "v2" } else { "v1" };
    ensure!(
        version == expected,
        "the server says {outcome}, the board runs {version}"
    );
    let part = if version == "v2" { 3 } else { 2 };
    let image = fleet.lab.rootfs(&version, Fault::None).await?;
    ensure!(
        fleet.board.disk().holds(part, &image)?,
        "slot {part} holds exactly release {version}"
    );
    let shown = fleet.board.output("ambidex-agent show-artifact").await?;
    ensure!(
        shown.trim() == format!("release-{version}"),
        "the agent says it runs {shown:?}"
    );
    Ok(outcome)
}

/// After a cut it must always be possible to update.
async fn next_update_works(fleet: &mut Fleet, scratch: &std::path::Path) -> Result<()> {
    let (artifact, _) = fleet.lab.release(scratch, "v3", Fault::None, None).await?;
    let deployment = fleet.deploy(&artifact, "release-v3").await?;
    fleet
        .api
        .wait_status(&deployment, &fleet.device, &["success"], UPDATE_LIMIT)
        .await?;
    Ok(())
}

#[test]
fn power_cut_in_the_middle_of_the_write() {
    in_the_write(Kind::X86_64Grub);
}

fn in_the_write(kind: Kind) {
    flow(&kind.flow("power-cut-write"), async |scratch| {
        let Some(mut fleet) = Fleet::start(kind, scratch.path(), None).await? else {
            return Ok(());
        };
        let (artifact, image) = fleet
            .lab
            .release(scratch.path(), "v2", Fault::None, None)
            .await?;
        let deployment = fleet.deploy(&artifact, "release-v2").await?;
        fleet.wait_written(&image, 8).await?;
        fleet.board.power_cut().await?;
        ensure!(
            !fleet.board.disk().holds(3, &image)?,
            "the cut came in the middle of the write"
        );
        let booted = fleet.board.boot().await?;
        ensure!(
            (booted.version.as_str(), booted.root.as_str()) == ("v1", "/dev/vda2"),
            "{booted:?}"
        );
        // a release is either installed by a new attempt or reported as failed, never anything between
        the_truth(&mut fleet, &deployment).await?;
        next_update_works(&mut fleet, scratch.path()).await
    });
}

#[test]
fn power_cut_at_the_reboot() {
    at_the_reboot(Kind::X86_64Grub);
}

fn at_the_reboot(kind: Kind) {
    flow(&kind.flow("power-cut-reboot"), async |scratch| {
        let Some(mut fleet) = Fleet::start(kind, scratch.path(), None).await? else {
            return Ok(());
        };
        let (artifact, image) = fleet
            .lab
            .release(scratch.path(), "v2", Fault::None, None)
            .await?;
        let deployment = fleet.deploy(&artifact, "release-v2").await?;
        fleet
            .api
            .wait_status(&deployment, &fleet.device, &["rebooting"], UPDATE_LIMIT)
            .await?;
        fleet.board.power_cut().await?;
        ensure!(
            fleet.board.disk().holds(3, &image)?,
            "the image was on the disk before the reboot was announced"
        );
        fleet.board.boot().await?;
        the_truth(&mut fleet, &deployment).await?;
        next_update_works(&mut fleet, scratch.path()).await
    });
}

#[test]
fn power_cut_in_the_boot_loader_of_the_trial() {
    in_the_trial(Kind::X86_64Grub);
}

fn in_the_trial(kind: Kind) {
    flow(&kind.flow("power-cut-trial"), async |scratch| {
        let Some(mut fleet) = Fleet::start(kind, scratch.path(), None).await? else {
            return Ok(());
        };
        let (artifact, _) = fleet
            .lab
            .release(scratch.path(), "v2", Fault::None, None)
            .await?;
        let deployment = fleet.deploy(&artifact, "release-v2").await?;
        fleet
            .board
            .wait_console("ambidex: booting slot 3", UPDATE_LIMIT)
            .await?;
        fleet.board.power_cut().await?;
        let booted = fleet.board.boot().await?;
        ensure!(
            booted.version == "v1",
            "the one trial was used up by the cut: {booted:?}"
        );
        let outcome = the_truth(&mut fleet, &deployment).await?;
        ensure!(outcome == "failure", "{outcome}");
        next_update_works(&mut fleet, scratch.path()).await
    });
}

#[test]
fn power_cut_before_the_commit() {
    before_the_commit(Kind::X86_64Grub);
}

fn before_the_commit(kind: Kind) {
    flow(&kind.flow("power-cut-commit"), async |scratch| {
        let Some(mut fleet) = Fleet::start(kind, scratch.path(), None).await? else {
            return Ok(());
        };
        let (artifact, _) = fleet
            .lab
            .release(scratch.path(), "v2", Fault::None, None)
            .await?;
        let deployment = fleet.deploy(&artifact, "release-v2").await?;
        fleet
            .api
            .wait_status(&deployment, &fleet.device, &["rebooting"], UPDATE_LIMIT)
            .await?;
        // the new release runs, but has not committed: init prints this line before it starts the agent
        let booted = fleet.board.wait_boot_marker().await?;
        ensure!(booted.version == "v2", "{booted:?}");
        fleet.board.power_cut().await?;
        let variables = fleet.board.disk().variables().await?;
        ensure!(
            variables.get("upgrade_available") == "1",
            "not committed yet: {variables:?}"
        );
        let booted = fleet.board.boot().await?;
        ensure!(
            booted.version == "v1",
            "an uncommitted release is rolled back: {booted:?}"
        );
        let outcome = the_truth(&mut fleet, &deployment).await?;
        ensure!(outcome == "failure", "{outcome}");
        next_update_works(&mut fleet, scratch.path()).await
    });
}

/// The same on the other board.
mod aarch64_uboot {
    use super::Kind;

    #[test]
    fn power_cut_in_the_middle_of_the_write() {
        super::in_the_write(Kind::Aarch64Uboot);
    }

    #[test]
    fn power_cut_at_the_reboot() {
        super::at_the_reboot(Kind::Aarch64Uboot);
    }
}

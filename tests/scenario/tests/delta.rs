//! Images that come as their difference to the one that runs.

use ambidex_harness::scratch::flow;
use ambidex_test_scenario::{Options, Rig, SLOT_BYTES, delta_artifact, image, rootfs_artifact};
use anyhow::ensure;

const BLOCK: usize = 4096;

/// What another build of the same system looks like: most of it the same, some of it elsewhere, a little new.
fn rebuilt(old: &[u8], seed: u8) -> Vec<u8> {
    let mut new = image(seed, 2 * BLOCK);
    new.extend_from_slice(old);
    new.truncate(old.len());
    new
}

#[test]
fn a_device_that_runs_the_old_image_gets_the_difference() {
    flow("delta", async |scratch| {
        let mut rig = Rig::start(scratch.path(), Options::default()).await?;
        let second = image(2, SLOT_BYTES - BLOCK);
        let deployment = rig.deploy_rootfs("release-2", &second).await?;
        rig.ends(&deployment, "success").await?;

        // both are called release-3; the server chooses
        let third = rebuilt(&second, 3);
        let whole = rootfs_artifact(scratch.path(), "release-3", &third, None, None).await?;
        rig.api.upload(&whole, "the whole image").await?;
        let difference = delta_artifact(scratch.path(), "release-2", "release-3").await?;
        let (large, small) = (
            std::fs::metadata(&whole)?.len(),
            std::fs::metadata(&difference)?.len(),
        );
        ensure!(small * 4 < large, "{small} bytes instead of {large}");
        let deployment = rig.deploy(&difference, "release-3").await?;
        rig.ends(&deployment, "success").await?;
        ensure!(
            rig.device.environment()? == (2, 0),
            "slot 2 runs, committed"
        );
        ensure!(
            rig.device.slot(2)?.starts_with(&third),
            "slot 2 holds the new image"
        );
        ensure!(
            rig.device.log().contains("with payload rootfs-delta"),
            "the difference was what it took"
        );
        let provides = rig.device.agent(&["show-provides"]).await?;
        let provides = String::from_utf8_lossy(&provides.stdout).into_owned();
        ensure!(
            provides.contains("rootfs-image.version=release-3"),
            "{provides}"
        );
        rig.device.stop().await
    });
}

#[test]
fn a_slot_that_was_written_to_is_noticed_and_goes_on_running() {
    flow("delta-changed", async |scratch| {
        let mut rig = Rig::start(scratch.path(), Options::default()).await?;
        let second = image(2, SLOT_BYTES - BLOCK);
        let deployment = rig.deploy_rootfs("release-2", &second).await?;
        rig.ends(&deployment, "success").await?;

        rootfs_artifact(
            scratch.path(),
            "release-3",
            &rebuilt(&second, 3),
            None,
            None,
        )
        .await?;
        let difference = delta_artifact(scratch.path(), "release-2", "release-3").await?;
        let mut slot = rig.device.slot(3)?;
        if let Some(byte) = slot.get_mut(7 * BLOCK) {
            *byte ^= 1;
        }
        std::fs::write(rig.device.path("slot3"), slot)?;
        let deployment = rig.deploy(&difference, "release-3").await?;
        rig.ends(&deployment, "failure").await?;
        let log = rig.deployment_log(&deployment).await?;
        ensure!(log.contains("deploy the whole image"), "the log: {log}");
        ensure!(rig.device.environment()? == (3, 0), "still the old one");

        // and the whole image mends it
        let deployment = rig.deploy_rootfs("release-4", &rebuilt(&second, 4)).await?;
        rig.ends(&deployment, "success").await?;
        rig.device.stop().await
    });
}

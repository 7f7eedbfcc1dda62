//! The main loop: real agent, real server, loopback.

use std::{path::Path, time::Duration};

use ambidex_harness::{artifact::SigningKey, proxy::Fault, scratch::flow, wait_for};
use ambidex_test_scenario::{LIMIT, Options, Rig, SLOT_BYTES, image, rootfs_artifact};
use anyhow::Result;

#[test]
fn updates_and_commits() {
    flow("update", async |scratch| {
        let mut rig = Rig::start(scratch.path(), Options::default()).await?;
        let new = image(2, SLOT_BYTES - 4096);
        let deployment = rig.deploy_rootfs("release-2", &new).await?;
        rig.ends(&deployment, "success").await?;

        assert_eq!(
            rig.device.environment()?,
            (3, 0),
            "the new slot is not committed"
        );
        assert!(
            rig.device.slot(3)?.starts_with(&new),
            "slot 3 does not hold the image"
        );
        rig.factory_slot_is_untouched()?;
        let inventory = wait_for("the new release in the inventory", LIMIT, async || {
            let found = rig.api.inventory(&rig.id).await?;
            let arrived = found
                .get("artifact_name")
                .is_some_and(|name| name == "release-2");
            Ok(arrived.then_some(found))
        })
        .await?;
        assert_eq!(inventory["rootfs-image.version"], "release-2");
        let shown = rig.device.agent(&["show-artifact"]).await?;
        assert_eq!(String::from_utf8_lossy(&shown.stdout).trim(), "release-2");
        rig.device.stop().await
    });
}

#[test]
fn a_panicking_system_is_rolled_back_and_reported() {
    flow("panic", async |scratch| {
        let mut rig = Rig::start(scratch.path(), Options::default()).await?;
        rig.device.next_system_panics();
        let deployment = rig
            .deploy_rootfs("release-2", &image(2, SLOT_BYTES))
            .await?;
        rig.ends(&deployment, "failure").await?;

        assert_eq!(rig.device.environment()?, (2, 0));
        rig.factory_slot_is_untouched()?;
        let log = rig.deployment_log(&deployment).await?;
        assert!(
            log.to_lowercase().contains("roll"),
            "the log does not tell of the rollback:\n{log}"
        );

        // The device is as good as new: the next deployment works.
        let deployment = rig
            .deploy_rootfs("release-3", &image(3, SLOT_BYTES))
            .await?;
        rig.ends(&deployment, "success").await?;
        assert_eq!(rig.device.environment()?, (3, 0));
        rig.device.stop().await
    });
}

#[test]
fn an_update_that_cannot_reach_the_server_is_rolled_back() {
    flow("no-contact", async |scratch| {
        let mut rig = Rig::start(scratch.path(), Options::default()).await?;
        let boots = rig.device.boots();
        let deployment = rig
            .deploy_rootfs("release-2", &image(2, SLOT_BYTES))
            .await?;
        wait_for("the trial boot", LIMIT, async || {
            Ok((rig.device.boots() > boots || rig.device.environment()?.1 == 1).then_some(()))
        })
        .await?;
        rig.proxy.set(Fault::Refuse);
        rig.proxy.cut();
        wait_for("the rollback", LIMIT, async || {
            let back = rig.device.environment()? == (2, 0) && rig.device.boots() >= boots + 2;
            Ok(back.then_some(()))
        })
        .await?;
        rig.proxy.set(Fault::None);
        rig.ends(&deployment, "failure").await?;
        rig.factory_slot_is_untouched()?;
        rig.device.stop().await
    });
}

#[test]
fn a_module_artifact_is_installed() {
    flow("module", async |scratch| {
        let mut rig = Rig::start(scratch.path(), Options::default()).await?;
        let deployment = rig.deploy_module("app-1").await?;
        rig.ends(&deployment, "success").await?;
        let content = std::fs::read_to_string(rig.device.path("target/app-1.txt"))?;
        assert_eq!(content, "content of app-1\n");
        let calls = rig.device.module_calls();
        for call in [
            "Download",
            "ArtifactInstall",
            "NeedsArtifactReboot",
            "ArtifactCommit",
            "Cleanup",
        ] {
            assert!(
                calls.iter().any(|seen| seen == call),
                "{call} was not called: {calls:?}"
            );
        }

        std::fs::write(rig.device.path("target/fail"), "")?;
        let deployment = rig.deploy_module("app-2").await?;
        rig.ends(&deployment, "failure").await?;
        assert!(
            rig.device
                .module_calls()
                .iter()
                .any(|call| call == "ArtifactRollback")
        );
        rig.device.stop().await
    });
}

#[test]
fn a_download_survives_cuts_and_a_killed_server() {
    flow("cuts", async |scratch| {
        let mut rig = Rig::start(scratch.path(), Options::default()).await?;
        let new = image(2, SLOT_BYTES);
        let before = rig.proxy.bytes_down();
        rig.proxy.cut_after(before + (1 << 20));
        let deployment = rig.deploy_rootfs("release-2", &new).await?;
        wait_for("the first MiB", LIMIT, async || {
            Ok((rig.proxy.bytes_down() > before + (1 << 20)).then_some(()))
        })
        .await?;
        rig.server.kill().await?;
        rig.server.restart().await?;
        rig.ends(&deployment, "success").await?;
        assert!(rig.device.slot(3)? == new, "slot 3 does not hold the image");
        assert_eq!(rig.device.environment()?, (3, 0));
        rig.device.stop().await
    });
}

#[test]
fn power_cuts_at_any_time_leave_a_good_slot_and_a_true_report() {
    flow("power-cuts", async |scratch| {
        let mut rig = Rig::start(scratch.path(), Options::default()).await?;
        // Each round installs another image, cutting the power once, later in every round.
        for round in 0_u8..12 {
            let new = image(round + 10, SLOT_BYTES);
            let (running, _) = rig.device.environment()?;
            let old = rig.device.slot(running)?;
            let deployment = rig
                .deploy_rootfs(&format!("release-{}", round + 2), &new)
                .await?;
            wait_for("the deployment to begin", LIMIT, async || {
                let status = rig.api.device_status(&deployment, &rig.id).await?;
                Ok(status.filter(|status| status != "pending"))
            })
            .await?;
            // Not a wait for a condition: the moment of the cut is what varies.
            tokio::time::sleep(Duration::from_millis(35 * u64::from(round))).await;
            rig.device.power_cut()?;
            let ends = ["success", "failure"];
            let outcome = rig
                .api
                .wait_status(&deployment, &rig.id, &ends, LIMIT)
                .await?;
            let (part, trial) = rig.device.environment()?;
            assert_eq!(
                trial, 0,
                "round {round}: a trial was left behind after {outcome}"
            );
            let expected = if outcome == "success" { &new } else { &old };
            assert!(
                rig.device.slot(part)? == *expected,
                "round {round}: reported {outcome}, but slot {part} tells otherwise"
            );
            eprintln!("round {round}: {outcome} on slot {part}");
        }
        rig.device.stop().await
    });
}

/// Deploys `release-2` with the content `artifact`; the device must refuse it with all of `words` in its log.
async fn refused(rig: &mut Rig, artifact: &Path, words: &[&str]) -> Result<()> {
    let deployment = rig.deploy(artifact, "release-2").await?;
    rig.ends(&deployment, "failure").await?;
    assert_eq!(
        rig.device.environment()?,
        (2, 0),
        "the boot environment was changed"
    );
    rig.factory_slot_is_untouched()?;
    let log = rig.deployment_log(&deployment).await?.to_lowercase();
    for word in words {
        assert!(log.contains(word), "the log does not name '{word}':\n{log}");
    }
    rig.device.stop().await
}

#[test]
fn an_artifact_signed_by_the_wrong_key_is_refused() {
    flow("wrong-key", async |scratch| {
        let trusted = SigningKey::generate(scratch.path(), "trusted").await?;
        let other = SigningKey::generate(scratch.path(), "other").await?;
        let options = Options {
            verify_keys: vec![trusted.public.clone()],
            ..Options::default()
        };
        let mut rig = Rig::start(scratch.path(), options).await?;
        let content = image(2, SLOT_BYTES);
        let artifact =
            rootfs_artifact(scratch.path(), "release-2", &content, Some(&other), None).await?;
        refused(&mut rig, &artifact, &["signature"]).await
    });
}

#[test]
fn an_unsigned_artifact_is_refused_when_keys_are_configured() {
    flow("unsigned", async |scratch| {
        let trusted = SigningKey::generate(scratch.path(), "trusted").await?;
        let options = Options {
            verify_keys: vec![trusted.public.clone()],
            ..Options::default()
        };
        let mut rig = Rig::start(scratch.path(), options).await?;
        let content = image(2, SLOT_BYTES);
        let artifact = rootfs_artifact(scratch.path(), "release-2", &content, None, None).await?;
        refused(&mut rig, &artifact, &["sign"]).await
    });
}

#[test]
fn an_image_larger_than_the_slot_is_refused() {
    flow("too-large", async |scratch| {
        let mut rig = Rig::start(scratch.path(), Options::default()).await?;
        let bytes = SLOT_BYTES + 4096;
        let content = image(2, bytes);
        let artifact = rootfs_artifact(scratch.path(), "release-2", &content, None, None).await?;
        let (wanted, there) = (bytes.to_string(), SLOT_BYTES.to_string());
        refused(&mut rig, &artifact, &["slot3", &wanted, &there]).await
    });
}

#[test]
fn an_artifact_damaged_in_storage_is_refused() {
    flow("damaged", async |scratch| {
        let mut rig = Rig::start(scratch.path(), Options::default()).await?;
        let content = image(2, SLOT_BYTES);
        let artifact = rootfs_artifact(scratch.path(), "release-2", &content, None, None).await?;
        rig.api.upload(&artifact, "").await?;
        let damaged = damage_stored_artifacts(rig.server.data_dir())?;
        assert_eq!(damaged, 1, "the stored artifact was not found");
        let deployment = rig.api.deploy("damaged", "release-2", &[&rig.id]).await?;
        rig.ends(&deployment, "failure").await?;
        assert_eq!(
            rig.device.environment()?,
            (2, 0),
            "the boot environment was changed"
        );
        rig.factory_slot_is_untouched()?;
        let log = rig.deployment_log(&deployment).await?;
        assert!(
            log.contains("checksum"),
            "the log does not name the damage:\n{log}"
        );
        rig.device.stop().await
    });
}

/// Flips a byte in the second half of every stored artifact; returns how many there were.
fn damage_stored_artifacts(folder: &Path) -> Result<usize> {
    let mut damaged = 0;
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            damaged += damage_stored_artifacts(&path)?;
        } else if let Ok(mut content) = std::fs::read(&path)
            && content.len() > 1 << 20
            && content.starts_with(b"version\0")
        {
            let middle = content.len() / 4 * 3;
            content[middle] ^= 0xff;
            std::fs::write(&path, content)?;
            damaged += 1;
        }
    }
    Ok(damaged)
}

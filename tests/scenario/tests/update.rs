//! The main loop: real agent, real server, loopback.

use std::time::Duration;

use ambidex_harness::{Proxy, Server, artifact::SigningKey, proxy::Fault, scratch::flow, wait_for};
use ambidex_test_scenario::{Device, Options, SLOT_BYTES, image, module_artifact, rootfs_artifact};
use anyhow::Result;

const LIMIT: Duration = Duration::from_secs(90);

#[test]
fn updates_and_commits() {
    flow("update", async |scratch| {
        let server = Server::start(scratch.path()).await?;
        let api = server.login().await?;
        let mut device =
            Device::prepare(scratch.path(), server.address(), Options::default()).await?;
        device.start()?;
        let id = device.enrol(&api).await?;

        let new = image(2, SLOT_BYTES - 4096);
        api.upload(
            &rootfs_artifact(scratch.path(), "release-2", &new, None, None).await?,
            "",
        )
        .await?;
        let deployment = api.deploy("good", "release-2", &[&id]).await?;
        device
            .wait_status(&api, &deployment, &id, "success")
            .await?;

        assert_eq!(
            device.environment()?,
            (3, 0),
            "the new slot is not committed"
        );
        assert!(
            device.slot(3)?.starts_with(&new),
            "slot 3 does not hold the image"
        );
        assert_eq!(
            device.slot(2)?,
            image(1, SLOT_BYTES),
            "the running slot was touched"
        );
        let inventory = wait_for("the new release in the inventory", LIMIT, async || {
            let found = api.inventory(&id).await?;
            Ok((found
                .get("artifact_name")
                .is_some_and(|name| name == "release-2"))
            .then_some(found))
        })
        .await?;
        assert_eq!(inventory["rootfs-image.version"], "release-2");
        let shown = device.agent(&["show-artifact"]).await?;
        assert_eq!(String::from_utf8_lossy(&shown.stdout).trim(), "release-2");
        device.stop().await
    });
}

#[test]
fn a_panicking_system_is_rolled_back_and_reported() {
    flow("panic", async |scratch| {
        let server = Server::start(scratch.path()).await?;
        let api = server.login().await?;
        let mut device =
            Device::prepare(scratch.path(), server.address(), Options::default()).await?;
        device.start()?;
        let id = device.enrol(&api).await?;

        device.next_system_panics();
        let artifact = rootfs_artifact(
            scratch.path(),
            "release-2",
            &image(2, SLOT_BYTES),
            None,
            None,
        )
        .await?;
        api.upload(&artifact, "").await?;
        let deployment = api.deploy("bad", "release-2", &[&id]).await?;
        device
            .wait_status(&api, &deployment, &id, "failure")
            .await?;

        assert_eq!(device.environment()?, (2, 0));
        assert_eq!(
            device.slot(2)?,
            image(1, SLOT_BYTES),
            "the running slot was touched"
        );
        let log = wait_for("the deployment log", LIMIT, async || {
            let log = api.deployment_log(&deployment, &id).await?;
            Ok((!log.is_empty()).then_some(log))
        })
        .await?;
        assert!(
            log.to_lowercase().contains("roll"),
            "the log does not tell of the rollback:\n{log}"
        );

        // The device is as good as new: the next deployment works.
        let next = rootfs_artifact(
            scratch.path(),
            "release-3",
            &image(3, SLOT_BYTES),
            None,
            None,
        )
        .await?;
        api.upload(&next, "").await?;
        let deployment = api.deploy("good", "release-3", &[&id]).await?;
        device
            .wait_status(&api, &deployment, &id, "success")
            .await?;
        assert_eq!(device.environment()?, (3, 0));
        device.stop().await
    });
}

#[test]
fn an_update_that_cannot_reach_the_server_is_rolled_back() {
    flow("no-contact", async |scratch| {
        let server = Server::start(scratch.path()).await?;
        let api = server.login().await?;
        let proxy = Proxy::start(server.address()).await?;
        let mut device =
            Device::prepare(scratch.path(), proxy.address(), Options::default()).await?;
        device.start()?;
        let id = device.enrol(&api).await?;

        let boots = device.boots();
        let artifact = rootfs_artifact(
            scratch.path(),
            "release-2",
            &image(2, SLOT_BYTES),
            None,
            None,
        )
        .await?;
        api.upload(&artifact, "").await?;
        let deployment = api.deploy("deaf", "release-2", &[&id]).await?;
        wait_for("the trial boot", LIMIT, async || {
            Ok((device.boots() > boots || device.environment()?.1 == 1).then_some(()))
        })
        .await?;
        proxy.set(Fault::Refuse);
        proxy.cut();
        wait_for("the rollback", LIMIT, async || {
            Ok((device.environment()? == (2, 0) && device.boots() >= boots + 2).then_some(()))
        })
        .await?;
        proxy.set(Fault::None);
        device
            .wait_status(&api, &deployment, &id, "failure")
            .await?;
        assert_eq!(
            device.slot(2)?,
            image(1, SLOT_BYTES),
            "the running slot was touched"
        );
        device.stop().await
    });
}

#[test]
fn a_module_artifact_is_installed() {
    flow("module", async |scratch| {
        let server = Server::start(scratch.path()).await?;
        let api = server.login().await?;
        let mut device =
            Device::prepare(scratch.path(), server.address(), Options::default()).await?;
        device.start()?;
        let id = device.enrol(&api).await?;

        api.upload(
            &module_artifact(scratch.path(), "app-1", "recorder").await?,
            "",
        )
        .await?;
        let deployment = api.deploy("app", "app-1", &[&id]).await?;
        device
            .wait_status(&api, &deployment, &id, "success")
            .await?;
        let content = std::fs::read_to_string(device.path("target/app-1.txt"))?;
        assert_eq!(content, "content of app-1\n");
        let calls = device.module_calls();
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

        std::fs::write(device.path("target/fail"), "")?;
        api.upload(
            &module_artifact(scratch.path(), "app-2", "recorder").await?,
            "",
        )
        .await?;
        let deployment = api.deploy("app", "app-2", &[&id]).await?;
        device
            .wait_status(&api, &deployment, &id, "failure")
            .await?;
        assert!(
            device
                .module_calls()
                .iter()
                .any(|call| call == "ArtifactRollback")
        );
        device.stop().await
    });
}

#[test]
fn a_download_survives_cuts_and_a_killed_server() {
    flow("cuts", async |scratch| {
        let mut server = Server::start(scratch.path()).await?;
        let api = server.login().await?;
        let proxy = Proxy::start(server.address()).await?;
        let mut device =
            Device::prepare(scratch.path(), proxy.address(), Options::default()).await?;
        device.start()?;
        let id = device.enrol(&api).await?;

        let new = image(2, SLOT_BYTES);
        api.upload(
            &rootfs_artifact(scratch.path(), "release-2", &new, None, None).await?,
            "",
        )
        .await?;
        proxy.cut_after(proxy.bytes_down() + (1 << 20));
        let deployment = api.deploy("cut", "release-2", &[&id]).await?;
        let before = proxy.bytes_down();
        wait_for("the first MiB", LIMIT, async || {
            Ok((proxy.bytes_down() > before + (1 << 20)).then_some(()))
        })
        .await?;
        server.kill().await?;
        server.restart().await?;
        device
            .wait_status(&api, &deployment, &id, "success")
            .await?;
        assert_eq!(device.slot(3)?, new);
        assert_eq!(device.environment()?, (3, 0));
        device.stop().await
    });
}

#[test]
fn power_cuts_at_any_time_leave_a_good_slot_and_a_true_report() {
    flow("power-cuts", async |scratch| {
        let server = Server::start(scratch.path()).await?;
        let api = server.login().await?;
        let mut device =
            Device::prepare(scratch.path(), server.address(), Options::default()).await?;
        device.start()?;
        let id = device.enrol(&api).await?;
        // Each round installs another image, cutting the power once, later in every round.
        for round in 0_u8..12 {
            let name = format!("release-{}", round + 2);
            let new = image(round + 10, SLOT_BYTES);
            api.upload(
                &rootfs_artifact(scratch.path(), &name, &new, None, None).await?,
                "",
            )
            .await?;
            let (running, _) = device.environment()?;
            let old = device.slot(running)?;
            let deployment = api.deploy(&name, &name, &[&id]).await?;
            wait_for("the deployment to begin", LIMIT, async || {
                let status = api.device_status(&deployment, &id).await?;
                Ok(status.filter(|status| status != "pending"))
            })
            .await?;
            tokio::time::sleep(Duration::from_millis(35 * u64::from(round))).await;
            device.power_cut()?;
            let outcome = api
                .wait_status(&deployment, &id, &["success", "failure"], LIMIT)
                .await?;
            let (part, trial) = device.environment()?;
            assert_eq!(
                trial, 0,
                "round {round}: a trial was left behind after {outcome}"
            );
            let expected = if outcome == "success" { &new } else { &old };
            assert!(
                device.slot(part)? == *expected,
                "round {round}: reported {outcome}, but slot {part} tells otherwise"
            );
            eprintln!("round {round}: {outcome} on slot {part}");
        }
        device.stop().await
    });
}

async fn refused(
    name: &str,
    prepare: impl AsyncFnOnce(&Server, &std::path::Path) -> Result<std::path::PathBuf>,
    key: Option<&SigningKey>,
    scratch: &std::path::Path,
    complaint: &[&str],
) -> Result<()> {
    let server = Server::start(scratch).await?;
    let api = server.login().await?;
    let verify_keys = key.map(|key| key.public.clone()).into_iter().collect();
    let options = Options {
        verify_keys,
        ..Options::default()
    };
    let mut device = Device::prepare(scratch, server.address(), options).await?;
    device.start()?;
    let id = device.enrol(&api).await?;
    let artifact = prepare(&server, scratch).await?;
    api.upload(&artifact, "").await?;
    if name == "damaged" {
        damage_stored_artifacts(server.data_dir())?;
    }
    let deployment = api.deploy(name, "release-2", &[&id]).await?;
    device
        .wait_status(&api, &deployment, &id, "failure")
        .await?;
    assert_eq!(
        device.environment()?,
        (2, 0),
        "the boot environment was changed"
    );
    assert_eq!(
        device.slot(2)?,
        image(1, SLOT_BYTES),
        "the running slot was touched"
    );
    let log = wait_for("the deployment log", LIMIT, async || {
        let log = api.deployment_log(&deployment, &id).await?;
        Ok((!log.is_empty()).then_some(log))
    })
    .await?
    .to_lowercase();
    for word in complaint {
        assert!(log.contains(word), "the log does not name '{word}':\n{log}");
    }
    device.stop().await
}

/// Flips a byte in the second half of every stored artifact.
fn damage_stored_artifacts(folder: &std::path::Path) -> Result<()> {
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            damage_stored_artifacts(&path)?;
        } else if let Ok(mut content) = std::fs::read(&path)
            && content.len() > 1 << 20
            && content.starts_with(b"version\0")
        {
            let middle = content.len() / 4 * 3;
            content[middle] ^= 0xff;
            std::fs::write(&path, content)?;
        }
    }
    Ok(())
}

#[test]
fn an_artifact_signed_by_the_wrong_key_is_refused() {
    flow("wrong-key", async |scratch| {
        let trusted = SigningKey::generate(scratch.path(), "trusted").await?;
        let other = SigningKey::generate(scratch.path(), "other").await?;
        refused(
            "wrong-key",
            async |_, folder| {
                rootfs_artifact(
                    folder,
                    "release-2",
                    &image(2, SLOT_BYTES),
                    Some(&other),
                    None,
                )
                .await
            },
            Some(&trusted),
            scratch.path(),
            &["signature"],
        )
        .await
    });
}

#[test]
fn an_unsigned_artifact_is_refused_when_keys_are_configured() {
    flow("unsigned", async |scratch| {
        let trusted = SigningKey::generate(scratch.path(), "trusted").await?;
        refused(
            "unsigned",
            async |_, folder| {
                rootfs_artifact(folder, "release-2", &image(2, SLOT_BYTES), None, None).await
            },
            Some(&trusted),
            scratch.path(),
            &["sign"],
        )
        .await
    });
}

#[test]
fn an_artifact_damaged_in_storage_is_refused() {
    flow("damaged", async |scratch| {
        refused(
            "damaged",
            async |_, folder| {
                rootfs_artifact(folder, "release-2", &image(2, SLOT_BYTES), None, None).await
            },
            None,
            scratch.path(),
            &["release-2"],
        )
        .await
    });
}

#[test]
fn an_image_larger_than_the_slot_is_refused() {
    flow("too-large", async |scratch| {
        refused(
            "too-large",
            async |_, folder| {
                rootfs_artifact(
                    folder,
                    "release-2",
                    &image(2, SLOT_BYTES + 4096),
                    None,
                    None,
                )
                .await
            },
            None,
            scratch.path(),
            &[
                "slot3",
                &(SLOT_BYTES + 4096).to_string(),
                &SLOT_BYTES.to_string(),
            ],
        )
        .await
    });
}

//! The whole loop: real server, real artifact, real agent on a real boot loader.
#![expect(clippy::unwrap_used, reason = "tests fail loudly")]

use std::time::Duration;

use ambidex_harness::artifact::SigningKey;
use ambidex_harness::board::{Fault, Kind};
use ambidex_harness::{flow, wait_for};
use ambidex_test_boards::{Fleet, UPDATE_LIMIT};
use anyhow::{Result, ensure};

/// The mandatory end of every flow: both sides agree on what runs.
async fn both_sides_say(fleet: &mut Fleet, release: &str, root: &str) -> Result<()> {
    let shown = fleet.board.output("ambidex-agent show-artifact").await?;
    ensure!(shown.trim() == release, "the agent says it runs {shown:?}");
    let mounted = fleet
        .board
        .output("sed 's/.*root=\\([^ ]*\\).*/\\1/' /proc/cmdline")
        .await?;
    ensure!(mounted.trim() == root, "the root is {mounted:?}");
    wait_for(
        "the inventory to name the release",
        UPDATE_LIMIT,
        async || {
            let inventory = fleet.api.inventory(&fleet.device).await?;
            Ok((inventory
                .get("artifact_name")
                .and_then(|name| name.as_str())
                == Some(release))
            .then_some(()))
        },
    )
    .await
}

/// The boot environment is at rest and selects `part`; the board is off afterwards.
async fn environment_at_rest(fleet: &mut Fleet, part: &str) -> Result<()> {
    fleet.board.output("sync").await?;
    fleet.board.power_cut().await?;
    let disk = fleet.board.disk();
    let variables = disk.variables().await?;
    let values = [
        "mender_boot_part",
        "mender_boot_part_hex",
        "upgrade_available",
        "bootcount",
    ]
    .map(|name| variables.get(name).to_owned());
    ensure!(
        values == [part, part, "0", "0"],
        "the environment: {variables:?}"
    );
    for number in [1, 2] {
        let copy = disk.environment(number).await?;
        // GRUB's copies say the same, U-Boot's are the last state and the one before
        ensure!(
            fleet.lab.kind() != Kind::X86_64Grub
                || (copy == variables && copy.get("editing") == "0"),
            "copy {number} of the environment: {copy:?}"
        );
    }
    Ok(())
}

#[test]
fn an_update_is_installed_committed_and_survives_a_reboot() {
    committed(Kind::X86_64Grub);
}

fn committed(kind: Kind) {
    flow(&kind.flow("update-commit"), async |scratch| {
        let Some(mut fleet) = Fleet::start(kind, scratch.path(), None).await? else {
            return Ok(());
        };
        let key = "cat /var/lib/ambidex/*.pem | sha256sum";
        let key_before = fleet.board.output(key).await?;
        fleet
            .board
            .output("echo precious > /data/precious && sync")
            .await?;

        let (artifact, image) = fleet
            .lab
            .release(scratch.path(), "v2", Fault::None, None)
            .await?;
        let deployment = fleet.deploy(&artifact, "release-v2").await?;
        fleet
            .api
            .wait_status(&deployment, &fleet.device, &["success"], UPDATE_LIMIT)
            .await?;
        let booted = fleet.board.wait_boot().await?;
        ensure!(
            (booted.version.as_str(), booted.root.as_str()) == ("v2", "/dev/vda3"),
            "{booted:?}"
        );
        both_sides_say(&mut fleet, "release-v2", "/dev/vda3").await?;
        ensure!(
            fleet.board.slots_started() == [2, 3],
            "slots: {:?}",
            fleet.board.slots_started()
        );
        ensure!(
            fleet.board.disk().holds(3, &image)?,
            "slot B holds exactly the image"
        );

        // what must survive an update: the device's key and everything on the data partition
        ensure!(
            fleet.board.output(key).await? == key_before,
            "the device key is the same"
        );
        ensure!(
            fleet.board.output("cat /data/precious").await?.trim() == "precious",
            "the data partition survives"
        );

        // committed: it stays after a reset, and nothing is counted any more
        environment_at_rest(&mut fleet, "3").await?;
        let booted = fleet.board.boot().await?;
        ensure!(booted.version == "v2", "{booted:?}");
        both_sides_say(&mut fleet, "release-v2", "/dev/vda3").await?;
        ensure!(
            fleet.api.devices("accepted").await?.len() == 1,
            "still one device"
        );
        environment_at_rest(&mut fleet, "3").await
    });
}

#[test]
fn a_kernel_panic_is_rolled_back_and_reported_with_a_log() {
    kernel_panic(Kind::X86_64Grub);
}

fn kernel_panic(kind: Kind) {
    flow(&kind.flow("update-kernel-panic"), async |scratch| {
        let Some(mut fleet) = Fleet::start(kind, scratch.path(), None).await? else {
            return Ok(());
        };
        let (artifact, _) = fleet
            .lab
            .release(scratch.path(), "panicking", Fault::KernelPanic, None)
            .await?;
        let deployment = fleet.deploy(&artifact, "release-panicking").await?;
        fleet
            .api
            .wait_status(&deployment, &fleet.device, &["failure"], UPDATE_LIMIT)
            .await?;
        let booted = fleet.board.wait_boot().await?;
        ensure!(
            (booted.version.as_str(), booted.root.as_str()) == ("v1", "/dev/vda2"),
            "{booted:?}"
        );
        ensure!(
            fleet.board.slots_started() == [2, 3, 2],
            "slots: {:?}",
            fleet.board.slots_started()
        );
        ensure!(
            fleet.board.console_log().contains("Kernel panic"),
            "the kernel did panic"
        );
        let log = fleet.log_of(&deployment).await?;
        ensure!(log.lines().count() > 3, "the log tells a story: {log}");
        both_sides_say(&mut fleet, "release-v1", "/dev/vda2").await?;
        environment_at_rest(&mut fleet, "2").await
    });
}

#[test]
fn a_system_that_hangs_is_reset_by_the_watchdog_and_rolled_back() {
    hang(Kind::X86_64Grub);
}

fn hang(kind: Kind) {
    flow(&kind.flow("update-hang"), async |scratch| {
        let Some(mut fleet) = Fleet::start(kind, scratch.path(), None).await? else {
            return Ok(());
        };
        let (artifact, _) = fleet
            .lab
            .release(scratch.path(), "hanging", Fault::Hang, None)
            .await?;
        let deployment = fleet.deploy(&artifact, "release-hanging").await?;
        fleet
            .board
            .wait_console("board: fault: hang", UPDATE_LIMIT)
            .await?;
        fleet
            .api
            .wait_status(&deployment, &fleet.device, &["failure"], UPDATE_LIMIT)
            .await?;
        let booted = fleet.board.wait_boot().await?;
        ensure!(
            (booted.version.as_str(), booted.root.as_str()) == ("v1", "/dev/vda2"),
            "{booted:?}"
        );
        ensure!(
            fleet.board.slots_started() == [2, 3, 2],
            "slots: {:?}",
            fleet.board.slots_started()
        );
        both_sides_say(&mut fleet, "release-v1", "/dev/vda2").await?;
        environment_at_rest(&mut fleet, "2").await
    });
}

#[test]
fn a_damaged_copy_of_the_environment_is_healed_by_the_next_update() {
    damaged_copy(Kind::X86_64Grub);
}

fn damaged_copy(kind: Kind) {
    flow(&kind.flow("update-damage"), async |scratch| {
        let Some(mut fleet) = Fleet::start(kind, scratch.path(), None).await? else {
            return Ok(());
        };
        fleet.board.output("sync").await?;
        fleet.board.power_cut().await?;
        let disk = fleet.board.disk();
        let mut block = disk.environment_block(1).await?;
        // the signature of the one format, the checksum of the other
        *block.first_mut().unwrap() ^= 1;
        disk.write_environment(1, &block).await?;
        ensure!(disk.environment(1).await.is_err(), "a damaged copy is none");
        let booted = fleet.board.boot().await?;
        ensure!(booted.version == "v1", "{booted:?}");
        let (artifact, _) = fleet
            .lab
            .release(scratch.path(), "v2", Fault::None, None)
            .await?;
        let deployment = fleet.deploy(&artifact, "release-v2").await?;
        fleet
            .api
            .wait_status(&deployment, &fleet.device, &["success"], UPDATE_LIMIT)
            .await?;
        fleet.board.wait_boot().await?;
        both_sides_say(&mut fleet, "release-v2", "/dev/vda3").await?;
        // reads both copies
        environment_at_rest(&mut fleet, "3").await
    });
}

#[test]
fn a_release_that_cannot_reach_the_server_is_rolled_back() {
    no_network(Kind::X86_64Grub);
}

fn no_network(kind: Kind) {
    flow(&kind.flow("update-no-network"), async |scratch| {
        let Some(mut fleet) = Fleet::start(kind, scratch.path(), None).await? else {
            return Ok(());
        };
        let (artifact, _) = fleet
            .lab
            .release(scratch.path(), "unreachable", Fault::NoNetwork, None)
            .await?;
        let deployment = fleet.deploy(&artifact, "release-unreachable").await?;
        let booted = fleet.board.wait_boot_marker().await?;
        ensure!(
            (booted.version.as_str(), booted.root.as_str()) == ("unreachable", "/dev/vda3"),
            "{booted:?}"
        );
        fleet
            .api
            .wait_status(&deployment, &fleet.device, &["failure"], UPDATE_LIMIT)
            .await?;
        let booted = fleet.board.wait_boot().await?;
        ensure!(booted.version == "v1", "{booted:?}");
        let log = fleet.log_of(&deployment).await?;
        ensure!(!log.is_empty(), "the log says why");
        both_sides_say(&mut fleet, "release-v1", "/dev/vda2").await?;
        environment_at_rest(&mut fleet, "2").await
    });
}

#[test]
fn an_artifact_signed_by_the_wrong_key_is_refused_and_the_right_one_taken() {
    wrong_key(Kind::X86_64Grub);
}

fn wrong_key(kind: Kind) {
    flow(&kind.flow("update-wrong-key"), async |scratch| {
        let right = SigningKey::generate(scratch.path(), "right").await?;
        let wrong = SigningKey::generate(scratch.path(), "wrong").await?;
        let Some(mut fleet) = Fleet::start(kind, scratch.path(), Some(&right)).await? else {
            return Ok(());
        };
        let slot_b = fleet.board.disk().used_mib(3)?;

        let (artifact, _) = fleet
            .lab
            .release(scratch.path(), "v2", Fault::None, Some(&wrong))
            .await?;
        let deployment = fleet.deploy(&artifact, "release-v2").await?;
        fleet
            .api
            .wait_status(&deployment, &fleet.device, &["failure"], UPDATE_LIMIT)
            .await?;
        let log = fleet.log_of(&deployment).await?;
        ensure!(
            log.to_lowercase().contains("signature"),
            "the log names the cause: {log}"
        );
        let (unsigned, _) = fleet
            .lab
            .release(scratch.path(), "v3", Fault::None, None)
            .await?;
        let deployment = fleet.deploy(&unsigned, "release-v3").await?;
        fleet
            .api
            .wait_status(&deployment, &fleet.device, &["failure"], UPDATE_LIMIT)
            .await?;
        fleet.board.output("sync").await?;
        ensure!(
            fleet.board.disk().used_mib(3)? == slot_b,
            "nothing was written to slot B"
        );
        ensure!(
            fleet.board.slots_started() == [2],
            "no reboot: {:?}",
            fleet.board.slots_started()
        );

        // control: the same image signed by the right key is installed
        let good = scratch.join("good");
        std::fs::create_dir_all(&good).unwrap();
        let (artifact, _) = fleet
            .lab
            .release(&good, "v4", Fault::None, Some(&right))
            .await?;
        let deployment = fleet.deploy(&artifact, "release-v4").await?;
        fleet
            .api
            .wait_status(&deployment, &fleet.device, &["success"], UPDATE_LIMIT)
            .await?;
        fleet.board.wait_boot().await?;
        both_sides_say(&mut fleet, "release-v4", "/dev/vda3").await
    });
}

#[test]
fn a_server_that_is_killed_during_the_download_does_not_lose_the_update() {
    server_killed(Kind::X86_64Grub);
}

fn server_killed(kind: Kind) {
    flow(&kind.flow("update-server-killed"), async |scratch| {
        let Some(mut fleet) = Fleet::start(kind, scratch.path(), None).await? else {
            return Ok(());
        };
        let (artifact, image) = fleet
            .lab
            .release(scratch.path(), "v2", Fault::None, None)
            .await?;
        let deployment = fleet.deploy(&artifact, "release-v2").await?;
        fleet.wait_written(&image, 8).await?;
        fleet.server.kill().await?;
        tokio::time::sleep(Duration::from_secs(3)).await;
        fleet.server.restart().await?;
        fleet
            .api
            .wait_status(&deployment, &fleet.device, &["success"], UPDATE_LIMIT)
            .await?;
        fleet.board.wait_boot().await?;
        both_sides_say(&mut fleet, "release-v2", "/dev/vda3").await
    });
}

/// The same on the other board.
mod aarch64_uboot {
    use super::Kind;

    #[test]
    fn an_update_is_installed_committed_and_survives_a_reboot() {
        super::committed(Kind::Aarch64Uboot);
    }

    #[test]
    fn a_kernel_panic_is_rolled_back_and_reported_with_a_log() {
        super::kernel_panic(Kind::Aarch64Uboot);
    }

    #[test]
    fn a_system_that_hangs_is_reset_by_the_watchdog_and_rolled_back() {
        super::hang(Kind::Aarch64Uboot);
    }

    #[test]
    fn a_damaged_copy_of_the_environment_is_healed_by_the_next_update() {
        super::damaged_copy(Kind::Aarch64Uboot);
    }
}

/// The whole loop once on 32-bit ARM: what differs from 64-bit ARM is the kernel's start and the word size.
mod armv7_uboot {
    use super::Kind;

    #[test]
    fn an_update_is_installed_committed_and_survives_a_reboot() {
        super::committed(Kind::Armv7Uboot);
    }
}

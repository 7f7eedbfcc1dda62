//! The boot loader's half of the update contract, without the agent: which slot starts for which boot
//! environment, and what the environment says afterwards. Guide: board-support/grub-x86_64/README.md.
#![expect(clippy::unwrap_used, reason = "tests fail loudly")]

use std::time::Duration;

use ambidex_harness::board::{BOOT_LIMIT, Board, Fault, Settings, environment_block};
use ambidex_harness::{Lab, flow};
use anyhow::{Context, Result, ensure};

const GRUB_LIMIT: Duration = Duration::from_secs(200);

fn block(editing: &str, part: &str, upgrade_available: &str, bootcount: &str) -> Vec<u8> {
    environment_block(&[
        ("editing", editing),
        ("mender_boot_part", part),
        ("mender_boot_part_hex", part),
        ("upgrade_available", upgrade_available),
        ("bootcount", bootcount),
    ])
}

/// Values of a copy as `part/upgrade_available/bootcount/editing`.
async fn copy(board: &Board, number: u8) -> Result<String> {
    let environment = board.disk().environment(number).await?;
    ensure!(
        environment.get("mender_boot_part") == environment.get("mender_boot_part_hex"),
        "both spellings of the slot agree: {environment:?}"
    );
    Ok([
        "mender_boot_part",
        "upgrade_available",
        "bootcount",
        "editing",
    ]
    .map(|name| environment.get(name))
    .join("/"))
}

/// Powers on with these copies, waits for the slot to start, cuts the power, returns the slot's number.
async fn slot_for(board: &mut Board, env1: &[u8], env2: &[u8]) -> Result<u8> {
    board.disk().write_environment(1, env1).await?;
    board.disk().write_environment(2, env2).await?;
    start_once(board).await
}

async fn start_once(board: &mut Board) -> Result<u8> {
    let before = board.slots_started().len();
    board.power_on().await?;
    board
        .wait_console("ambidex: booting slot", GRUB_LIMIT)
        .await?;
    board.power_cut().await?;
    // the first one counts: a slot that holds nothing is given up before a late cut comes
    board
        .slots_started()
        .get(before)
        .copied()
        .context("no slot was started")
}

#[test]
fn damaged_environments_boot_a_good_slot_and_are_healed() {
    flow("boot-loader-damage", async |scratch| {
        let Some(lab) = Lab::open_or_skip().await? else {
            return Ok(());
        };
        let mut board = lab.board(scratch.path(), Settings::default()).await?;
        let good3 = block("0", "3", "0", "0");
        let good2 = block("0", "2", "0", "0");
        let mut unsigned = good2.clone();
        *unsigned.first_mut().unwrap() = b'!';

        // the first copy wins over a stale second one, which is brought up to date
        ensure!(
            slot_for(&mut board, &good3, &good2).await? == 3,
            "env1 decides"
        );
        ensure!(
            copy(&board, 2).await? == "3/0/0/0",
            "a stale env2 is healed"
        );

        // a cut while env1 was being written
        ensure!(
            slot_for(&mut board, &block("1", "2", "1", "0"), &good3).await? == 3,
            "env2 stands in"
        );
        ensure!(
            copy(&board, 1).await? == "3/0/0/0",
            "a half-written env1 is healed"
        );

        // values nobody writes
        for bad in [
            block("0", "9", "0", "0"),
            block("0", "2", "7", "0"),
            block("0", "2", "0", ""),
        ] {
            ensure!(
                slot_for(&mut board, &bad, &good3).await? == 3,
                "an impossible env1 does not count"
            );
            ensure!(copy(&board, 1).await? == "3/0/0/0", "and is healed");
        }

        // GRUB cannot repair a copy without the signature, but it can do without it
        ensure!(
            slot_for(&mut board, &unsigned, &good3).await? == 3,
            "env2 stands in for an unsigned env1"
        );
        ensure!(
            slot_for(&mut board, &good3, &unsigned).await? == 3,
            "an unsigned env2 does no harm"
        );
        ensure!(
            slot_for(&mut board, &unsigned, &unsigned).await? == 2,
            "without any copy slot A starts"
        );

        // a trial must be counted even when only one copy can be written
        ensure!(
            slot_for(&mut board, &unsigned, &block("0", "3", "1", "0")).await? == 3,
            "the trial starts"
        );
        ensure!(
            copy(&board, 2).await? == "3/1/1/0",
            "and is counted in the only copy"
        );
        ensure!(start_once(&mut board).await? == 2, "so it is rolled back");
        ensure!(copy(&board, 2).await? == "2/0/0/0", "in the only copy");
        Ok(())
    });
}

#[test]
fn an_uncommitted_trial_and_an_unbootable_slot_are_rolled_back() {
    flow("boot-loader-trial", async |scratch| {
        let Some(lab) = Lab::open_or_skip().await? else {
            return Ok(());
        };
        let mut board = lab.board(scratch.path(), Settings::default()).await?;
        let trial = block("0", "3", "1", "0");

        // slot B is empty: its kernel cannot be loaded, the boot loader reboots by itself into slot A
        board.disk().write_environment(1, &trial).await?;
        board.disk().write_environment(2, &trial).await?;
        let booted = board.boot().await?;
        ensure!(
            (booted.version.as_str(), booted.root.as_str()) == ("v1", "/dev/vda2"),
            "{booted:?}"
        );
        ensure!(
            board.slots_started() == [3, 2],
            "slots started: {:?}",
            board.slots_started()
        );
        board.power_cut().await?;
        for number in [1, 2] {
            ensure!(
                copy(&board, number).await? == "2/0/0/0",
                "copy {number} after the rollback"
            );
        }

        // a kernel that panics reboots by itself as well
        board
            .disk()
            .write_partition(3, &lab.rootfs("panicking", Fault::KernelPanic).await?)
            .await?;
        board.disk().write_environment(1, &trial).await?;
        board.disk().write_environment(2, &trial).await?;
        let booted = board.boot().await?;
        ensure!(booted.version == "v1", "{booted:?}");
        ensure!(
            board.slots_started() == [3, 2, 3, 2],
            "slots started: {:?}",
            board.slots_started()
        );
        board.power_cut().await?;

        // a good slot that nobody commits lasts for one boot
        board
            .disk()
            .write_partition(3, &lab.rootfs("v2", Fault::None).await?)
            .await?;
        board.disk().write_environment(1, &trial).await?;
        board.disk().write_environment(2, &trial).await?;
        let booted = board.boot().await?;
        ensure!(
            (booted.version.as_str(), booted.root.as_str()) == ("v2", "/dev/vda3"),
            "{booted:?}"
        );
        board.reset().await?;
        board
            .wait_console("was not committed, rolling back", BOOT_LIMIT)
            .await?;
        let booted = board.wait_boot().await?;
        ensure!(booted.version == "v1", "{booted:?}");
        board.power_cut().await?;
        for number in [1, 2] {
            ensure!(
                copy(&board, number).await? == "2/0/0/0",
                "copy {number} after the rollback"
            );
        }

        // the slot that is not on trial fails: the other one is tried, the environment is left alone
        board
            .disk()
            .write_partition(3, &lab.rootfs("no-kernel", Fault::NoKernel).await?)
            .await?;
        board
            .disk()
            .write_environment(1, &block("0", "3", "0", "0"))
            .await?;
        board
            .disk()
            .write_environment(2, &block("0", "3", "0", "0"))
            .await?;
        let booted = board.boot().await?;
        ensure!(booted.version == "v1", "{booted:?}");
        board.power_cut().await?;
        ensure!(
            copy(&board, 1).await? == "3/0/0/0",
            "the environment is left alone"
        );
        Ok(())
    });
}

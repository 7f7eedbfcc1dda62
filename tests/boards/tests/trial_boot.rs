//! The boot loader's half of the update contract, without the agent, on every kind of board: a trial lasts for one
//! boot, and what cannot be booted is left. Guides: board-support/grub-x86_64/README.md, board-support/uboot/README.md.

use ambidex_harness::board::{BOOT_LIMIT, Board, Fault, Kind, Settings};
use ambidex_harness::{Lab, flow};
use anyhow::{Result, ensure};

/// Selects a slot, on trial or for good.
async fn select(board: &Board, part: &str, upgrade_available: &str) -> Result<()> {
    let changes = [
        ("mender_boot_part", part),
        ("mender_boot_part_hex", part),
        ("upgrade_available", upgrade_available),
        ("bootcount", "0"),
    ];
    board.disk().set_variables(&changes).await
}

/// What the boot loader goes by, as `part/upgrade_available/bootcount`.
async fn variables(board: &Board) -> Result<String> {
    let variables = board.disk().variables().await?;
    Ok(["mender_boot_part", "upgrade_available", "bootcount"]
        .map(|name| variables.get(name))
        .join("/"))
}

#[test]
fn an_uncommitted_trial_and_an_unbootable_slot_are_rolled_back() {
    rolled_back(Kind::X86_64Grub);
}

#[test]
fn u_boot_rolls_back_an_uncommitted_trial_and_an_unbootable_slot() {
    rolled_back(Kind::Aarch64Uboot);
}

fn rolled_back(kind: Kind) {
    flow(&kind.flow("boot-loader-trial"), async |scratch| {
        let Some(lab) = Lab::open_or_skip(kind).await? else {
            return Ok(());
        };
        let mut board = lab.board(scratch.path(), Settings::default()).await?;

        // slot B is empty: its kernel cannot be loaded, the boot loader reboots by itself into slot A
        select(&board, "3", "1").await?;
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
        ensure!(
            variables(&board).await? == "2/0/0",
            "the environment after the rollback"
        );

        // a kernel that panics reboots by itself as well
        board
            .disk()
            .write_partition(3, &lab.rootfs("panicking", Fault::KernelPanic).await?)
            .await?;
        select(&board, "3", "1").await?;
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
        select(&board, "3", "1").await?;
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
        ensure!(
            variables(&board).await? == "2/0/0",
            "the environment after the rollback"
        );

        // the slot that is not on trial fails: the other one is tried, the environment is left alone
        board
            .disk()
            .write_partition(3, &lab.rootfs("no-kernel", Fault::NoKernel).await?)
            .await?;
        select(&board, "3", "0").await?;
        let booted = board.boot().await?;
        ensure!(booted.version == "v1", "{booted:?}");
        board.power_cut().await?;
        ensure!(
            variables(&board).await? == "3/0/0",
            "the environment is left alone"
        );
        Ok(())
    });
}

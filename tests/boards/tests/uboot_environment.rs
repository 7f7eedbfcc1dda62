//! U-Boot and its environment, without the agent: which slot starts for which pair of copies, good and damaged, and
//! what they say afterwards. Guide: board-support/uboot/README.md.

use std::time::Duration;

use ambidex_harness::board::{Board, Kind, Settings};
use ambidex_harness::{Lab, flow};
use anyhow::{Context, Result, ensure};

const UBOOT_LIMIT: Duration = Duration::from_secs(200);
const DAMAGE: &[u8] = b"no environment";

/// Powers on, waits for a slot to start, cuts the power, returns the slot's number.
async fn start_once(board: &mut Board) -> Result<u8> {
    let before = board.slots_started().len();
    board.power_on().await?;
    board
        .wait_console("ambidex: booting slot", UBOOT_LIMIT)
        .await?;
    board.power_cut().await?;
    // the first one counts: a slot that holds nothing is given up before a late cut comes
    board
        .slots_started()
        .get(before)
        .copied()
        .context("no slot was started")
}

/// Selects slot B, on trial or for good, in both copies.
async fn select_b(board: &Board, upgrade_available: &str) -> Result<()> {
    let changes = [
        ("mender_boot_part", "3"),
        ("mender_boot_part_hex", "3"),
        ("upgrade_available", upgrade_available),
        ("bootcount", "0"),
    ];
    board.disk().set_variables(&changes).await
}

/// A copy as `part/upgrade_available/bootcount`.
async fn copy(board: &Board, number: u8) -> Result<String> {
    let environment = board.disk().environment(number).await?;
    Ok(["mender_boot_part", "upgrade_available", "bootcount"]
        .map(|name| environment.get(name))
        .join("/"))
}

#[test]
fn damaged_environments_boot_a_good_slot_and_are_healed() {
    let kind = Kind::Aarch64Uboot;
    flow(&kind.flow("damage"), async |scratch| {
        let Some(lab) = Lab::open_or_skip(kind).await? else {
            return Ok(());
        };
        let mut board = lab.board(scratch.path(), Settings::default()).await?;
        for damaged in [1, 2] {
            select_b(&board, "0").await?;
            board.disk().write_environment(damaged, DAMAGE).await?;
            ensure!(
                start_once(&mut board).await? == 3,
                "the other copy stands in for copy {damaged}"
            );
            // nothing to count, so nothing was written
            ensure!(
                board.disk().environment(damaged).await.is_err(),
                "left alone"
            );

            // the count of a trial goes where no good copy is
            select_b(&board, "1").await?;
            board.disk().write_environment(damaged, DAMAGE).await?;
            ensure!(start_once(&mut board).await? == 3, "the trial starts");
            ensure!(
                copy(&board, damaged).await? == "3/1/1",
                "and is counted in place of copy {damaged}"
            );
            ensure!(
                copy(&board, 3 - damaged).await? == "3/1/0",
                "the good copy was not touched"
            );
            ensure!(start_once(&mut board).await? == 2, "so it is rolled back");
            let variables = board.disk().variables().await?;
            ensure!(
                variables.get("mender_boot_part") == "2"
                    && variables.get("upgrade_available") == "0",
                "for good: {variables:?}"
            );
        }

        // without any copy slot A starts, all the way, and the copies are left for people and the agent
        select_b(&board, "0").await?;
        for number in [1, 2] {
            board.disk().write_environment(number, DAMAGE).await?;
        }
        let booted = board.boot().await?;
        ensure!(
            (booted.version.as_str(), booted.root.as_str()) == ("v1", "/dev/vda2"),
            "{booted:?}"
        );
        board.power_cut().await?;
        for number in [1, 2] {
            ensure!(
                board.disk().environment_block(number).await? == DAMAGE,
                "copy {number} was not written"
            );
        }
        Ok(())
    });
}

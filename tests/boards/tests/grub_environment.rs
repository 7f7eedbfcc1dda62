//! GRUB and its environment, without the agent: which slot starts for which pair of copies, good and damaged, and
//! what they say afterwards. Guide: board-support/grub-x86_64/README.md.
#![expect(clippy::unwrap_used, reason = "tests fail loudly")]

use std::time::Duration;

use ambidex_harness::board::{Board, Kind, Settings, environment_block};
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
        let Some(lab) = Lab::open_or_skip(Kind::X86_64Grub).await? else {
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

//! A Raspberry Pi's way to update: boot files and root file system of a slot, `autoboot.txt`, the tryboot flag in the
//! restart. The firmware is emulated (`ambidex_harness::board::Firmware`), the rest is what runs on the device.

use ambidex_harness::board::{BootChoice, Fault, Kind, Slot};
use ambidex_harness::flow;
use ambidex_test_boards::{Fleet, UPDATE_LIMIT};
use anyhow::{Result, ensure};

const KIND: Kind = Kind::RaspberryPi;

/// The self-test of the integration finds nothing, and knows how this boot has come about.
async fn checked(fleet: &mut Fleet, booted: &str) -> Result<()> {
    let check = fleet.board.output("ambidex-agent board check").await?;
    ensure!(check.contains(booted), "board check: {check}");
    Ok(())
}

/// What is installed is what the agent names, and the firmware's choice for good; the board is off afterwards.
async fn at_rest(fleet: &mut Fleet, release: &str, slot: Slot) -> Result<()> {
    let shown = fleet.board.output("ambidex-agent show-artifact").await?;
    ensure!(shown.trim() == release, "the agent says it runs {shown:?}");
    fleet.board.output("sync").await?;
    fleet.board.power_cut().await?;
    let choice = fleet.board.disk().boot_choice().await?;
    ensure!(choice == BootChoice { slot, trial: false }, "{choice:?}");
    Ok(())
}

#[test]
fn an_update_boots_by_tryboot_and_stays_when_it_is_committed() {
    flow(&KIND.flow("update-commit"), async |scratch| {
        let Some(mut fleet) = Fleet::start(KIND, scratch.path(), None).await? else {
            return Ok(());
        };
        checked(&mut fleet, "booted from partition 2").await?;
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
        let root = KIND.slot_root(Slot::B);
        ensure!(booted.version == "v2" && booted.root == root, "{booted:?}");
        ensure!(
            fleet.board.slots_started() == [2, 3],
            "slots: {:?}",
            fleet.board.slots_started()
        );
        checked(&mut fleet, "booted from partition 3 by tryboot").await?;
        ensure!(
            fleet
                .board
                .disk()
                .holds(KIND.slot_partition(Slot::B), &image)?,
            "slot B holds exactly the image"
        );

        // without the flag, which a power cut takes, it is still there
        at_rest(&mut fleet, "release-v2", Slot::B).await?;
        let booted = fleet.board.boot().await?;
        ensure!(booted.version == "v2" && booted.root == root, "{booted:?}");
        checked(&mut fleet, "booted from partition 3").await?;
        at_rest(&mut fleet, "release-v2", Slot::B).await
    });
}

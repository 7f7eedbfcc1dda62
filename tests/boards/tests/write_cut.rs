//! Power cuts on a disk that loses what was not flushed, at chosen writes of an update.
//!
//! Stronger than killing QEMU at some moment (see `ambidex_harness::board::VolatileDisk`): the image, the
//! agent's journal and the boot environment each lose a random part of their unflushed sectors. After every
//! cut the board must start exactly one slot, whose content is exactly one release, with a readable
//! environment; the server must end up with the truth.
//!
//! `AMBIDEX_CUTS` sets the number of cuts, `AMBIDEX_SEED` what they lose and where they fall.

use ambidex_harness::board::{Fault, Kind};
use ambidex_harness::{flow, wait_for};
use ambidex_test_boards::{Fleet, UPDATE_LIMIT};
use anyhow::{Result, ensure};

/// The image, the boot environment and the agent's journal each get some; what the agent does is the same on the
/// other board.
const CUTS: u64 = 4;
const CUTS_AARCH64_UBOOT: u64 = 2;
const VERSIONS: [&str; 3] = ["v1", "v2", "v3"];

fn number(name: &str, default: u64) -> u64 {
    std::env::var(name)
        .ok()
        .and_then(|value| value.parse().ok())
        .unwrap_or(default)
}

#[test]
fn power_cuts_at_chosen_writes_on_a_disk_that_loses_unflushed_data() {
    write_cuts(Kind::X86_64Grub, CUTS);
}

fn write_cuts(kind: Kind, default_cuts: u64) {
    flow(&kind.flow("write-cuts"), async |scratch| {
        let (cuts, seed) = (
            number("AMBIDEX_CUTS", default_cuts),
            number("AMBIDEX_SEED", 1),
        );
        let Some(mut fleet) = Fleet::start(kind, scratch.path(), None).await? else {
            return Ok(());
        };
        for version in VERSIONS {
            let (artifact, _) = fleet
                .lab
                .release(scratch.path(), version, Fault::None, None)
                .await?;
            fleet.api.upload(&artifact, version).await?;
        }
        // a cache can be put before a disk only while nobody writes to it
        fleet.board.output("sync").await?;
        fleet.board.power_cut().await?;
        fleet.board.add_volatile_cache(seed)?;
        fleet.board.boot().await?;

        // one update without a cut tells how many writes there are to choose from
        let before = fleet.board.cache()?.writes();
        let deployment = fleet
            .api
            .deploy("uncut", "release-v2", &[&fleet.device])
            .await?;
        fleet
            .api
            .wait_status(&deployment, &fleet.device, &["success"], UPDATE_LIMIT)
            .await?;
        fleet.board.wait_boot().await?;
        let total = fleet.board.cache()?.writes() - before;
        eprintln!(
            "an update takes {total} disk writes and {} flushes",
            fleet.board.cache()?.flushes()
        );
        let (mut running, mut other) = ("v2", "v1");

        for cut in 0..cuts {
            // never what one of the slots holds already: a torn write of equal bytes cannot be seen
            let next = VERSIONS
                .into_iter()
                .find(|version| *version != running && *version != other)
                .unwrap_or("v3");
            let at = (2 * cut + 1) * total / (2 * cuts).max(1);
            fleet.board.cache()?.cut_after(at);
            let deployment = fleet
                .api
                .deploy(
                    &format!("cut {cut}"),
                    &format!("release-{next}"),
                    &[&fleet.device],
                )
                .await?;
            wait_for(
                "the cut or the end of the update",
                UPDATE_LIMIT,
                async || {
                    let ended = matches!(
                        fleet
                            .api
                            .device_status(&deployment, &fleet.device)
                            .await?
                            .as_deref(),
                        Some("success" | "failure")
                    );
                    Ok((fleet.board.cache()?.is_cut() || ended).then_some(()))
                },
            )
            .await?;
            let loss = fleet.board.power_cut().await?;
            let started_before = fleet.board.slots_started().len();
            let booted = fleet.board.boot().await?;
            eprintln!("cut {cut} at write {at} of {total}: {loss:?}, then {booted:?}");
            let started = fleet.board.slots_started().len() - started_before;
            ensure!(
                started == 1,
                "{started} boots were needed: a slot was made active before its image was durable"
            );
            let outcome = the_truth(&mut fleet, &deployment, next, running).await?;
            other = if outcome == "success" { running } else { next };
            running = if outcome == "success" { next } else { running };
        }
        Ok(())
    });
}

/// The server's word, the running release and the bytes of its slot agree.
async fn the_truth(fleet: &mut Fleet, deployment: &str, next: &str, old: &str) -> Result<String> {
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
    let expected = if outcome == "success" { next } else { old };
    ensure!(
        version == expected,
        "the server says {outcome}, the board runs {version} instead of {expected}"
    );
    let shown = fleet.board.output("ambidex-agent show-artifact").await?;
    ensure!(
        shown.trim() == format!("release-{version}"),
        "the agent says it runs {shown:?}"
    );
    // read by the board itself: it sees its disk through the cache
    let root = fleet
        .board
        .output("sed 's/.*root=\\([^ ]*\\).*/\\1/' /proc/cmdline")
        .await?;
    let image = fleet.lab.rootfs(&version, Fault::None).await?;
    let bytes = std::fs::metadata(&image)?.len();
    let command = format!("head -c {bytes} {} | sha256sum", root.trim());
    let on_board = fleet.board.output(&command).await?;
    let output = tokio::process::Command::new("sha256sum")
        .arg(&image)
        .output()
        .await?;
    let of_image = String::from_utf8_lossy(&output.stdout).into_owned();
    ensure!(
        on_board.split_whitespace().next() == of_image.split_whitespace().next(),
        "{} does not hold release {version}: {on_board}",
        root.trim()
    );
    Ok(outcome)
}

/// The same on the other board.
mod aarch64_uboot {
    use super::Kind;

    #[test]
    fn power_cuts_at_chosen_writes_on_a_disk_that_loses_unflushed_data() {
        super::write_cuts(Kind::Aarch64Uboot, super::CUTS_AARCH64_UBOOT);
    }
}

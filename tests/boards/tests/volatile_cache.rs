//! The control for the power cut flows: the emulated disk really loses what was not flushed, and only that.

use ambidex_harness::board::Settings;
use ambidex_harness::{Lab, flow};
use anyhow::{Context, Result, ensure};

#[test]
fn a_power_cut_takes_what_was_not_flushed_and_nothing_else() {
    flow("volatile-cache", async |scratch| -> Result<()> {
        let Some(lab) = Lab::open_or_skip().await? else {
            return Ok(());
        };
        let mut board = lab.board(scratch.path(), Settings::default()).await?;
        board.add_volatile_cache(7)?;
        board.boot().await?;
        board.output("echo safe > /data/flushed && sync").await?;
        ensure!(
            board.cache()?.flushes() > 0,
            "a sync reaches the disk as a flush"
        );
        // Submitted to the disk, past the page cache, but never flushed. A flush is for the whole disk, and
        // the rest of the system flushes now and then: try until none has come in between.
        let mut tries = 0..10;
        let before = loop {
            tries.next().context("there was a flush every time")?;
            let flushes = board.cache()?.flushes();
            board
                .output("dd if=/dev/urandom of=/dev/vda3 bs=64k count=64 oflag=direct")
                .await?;
            let sum = board
                .output("head -c 4194304 /dev/vda3 | sha256sum")
                .await?;
            if board.cache()?.flushes() == flushes {
                break sum;
            }
        };
        let loss = board.power_cut().await?.context("the board has a cache")?;
        ensure!(
            loss.unflushed_sectors > 0,
            "something was not flushed: {loss:?}"
        );
        ensure!(
            loss.lost_sectors > 0,
            "and a part of them is lost: {loss:?}"
        );
        board.boot().await?;
        ensure!(
            board.output("cat /data/flushed").await?.trim() == "safe",
            "what was flushed is there"
        );
        let after = board
            .output("head -c 4194304 /dev/vda3 | sha256sum")
            .await?;
        ensure!(before != after, "what was not flushed is damaged");
        Ok(())
    });
}

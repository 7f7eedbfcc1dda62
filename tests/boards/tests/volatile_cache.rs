//! The control for the power cut flows: the emulated disk really loses what was not flushed, and only that.

use ambidex_harness::board::Settings;
use ambidex_harness::{Lab, flow};
use anyhow::{Context, Result, ensure};

#[test]
fn a_power_cut_takes_what_was_not_flushed_and_nothing_else() {
    flow("volatile-cache", async |scratch| -> Result<()> {
        let Some(lab) = Lab::open_or_skip().await? else { return Ok(()) };
        let mut board = lab.board(scratch.path(), Settings::default()).await?;
        board.add_volatile_cache(7)?;
        board.boot().await?;
        board.output("echo safe > /data/flushed && sync").await?;
        let flushes = board.cache()?.flushes();
        ensure!(flushes > 0, "a sync reaches the disk as a flush");
        // submitted to the disk, past the page cache, but never flushed
        board.output("dd if=/dev/urandom of=/dev/vda3 bs=64k count=64 oflag=direct").await?;
        let before = board.output("head -c 4194304 /dev/vda3 | sha256sum").await?;
        let loss = board.power_cut().await?.context("the board has a cache")?;
        ensure!(loss.unflushed_sectors >= 8192, "4 MiB were not flushed: {loss:?}");
        ensure!(loss.lost_sectors > 0, "and a part of them is lost: {loss:?}");
        board.boot().await?;
        ensure!(board.output("cat /data/flushed").await?.trim() == "safe", "what was flushed is there");
        let after = board.output("head -c 4194304 /dev/vda3 | sha256sum").await?;
        ensure!(before != after, "what was not flushed is damaged");
        Ok(())
    });
}

//! The control for the power cut flows: the emulated disk really loses what was not flushed, and only that.

use std::os::unix::fs::FileExt as _;
use std::time::Duration;

use ambidex_harness::board::{Disk, Kind, Settings};
use ambidex_harness::{Lab, flow, wait_for};
use anyhow::{Context, Result, ensure};

/// Unflushed sectors of slot B with which the disk falls silent: so many that a part of them is lost for certain, and
/// less than `dd` writes between two flushes of the system.
const UNFLUSHED_SECTORS: usize = 2048;
/// What `dd` would write if it could.
const WRITES: usize = 512;
const WRITE_BYTES: usize = 64 << 10;
const SILENT_LIMIT: Duration = Duration::from_secs(120);

#[test]
fn a_power_cut_takes_what_was_not_flushed_and_nothing_else() {
    flow("volatile-cache", async |scratch| -> Result<()> {
        let Some(lab) = Lab::open_or_skip(Kind::X86_64Grub).await? else {
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
        // Submitted to the disk, past the page cache, but never flushed. The rest of the system flushes now
        // and then, so the disk stops as soon as enough has come after a flush.
        let (start, bytes) = board.disk().partition(3)?;
        board
            .cache()?
            .cut_with(start..start + bytes, UNFLUSHED_SECTORS);
        board
            .output(&format!(
                "{{ (yes ambidex | dd of=/dev/vda3 bs=64k count={WRITES} iflag=fullblock oflag=direct) >/dev/null 2>&1 & }}",
            ))
            .await?;
        let cache = board.cache()?;
        wait_for("the disk to fall silent", SILENT_LIMIT, async || {
            Ok(cache.is_cut().then_some(()))
        })
        .await?;
        let loss = board.power_cut().await?.context("the board has a cache")?;
        ensure!(
            loss.unflushed_sectors > 0,
            "something was not flushed: {loss:?}"
        );
        ensure!(
            loss.lost_sectors > 0,
            "and a part of them is lost: {loss:?}"
        );
        let (holes, kept) = holes(board.disk())?;
        ensure!(
            holes > 0 && kept > 0,
            "{kept} sectors in a row were kept, with {holes} holes: {loss:?}"
        );
        board.boot().await?;
        ensure!(
            board.output("cat /data/flushed").await?.trim() == "safe",
            "what was flushed is there"
        );
        Ok(())
    });
}

/// Sectors that were not written although one further on was, and sectors that were.
fn holes(disk: &Disk) -> Result<(usize, usize)> {
    let (start, _) = disk.partition(3)?;
    let mut content = vec![0; WRITES * WRITE_BYTES];
    std::fs::File::open(disk.path())?.read_exact_at(&mut content, start)?;
    let line = b"ambidex\n";
    let written: Vec<bool> = content
        .chunks(512)
        .map(|sector| sector.chunks(line.len()).all(|chunk| chunk == line))
        .collect();
    let end = written
        .iter()
        .rposition(|is| *is)
        .map_or(0, |last| last + 1);
    let kept = written.iter().filter(|is| **is).count();
    Ok((end - kept, kept))
}

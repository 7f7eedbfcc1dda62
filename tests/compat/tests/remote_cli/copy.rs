//! `ambidex cp`.

use std::fs::{self, File};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use ambidex_harness::{flow, wait_for};
use ambidex_test_compat::Manner;
use anyhow::ensure;
use nix::sys::signal::Signal;
use serde_json::Value;
use tokio::time::timeout;

use crate::desk::{Desk, LIMIT, content, entries, mode, signal};

#[test]
fn files_are_copied_both_ways() {
    for manner in [Manner::Ours, Manner::Reference] {
        flow("cli-cp", async |scratch| {
            let desk = Desk::start(&scratch, manner).await?;
            let local = scratch.join("local.bin");
            let there = scratch.join("there.bin");
            let back = scratch.join("back.bin");
            let remote = desk.there(&there);
            let text = |path: &Path| path.to_string_lossy().into_owned();
            for (size, permissions) in [(0, 0o640), (4096, 0o755), (3_000_001, 0o741)] {
                let data = content(size);
                fs::write(&local, &data)?;
                fs::set_permissions(&local, fs::Permissions::from_mode(permissions))?;
                fs::write(&there, "before")?;
                let printed = desk
                    .must(&["cp", "--verify", &text(&local), &remote])
                    .await?;
                ensure!(fs::read(&there)? == data, "{size} bytes up");
                ensure!(mode(&there)? == permissions);
                let digest = sha256(&data);
                ensure!(printed == format!("{digest}  {remote}\n"), "{printed}");
                fs::write(&back, "before")?;
                let printed = desk
                    .must(&["cp", "--verify", &remote, &text(&back)])
                    .await?;
                ensure!(fs::read(&back)? == data, "{size} bytes down");
                ensure!(mode(&back)? == permissions);
                ensure!(
                    printed == format!("{digest}  {}\n", text(&back)),
                    "{printed}"
                );
            }
            // Into directories, to standard output, for programs.
            let folder = scratch.join("folder");
            fs::create_dir(&folder)?;
            desk.must(&["cp", &text(&local), &desk.there(&folder)])
                .await?;
            ensure!(entries(&folder)? == ["local.bin"]);
            let downloads = scratch.join("downloads");
            fs::create_dir(&downloads)?;
            desk.must(&["cp", &remote, &text(&downloads)]).await?;
            ensure!(entries(&downloads)? == ["there.bin"]);
            let output = desk.run(&["cp", &remote, "-"]).await?;
            ensure!(output.stdout == content(3_000_001));
            let told = desk
                .must(&["cp", "--output", "json", &text(&local), &remote])
                .await?;
            let told: Value = serde_json::from_str(&told)?;
            ensure!(
                told["bytes"] == 3_000_001 && told["verified"] == false,
                "{told}"
            );

            let missing = desk.there(&scratch.join("missing"));
            desk.fails(1, &["cp", &missing, &text(&back)]).await?;
            ensure!(fs::read(&back)?.len() == 3_000_001, "the old file is gone");
            let nowhere = desk.there(&scratch.join("no/such/folder"));
            desk.fails(1, &["cp", &text(&local), &nowhere]).await?;
            desk.fails(1, &["cp", &desk.there(&folder), &text(&back)])
                .await?;
            desk.fails(1, &["cp", &text(&local), &format!("{missing}/")])
                .await?;
            desk.fails(1, &["cp", "--quiet", &remote, "/dev/null"])
                .await?;
            desk.fails(2, &["cp", "a", "b"]).await?;
            desk.fails(2, &["cp", &remote, &remote]).await?;
            desk.device.spoil_files(1);
            let told = desk
                .fails(1, &["cp", "--verify", &text(&local), &remote])
                .await?;
            ensure!(told.contains("verification failed"), "{told}");
            Ok(())
        });
    }
}

fn sha256(data: &[u8]) -> String {
    use sha2::Digest as _;
    hex::encode(sha2::Sha256::digest(data))
}

#[test]
fn a_copy_begins_again_when_the_connection_is_lost() {
    flow("cli-cp-again", async |scratch| {
        let desk = Desk::start(&scratch, Manner::Ours).await?;
        let data = content(3_000_001);
        let place = scratch.join("place");
        fs::create_dir(&place)?;
        let (local, there) = (scratch.join("local.bin"), place.join("there.bin"));
        fs::write(&local, &data)?;
        let (from, to) = (local.to_string_lossy().into_owned(), desk.there(&there));
        desk.device.break_in_files(1);
        let output = desk.run(&["cp", &from, &to]).await?;
        let told = String::from_utf8_lossy(&output.stderr);
        ensure!(
            output.status.success() && told.contains("beginning again"),
            "{told}"
        );
        ensure!(fs::read(&there)? == data && entries(&place)? == ["there.bin"]);

        let back = scratch.join("back.bin").to_string_lossy().into_owned();
        desk.device.break_in_files(1);
        desk.must(&["cp", &to, &back]).await?;
        ensure!(fs::read(&back)? == data);

        desk.device.break_in_files(1);
        desk.fails(1, &["cp", "--retries", "0", &from, &to]).await?;
        wait_for("the device to clean up", LIMIT, async || {
            Ok((entries(&place)? == ["there.bin"]).then_some(()))
        })
        .await?;
        Ok(())
    });
}

#[test]
fn an_interrupted_copy_leaves_nothing_half() {
    flow("cli-cp-interrupted", async |scratch| {
        let desk = Desk::start(&scratch, Manner::Reference).await?;
        let (here, place) = (scratch.join("here"), scratch.join("place"));
        fs::create_dir(&here)?;
        fs::create_dir(&place)?;
        let (local, there) = (scratch.join("local.bin"), place.join("there.bin"));
        // It never comes to an end by itself.
        File::create(&local)?.set_len(1 << 40)?;
        let from = local.to_string_lossy().into_owned();
        let up = desk.command(&["cp", &from, &desk.there(&there)])?.spawn()?;
        let down = desk.command(&["cp", &desk.there(&local), "here/back.bin"]);
        let down = down?.current_dir(scratch.path()).spawn()?;
        for (mut child, folder) in [(up, &place), (down, &here)] {
            wait_for("the copy to be under way", LIMIT, async || {
                let mut files = fs::read_dir(folder)?.filter_map(Result::ok);
                let grows = files.any(|file| file.metadata().is_ok_and(|meta| meta.len() > 0));
                Ok(grows.then_some(()))
            })
            .await?;
            signal(&child, Signal::SIGINT)?;
            let status = timeout(LIMIT, child.wait()).await??;
            ensure!(status.code() == Some(1), "{status}");
            wait_for("nothing to be left", LIMIT, async || {
                Ok(entries(folder)?.is_empty().then_some(()))
            })
            .await?;
        }
        Ok(())
    });
}

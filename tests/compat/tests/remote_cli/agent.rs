//! The whole way with nothing simulated: our command line, our server, our agent.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use ambidex_harness::flow;
use anyhow::{Result, ensure};
use serde_json::Value;

use crate::desk::{Desk, content, mode};
use crate::forward::{echo_server, echoed, forwarding};

#[test]
fn the_agent_is_reached_in_every_way() {
    flow("remote-agent", async |scratch| -> Result<()> {
        let desk = Desk::with_agent(&scratch).await?;
        // Twice: the place of the first shell is free again.
        for _ in 0..2 {
            let commands = b"echo I am $((40 + 2)); stty size\n";
            let output = desk.fed(&["terminal", &desk.id], commands).await?;
            let shown = String::from_utf8_lossy(&output.stdout);
            ensure!(
                output.status.success() && shown.contains("I am 42") && shown.contains("24 80"),
                "{output:?}"
            );
        }
        for size in [0, 1, 3_000_001] {
            let local = desk.home.join("local.bin");
            fs::write(&local, content(size))?;
            fs::set_permissions(&local, fs::Permissions::from_mode(0o741))?;
            let there = scratch.join("there.bin");
            let remote = desk.there(&there);
            desk.must(&["cp", "--verify", "local.bin", &remote]).await?;
            desk.must(&["cp", "--verify", &remote, "back.bin"]).await?;
            let back = desk.home.join("back.bin");
            ensure!(fs::read(&there)? == content(size), "{size} bytes up");
            ensure!(fs::read(&back)? == content(size), "{size} bytes down");
            ensure!(mode(&there)? == 0o741 && mode(&back)? == 0o741);
        }
        let nowhere = desk.there(&scratch.join("no/folder/file"));
        desk.fails(1, &["cp", "local.bin", &nowhere]).await?;
        desk.fails(1, &["cp", &nowhere, "back.bin"]).await?;

        let tcp = echo_server().await?;
        let (_child, places) = forwarding(&desk, &[format!("0:{tcp}")]).await?;
        echoed(&places[0], 3_000_000).await?;

        let list = desk.must(&["session", "list", "--output", "json"]).await?;
        let list: Value = serde_json::from_str(&list)?;
        let id = list[0]["id"].as_str().unwrap_or_default();
        let cast = desk.must(&["session", "export", id]).await?;
        ensure!(cast.contains("I am 42"), "{cast}");
        Ok(())
    });
}

//! The static agent for 32-bit and 64-bit ARM, run under user-mode emulation: its verbs, and an artifact installed
//! through an update module. (Both run on boards of their own, too.)

use std::os::unix::fs::MetadataExt as _;

use ambidex_harness::cross::Architecture;
use ambidex_harness::device::DEVICE_TYPE;
use ambidex_harness::{Device, Scratch, artifact, flow};
use anyhow::{Result, ensure};

/// Leaves the payload to the agent, which stores it, and copies it.
const MODULE: &str = "#!/bin/sh
[ \"$1\" != ArtifactInstall ] || cp files/* \"$AMBIDEX_TEST_OUT\"
";

async fn installs(scratch: &Scratch, architecture: Architecture) -> Result<()> {
    let Some(agent) = architecture.agent_or_skip().await? else {
        return Ok(());
    };
    eprintln!(
        "the agent for {} has {} bytes (profile dev)",
        architecture.name(),
        std::fs::metadata(&agent.agent)?.size()
    );
    let mut device = Device::new(
        &scratch.join("device"),
        architecture.name(),
        "http://127.0.0.1:1",
        "",
    )?;
    device.emulate(&agent);
    let out = scratch.join("installed");
    device.set_variable("AMBIDEX_TEST_OUT", &out.to_string_lossy());
    device.add_module("keep", MODULE)?;

    let file = scratch.join("release.mender");
    artifact::write_module_image("release-2", DEVICE_TYPE, "keep", &file).await?;
    for (verb, wanted) in [
        (vec!["--version"], "ambidex-agent"),
        (vec!["install", &file.to_string_lossy()], ""),
        (vec!["show-artifact"], "release-2"),
        (vec!["show-provides"], "artifact_name=release-2"),
    ] {
        let output = device.verb(&verb).await?;
        ensure!(output.code == Some(0), "{verb:?}: {output:?}");
        ensure!(output.stdout.contains(wanted), "{verb:?}: {output:?}");
    }
    let content = std::fs::read_to_string(&out)?;
    ensure!(
        content == "content of release-2\n",
        "installed: {content:?}"
    );
    Ok(())
}

#[test]
fn the_agent_for_64_bit_arm_installs_an_artifact() {
    flow("aarch64", async |scratch| {
        installs(&scratch, Architecture::Aarch64).await
    });
}

#[test]
fn the_agent_for_32_bit_arm_installs_an_artifact() {
    flow("armv7", async |scratch| {
        installs(&scratch, Architecture::Armv7).await
    });
}

//! The Debian packages: built, compared, and installed, upgraded, removed and purged with the real dpkg.
//!
//! dpkg works on a copy of this machine's root file system that is gone afterwards: an overlay in a mount
//! namespace of its own. What the packages depend on is there as far as it is on this machine, with Debian's
//! `mender-client` that the agent takes the place of. No network, and nothing outside is changed.

use std::path::{Path, PathBuf};
use std::process::Command;

use ambidex_harness::{binaries, flow, skip};
use ambidex_test_images::output;
use anyhow::{Context, Result, ensure};

/// Builds packages of the programs that the tests run on.
fn build(version: &str, packages: &[&str], out: &Path) -> Result<Vec<PathBuf>> {
    let mut command = Command::new(binaries::xtask()?);
    command
        .arg("deb")
        .arg("--agent")
        .arg(binaries::agent()?)
        .arg("--server")
        .arg(binaries::server()?)
        .arg("--cli")
        .arg(binaries::cli()?)
        .args(["--version", version, "--compression", "none", "--out"])
        .arg(out)
        .env("SOURCE_DATE_EPOCH", "1700000000");
    for package in packages {
        command.args(["--package", package]);
    }
    Ok(output(&mut command)?.lines().map(PathBuf::from).collect())
}

const PACKAGES: [&str; 4] = [
    "ambidex",
    "ambidex-agent",
    "ambidex-server",
    "ambidex-update-modules",
];

/// What is missing for these tests.
fn missing() -> Option<String> {
    for (tool, package) in [("dpkg-deb", "dpkg"), ("dpkg-shlibdeps", "dpkg-dev")] {
        if binaries::find_tool(tool).is_none() {
            return Some(format!(
                "{tool} is not installed (Debian package {package})"
            ));
        }
    }
    None
}

#[test]
fn the_same_inputs_give_the_same_bytes() {
    flow("deb-reproducible", async |scratch| {
        if let Some(reason) = missing() {
            skip(&reason);
            return Ok(());
        }
        let packages = ["ambidex-agent", "ambidex-update-modules"];
        let first = build("1.0", &packages, &scratch.join("first"))?;
        let second = build("1.0", &packages, &scratch.join("second"))?;
        ensure!(first.len() == packages.len(), "built {first:?}");
        for (one, other) in first.iter().zip(&second) {
            ensure!(
                std::fs::read(one)? == std::fs::read(other)?,
                "{} and {} differ",
                one.display(),
                other.display()
            );
        }
        Ok(())
    });
}

#[test]
fn a_program_for_another_machine_is_refused() {
    flow("deb-foreign", async |scratch| {
        if let Some(reason) = missing() {
            skip(&reason);
            return Ok(());
        }
        let error = output(
            Command::new(binaries::xtask()?)
                .args(["deb", "--arch", "armhf", "--package", "ambidex-agent"])
                .arg("--agent")
                .arg(binaries::agent()?)
                .arg("--out")
                .arg(scratch.path()),
        )
        .err()
        .context("the agent of this machine became a package for armhf")?;
        ensure!(
            format!("{error:#}").contains("is not a program for armhf"),
            "{error:#}"
        );
        Ok(())
    });
}

#[test]
fn installed_upgraded_removed_and_purged() {
    flow("deb-lifecycle", async |scratch| {
        if let Some(reason) = missing() {
            skip(&reason);
            return Ok(());
        }
        let installed = Command::new("dpkg-query")
            .args([
                "--showformat=${db:Status-Status}",
                "--show",
                "mender-client",
            ])
            .output()
            .context("starting dpkg-query")?;
        if installed.stdout != b"installed" {
            skip("Debian's mender-client, which the agent takes the place of, is not installed");
            return Ok(());
        }
        // an overlay over an overlay (a container) is not possible everywhere, nor without root
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/images/throw_away_root");
        let enter = |command: &[&str]| {
            let mut unshare = Command::new("unshare");
            unshare
                .args(["--mount", "--pid", "--fork", "--kill-child"])
                .arg(&script)
                .arg(scratch.path())
                .args(command);
            unshare
        };
        if let Err(error) = output(&mut enter(&["true"])) {
            skip(&format!(
                "no throw-away root file system (needs root and overlayfs): {error:#}"
            ));
            return Ok(());
        }
        let first = build("1.0", &PACKAGES, &scratch.join("first"))?;
        let next = build(
            "1.1",
            &["ambidex-agent", "ambidex-server"],
            &scratch.join("next"),
        )?;
        ensure!(
            first.len() == PACKAGES.len() && next.len() == 2,
            "{first:?} {next:?}"
        );
        let steps = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/images/deb_lifecycle");
        std::fs::copy(&steps, scratch.join("deb_lifecycle")).context("copying the steps")?;
        let told = output(&mut enter(&["bash", "/packages/deb_lifecycle"]))?;
        for line in told.lines().filter(|line| line.starts_with("left out")) {
            skip(line);
        }
        ensure!(told.ends_with("all steps done\n"), "{told}");
        Ok(())
    });
}

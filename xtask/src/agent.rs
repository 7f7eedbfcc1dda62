//! `cargo xtask agent`: the static agent for a device's architecture.

use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::packages::{self, For};
use crate::workspace;

const USAGE: &str =
    "usage: cargo xtask agent --target x86_64|aarch64|armv7 [--profile PROFILE] [--yes]";

pub fn run(arguments: Vec<String>) -> Result<()> {
    let (mut yes, mut target, mut profile) = (false, None, None);
    let mut arguments = arguments.into_iter();
    while let Some(argument) = arguments.next() {
        let mut value = || {
            arguments
                .next()
                .with_context(|| format!("{argument} needs a value; {USAGE}"))
        };
        match argument.as_str() {
            "--yes" => yes = true,
            "--target" => target = Some(value()?),
            "--profile" => profile = Some(value()?),
            other => bail!("unknown argument {other}; {USAGE}"),
        }
    }
    let target = target.with_context(|| USAGE.to_owned())?;
    let purpose = match target.as_str() {
        "x86_64" => For::Agent,
        "aarch64" => For::AgentAarch64,
        "armv7" => For::AgentArmv7,
        other => bail!("unknown target {other}; {USAGE}"),
    };
    packages::ensure(purpose, yes)?;
    let mut build = Command::new(workspace::root().join("agent/cross/build"));
    build.arg(target);
    if let Some(profile) = profile {
        build.env("AMBIDEX_BOARD_AGENT_PROFILE", profile);
    }
    // prints the path of what it has built
    workspace::check(&mut build)
}

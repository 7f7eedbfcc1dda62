//! `cargo xtask boards`: the board image, and a board to play with.

use std::os::unix::process::CommandExt as _;
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::packages::{self, For};
use crate::workspace;

pub fn run(arguments: Vec<String>) -> Result<()> {
    let mut yes = false;
    let mut stage = "build";
    for argument in &arguments {
        match argument.as_str() {
            "--yes" => yes = true,
            "build" | "run" => stage = argument,
            other => {
                bail!("unknown argument {other}; usage: cargo xtask boards [build|run] [--yes]")
            }
        }
    }
    packages::ensure(For::Demo, yes)?;
    workspace::build(&["ambidex"])?;
    let mut build = Command::new(workspace::root().join("qemu/build"));
    workspace::use_built(&mut build);
    workspace::check(&mut build)?;
    if stage == "run" {
        let error = Command::new(workspace::root().join("qemu/run")).exec();
        return Err(error).context("starting qemu/run");
    }
    Ok(())
}

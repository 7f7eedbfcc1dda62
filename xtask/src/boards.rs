//! `cargo xtask boards`: the image of a board, and a board to play with.

use std::os::unix::process::CommandExt as _;
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::packages::{self, For};
use crate::workspace;

pub fn run(arguments: Vec<String>) -> Result<()> {
    let mut yes = false;
    let mut stage = "build";
    let mut board = "x86_64-grub";
    for argument in &arguments {
        match argument.as_str() {
            "--yes" => yes = true,
            "build" | "run" => stage = argument,
            "x86_64-grub" | "aarch64-uboot" | "armv7-uboot" | "raspberrypi-tryboot" => {
                board = argument
            }
            other => {
                bail!(
                    "unknown argument {other}; usage: cargo xtask boards [build|run] [x86_64-grub|aarch64-uboot|armv7-uboot|raspberrypi-tryboot] [--yes]"
                )
            }
        }
    }
    let purpose = match board {
        "aarch64-uboot" => For::BoardAarch64,
        "armv7-uboot" => For::BoardArmv7,
        "raspberrypi-tryboot" => For::BoardRaspberryPi,
        _ => For::Demo,
    };
    packages::ensure(purpose, yes)?;
    workspace::build(&["ambidex"])?;
    let mut build = Command::new(workspace::root().join("qemu/build"));
    build.env("AMBIDEX_BOARD", board);
    workspace::use_built(&mut build);
    workspace::check(&mut build)?;
    if stage == "run" {
        let mut run = Command::new(workspace::root().join("qemu/run"));
        run.env("AMBIDEX_BOARD", board);
        if board == "raspberrypi-tryboot" {
            let firmware = "ambidex-board-firmware";
            workspace::build(&[firmware])?;
            run.env("AMBIDEX_BOARD_FIRMWARE_BIN", workspace::built(firmware));
        }
        let error = run.exec();
        return Err(error).context("starting qemu/run");
    }
    Ok(())
}

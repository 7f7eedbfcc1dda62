//! `cargo xtask hil`: the update flow on real hardware that is already accepted on a server.

use std::os::unix::process::CommandExt as _;
use std::process::Command;

use anyhow::{Context, Result};

use crate::workspace;

pub fn run(arguments: Vec<String>) -> Result<()> {
    workspace::build(&["ambidex-hil"])?;
    let error = Command::new(workspace::built("ambidex-hil"))
        .args(arguments)
        .exec();
    Err(error).context("starting ambidex-hil")
}

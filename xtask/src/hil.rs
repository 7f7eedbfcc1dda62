//! `cargo xtask hil`: builds, then hands over to the campaign program in `tests/boards`.

use std::os::unix::process::CommandExt as _;
use std::process::Command;

use anyhow::{Context, Result};

use crate::packages::{self, For};
use crate::workspace;

/// With one of these no board is started here.
const WITHOUT_BOARDS: [&str; 4] = ["--help", "-h", "--write-table", "--server"];

pub fn run(mut arguments: Vec<String>) -> Result<()> {
    let asked = arguments.len();
    arguments.retain(|argument| argument != "--yes");
    let yes = arguments.len() < asked;
    if arguments
        .iter()
        .any(|argument| WITHOUT_BOARDS.contains(&argument.as_str()))
    {
        workspace::build(&["ambidex-hil"])?;
    } else {
        packages::ensure(For::Boards, yes)?;
        workspace::build(&["ambidex-server", "ambidex", "ambidex-hil"])?;
    }
    let mut campaign = Command::new(workspace::built("ambidex-hil"));
    campaign
        .args(arguments)
        .current_dir(workspace::root())
        .env("AMBIDEX_HIL_TARGET_DIR", workspace::target_dir());
    workspace::use_built(&mut campaign);
    // replaces this process: Ctrl-C then reaches the campaign alone, which cleans up
    let error = campaign.exec();
    Err(error).context("starting ambidex-hil")
}

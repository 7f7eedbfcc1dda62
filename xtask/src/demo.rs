//! `cargo xtask demo`: builds, then hands over to the demo program in `tests/boards`.

use std::os::unix::process::CommandExt as _;
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::packages::{self, For};
use crate::workspace;

pub fn run(arguments: Vec<String>) -> Result<()> {
    let (mut yes, mut keep) = (false, false);
    for argument in arguments {
        match argument.as_str() {
            "--yes" => yes = true,
            "--keep" => keep = true,
            other => bail!("unknown option {other}; usage: cargo xtask demo [--keep] [--yes]"),
        }
    }
    packages::ensure(For::Demo, yes)?;
    eprintln!("building server, command line tool and demo (the first time takes some minutes)");
    workspace::build(&["ambidex-server", "ambidex", "ambidex-demo"])?;
    eprintln!("building the static agent and the board image (the first time takes some minutes)");
    let mut image = Command::new(workspace::root().join("qemu/build"));
    workspace::use_built(&mut image);
    workspace::check(&mut image)?;
    let mut demo = Command::new(workspace::built("ambidex-demo"));
    demo.current_dir(workspace::root());
    if keep {
        demo.arg("--keep");
    }
    workspace::use_built(&mut demo);
    // replaces this process: Ctrl-C then reaches the demo alone, which cleans up
    let error = demo.exec();
    Err(error).context("starting the demo")
}

//! `cargo xtask ci`: everything a change must pass.

use anyhow::{Result, bail};

pub fn run(arguments: Vec<String>) -> Result<()> {
    if let Some(other) = arguments.iter().find(|argument| *argument != "--yes") {
        bail!("unknown option {other}; usage: cargo xtask ci [--yes]");
    }
    crate::tidy::run(Vec::new())?;
    crate::test::run(arguments)
}

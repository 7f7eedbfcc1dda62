//! Writes the inputs to begin with into a folder, a folder a target: what `cargo xtask fuzz` feeds the fuzzer first.

use std::path::PathBuf;

use ambidex_properties::TARGETS;
use anyhow::{Context, Result};

fn main() -> Result<()> {
    let folder = std::env::args_os()
        .nth(1)
        .map(PathBuf::from)
        .context("usage: ambidex-seeds FOLDER")?;
    for target in TARGETS {
        let folder = folder.join(target.name);
        std::fs::create_dir_all(&folder).with_context(|| format!("making {}", folder.display()))?;
        for (number, seed) in (target.seeds)().iter().enumerate() {
            let file = folder.join(format!("seed-{number:03}"));
            std::fs::write(&file, seed).with_context(|| format!("writing {}", file.display()))?;
        }
    }
    Ok(())
}

//! `cargo xtask deb`: Debian packages of agent, server, command line and update modules.
//!
//! What is in a package is data: a folder a package under `board-support/debian`. The same inputs give the
//! same bytes: owners, modes, times and the order of files do not come from this machine.

mod elf;
mod options;
mod program;
mod recipe;
mod shlibs;
mod stage;

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::workspace;
use options::{Options, USAGE};
use program::Programs;
use recipe::Recipe;

pub fn run(arguments: Vec<String>) -> Result<()> {
    let Some(options) = Options::parse(arguments)? else {
        println!("{USAGE}");
        return Ok(());
    };
    let recipes = Recipe::all(
        &workspace::root().join("board-support/debian"),
        &options.packages,
    )?;
    let programs = Programs::gather(&options, &recipes)?;
    std::fs::create_dir_all(&options.out)
        .with_context(|| format!("making {}", options.out.display()))?;
    for recipe in &recipes {
        let file = package(recipe, &programs, &options)
            .with_context(|| format!("building the package {}", recipe.name))?;
        println!("{}", file.display());
    }
    Ok(())
}

/// Builds one package and returns its file.
fn package(recipe: &Recipe, programs: &Programs, options: &Options) -> Result<PathBuf> {
    let work =
        workspace::target_dir()
            .join("deb")
            .join(format!("{}-{}", recipe.name, std::process::id()));
    let result = assemble(recipe, programs, options, &work);
    // what is left of a package that was built, or could not be, is of no use
    let _ = std::fs::remove_dir_all(&work);
    result
}

fn assemble(
    recipe: &Recipe,
    programs: &Programs,
    options: &Options,
    work: &Path,
) -> Result<PathBuf> {
    let architecture = if recipe.all {
        "all"
    } else {
        options.architecture.name()
    };
    let mut stage = stage::Stage::new(&work.join("root"), recipe, options)?;
    let mut linked = Vec::new();
    for entry in &recipe.entries {
        stage.put(entry, programs)?;
        if let recipe::Entry::Program { name, .. } = entry {
            linked.push(programs.path(name)?.to_owned());
        }
    }
    let shlibs = if recipe.wants_shlibs() {
        shlibs::dependencies(&linked, options, work)?
    } else {
        String::new()
    };
    stage.control(&recipe.control(architecture, options, &shlibs, stage.installed_kib()?))?;
    let file = options.out.join(format!(
        "{}_{}_{architecture}.deb",
        recipe.name, options.version
    ));
    let mut pack = Command::new("dpkg-deb");
    pack.args(["--root-owner-group", "--threads-max=1"])
        .args(&options.compression)
        .env("SOURCE_DATE_EPOCH", options.epoch.to_string())
        .arg("--build")
        .arg(stage.root())
        .arg(&file);
    let output = pack
        .output()
        .context("starting dpkg-deb (Debian package dpkg)")?;
    if !output.status.success() {
        bail!(
            "dpkg-deb: {}",
            String::from_utf8_lossy(&output.stderr).trim()
        );
    }
    Ok(file)
}

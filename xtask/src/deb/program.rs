//! The programs that go into packages: given, or built.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use super::elf::{self, Architecture};
use super::options::Options;
use super::recipe::Recipe;
use crate::workspace;

#[derive(Debug)]
pub struct Programs(BTreeMap<String, PathBuf>);

impl Programs {
    /// Finds what the packages need, and builds what was not given.
    pub fn gather(options: &Options, recipes: &[Recipe]) -> Result<Self> {
        let mut found = BTreeMap::new();
        for name in recipes.iter().flat_map(Recipe::programs) {
            let path = match options.given(name) {
                Some(path) => path.clone(),
                None => build(name, options.architecture)?,
            };
            let header = elf::read(&path)?;
            if header.architecture != Some(options.architecture) {
                bail!(
                    "{} is not a program for {}, as --arch says",
                    path.display(),
                    options.architecture.name()
                );
            }
            found.insert(name.to_owned(), path);
        }
        Ok(Self(found))
    }

    pub fn path(&self, name: &str) -> Result<&Path> {
        self.0
            .get(name)
            .map(PathBuf::as_path)
            .with_context(|| format!("nothing was said about the program {name}"))
    }
}

/// The crate that brings a program.
fn crate_of(program: &str) -> &str {
    match program {
        "serial-mcu" => "ambidex-serial-mcu",
        other => other,
    }
}

fn build(name: &str, architecture: Architecture) -> Result<PathBuf> {
    if Some(architecture) != Architecture::host() {
        bail!(
            "{name} is not built for {} on this machine: cross-compile it and give it to this command, or leave its package out with --package",
            architecture.name()
        );
    }
    // what runs on devices looks at size first
    let profile = match name {
        "ambidex-agent" | "ambidex-pkcs11" | "serial-mcu" => "agent",
        _ => "release",
    };
    workspace::check(workspace::cargo().args([
        "build",
        "--locked",
        "--profile",
        profile,
        "--package",
        crate_of(name),
        "--bin",
        name,
    ]))?;
    Ok(workspace::target_dir().join(profile).join(name))
}

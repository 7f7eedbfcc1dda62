//! Which packages bring the libraries of programs.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use super::elf;
use super::options::Options;

/// A list for `Depends`, empty if all programs are linked statically.
pub fn dependencies(programs: &[PathBuf], options: &Options, work: &Path) -> Result<String> {
    let mut dynamic = Vec::new();
    for program in programs {
        if elf::read(program)?.dynamic {
            dynamic.push(
                std::path::absolute(program)
                    .with_context(|| format!("finding {}", program.display()))?,
            );
        }
    }
    if dynamic.is_empty() {
        return Ok(String::new());
    }
    if let Some(given) = &options.depends {
        return Ok(given.clone());
    }
    // the tool wants to stand in a source package
    let source = work.join("debian");
    std::fs::create_dir_all(&source).with_context(|| format!("making {}", source.display()))?;
    let control = source.join("control");
    std::fs::write(
        &control,
        "Source: ambidex\n\nPackage: ambidex\nArchitecture: any\n",
    )
    .with_context(|| format!("writing {}", control.display()))?;
    let output = Command::new("dpkg-shlibdeps")
        .current_dir(work)
        .arg("-O")
        .args(&dynamic)
        .output()
        .context("starting dpkg-shlibdeps (Debian package dpkg-dev); --depends names the libraries' packages without it")?;
    let text = String::from_utf8_lossy(&output.stdout);
    match text.trim().strip_prefix("shlibs:Depends=") {
        Some(list) if output.status.success() => Ok(list.to_owned()),
        _ => bail!(
            "dpkg-shlibdeps cannot tell what {} needs: link it statically, or use --depends; it said: {}",
            dynamic[0].display(),
            String::from_utf8_lossy(&output.stderr).trim()
        ),
    }
}

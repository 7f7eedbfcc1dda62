//! The command line of `cargo xtask deb`.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result, bail};
use lexopt::{Arg, Parser, ValueExt as _};

use super::elf::Architecture;
use crate::workspace;

pub const USAGE: &str = "\
usage: cargo xtask deb [options]

  --arch amd64|arm64|armhf    architecture of the packages [default: this machine's]
  --agent FILE                take these programs instead of building them; for another
  --server FILE               architecture than this machine's they must be given
  --cli FILE
  --pkcs11 FILE
  --serial-mcu FILE
  --package NAME              only this package; may be repeated [default: all, for another
                              architecture those whose programs are given]
  --depends LIST              dependencies on libraries, instead of asking dpkg-shlibdeps
  --compression TYPE[:LEVEL]  xz, zstd, gzip or none [default: xz]
  --version VERSION           [default: the workspace's]
  --out FOLDER                [default: target/deb]

SOURCE_DATE_EPOCH sets the time in the packages [default: that of the last commit],
DEBFULLNAME and DEBEMAIL the maintainer.";

#[derive(Debug)]
pub struct Options {
    pub architecture: Architecture,
    /// Programs that were given, by their name in the packages' lists.
    pub given: BTreeMap<&'static str, PathBuf>,
    /// Empty: the default choice.
    pub packages: Vec<String>,
    pub depends: Option<String>,
    /// Arguments for dpkg-deb.
    pub compression: Vec<String>,
    pub version: String,
    pub maintainer: String,
    pub epoch: u64,
    pub out: PathBuf,
}

impl Options {
    /// `None` when help was asked for.
    pub fn parse(arguments: Vec<String>) -> Result<Option<Self>> {
        let mut architecture = Architecture::host();
        let mut options = Self {
            architecture: architecture.unwrap_or(Architecture::Amd64),
            given: BTreeMap::new(),
            packages: Vec::new(),
            depends: None,
            compression: vec!["-Zxz".to_owned()],
            version: env!("CARGO_PKG_VERSION").to_owned(),
            maintainer: maintainer(),
            epoch: 0,
            out: workspace::target_dir().join("deb"),
        };
        let mut parser = Parser::from_args(arguments);
        while let Some(argument) = parser.next()? {
            let program = match &argument {
                Arg::Long("agent") => Some("ambidex-agent"),
                Arg::Long("server") => Some("ambidex-server"),
                Arg::Long("cli") => Some("ambidex"),
                Arg::Long("pkcs11") => Some("ambidex-pkcs11"),
                Arg::Long("serial-mcu") => Some("serial-mcu"),
                _ => None,
            };
            if let Some(name) = program {
                options.given.insert(name, parser.value()?.into());
                continue;
            }
            match argument {
                Arg::Long("arch") => {
                    architecture = Some(Architecture::parse(&parser.value()?.string()?)?);
                }
                Arg::Long("package") => options.packages.push(parser.value()?.string()?),
                Arg::Long("depends") => options.depends = Some(parser.value()?.string()?),
                Arg::Long("compression") => {
                    options.compression = compression(&parser.value()?.string()?)?;
                }
                Arg::Long("version") => options.version = version(parser.value()?.string()?)?,
                Arg::Long("out") => options.out = parser.value()?.into(),
                Arg::Long("help") | Arg::Short('h') => return Ok(None),
                other => bail!("{}\n\n{USAGE}", other.unexpected()),
            }
        }
        options.architecture =
            architecture.context("this machine's architecture has no packages here: use --arch")?;
        options.epoch = epoch()?;
        Ok(Some(options))
    }

    /// The program given for a name, if it was.
    pub fn given(&self, name: &str) -> Option<&PathBuf> {
        self.given.get(name)
    }
}

/// What Debian's own tools take the maintainer from.
fn maintainer() -> String {
    let read = |name, default: &str| std::env::var(name).unwrap_or_else(|_| default.to_owned());
    format!(
        "{} <{}>",
        read("DEBFULLNAME", "Ambidex"),
        read("DEBEMAIL", "packages@ambidex.invalid")
    )
}

fn compression(text: &str) -> Result<Vec<String>> {
    let (kind, level) = match text.split_once(':') {
        Some((kind, level)) => (kind, Some(level)),
        None => (text, None),
    };
    if !["xz", "zstd", "gzip", "none"].contains(&kind) {
        bail!("--compression takes xz, zstd, gzip or none, not {kind}");
    }
    let mut arguments = vec![format!("-Z{kind}")];
    if let Some(level) = level {
        let level: u8 = level
            .parse()
            .with_context(|| format!("the compression level {level} is no number"))?;
        arguments.push(format!("-z{level}"));
    }
    Ok(arguments)
}

fn version(text: String) -> Result<String> {
    let allowed = |c: char| c.is_ascii_alphanumeric() || ".+-~:".contains(c);
    if !text.starts_with(|c: char| c.is_ascii_digit()) || !text.chars().all(allowed) {
        bail!(
            "{text} is no version of a Debian package: it begins with a digit, then letters, digits and .+-~:"
        );
    }
    Ok(text)
}

fn epoch() -> Result<u64> {
    let text = match std::env::var("SOURCE_DATE_EPOCH") {
        Ok(text) => text,
        Err(_) => {
            let output = Command::new("git")
                .current_dir(workspace::root())
                .args(["log", "-1", "--format=%ct"])
                .output()
                .context(
                    "asking git for the time of the last commit; SOURCE_DATE_EPOCH sets another",
                )?;
            String::from_utf8_lossy(&output.stdout).into_owned()
        }
    };
    text.trim().parse().with_context(|| {
        format!(
            "the time '{}' is no number: set SOURCE_DATE_EPOCH to seconds since 1970",
            text.trim()
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_dpkg_would_refuse_is_refused_before() {
        assert!(version("1.0~rc1-2".to_owned()).is_ok());
        assert!(version("v1".to_owned()).is_err());
        assert!(version("1/../2".to_owned()).is_err());
        assert_eq!(
            compression("gzip:1").ok(),
            Some(vec!["-Zgzip".to_owned(), "-z1".to_owned()])
        );
        assert!(compression("rar").is_err());
        assert!(compression("xz:high").is_err());
    }
}

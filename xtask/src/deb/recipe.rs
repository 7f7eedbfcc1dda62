//! A folder under `board-support/debian`: what is in a package, and what dpkg is told about it.
//!
//! `control` has the fields that do not change, with `${shlibs}` where the libraries of its programs belong;
//! `files` lists what is installed; `preinst`, `postinst`, `prerm` and `postrm` are run by dpkg.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use super::options::Options;

/// Where the libraries' packages go.
const SHLIBS: &str = "${shlibs}";

/// One line of `files`.
#[derive(Debug, PartialEq, Eq)]
pub enum Entry {
    /// A program of ours, by the name of its binary.
    Program {
        name: String,
        to: String,
    },
    /// A file of the repository.
    File {
        from: PathBuf,
        to: String,
        kind: Kind,
    },
    Link {
        points_to: String,
        to: String,
    },
    Folder {
        path: String,
        mode: u32,
    },
}

/// What is done with a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Plain,
    Executable,
    /// A configuration file: the administrator's changes survive an upgrade.
    Configuration,
    /// Compressed, as policy wants it.
    Manual,
}

#[derive(Debug)]
pub struct Recipe {
    pub name: String,
    /// The same on every architecture.
    pub all: bool,
    pub entries: Vec<Entry>,
    pub folder: PathBuf,
    fields: String,
}

impl Recipe {
    /// The packages that were asked for; all of them if none was.
    pub fn all(folder: &Path, wanted: &[String]) -> Result<Vec<Self>> {
        let mut names = Vec::new();
        for entry in
            std::fs::read_dir(folder).with_context(|| format!("reading {}", folder.display()))?
        {
            let entry = entry.with_context(|| format!("reading {}", folder.display()))?;
            if entry.path().join("control").is_file() {
                names.push(entry.file_name().to_string_lossy().into_owned());
            }
        }
        names.sort();
        if let Some(unknown) = wanted.iter().find(|name| !names.contains(name)) {
            bail!("there is no package {unknown}, only {}", names.join(", "));
        }
        names.retain(|name| wanted.is_empty() || wanted.contains(name));
        names
            .iter()
            .map(|name| Self::read(&folder.join(name), name))
            .collect()
    }

    fn read(folder: &Path, name: &str) -> Result<Self> {
        let text = |file: &str| {
            let path = folder.join(file);
            std::fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))
        };
        let control = text("control")?;
        let all = control.lines().any(|line| line == "Architecture: all");
        let fields = control
            .lines()
            .filter(|line| !line.starts_with("Architecture:"))
            .map(|line| format!("{line}\n"))
            .collect();
        let entries = text("files")?
            .lines()
            .filter(|line| !line.trim().is_empty() && !line.starts_with('#'))
            .map(|line| entry(line).with_context(|| format!("{name}/files: '{line}'")))
            .collect::<Result<_>>()?;
        Ok(Self {
            name: name.to_owned(),
            all,
            entries,
            folder: folder.to_owned(),
            fields,
        })
    }

    pub fn programs(&self) -> impl Iterator<Item = &str> {
        self.entries.iter().filter_map(|entry| match entry {
            Entry::Program { name, .. } => Some(name.as_str()),
            _ => None,
        })
    }

    pub fn wants_shlibs(&self) -> bool {
        self.fields.contains(SHLIBS)
    }

    /// The text of DEBIAN/control.
    pub fn control(&self, architecture: &str, options: &Options, shlibs: &str, kib: u64) -> String {
        let (relations, description) = match self.fields.find("Description:") {
            Some(at) => self.fields.split_at(at),
            None => (self.fields.as_str(), ""),
        };
        let mut control = String::new();
        for line in relations.lines() {
            let line = line.replace(SHLIBS, shlibs);
            // a program that is linked statically leaves nothing, or a comma
            let line = line.replace("Depends: , ", "Depends: ");
            if line.trim_end() != "Depends:" {
                control.push_str(&line);
                control.push('\n');
            }
        }
        let Options {
            version,
            maintainer,
            ..
        } = options;
        format!(
            "{control}Version: {version}\nArchitecture: {architecture}\nMaintainer: {maintainer}\nInstalled-Size: {kib}\n{description}"
        )
    }
}

fn entry(line: &str) -> Result<Entry> {
    let words: Vec<&str> = line.split_whitespace().collect();
    let file = |from: &str, to: &str, kind| Entry::File {
        from: from.into(),
        to: to.to_owned(),
        kind,
    };
    let entry = match words.as_slice() {
        ["program", name, to] => Entry::Program {
            name: (*name).to_owned(),
            to: (*to).to_owned(),
        },
        ["file", from, to] => file(from, to, Kind::Plain),
        ["script", from, to] => file(from, to, Kind::Executable),
        ["conffile", from, to] => file(from, to, Kind::Configuration),
        ["man", from, to] => file(from, to, Kind::Manual),
        ["link", points_to, to] => Entry::Link {
            points_to: (*points_to).to_owned(),
            to: (*to).to_owned(),
        },
        ["folder", path, mode] => Entry::Folder {
            path: (*path).to_owned(),
            mode: u32::from_str_radix(mode, 8).with_context(|| format!("{mode} is no mode"))?,
        },
        _ => bail!(
            "a line is program, file, script, conffile, man or link with two words, or folder with path and mode"
        ),
    };
    Ok(entry)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_say_what_they_mean_or_are_refused() {
        assert_eq!(
            entry("folder /var/lib/x 0700").ok(),
            Some(Entry::Folder {
                path: "/var/lib/x".to_owned(),
                mode: 0o700
            })
        );
        assert!(entry("folder /var/lib/x 9").is_err());
        assert!(entry("file only-one").is_err());
    }
}

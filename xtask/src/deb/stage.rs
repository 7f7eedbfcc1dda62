//! The tree that becomes a package.

use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

use super::options::Options;
use super::program::Programs;
use super::recipe::{Entry, Kind, Recipe};
use crate::workspace;

const MAINTAINER_SCRIPTS: [&str; 4] = ["preinst", "postinst", "prerm", "postrm"];
const COPYRIGHT: &str = "\
Ambidex

Copyright 2026 the Ambidex authors
License: Apache-2.0

On Debian systems, the full text of the Apache License version 2.0 is in
/usr/share/common-licenses/Apache-2.0.
";

pub struct Stage {
    root: PathBuf,
    conffiles: Vec<String>,
}

impl Stage {
    /// An empty tree with what every package has.
    pub fn new(root: &Path, recipe: &Recipe, options: &Options) -> Result<Self> {
        let stage = Self {
            root: root.to_owned(),
            conffiles: Vec::new(),
        };
        stage.folder(Path::new("DEBIAN"), 0o755)?;
        for script in MAINTAINER_SCRIPTS {
            let path = recipe.folder.join(script);
            if path.is_file() {
                let text =
                    fs::read(&path).with_context(|| format!("reading {}", path.display()))?;
                stage.write(&format!("DEBIAN/{script}"), &text, 0o755)?;
            }
        }
        let doc = format!("usr/share/doc/{}", recipe.name);
        stage.write(&format!("{doc}/copyright"), COPYRIGHT.as_bytes(), 0o644)?;
        let changelog = changelog(&recipe.name, options)?;
        stage.write(
            &format!("{doc}/changelog.gz"),
            &gzip(changelog.as_bytes())?,
            0o644,
        )?;
        Ok(stage)
    }

    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Puts one entry of the list in its place.
    pub fn put(&mut self, entry: &Entry, programs: &Programs) -> Result<()> {
        match entry {
            Entry::Program { name, to } => {
                let from = programs.path(name)?;
                let text = fs::read(from).with_context(|| format!("reading {}", from.display()))?;
                self.write(to, &text, 0o755)
            }
            Entry::File { from, to, kind } => {
                let path = workspace::root().join(from);
                let text =
                    fs::read(&path).with_context(|| format!("reading {}", path.display()))?;
                match kind {
                    Kind::Plain => self.write(to, &text, 0o644),
                    Kind::Executable => self.write(to, &text, 0o755),
                    Kind::Manual => self.write(&format!("{to}.gz"), &gzip(&text)?, 0o644),
                    Kind::Configuration => {
                        self.conffiles.push(to.clone());
                        self.write(to, &text, 0o644)
                    }
                }
            }
            Entry::Link { points_to, to } => {
                let manual = to.starts_with("/usr/share/man/");
                let suffix = if manual { ".gz" } else { "" };
                let path = self.place(&format!("{to}{suffix}"))?;
                symlink(format!("{points_to}{suffix}"), &path)
                    .with_context(|| format!("making the link {}", path.display()))
            }
            Entry::Folder { path, mode } => {
                self.folder(Path::new(path.trim_start_matches('/')), *mode)
            }
        }
    }

    /// Writes what dpkg reads; the last thing before packing.
    pub fn control(&self, control: &str) -> Result<()> {
        if !self.conffiles.is_empty() {
            let list: String = self
                .conffiles
                .iter()
                .map(|path| format!("{path}\n"))
                .collect();
            self.write("DEBIAN/conffiles", list.as_bytes(), 0o644)?;
        }
        self.write("DEBIAN/md5sums", self.checksums()?.as_bytes(), 0o644)?;
        self.write("DEBIAN/control", control.as_bytes(), 0o644)
    }

    /// The size as dpkg-gencontrol counts it: each file in whole KiB, one for everything else.
    pub fn installed_kib(&self) -> Result<u64> {
        let mut kib = 0;
        for path in self.files()? {
            let size = fs::symlink_metadata(&path)
                .with_context(|| format!("looking at {}", path.display()))?
                .len();
            kib += size.div_ceil(1024).max(1);
        }
        Ok(kib)
    }

    fn checksums(&self) -> Result<String> {
        let mut files = Vec::new();
        for path in self.files()? {
            let name = path
                .strip_prefix(&self.root)
                .context("a file lies outside its tree")?;
            if path.is_file() && !path.is_symlink() && !name.starts_with("DEBIAN") {
                files.push(name.to_owned());
            }
        }
        let output = Command::new("md5sum")
            .current_dir(&self.root)
            .arg("--")
            .args(&files)
            .output()
            .context("starting md5sum")?;
        if !output.status.success() {
            bail!("md5sum: {}", String::from_utf8_lossy(&output.stderr).trim());
        }
        String::from_utf8(output.stdout).context("md5sum speaks no UTF-8")
    }

    /// Everything but folders, sorted.
    fn files(&self) -> Result<Vec<PathBuf>> {
        let mut found = Vec::new();
        let mut folders = vec![self.root.clone()];
        while let Some(folder) = folders.pop() {
            for entry in
                fs::read_dir(&folder).with_context(|| format!("reading {}", folder.display()))?
            {
                let path = entry
                    .with_context(|| format!("reading {}", folder.display()))?
                    .path();
                if path.is_dir() && !path.is_symlink() {
                    folders.push(path);
                } else {
                    found.push(path);
                }
            }
        }
        found.sort();
        Ok(found)
    }

    /// The path in the tree, with its folders.
    fn place(&self, to: &str) -> Result<PathBuf> {
        let relative = Path::new(to.trim_start_matches('/'));
        if let Some(parent) = relative.parent() {
            let mut folder = PathBuf::new();
            for part in parent {
                folder.push(part);
                if !self.root.join(&folder).exists() {
                    self.folder(&folder, 0o755)?;
                }
            }
        }
        Ok(self.root.join(relative))
    }

    fn folder(&self, relative: &Path, mode: u32) -> Result<()> {
        let path = self.root.join(relative);
        fs::create_dir_all(&path).with_context(|| format!("making {}", path.display()))?;
        // whatever the umask was, also in between
        let mut above = PathBuf::new();
        for part in relative.parent().unwrap_or(Path::new("")) {
            above.push(part);
            set_mode(&self.root.join(&above), 0o755)?;
        }
        set_mode(&self.root, 0o755)?;
        set_mode(&path, mode)
    }

    fn write(&self, to: &str, text: &[u8], mode: u32) -> Result<()> {
        let path = self.place(to)?;
        fs::write(&path, text).with_context(|| format!("writing {}", path.display()))?;
        set_mode(&path, mode)
    }
}

fn set_mode(path: &Path, mode: u32) -> Result<()> {
    fs::set_permissions(path, Permissions::from_mode(mode))
        .with_context(|| format!("setting the mode of {}", path.display()))
}

fn changelog(name: &str, options: &Options) -> Result<String> {
    let output = Command::new("date")
        .args(["-u", "-R", "-d", &format!("@{}", options.epoch)])
        .env("LC_ALL", "C")
        .output()
        .context("starting date")?;
    let date = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    let Options {
        version,
        maintainer,
        ..
    } = options;
    Ok(format!(
        "{name} ({version}) unstable; urgency=medium\n\n  * Version {version}. What is new is told in the CHANGELOG.md of the sources.\n\n -- {maintainer}  {date}\n"
    ))
}

/// Without name and time, so that the same text gives the same bytes.
fn gzip(text: &[u8]) -> Result<Vec<u8>> {
    let mut child = Command::new("gzip")
        .args(["-9", "-n"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .context("starting gzip")?;
    let mut stdin = child
        .stdin
        .take()
        .context("invariant: standard input is piped")?;
    // small texts: they fit into the pipe
    std::io::Write::write_all(&mut stdin, text).context("writing to gzip")?;
    drop(stdin);
    let output = child.wait_with_output().context("waiting for gzip")?;
    if !output.status.success() {
        bail!("gzip ended with {}", output.status);
    }
    Ok(output.stdout)
}

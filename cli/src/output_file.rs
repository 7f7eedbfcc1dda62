//! Files that appear complete or not at all.

use std::fs::{self, File, Permissions};
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, chown};
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use tempfile::{NamedTempFile, TempPath};

use crate::interrupt::Unfinished;

/// A file under a temporary name beside its target. It takes the target's name in
/// [`OutputFile::publish`]; until then the target is untouched. Dropping it removes it.
pub struct OutputFile {
    target: Target,
    file: File,
    temporary: Option<(TempPath, Unfinished)>,
}

enum Target {
    /// A path; links are followed.
    Path(PathBuf),
    /// Standard output: the file is copied there when it is complete.
    Stdout,
}

impl OutputFile {
    /// Prepares to write `target`; `-` is standard output.
    pub fn create(target: &Path) -> anyhow::Result<Self> {
        if target == Path::new("-") {
            let file = tempfile::tempfile()
                .context("cannot create a temporary file; is TMPDIR writable?")?;
            return Ok(Self {
                target: Target::Stdout,
                file,
                temporary: None,
            });
        }
        // A link keeps being a link to what is replaced.
        let target = fs::canonicalize(target).unwrap_or_else(|_| target.to_owned());
        if target.is_dir() {
            anyhow::bail!("{} is a directory; name a file in it", target.display());
        }
        if target.exists() && !target.is_file() {
            anyhow::bail!(
                "{} is no plain file; it would be replaced by one. Use `-` and a redirection",
                target.display()
            );
        }
        let folder = match target.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent,
            _ => Path::new("."),
        };
        let temporary = tempfile::Builder::new()
            .prefix(".ambidex-")
            .suffix(".partial")
            .permissions(Permissions::from_mode(0o666))
            .tempfile_in(folder)
            .with_context(|| {
                format!(
                    "cannot create a file in {}; does it exist, and is it writable?",
                    folder.display()
                )
            })?;
        let guard = Unfinished::register(temporary.path());
        let (file, path) = NamedTempFile::into_parts(temporary);
        Ok(Self {
            target: Target::Path(target),
            file,
            temporary: Some((path, guard)),
        })
    }

    /// The file, to write to.
    pub fn file(&mut self) -> &mut File {
        &mut self.file
    }

    /// Gives the file owner and permissions of `model`. The owner only as far as permitted.
    pub fn like(&mut self, model: &fs::Metadata) -> anyhow::Result<()> {
        if let Some((path, _)) = &self.temporary {
            // Only root may give files away; a changed group of one's own is fine.
            if chown(path, Some(model.uid()), Some(model.gid())).is_err() {
                drop(chown(path, None, Some(model.gid())));
            }
        }
        self.file
            .set_permissions(model.permissions())
            .context("cannot set the permissions of the new file")
    }

    /// Makes the content durable and gives the file its name.
    pub fn publish(mut self) -> anyhow::Result<()> {
        match self.target {
            Target::Path(target) => {
                self.file
                    .sync_all()
                    .with_context(|| format!("cannot write {}", target.display()))?;
                if let Some((path, guard)) = self.temporary {
                    path.persist(&target)
                        .with_context(|| format!("cannot replace {}", target.display()))?;
                    drop(guard);
                }
                Ok(())
            }
            Target::Stdout => {
                self.file.seek(SeekFrom::Start(0))?;
                let mut out = io::stdout().lock();
                let mut buffer = vec![0; 128 * 1024];
                loop {
                    let count = self.file.read(&mut buffer)?;
                    if count == 0 {
                        break;
                    }
                    out.write_all(&buffer[..count])
                        .context("cannot write to standard output")?;
                }
                out.flush().context("cannot write to standard output")
            }
        }
    }
}

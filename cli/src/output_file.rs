//! Files that appear complete or not at all.

use std::ffi::OsString;
use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _, chown};
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use rustix::fs::OFlags;
use tempfile::{NamedTempFile, TempPath};

use crate::interrupt::Unfinished;

/// Follows the name of the target while its content is not complete and may be continued.
const PART: &str = ".ambidex-part";

/// A file under another name beside its target. It takes the target's name in
/// [`OutputFile::publish`]; until then the target is untouched. Dropping it removes it, unless it was
/// opened to be continued.
pub struct OutputFile {
    target: Target,
    file: File,
    draft: Draft,
}

/// What is there before the target.
enum Draft {
    /// A file without a name.
    Nameless,
    /// One that nobody will look for.
    Temporary(TempPath, Unfinished),
    /// One that the next call finds.
    Part(PathBuf),
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
                draft: Draft::Nameless,
            });
        }
        let target = replaceable(target)?;
        let (temporary, guard) = temporary_in(folder_of(&target))?;
        let (file, path) = NamedTempFile::into_parts(temporary);
        Ok(Self {
            target: Target::Path(target),
            file,
            draft: Draft::Temporary(path, guard),
        })
    }

    /// Prepares to write `target`, a path, and goes on with what an earlier call has left unpublished in
    /// `TARGET.ambidex-part`. Nobody else can do so meanwhile.
    pub fn resumable(target: &Path) -> anyhow::Result<Self> {
        let target = replaceable(target)?;
        let mut name = OsString::from(target.file_name().context("it has no name")?);
        name.push(PART);
        let path = target.with_file_name(name);
        let shown = path.display();
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .custom_flags(i32::try_from(OFlags::NOFOLLOW.bits())?)
            .open(&path)
            .with_context(|| format!("cannot open {shown}"))?;
        let found = file.metadata()?;
        // What is made here belongs to us.
        let me = tempfile::tempfile_in(folder_of(&target))
            .and_then(|file| file.metadata())
            .with_context(|| format!("cannot create a file beside {}", target.display()))?
            .uid();
        let ours = found.is_file() && found.nlink() == 1 && found.uid() == me;
        if !ours || found.mode() & 0o077 != 0 {
            anyhow::bail!("{shown} was not made by an earlier copy of yours; remove it");
        }
        file.try_lock()
            .map_err(|_| anyhow::anyhow!("another copy is at work on {shown}"))?;
        Ok(Self {
            target: Target::Path(target),
            file,
            draft: Draft::Part(path),
        })
    }

    /// The file, to write to.
    pub fn file(&mut self) -> &mut File {
        &mut self.file
    }

    /// Gives the file owner and permissions of `model`. The owner only as far as permitted.
    pub fn like(&mut self, model: &fs::Metadata) -> anyhow::Result<()> {
        if let Draft::Temporary(path, _) = &self.draft {
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
        let draft = std::mem::replace(&mut self.draft, Draft::Nameless);
        match &self.target {
            Target::Path(target) => {
                self.file
                    .sync_all()
                    .with_context(|| format!("cannot write {}", target.display()))?;
                let replacing = || format!("cannot replace {}", target.display());
                match draft {
                    Draft::Temporary(path, guard) => {
                        path.persist(target).with_context(replacing)?;
                        drop(guard);
                    }
                    Draft::Part(path) => fs::rename(path, target).with_context(replacing)?,
                    Draft::Nameless => {}
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

impl Drop for OutputFile {
    fn drop(&mut self) {
        // Nothing in it is worth going on with.
        if let Draft::Part(path) = &self.draft
            && self.file.metadata().is_ok_and(|found| found.len() == 0)
        {
            drop(fs::remove_file(path));
        }
    }
}

/// A path that a plain file may take.
fn replaceable(target: &Path) -> anyhow::Result<PathBuf> {
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
    Ok(target)
}

/// A file without a future, for what is needed on the way to a target. Dropping it removes it.
pub struct Scratch {
    file: NamedTempFile,
    _guard: Unfinished,
}

impl Scratch {
    /// Beside `target`, where there is room for the like of it; for standard output where TMPDIR says.
    pub fn beside(target: &Path) -> anyhow::Result<Self> {
        let (file, _guard) = if target == Path::new("-") {
            temporary_in(&std::env::temp_dir())?
        } else {
            temporary_in(folder_of(target))?
        };
        Ok(Self { file, _guard })
    }

    pub fn file(&self) -> &File {
        self.file.as_file()
    }

    pub fn path(&self) -> &Path {
        self.file.path()
    }
}

/// A file under a name that nobody looks for.
fn temporary_in(folder: &Path) -> anyhow::Result<(NamedTempFile, Unfinished)> {
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
    Ok((temporary, guard))
}

fn folder_of(target: &Path) -> &Path {
    match target.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests fail loudly")]
mod tests {
    use super::*;

    #[test]
    fn a_part_is_found_again_and_used_by_one_at_a_time() {
        let dir = tempfile::tempdir().unwrap();
        let target = dir.path().join("f");
        let part = dir.path().join("f.ambidex-part");
        drop(OutputFile::resumable(&target).unwrap());
        assert!(!part.exists(), "an empty one is of no use");
        let mut first = OutputFile::resumable(&target).unwrap();
        first.file().write_all(b"half").unwrap();
        assert!(OutputFile::resumable(&target).is_err(), "it is in use");
        drop(first);
        let mut second = OutputFile::resumable(&target).unwrap();
        let mut text = String::new();
        second.file().read_to_string(&mut text).unwrap();
        assert_eq!(text, "half");
        second.publish().unwrap();
        assert_eq!(fs::read_to_string(&target).unwrap(), "half");
        assert!(!part.exists());
    }

    #[test]
    fn what_others_have_put_there_is_no_part() {
        let dir = tempfile::tempdir().unwrap();
        let target = dir.path().join("f");
        let part = dir.path().join("f.ambidex-part");
        let secret = dir.path().join("secret");
        fs::write(&secret, "x").unwrap();
        std::os::unix::fs::symlink(&secret, &part).unwrap();
        assert!(OutputFile::resumable(&target).is_err());
        fs::remove_file(&part).unwrap();
        fs::set_permissions(&secret, Permissions::from_mode(0o600)).unwrap();
        fs::hard_link(&secret, &part).unwrap();
        assert!(OutputFile::resumable(&target).is_err());
    }
}

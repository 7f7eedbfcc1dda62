//! Changes on a boot partition as a list of file operations, each durable before the next begins.
//!
//! A list rather than calls, so that a test can cut the power behind each of them. Boot partitions are
//! FAT, where a file that is renamed may be there under both names after a power cut, with the same
//! clusters; nothing is therefore renamed but a fresh file over (or to) its final name.

use std::path::{Path, PathBuf};

use ambidex_platform::fs::{self, Context, FsError};

/// One durable file operation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Step {
    /// The file has this content: the old or the new one, complete, at every instant.
    Replace { path: PathBuf, bytes: Vec<u8> },
    /// The file is gone.
    Remove { path: PathBuf },
}

/// Carries the steps out in their order.
///
/// # Errors
/// The first that failed; those behind it were not begun.
pub(super) fn carry_out(steps: &[Step]) -> Result<(), FsError> {
    for step in steps {
        match step {
            Step::Replace { path, bytes } => fs::write_durable(path, bytes, 0o644)?,
            Step::Remove { path } => {
                std::fs::remove_file(path).context("remove", path)?;
                fs::sync_dir(path.parent().unwrap_or(Path::new("/")))?;
            }
        }
    }
    Ok(())
}

/// Every state in which a power cut can leave the disk while the steps are carried out, one after the
/// other: calls `look` in each. Plays FAT: a fresh file may be there under both its names.
#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests fail loudly")]
pub(super) fn cut_everywhere(steps: &[Step], mut look: impl FnMut(&str)) {
    look("before the first step");
    for (number, step) in steps.iter().enumerate() {
        if let Step::Replace { path, bytes } = step {
            let mut name = path.file_name().unwrap().to_os_string();
            name.push(".tmp");
            let sibling = path.with_file_name(name);
            let old = std::fs::read(path).ok();
            for length in [0, bytes.len() / 2, bytes.len()] {
                std::fs::write(&sibling, &bytes[..length]).unwrap();
                look(&format!("step {number}: {length} bytes of the fresh file"));
            }
            std::fs::write(path, bytes).unwrap();
            look(&format!("step {number}: both names"));
            match old {
                Some(old) => std::fs::write(path, old).unwrap(),
                None => std::fs::remove_file(path).unwrap(),
            }
            std::fs::remove_file(&sibling).unwrap();
        }
        carry_out(std::slice::from_ref(step)).unwrap();
        look(&format!("step {number} done"));
    }
}

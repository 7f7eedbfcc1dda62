//! Unfinished files that nobody will finish: recorded before they exist, removed after a power cut.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use ambidex_platform::confined::Folder;
use ambidex_platform::fs::{self, FsError};

/// Below the agent's own directory.
const FOLDER: &str = "uploads";
/// Begins the name of every unfinished file: hidden, and known to be ours.
const PREFIX: &str = ".ambidex-upload-";
/// A path is never longer.
const RECORD_BYTES_MAX: u64 = 8192;

/// A name for an unfinished file, which nobody can foresee.
pub(super) fn name() -> String {
    format!("{PREFIX}{:016x}", rand::random::<u64>())
}

/// The record of one unfinished file.
#[derive(Debug)]
pub(super) struct Record(PathBuf);

impl Record {
    /// Writes that `folder` is about to hold the unfinished file `name`.
    pub(super) fn write(state: &Path, folder: &Path, name: &OsStr) -> Result<Record, FsError> {
        let records = state.join(FOLDER);
        fs::create_dir(&records, 0o700)?;
        let record = records.join(name);
        fs::write_durable(&record, folder.as_os_str().as_bytes(), 0o600)?;
        Ok(Record(record))
    }

    /// The file is gone, or complete.
    pub(super) fn remove(self) {
        if let Err(error) = fs::remove_tree(&self.0) {
            log::debug!("{error}");
        }
    }
}

/// Removes every recorded file.
pub(crate) fn remove(state: &Path) {
    let Ok(entries) = std::fs::read_dir(state.join(FOLDER)) else {
        // nothing was ever recorded
        return;
    };
    for record in entries.filter_map(Result::ok) {
        let name = record.file_name();
        let ours = name.to_str().is_some_and(|name| name.starts_with(PREFIX));
        let removed = ours.then(|| {
            let folder = fs::read_bounded(&record.path(), RECORD_BYTES_MAX).ok()?;
            let folder = Path::new(OsStr::from_bytes(&folder)).to_owned();
            match Folder::open(&folder).and_then(|folder| folder.remove(&name)) {
                Ok(()) => log::info!("an unfinished upload in '{}' was removed", folder.display()),
                // the directory itself may be gone
                Err(error) => log::debug!("'{}': {error}", folder.display()),
            }
            Some(())
        });
        if removed.is_none() {
            log::debug!("'{}' is no record of ours", record.path().display());
        }
        if let Err(error) = fs::remove_tree(&record.path()) {
            log::warn!("{error}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn recorded_files_are_removed_and_nothing_else() {
        let dir = tempfile::tempdir().unwrap();
        let (state, target) = (dir.path().join("state"), dir.path().join("target"));
        std::fs::create_dir_all(&target).unwrap();
        let name = name();
        std::fs::write(target.join("kept"), "x").unwrap();
        std::fs::write(target.join(&name), "half").unwrap();
        Record::write(&state, &target, OsStr::new(&name)).unwrap();
        // a record that names somebody else's file removes nothing
        std::fs::write(
            state.join(FOLDER).join("kept"),
            target.as_os_str().as_bytes(),
        )
        .unwrap();
        Record::write(&state, &dir.path().join("gone"), OsStr::new(&super::name())).unwrap();
        remove(&state);
        assert!(target.join("kept").exists() && !target.join(&name).exists());
        assert_eq!(std::fs::read_dir(state.join(FOLDER)).unwrap().count(), 0);
        remove(&dir.path().join("never"));
    }
}

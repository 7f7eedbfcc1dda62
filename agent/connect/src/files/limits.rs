//! What the limits say about a file. Differences from the reference, whose weaknesses are known (facts,
//! section 6): the directory that confines is one (no sibling with the same beginning, no `..`, no link
//! leads out, also for `stat`), set-id files need a yes of their own, a file of exactly the largest size
//! is taken, and only plain files are copied.

use std::ffi::{OsStr, OsString};
use std::fs::Metadata;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use ambidex_platform::account;
use ambidex_platform::confined::{Confinement, Folder};
use ambidex_wire::session::file as wire;

use super::FileError;
use crate::settings::FileLimits;

/// Permissions of a new file where nothing is said.
const MODE: u32 = 0o644;
const SET_ID: u32 = 0o6000;

/// An absolute path.
pub(super) fn absolute(path: &str) -> Result<PathBuf, FileError> {
    let absolute = PathBuf::from(path);
    if !absolute.is_absolute() {
        return Err(FileError(format!("'{path}': the path must be absolute")));
    }
    Ok(absolute)
}

/// Where paths may lead.
pub(super) fn confinement(limits: &FileLimits) -> Result<Confinement, FileError> {
    let within = limits.chroot.as_deref().filter(|_| limits.enabled);
    let links = !limits.enabled || limits.follow_symlinks;
    Confinement::new(within, links).map_err(|error| {
        let at = within.unwrap_or(Path::new("/")).display().to_string();
        FileError::at("use the directory that files are confined to", &at, &error)
    })
}

/// Whether a file may be read.
pub(super) fn may_get(limits: &FileLimits, path: &str, found: &Metadata) -> Result<(), FileError> {
    if !limits.enabled {
        return Ok(());
    }
    let refused = |what: &str| FileError(format!("'{path}': {what}"));
    if limits.max_file_size > 0 && found.is_file() && found.size() > limits.max_file_size {
        return Err(refused(&format!(
            "the file has {} bytes, more than the {} that this device allows (max_file_size)",
            found.size(),
            limits.max_file_size
        )));
    }
    let is = |names: &[String], look: fn(&str) -> std::io::Result<Option<u32>>, id: u32| {
        names.is_empty()
            || names
                .iter()
                .any(|name| look(name).ok().flatten() == Some(id))
    };
    if !is(&limits.owner_get, account::user_id, found.uid()) {
        return Err(refused(
            "its owner is none of those that files may have (owner_get)",
        ));
    }
    if !is(&limits.group_get, account::group_id, found.gid()) {
        return Err(refused(
            "its group is none of those that files may have (group_get)",
        ));
    }
    Ok(())
}

/// Only plain files have content to copy.
pub(super) fn plain(path: &str, found: &Metadata) -> Result<(), FileError> {
    let what = if found.is_file() {
        return Ok(());
    } else if found.is_dir() {
        "it is a directory"
    } else if found.is_symlink() {
        "it is a symbolic link"
    } else {
        "it is not a regular file"
    };
    Err(FileError(format!("'{path}': {what}")))
}

/// Where an upload goes and what becomes of it there.
#[derive(Debug)]
pub(super) struct Target {
    pub(super) folder: Folder,
    pub(super) name: OsString,
    pub(super) mode: u32,
    pub(super) uid: Option<u32>,
    pub(super) gid: Option<u32>,
}

/// Decides about an upload before anything is written.
pub(super) fn may_put(limits: &FileLimits, put: &wire::PutFile) -> Result<Target, FileError> {
    if let Some(size) = put.size {
        fits(limits, &put.path, size)?;
    }
    let (folder, name) = place(limits, put)?;
    let shown = || put.path.clone();
    let existing = folder
        .metadata(&name)
        .map_err(|error| FileError::at("look at", &shown(), &error))?;
    if let Some(existing) = &existing {
        plain(&put.path, existing)?;
    }
    let (mut uid, mut gid) = (put.uid, put.gid);
    if limits.enabled {
        let forced = |name: &Option<String>, look: fn(&str) -> std::io::Result<Option<u32>>| {
            let Some(name) = name.as_deref().filter(|name| !name.is_empty()) else {
                return Ok(None);
            };
            match look(name) {
                Ok(Some(id)) => Ok(Some(id)),
                _ => Err(FileError(format!(
                    "'{name}' does not exist on this device (owner_put, group_put)"
                ))),
            }
        };
        let owner = forced(&limits.owner_put, account::user_id)?;
        let group = forced(&limits.group_put, account::group_id)?;
        if let Some(existing) = &existing {
            if !limits.allow_overwrite {
                return Err(FileError(format!(
                    "'{}' exists and may not be replaced (allow_overwrite)",
                    put.path
                )));
            }
            let other = |forced: Option<u32>, id: u32| forced.is_some_and(|forced| forced != id);
            if other(owner, existing.uid()) || other(group, existing.gid()) {
                return Err(FileError(format!(
                    "'{}' belongs to somebody else and may not be replaced (owner_put, group_put)",
                    put.path
                )));
            }
        }
        uid = owner.or(uid);
        gid = group.or(gid);
    }
    // a file that is replaced stays what it was, where nothing else is asked for
    let kept = existing.as_ref();
    Ok(Target {
        mode: mode(limits, put, kept.map(Metadata::mode))?,
        uid: uid.or(kept.map(Metadata::uid)),
        gid: gid.or(kept.map(Metadata::gid)),
        folder,
        name,
    })
}

/// Whether so many bytes may become a file.
pub(super) fn fits(limits: &FileLimits, path: &str, size: u64) -> Result<(), FileError> {
    if limits.enabled && limits.max_file_size > 0 && size > limits.max_file_size {
        return Err(FileError(format!(
            "'{path}': the file is larger than the {} bytes that this device allows (max_file_size)",
            limits.max_file_size
        )));
    }
    Ok(())
}

fn mode(limits: &FileLimits, put: &wire::PutFile, kept: Option<u32>) -> Result<u32, FileError> {
    let Some(asked) = put.mode else {
        // of a file that is replaced, all but the set-id bits
        return Ok(kept.map_or(MODE, |mode| mode & 0o1777));
    };
    // the reference's numbers, and Unix's, which servers send
    let mode = wire::unix_permissions(asked) | (asked & 0o7000);
    if mode & SET_ID != 0 && !limits.allow_suid {
        return Err(FileError(format!(
            "'{}': mode {mode:o} lets the file run as somebody else, which this device does not allow (allow_suid)",
            put.path
        )));
    }
    Ok(if limits.enabled {
        mode & !limits.umask
    } else {
        mode
    })
}

/// The directory and the name in it.
fn place(limits: &FileLimits, put: &wire::PutFile) -> Result<(Folder, OsString), FileError> {
    let path = absolute(&put.path)?;
    let confinement = confinement(limits)?;
    let open = |folder: &Path| {
        confinement.folder(folder).map_err(|error| {
            FileError::at("store a file in", &folder.display().to_string(), &error)
        })
    };
    if let (Some(parent), Some(name)) = (path.parent(), path.file_name()) {
        match open(parent) {
            Ok(folder) => {
                let found = folder
                    .metadata(name)
                    .map_err(|error| FileError::at("look at", &put.path, &error))?;
                if found.is_none_or(|found| !found.is_dir()) {
                    return Ok((folder, name.to_owned()));
                }
            }
            // the directory that confines is one that files may be stored in
            Err(error) if confinement.folder(&path).is_err() => return Err(error),
            Err(_) => {}
        }
    }
    // a directory: the sender's name of the file counts
    let name = put
        .src_path
        .as_deref()
        .and_then(|source| Path::new(source).file_name())
        .map(OsStr::to_owned);
    match name {
        Some(name) => Ok((open(&path)?, name)),
        None => Err(FileError(format!(
            "'{}' is a directory, and the name of the file is not known (src_path)",
            put.path
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn put(path: &Path, mode: Option<u32>) -> wire::PutFile {
        wire::PutFile {
            path: path.display().to_string(),
            mode,
            ..wire::PutFile::default()
        }
    }

    #[test]
    fn modes_are_unix_or_the_references_and_need_a_yes_to_set_ids() {
        let dir = tempfile::tempdir().unwrap();
        let at = dir.path().join("f");
        let strict = FileLimits::default();
        let mode = |limits: &FileLimits, asked| may_put(limits, &put(&at, asked)).map(|t| t.mode);
        assert_eq!(mode(&strict, None), Ok(0o644));
        assert_eq!(mode(&strict, Some(0o640)), Ok(0o640));
        assert_eq!(mode(&strict, Some(0o1777)), Ok(0o1777));
        for asked in [0o4755, 0o2755, 0x0080_0000 | 0o755, 0x0040_0000 | 0o755] {
            assert!(
                mode(&strict, Some(asked))
                    .unwrap_err()
                    .0
                    .contains("allow_suid")
            );
        }
        let free = FileLimits {
            allow_suid: true,
            ..FileLimits::default()
        };
        assert_eq!(mode(&free, Some(0x0080_0000 | 0o755)), Ok(0o4755));
        let masked = FileLimits {
            enabled: true,
            umask: 0o027,
            ..FileLimits::default()
        };
        assert_eq!(mode(&masked, Some(0o777)), Ok(0o750));
    }

    #[test]
    fn directories_take_the_senders_name_and_nothing_else_is_a_target() {
        let dir = tempfile::tempdir().unwrap();
        let limits = FileLimits::default();
        assert!(may_put(&limits, &put(dir.path(), None)).is_err());
        let mut named = put(dir.path(), None);
        named.src_path = Some("/some/where/a.txt".to_owned());
        assert_eq!(may_put(&limits, &named).unwrap().name, "a.txt");
        named.src_path = Some("..".to_owned());
        assert!(may_put(&limits, &named).is_err());
        std::os::unix::fs::symlink("/etc/hostname", dir.path().join("link")).unwrap();
        let error = may_put(&limits, &put(&dir.path().join("link"), None)).unwrap_err();
        assert!(error.0.contains("symbolic link"), "{error}");
        assert!(may_put(&limits, &put(Path::new("/dev/null"), None)).is_err());
        let error = may_put(&limits, &put(&dir.path().join("no/f"), None)).unwrap_err();
        assert!(error.0.contains("No such file"), "{error}");
        assert!(may_put(&limits, &put(Path::new("relative"), None)).is_err());
    }

    #[test]
    fn the_directory_that_confines_takes_files() {
        let dir = tempfile::tempdir().unwrap();
        let limits = FileLimits {
            enabled: true,
            chroot: Some(dir.path().to_owned()),
            ..FileLimits::default()
        };
        let mut asked = put(dir.path(), None);
        assert!(may_put(&limits, &asked).is_err());
        asked.src_path = Some("a.txt".to_owned());
        assert_eq!(may_put(&limits, &asked).unwrap().name, "a.txt");
        let outside = put(&dir.path().join("../f"), None);
        assert!(may_put(&limits, &outside).is_err());
    }

    #[test]
    fn what_exists_is_replaced_only_where_that_is_allowed() {
        let dir = tempfile::tempdir().unwrap();
        let at = dir.path().join("f");
        std::fs::write(&at, "x").unwrap();
        let mut limits = FileLimits {
            enabled: true,
            ..FileLimits::default()
        };
        let error = may_put(&limits, &put(&at, None)).unwrap_err();
        assert!(error.0.contains("allow_overwrite"), "{error}");
        limits.allow_overwrite = true;
        assert!(may_put(&limits, &put(&at, None)).is_ok());
        limits.owner_put = Some("no-such-user-here".to_owned());
        assert!(may_put(&limits, &put(&at, None)).is_err());
    }

    #[test]
    fn the_largest_size_is_allowed_and_one_more_is_not() {
        let limits = FileLimits {
            enabled: true,
            max_file_size: 10,
            ..FileLimits::default()
        };
        assert!(fits(&limits, "f", 10).is_ok());
        assert!(fits(&limits, "f", 11).is_err());
        assert!(fits(&FileLimits::default(), "f", u64::MAX).is_ok());
    }
}

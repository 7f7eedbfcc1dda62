//! The artifact's state scripts on disk: each deployment replaces them (agent-behaviour
//! section 4).

use std::path::Path;

use ambidex_artifact::Script;
use ambidex_platform::fs::{self, FsError};

/// Version of the script interface, written beside the scripts.
const VERSION: &[u8] = b"3";

/// Removes the scripts of an earlier deployment.
pub(crate) fn clear(dir: &Path) -> Result<(), FsError> {
    fs::clear_dir(dir)
}

/// Stores the scripts, executable for the owner alone, durable before the first of them runs.
pub(crate) fn store(dir: &Path, scripts: &[Script]) -> Result<(), FsError> {
    fs::create_dir(dir, 0o700)?;
    clear(dir)?;
    for script in scripts {
        // the reader checked the name: no slash, no dots, a known state
        fs::write_plain(&dir.join(&script.name), &script.content, 0o700)?;
    }
    fs::write_plain(&dir.join("version"), VERSION, 0o600)?;
    fs::sync_tree(dir)
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests fail loudly")]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn a_deployment_replaces_the_scripts_of_the_one_before() {
        let dir = tempfile::tempdir().unwrap();
        let dir = dir.path().join("scripts");
        let script = |name: &str| Script {
            name: name.to_owned(),
            content: b"#!/bin/sh\n".to_vec(),
        };
        store(
            &dir,
            &[
                script("ArtifactInstall_Enter_00"),
                script("ArtifactCommit_Leave_10_x"),
            ],
        )
        .unwrap();
        store(&dir, &[script("ArtifactFailure_Enter_00")]).unwrap();
        let mut names: Vec<_> = std::fs::read_dir(&dir)
            .unwrap()
            .map(|entry| entry.unwrap().file_name())
            .collect();
        names.sort();
        assert_eq!(names, ["ArtifactFailure_Enter_00", "version"]);
        assert_eq!(std::fs::read(dir.join("version")).unwrap(), b"3");
        let mode = std::fs::metadata(dir.join("ArtifactFailure_Enter_00"))
            .unwrap()
            .permissions()
            .mode();
        assert_eq!(mode & 0o7777, 0o700);
    }
}

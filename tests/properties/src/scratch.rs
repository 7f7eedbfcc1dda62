//! Folders for the parsers that read files: one a thread, emptied for every input.

use std::path::{Path, PathBuf};

thread_local! {
    static FOLDER: tempfile::TempDir = make();
}

/// In memory where the system offers that: the parsers flush what they write.
fn make() -> tempfile::TempDir {
    let memory = Path::new("/dev/shm");
    let made = if memory.is_dir() {
        tempfile::tempdir_in(memory)
    } else {
        tempfile::tempdir()
    };
    made.expect("a temporary folder can be made")
}

/// An empty folder `name`, valid until the next call with this name on this thread.
pub fn folder(name: &str) -> PathBuf {
    FOLDER.with(|all| {
        let folder = all.path().join(name);
        match std::fs::remove_dir_all(&folder) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                panic!("cannot empty {}: {error}", folder.display())
            }
            _ => {}
        }
        std::fs::create_dir(&folder).expect("the folder can be made");
        folder
    })
}

pub fn write(path: &Path, bytes: &[u8]) {
    std::fs::write(path, bytes).expect("the file can be written");
}

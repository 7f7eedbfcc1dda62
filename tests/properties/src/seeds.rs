//! The repository's files that seeds are made of.

use std::path::{Path, PathBuf};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// A file of the repository.
pub fn file(name: &str) -> Vec<u8> {
    let path = root().join(name);
    std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Every file below a folder of the repository, in the order of their names.
pub fn files(folder: &str) -> Vec<Vec<u8>> {
    let folder = root().join(folder);
    let entries =
        std::fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let mut paths: Vec<PathBuf> = entries
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| path.is_file())
        .collect();
    paths.sort();
    paths
        .iter()
        .map(|path| {
            std::fs::read(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
        })
        .collect()
}

/// Byte strings that stand as hexadecimal text literals of at least 16 digits in a source file of the repository.
pub fn hex_literals(name: &str) -> Vec<Vec<u8>> {
    let text = String::from_utf8(file(name)).expect("sources are text");
    text.split('"')
        .filter(|literal| literal.len() >= 16)
        .filter_map(|literal| hex::decode(literal).ok())
        .collect()
}

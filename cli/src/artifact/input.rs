//! Files that the artifact verbs read: payloads, scripts, keys, artifacts.

use std::fs::{self, File};
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};

use ambidex_artifact::{PayloadSource, Script, SigningKey, VerifyKey};
use anyhow::{Context as _, bail};

/// A payload file on disk.
#[derive(Debug)]
pub struct PayloadFile {
    path: PathBuf,
    name: String,
    mode: u32,
    /// Seconds since 1970.
    pub mtime_s: u64,
    /// Bytes, as far as known beforehand; for the progress bar only.
    pub size: u64,
}

impl PayloadFile {
    /// Looks at `path`; links are followed.
    pub fn find(path: &Path) -> anyhow::Result<Self> {
        if path.to_str().is_some_and(|text| text.starts_with("ssh://")) {
            bail!(
                "a snapshot of a running device ({}) cannot be taken yet; copy the image to a file first",
                path.display()
            );
        }
        let metadata = fs::metadata(path)
            .with_context(|| format!("cannot read the payload file {}", path.display()))?;
        let kind = metadata.file_type();
        if !kind.is_file() && !kind.is_block_device() {
            bail!(
                "the payload {} is neither a file nor a disk; it is read twice, so a pipe will not do",
                path.display()
            );
        }
        let name = path
            .file_name()
            .and_then(|name| name.to_str())
            .with_context(|| format!("the payload file {} has no usable name", path.display()))?;
        Ok(Self {
            path: path.to_owned(),
            name: name.to_owned(),
            mode: metadata.mode() & 0o7777,
            mtime_s: u64::try_from(metadata.mtime()).unwrap_or(0),
            size: metadata.len(),
        })
    }

    pub fn find_all(paths: &[PathBuf]) -> anyhow::Result<Vec<Self>> {
        paths.iter().map(|path| Self::find(path)).collect()
    }

    /// Another file that was made of this one, with an ending to its name and of the same date.
    pub fn replaced(&self, path: &Path, ending: &str, size: u64) -> Self {
        Self {
            path: path.to_owned(),
            name: format!("{}{ending}", self.name),
            mode: self.mode,
            mtime_s: self.mtime_s,
            size,
        }
    }

    /// The file for the writer, dated no later than `latest_s`.
    pub fn source(&self, latest_s: Option<u64>) -> PayloadSource<'_> {
        PayloadSource {
            name: self.name.clone(),
            mode: self.mode,
            mtime_s: latest_s.map_or(self.mtime_s, |latest_s| self.mtime_s.min(latest_s)),
            open: Box::new(|| Ok(Box::new(File::open(&self.path)?))),
        }
    }
}

/// Scripts of the given files and of the files in the given directories, sorted by name.
pub fn read_scripts(paths: &[PathBuf]) -> anyhow::Result<Vec<Script>> {
    let mut files = Vec::new();
    for path in paths {
        let cannot = || format!("cannot read the script {}", path.display());
        if fs::metadata(path).with_context(cannot)?.is_dir() {
            for entry in fs::read_dir(path).with_context(cannot)? {
                files.push(entry.with_context(cannot)?.path());
            }
        } else {
            files.push(path.clone());
        }
    }
    let mut scripts = Vec::new();
    for path in files {
        let name = path
            .file_name()
            .and_then(|name| name.to_str())
            .unwrap_or_default();
        ambidex_artifact::names::check_script_name(name).map_err(|problem| {
            anyhow::anyhow!("{} is no state script: {problem}", path.display())
        })?;
        let content = fs::read(&path)
            .with_context(|| format!("cannot read the script {}", path.display()))?;
        scripts.push(Script {
            name: name.to_owned(),
            content,
        });
    }
    scripts.sort_by(|one, other| one.name.cmp(&other.name));
    Ok(scripts)
}

/// Longest key file that is read.
const KEY_BYTES_MAX: u64 = 64 * 1024;

fn read_key_text(path: &Path) -> anyhow::Result<String> {
    let cannot = || format!("cannot read the key {}", path.display());
    let metadata = fs::metadata(path).with_context(cannot)?;
    if metadata.len() > KEY_BYTES_MAX {
        bail!(
            "the key {} has more than {KEY_BYTES_MAX} bytes; is it a key?",
            path.display()
        );
    }
    fs::read_to_string(path).with_context(cannot)
}

/// Reads a private key.
pub fn read_signing_key(path: &Path) -> anyhow::Result<SigningKey> {
    SigningKey::from_pem(&read_key_text(path)?)
        .with_context(|| format!("cannot sign with the key {}", path.display()))
}

/// Reads a public key.
pub fn read_verify_key(path: &Path) -> anyhow::Result<VerifyKey> {
    VerifyKey::from_pem(&read_key_text(path)?)
        .with_context(|| format!("cannot check signatures with the key {}", path.display()))
}

/// Opens an artifact and tells its size.
pub fn open_artifact(path: &Path) -> anyhow::Result<(File, u64)> {
    let cannot = || format!("cannot open the artifact {}", path.display());
    let file = File::open(path).with_context(cannot)?;
    let metadata = file.metadata().with_context(cannot)?;
    if metadata.is_dir() {
        bail!("{} is a directory and not an artifact", path.display());
    }
    Ok((file, metadata.len()))
}

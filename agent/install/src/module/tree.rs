//! The file tree that a module works in (agent-behaviour section 5.2).

use std::path::{Path, PathBuf};

use ambidex_artifact::Header;
use ambidex_platform::fs::{self, FsError};

use crate::context::InstallContext;

/// Paths of one tree.
#[derive(Debug, Clone)]
pub(crate) struct Tree {
    root: PathBuf,
}

impl Tree {
    pub(crate) fn at(root: &Path) -> Self {
        Self {
            root: root.to_owned(),
        }
    }

    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    /// For the module's own use; survives reboots.
    pub(crate) fn tmp(&self) -> PathBuf {
        self.root.join("tmp")
    }

    pub(crate) fn files(&self) -> PathBuf {
        self.root.join("files")
    }

    pub(crate) fn streams(&self) -> PathBuf {
        self.root.join("streams")
    }

    pub(crate) fn stream_next(&self) -> PathBuf {
        self.root.join("stream-next")
    }

    pub(crate) fn exists(&self) -> bool {
        self.root.is_dir()
    }

    /// Makes the tree afresh and durable.
    pub(crate) fn create(&self, context: &InstallContext, header: &Header) -> Result<(), FsError> {
        fs::remove_tree(&self.root)?;
        for dir in [
            self.root.clone(),
            self.root.join("header"),
            self.tmp(),
            self.files(),
            self.streams(),
        ] {
            fs::create_dir(&dir, 0o700)?;
        }
        let group = context.current_group.as_deref().unwrap_or_default();
        let put = |name: &str, bytes: &[u8]| fs::write_plain(&self.root.join(name), bytes, 0o600);
        put("version", b"3\n")?;
        put("current_artifact_name", &line(&context.current_name))?;
        put("current_artifact_group", &line(group))?;
        put("current_device_type", &line(&context.device_type))?;
        put("header/artifact_name", header.name.as_bytes())?;
        put(
            "header/artifact_group",
            header.group.as_deref().unwrap_or_default().as_bytes(),
        )?;
        put(
            "header/payload_type",
            header.payload.type_name().unwrap_or_default().as_bytes(),
        )?;
        put("header/header-info", &header.header_info_raw)?;
        put("header/type-info", &header.type_info_raw)?;
        put("header/meta-data", &header.meta_data_raw)?;
        fs::sync_tree(&self.root)?;
        // the way down to the tree is new at the first deployment of a device
        let mut dir = self.root.parent();
        for _ in 0..4 {
            let Some(parent) = dir.filter(|dir| !dir.as_os_str().is_empty()) else {
                break;
            };
            fs::sync_dir(parent)?;
            dir = parent.parent();
        }
        Ok(())
    }
}

/// The value and a line end; nothing at all for a value that is not set.
fn line(value: &str) -> Vec<u8> {
    if value.is_empty() {
        Vec::new()
    } else {
        format!("{value}\n").into_bytes()
    }
}

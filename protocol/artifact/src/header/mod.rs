//! The header: what an artifact is, whom it is for, and what it changes.

mod augment;
mod info;
mod json;
mod unpack;

pub(crate) use unpack::{Context, StoredHeader, unpack};

use std::collections::BTreeMap;

use serde_json::Value;

use crate::codec::Compression;
use crate::digest::Sha256Digest;
use crate::manifest::ManifestEntry;
use crate::signature::SignatureState;

/// The payload type that the built-in installer of root file systems handles.
pub const ROOTFS_IMAGE: &str = "rootfs-image";

/// What installs the payload.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Payload {
    /// Nothing to install: the artifact only sets what the device provides (`bootstrap-artifact`).
    Empty,
    /// A root file system image.
    RootfsImage,
    /// Files for the update module of this name.
    Module(String),
}

impl Payload {
    pub(crate) fn from_type(name: Option<&str>) -> Self {
        match name {
            None => Self::Empty,
            Some(ROOTFS_IMAGE) => Self::RootfsImage,
            Some(module) => Self::Module(module.to_owned()),
        }
    }

    /// The payload type as the header spells it; `None` for the empty payload, which is JSON `null`.
    #[must_use]
    pub fn type_name(&self) -> Option<&str> {
        match self {
            Self::Empty => None,
            Self::RootfsImage => Some(ROOTFS_IMAGE),
            Self::Module(name) => Some(name),
        }
    }
}

/// A state script of the artifact.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Script {
    /// Such as `ArtifactInstall_Enter_01_check`; checked, safe as a file name.
    pub name: String,
    /// The program.
    pub content: Vec<u8>,
}

/// What the header of an augmented artifact adds (artifact-format reference, section 7). The
/// merged view is in [`Header`] itself.
#[derive(Debug, Clone, PartialEq)]
pub struct Augment {
    /// Payload type of the augmented part.
    pub payload: Payload,
    /// `header-info` as stored.
    pub header_info_raw: Vec<u8>,
    /// `type-info` as stored.
    pub type_info_raw: Vec<u8>,
    /// `meta-data` as stored; empty when absent.
    pub meta_data_raw: Vec<u8>,
    /// Lines of `manifest-augment`.
    pub manifest: Vec<ManifestEntry>,
}

/// A payload file that the manifest lists.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExpectedFile {
    /// Bare file name.
    pub name: String,
    /// Digest that its content must have.
    pub sha256: Sha256Digest,
}

/// Everything that is known before the payload. All of it is covered by verified digests.
#[derive(Debug, Clone, PartialEq)]
pub struct Header {
    /// Format version: 2 or 3.
    pub version: u8,
    /// Artifact name.
    pub name: String,
    /// Artifact group that a device joins by installing it.
    pub group: Option<String>,
    /// Device types it is for; at least one.
    pub device_types: Vec<String>,
    /// Artifact names of which one must be installed already; empty when any will do.
    pub depends_names: Vec<String>,
    /// Artifact groups of which the device must be in one; empty when any will do.
    pub depends_groups: Vec<String>,
    /// What installs the payload.
    pub payload: Payload,
    /// `type` in `type-info` as written, which for root file systems may be empty or `null`.
    pub type_info_type: Option<String>,
    /// `artifact_provides` of `type-info`.
    pub type_provides: BTreeMap<String, String>,
    /// `artifact_depends` of `type-info`; a single string is a list of one.
    pub type_depends: BTreeMap<String, Vec<String>>,
    /// `clears_artifact_provides` of `type-info`. `None` (absent) clears everything that is not
    /// provided anew, `Some` of an empty list clears nothing.
    pub clears_provides: Option<Vec<String>>,
    /// `meta-data`; `None` when absent or of no bytes.
    pub meta_data: Option<Value>,
    /// `meta-data` as stored; empty when absent.
    pub meta_data_raw: Vec<u8>,
    /// `header-info` as stored.
    pub header_info_raw: Vec<u8>,
    /// `type-info` as stored.
    pub type_info_raw: Vec<u8>,
    /// State scripts in the order of the archive.
    pub scripts: Vec<Script>,
    /// Whether there is a `manifest.sig`.
    pub signed: bool,
    /// What is known about the signature.
    pub signature: SignatureState,
    /// Compression of the header; the data member may use another one.
    pub compression: Compression,
    /// Lines of `manifest`, in its order.
    pub manifest: Vec<ManifestEntry>,
    /// Payload files that the data member must hold, those of `manifest-augment` last.
    pub files: Vec<ExpectedFile>,
    /// What an augmented artifact adds.
    pub augment: Option<Augment>,
}

impl Header {
    /// Everything that the artifact provides: name, group, and what `type-info` says. Where both
    /// have a key, the header's own value wins (see [`Header::conflicting_provides`]).
    #[must_use]
    pub fn provides(&self) -> BTreeMap<String, String> {
        let mut provides = self.type_provides.clone();
        provides.insert("artifact_name".into(), self.name.clone());
        if let Some(group) = &self.group {
            provides.insert("artifact_group".into(), group.clone());
        }
        provides
    }

    /// Everything that the artifact depends on, `device_type` included: each key with the values
    /// of which one must be met.
    #[must_use]
    pub fn depends(&self) -> BTreeMap<String, Vec<String>> {
        let mut depends = self.type_depends.clone();
        depends.insert("device_type".into(), self.device_types.clone());
        for (key, values) in [
            ("artifact_name", &self.depends_names),
            ("artifact_group", &self.depends_groups),
        ] {
            if !values.is_empty() {
                depends.insert(key.into(), values.clone());
            }
        }
        depends
    }

    /// Keys that both `header-info` and `type-info` provide. A server refuses such an artifact
    /// (artifact-format reference, section 9).
    #[must_use]
    pub fn conflicting_provides(&self) -> Vec<&str> {
        self.type_provides
            .keys()
            .map(String::as_str)
            .filter(|key| {
                *key == "artifact_name" || *key == "artifact_group" && self.group.is_some()
            })
            .collect()
    }
}

//! What an artifact shall be.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::io::{self, Read};

use serde_json::{Map, Value};

use super::defaults::rootfs_checksum_key;
use super::json;
use crate::codec::CompressionChoice;
use crate::digest::Sha256Digest;
use crate::error::Error;
use crate::header::{Payload, Script};
use crate::limits::{
    ARTIFACT_NAME_BYTES_MAX, DEVICE_TYPES_MAX, INFO_BYTES_MAX, META_DATA_BYTES_MAX,
    PAYLOAD_FILES_MAX, SCRIPT_BYTES_MAX, SCRIPT_COUNT_MAX,
};
use crate::names;

/// Opens a payload file from its start.
pub type Open<'a> = Box<dyn Fn() -> io::Result<Box<dyn Read + 'a>> + 'a>;

/// A payload file to be written. It is opened and read twice.
pub struct PayloadSource<'a> {
    /// Bare file name in the artifact.
    pub name: String,
    /// Permission bits.
    pub mode: u32,
    /// Time of the last change, seconds since 1970.
    pub mtime_s: u64,
    /// Opens it from its start.
    pub open: Open<'a>,
}

impl fmt::Debug for PayloadSource<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PayloadSource")
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}

impl<'a> PayloadSource<'a> {
    /// A payload file whose content is in memory: configurations, tests.
    #[must_use]
    pub fn from_bytes(name: impl Into<String>, content: &'a [u8]) -> Self {
        Self {
            name: name.into(),
            mode: 0o644,
            mtime_s: 0,
            open: Box::new(move || Ok(Box::new(content))),
        }
    }
}

/// What an artifact shall be. [`ArtifactSpec::new`] gives one without any of the optional parts.
#[derive(Debug, Clone, PartialEq)]
pub struct ArtifactSpec {
    /// Artifact name.
    pub name: String,
    /// Artifact group.
    pub group: Option<String>,
    /// Device types; at least one.
    pub device_types: Vec<String>,
    /// Artifact names of which one must be installed; empty for any.
    pub depends_names: Vec<String>,
    /// Artifact groups of which the device must be in one; empty for any.
    pub depends_groups: Vec<String>,
    /// What installs the payload.
    pub payload: Payload,
    /// Provides of `type-info`.
    pub type_provides: BTreeMap<String, String>,
    /// Key under which the digest of the first payload file is provided
    /// ([`rootfs_checksum_key`]); overrides `type_provides`.
    pub checksum_provide: Option<String>,
    /// Depends of `type-info`. One value is written as a string, since devices read nothing else.
    pub type_depends: BTreeMap<String, Vec<String>>,
    /// Globs of provides that installing clears. `None` leaves the list out, which clears all.
    pub clears_provides: Option<Vec<String>>,
    /// Document for the update module.
    pub meta_data: Option<Map<String, Value>>,
    /// State scripts, written in this order.
    pub scripts: Vec<Script>,
    /// Compression of header and data.
    pub compression: CompressionChoice,
    /// Time written into the members that have one, seconds since 1970. Fixed unless the caller
    /// has a reason: then the same input gives the same artifact.
    pub mtime_s: u64,
}

/// `type-info` as it will be written.
pub(super) struct TypeInfo<'a> {
    pub payload: &'a Payload,
    pub provides: BTreeMap<String, String>,
    pub depends: &'a BTreeMap<String, Vec<String>>,
    pub clears: Option<&'a [String]>,
}

impl ArtifactSpec {
    /// An artifact with the required parts only.
    #[must_use]
    pub fn new(payload: Payload, name: impl Into<String>, device_types: Vec<String>) -> Self {
        Self {
            name: name.into(),
            group: None,
            device_types,
            depends_names: Vec::new(),
            depends_groups: Vec::new(),
            payload,
            type_provides: BTreeMap::new(),
            checksum_provide: None,
            type_depends: BTreeMap::new(),
            clears_provides: None,
            meta_data: None,
            scripts: Vec::new(),
            compression: CompressionChoice::default(),
            mtime_s: 0,
        }
    }

    /// Provides the digest of the image as `rootfs-image.checksum`, as the reference tool does.
    #[must_use]
    pub fn with_rootfs_checksum(mut self, legacy_key: bool) -> Self {
        self.checksum_provide = Some(rootfs_checksum_key(legacy_key).to_owned());
        self
    }

    pub(super) fn type_info(&self, first_file: Option<Sha256Digest>) -> TypeInfo<'_> {
        let mut provides = self.type_provides.clone();
        if let (Some(key), Some(digest)) = (&self.checksum_provide, first_file) {
            provides.insert(key.clone(), digest.to_string());
        }
        TypeInfo {
            payload: &self.payload,
            provides,
            depends: &self.type_depends,
            clears: self.clears_provides.as_deref(),
        }
    }

    /// Checks everything that a reader would refuse, so that nothing unreadable is written.
    pub(super) fn check(&self, payload: &[PayloadSource<'_>]) -> Result<(), Error> {
        self.check_values(payload).map_err(Error::Specification)
    }

    fn check_values(&self, payload: &[PayloadSource<'_>]) -> Result<(), String> {
        names::check_artifact_name(&self.name)
            .map_err(|problem| format!("the artifact name {problem}"))?;
        if let Some(group) = &self.group {
            names::check_artifact_name(group)
                .map_err(|problem| format!("the artifact group {problem}"))?;
        }
        if self.device_types.is_empty() {
            return Err("there is no device type; name at least one".into());
        }
        if self.device_types.len() > DEVICE_TYPES_MAX {
            return Err(format!(
                "there are {} device types, {DEVICE_TYPES_MAX} are the most",
                self.device_types.len()
            ));
        }
        if let Some(bad) = self
            .device_types
            .iter()
            .find(|it| it.is_empty() || it.len() > ARTIFACT_NAME_BYTES_MAX)
        {
            return Err(format!(
                "the device type {bad:?} is empty or longer than {ARTIFACT_NAME_BYTES_MAX} bytes"
            ));
        }
        if let Some(module) = self.payload.type_name() {
            names::check_payload_type(module)?;
        }
        self.check_scripts()?;
        if self.payload == Payload::Empty && (self.meta_data.is_some() || !self.scripts.is_empty())
        {
            return Err("an empty payload has neither meta-data nor scripts".into());
        }
        let reserved = ["artifact_name", "artifact_group"];
        if let Some(key) = self
            .type_provides
            .keys()
            .find(|key| reserved.contains(&key.as_str()))
        {
            return Err(format!(
                "{key} is provided by the artifact itself and cannot be given again"
            ));
        }
        if let Some(key) = self
            .type_depends
            .keys()
            .find(|key| reserved.contains(&key.as_str()) || *key == "device_type")
        {
            return Err(format!(
                "{key} has its own place among the dependencies of the artifact"
            ));
        }
        let long = |what: &str, length: usize, limit: u64| {
            if length as u64 > limit {
                Err(format!("{what} has {length} bytes, {limit} are the most"))
            } else {
                Ok(())
            }
        };
        long("header-info", json::header_info(self).len(), INFO_BYTES_MAX)?;
        long(
            "type-info",
            json::type_info(&self.type_info(Some(Sha256Digest::from([0; 32])))).len(),
            INFO_BYTES_MAX,
        )?;
        long(
            "meta-data",
            json::meta_data(self).map_or(0, |text| text.len()),
            META_DATA_BYTES_MAX,
        )?;
        self.check_files(payload)
    }

    fn check_scripts(&self) -> Result<(), String> {
        if self.scripts.len() > SCRIPT_COUNT_MAX {
            return Err(format!(
                "there are {} scripts, {SCRIPT_COUNT_MAX} are the most",
                self.scripts.len()
            ));
        }
        let mut seen = BTreeSet::new();
        for script in &self.scripts {
            names::check_script_name(&script.name)?;
            if script.content.len() as u64 > SCRIPT_BYTES_MAX {
                return Err(format!(
                    "the script {:?} has more than {SCRIPT_BYTES_MAX} bytes",
                    script.name
                ));
            }
            if !seen.insert(&script.name) {
                return Err(format!("the script {:?} is there twice", script.name));
            }
        }
        Ok(())
    }

    fn check_files(&self, payload: &[PayloadSource<'_>]) -> Result<(), String> {
        match (&self.payload, payload.len()) {
            (Payload::Empty, 1..) => return Err("an empty payload has no files".into()),
            (Payload::RootfsImage, count) if count != 1 => {
                return Err(format!(
                    "a rootfs-image has one file, and there are {count}"
                ));
            }
            (_, count) if count > PAYLOAD_FILES_MAX => {
                return Err(format!(
                    "there are {count} payload files, {PAYLOAD_FILES_MAX} are the most"
                ));
            }
            _ => {}
        }
        let mut seen = BTreeSet::new();
        for file in payload {
            names::check_payload_name(&file.name)?;
            if !seen.insert(&file.name) {
                return Err(format!(
                    "two payload files are called {:?}; rename one of them",
                    file.name
                ));
            }
        }
        Ok(())
    }
}

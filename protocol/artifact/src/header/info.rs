//! `header-info`, `type-info`, `files`: their JSON and the rules of their values.

use std::collections::BTreeMap;

use serde::{Deserialize, de::DeserializeOwned};

use super::json::{OneOrMany, UniqueMap};
use super::{Payload, ROOTFS_IMAGE};
use crate::error::{Error, check_limit};
use crate::limits::{ARTIFACT_NAME_BYTES_MAX, DEVICE_TYPES_MAX};
use crate::names::{check_artifact_name, check_payload_type};

/// What `header-info` says, in whichever version.
#[derive(Debug)]
pub(super) struct HeaderInfo {
    pub payload: Payload,
    pub name: String,
    pub group: Option<String>,
    pub device_types: Vec<String>,
    pub depends_names: Vec<String>,
    pub depends_groups: Vec<String>,
}

/// What `type-info` says.
#[derive(Debug, Default)]
pub(super) struct TypeInfo {
    pub type_name: Option<String>,
    pub provides: BTreeMap<String, String>,
    pub depends: BTreeMap<String, Vec<String>>,
    pub clears: Option<Vec<String>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct InfoV3 {
    payloads: Vec<PayloadType>,
    artifact_provides: ProvidesV3,
    artifact_depends: DependsV3,
}

#[derive(Deserialize)]
struct PayloadType {
    // Without this, serde would take a missing key for `null`, which means something here.
    #[serde(rename = "type", deserialize_with = "Option::deserialize")]
    name: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ProvidesV3 {
    artifact_name: String,
    artifact_group: Option<String>,
}

#[derive(Deserialize)]
struct DependsV3 {
    device_type: Vec<String>,
    #[serde(default)]
    artifact_name: Option<Vec<String>>,
    #[serde(default)]
    artifact_group: Option<Vec<String>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct InfoV2 {
    artifact_name: String,
    updates: Vec<PayloadType>,
    device_types_compatible: Vec<String>,
}

#[derive(Deserialize)]
struct InfoAugment {
    payloads: Vec<PayloadType>,
}

#[derive(Deserialize)]
struct TypeV3 {
    #[serde(rename = "type", deserialize_with = "Option::deserialize")]
    name: Option<String>,
    #[serde(default)]
    artifact_depends: Option<UniqueMap<OneOrMany>>,
    #[serde(default)]
    artifact_provides: Option<UniqueMap<String>>,
    #[serde(default)]
    clears_artifact_provides: Option<Vec<String>>,
}

#[derive(Deserialize)]
struct FilesV2 {
    files: Vec<String>,
}

pub(super) fn parse_info(bytes: &[u8], version: u8, place: &str) -> Result<HeaderInfo, Error> {
    let bad = |problem: String| Error::malformed(place, problem);
    let info = if version == 3 {
        let info: InfoV3 = json(bytes, place)?;
        HeaderInfo {
            payload: single_payload(&info.payloads, place)?,
            name: info.artifact_provides.artifact_name,
            group: info.artifact_provides.artifact_group,
            device_types: info.artifact_depends.device_type,
            depends_names: info.artifact_depends.artifact_name.unwrap_or_default(),
            depends_groups: info.artifact_depends.artifact_group.unwrap_or_default(),
        }
    } else {
        let info: InfoV2 = json(bytes, place)?;
        let payload = single_payload(&info.updates, place)?;
        if payload != Payload::RootfsImage {
            return Err(bad(
                "version 2 has payloads of type rootfs-image only".into()
            ));
        }
        HeaderInfo {
            payload,
            name: info.artifact_name,
            group: None,
            device_types: info.device_types_compatible,
            depends_names: Vec::new(),
            depends_groups: Vec::new(),
        }
    };
    check_artifact_name(&info.name)
        .map_err(|problem| bad(format!("the artifact name {problem}")))?;
    if let Some(group) = &info.group {
        check_artifact_name(group)
            .map_err(|problem| bad(format!("the artifact group {problem}")))?;
    }
    if info.device_types.is_empty() {
        return Err(bad("the list of device types is empty".into()));
    }
    check_limit(
        "the number of device types",
        info.device_types.len() as u64,
        DEVICE_TYPES_MAX as u64,
    )?;
    for device_type in &info.device_types {
        if device_type.is_empty() {
            return Err(bad("a device type is empty".into()));
        }
        check_limit(
            "the length in bytes of a device type",
            device_type.len() as u64,
            // Same kind of name, same limit.
            ARTIFACT_NAME_BYTES_MAX as u64,
        )?;
    }
    Ok(info)
}

/// The payload type of an augmented header, which may repeat the whole `header-info` or have the
/// payload list only.
pub(super) fn parse_augment_info(bytes: &[u8], place: &str) -> Result<Payload, Error> {
    let info: InfoAugment = json(bytes, place)?;
    single_payload(&info.payloads, place)
}

pub(super) fn parse_type_info(
    bytes: &[u8],
    version: u8,
    payload: &Payload,
    place: &str,
) -> Result<TypeInfo, Error> {
    let info: TypeV3 = json(bytes, place)?;
    let agrees = match (payload, info.name.as_deref()) {
        // Tools from 3.3.0 to 4.3.0 left the type of root file systems empty.
        (Payload::RootfsImage, None | Some("" | ROOTFS_IMAGE)) => true,
        (payload, name) => payload.type_name() == name,
    };
    if !agrees {
        return Err(Error::malformed(
            place,
            format!(
                "the type is {:?}, header-info says {:?}",
                info.name,
                payload.type_name()
            ),
        ));
    }
    if version == 2 {
        return Ok(TypeInfo {
            type_name: info.name,
            ..TypeInfo::default()
        });
    }
    let depends = info.artifact_depends.unwrap_or_default().0;
    Ok(TypeInfo {
        type_name: info.name,
        provides: info.artifact_provides.unwrap_or_default().0,
        depends: depends
            .into_iter()
            .map(|(key, values)| (key, values.0))
            .collect(),
        clears: info.clears_artifact_provides,
    })
}

/// The list of payload files in a header of version 2.
pub(super) fn parse_files(bytes: &[u8], place: &str) -> Result<Vec<String>, Error> {
    Ok(json::<FilesV2>(bytes, place)?.files)
}

fn single_payload(payloads: &[PayloadType], place: &str) -> Result<Payload, Error> {
    let [payload] = payloads else {
        return Err(Error::malformed(
            place,
            format!("there are {} payloads, one is expected", payloads.len()),
        ));
    };
    if let Some(name) = &payload.name {
        check_payload_type(name).map_err(|problem| Error::malformed(place, problem))?;
    }
    Ok(Payload::from_type(payload.name.as_deref()))
}

fn json<T: DeserializeOwned>(bytes: &[u8], place: &str) -> Result<T, Error> {
    serde_json::from_slice(bytes).map_err(|error| Error::malformed(place, error.to_string()))
}

//! Bodies of the deployments management API (`/api/management/v1/deployments` and `v2`).

use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer, Serialize};
use serde_json::{Map, Value};

use crate::deployments::DeviceStatus;

/// Body of `POST /deployments`, of `POST /deployments/group/{name}` (without devices) and of the
/// version 2 `POST /deployments` (with `filter_id`).
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct NewDeployment {
    #[serde(default, deserialize_with = "null_as_default")]
    pub name: String,
    #[serde(default, deserialize_with = "null_as_default")]
    pub artifact_name: String,
    /// The targeted devices; excludes `all_devices`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub devices: Option<Vec<String>>,
    /// Target every device accepted at the moment of creation.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub all_devices: Option<bool>,
    /// Version 2 only: target whatever matches this stored inventory filter.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub filter_id: Option<String>,
    #[serde(
        default,
        skip_serializing_if = "Vec::is_empty",
        deserialize_with = "null_as_default"
    )]
    pub phases: Vec<NewPhase>,
    /// How often a device may try again after a failure; the default is 0.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retries: Option<u32>,
    /// Version 2 only: the deployment finishes once so many devices have finished.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_devices: Option<u32>,
    /// Install even where the device already runs that artifact.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub force_installation: Option<bool>,
    /// Where devices are to pause and what they are to do then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub update_control_map: Option<Value>,
}

/// Some clients send `null` where they mean "left out".
fn null_as_default<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: Default + Deserialize<'de>,
{
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

/// A wave of a phased deployment, as asked for.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct NewPhase {
    /// Percentage of the targeted devices; only the last phase may leave it out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub batch_size: Option<u32>,
    /// RFC 3339; only the first phase may leave it out ("now").
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub start_ts: Option<String>,
}

/// A deployment as lists and `GET /deployments/{id}` show it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Deployment {
    pub id: String,
    pub name: String,
    pub artifact_name: String,
    /// RFC 3339, UTC.
    pub created: String,
    /// RFC 3339, UTC; present once the deployment has finished.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub finished: Option<String>,
    /// `scheduled`, `pending`, `inprogress` or `finished`.
    pub status: String,
    /// How many devices have asked for this deployment.
    #[serde(default)]
    pub device_count: u64,
    /// How many devices must finish for the deployment to finish; absent without such a number.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_devices: Option<u64>,
    /// Ids of the artifacts that devices choose from.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub artifacts: Vec<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub phases: Vec<Phase>,
    #[serde(default)]
    pub retries: u32,
    #[serde(default, skip_serializing_if = "is_false")]
    pub force_installation: bool,
    #[serde(default, skip_serializing_if = "is_false")]
    pub dynamic: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub initial_device_count: Option<u64>,
    /// The inventory filter as it was when the deployment was created.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub filter: Option<Value>,
    /// The group whose devices were targeted.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub groups: Vec<String>,
    /// Where devices are to pause and what they are to do then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub update_control_map: Option<Value>,
    /// `software` or `configuration`.
    #[serde(default, rename = "type", skip_serializing_if = "String::is_empty")]
    pub kind: String,
    /// The configuration that is deployed, its values shortened: it may hold secrets.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub configuration: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub statistics: Option<DeploymentStatistics>,
}

#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "serde calls it with a reference"
)]
const fn is_false(value: &bool) -> bool {
    !*value
}

/// A wave of a phased deployment, as shown.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Phase {
    pub id: String,
    /// Percentage of the targeted devices.
    pub batch_size: u32,
    /// RFC 3339, UTC.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub start_ts: Option<String>,
    /// How many devices have asked for the update within this phase.
    #[serde(default)]
    pub device_count: u64,
}

/// The counters inside a deployment.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeploymentStatistics {
    pub status: Statistics,
    /// Bytes of all artifacts that were handed out, each counted once a device.
    #[serde(default)]
    pub total_size: u64,
}

/// How many devices have each status: every word of [`DeviceStatus`] is a key.
pub type Statistics = BTreeMap<String, u64>;

/// One device of a deployment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeploymentDevice {
    pub id: String,
    pub status: DeviceStatus,
    /// Whether the device has uploaded a log.
    pub log: bool,
    /// RFC 3339, UTC: when the deployment was created.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub created: Option<String>,
    /// RFC 3339, UTC: when the device first reported.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub started: Option<String>,
    /// RFC 3339, UTC: when the device finished.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub finished: Option<String>,
    /// RFC 3339, UTC: when the device's history was reset.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deleted: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub device_type: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub state: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub substate: Option<String>,
    /// How many attempts have ended; present when the deployment allows retries.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attempts: Option<u32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retries: Option<u32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image: Option<DeviceImage>,
}

/// The artifact that was assigned to a device.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeviceImage {
    pub id: String,
    #[serde(default)]
    pub size: u64,
}

/// Body of `PUT /deployments/{id}/status`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeploymentStatusChange {
    /// Only `aborted` is understood.
    pub status: String,
}

/// Body of `POST /deployments/statistics/list`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StatisticsQuery {
    /// At most 100 ids.
    pub deployment_ids: Vec<String>,
}

/// An item of the answer of `POST /deployments/statistics/list`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StatisticsItem {
    pub id: String,
    pub stats: Statistics,
}

/// An item of `GET /deployments/devices/{id}`: a device's past.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct DeviceDeployment {
    pub id: String,
    pub deployment: Deployment,
    pub device: DeploymentDevice,
}

/// An artifact in the server's store.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Artifact {
    pub id: String,
    pub name: String,
    #[serde(default)]
    pub description: String,
    #[serde(default)]
    pub device_types_compatible: Vec<String>,
    pub info: ArtifactInfo,
    #[serde(default)]
    pub signed: bool,
    #[serde(default)]
    pub updates: Vec<Update>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub artifact_provides: BTreeMap<String, String>,
    #[serde(
        default,
        skip_serializing_if = "BTreeMap::is_empty",
        deserialize_with = "one_or_many_values"
    )]
    pub artifact_depends: BTreeMap<String, Vec<String>>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub clears_artifact_provides: Vec<String>,
    /// Bytes of the file as uploaded.
    #[serde(default)]
    pub size: u64,
    /// RFC 3339, UTC.
    pub modified: String,
}

/// Format and version of an artifact file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ArtifactInfo {
    pub format: String,
    pub version: u32,
}

/// One payload of an artifact.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Update {
    pub type_info: TypeInfo,
    /// `null` in an artifact without payload.
    #[serde(default)]
    pub files: Option<Vec<UpdateFile>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub meta_data: Option<Map<String, Value>>,
}

/// Which kind of payload it is, and so which update module installs it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TypeInfo {
    /// `null` in an artifact without payload.
    #[serde(rename = "type", default)]
    pub kind: Option<String>,
}

/// One file of a payload.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct UpdateFile {
    pub name: String,
    /// SHA-256, lower-case hex, of the uncompressed file.
    pub checksum: String,
    /// Bytes, uncompressed.
    pub size: u64,
    /// RFC 3339, UTC.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub date: Option<String>,
}

/// Accepts `"a"` and `["a", "b"]` as the value of a depends key.
fn one_or_many_values<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<BTreeMap<String, Vec<String>>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum OneOrMany {
        One(String),
        Many(Vec<String>),
    }
    let map = Option::<BTreeMap<String, OneOrMany>>::deserialize(deserializer)?.unwrap_or_default();
    Ok(map
        .into_iter()
        .map(|(key, value)| match value {
            OneOrMany::One(one) => (key, vec![one]),
            OneOrMany::Many(many) => (key, many),
        })
        .collect())
}

/// Body of `PUT /artifacts/{id}`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ArtifactChange {
    #[serde(default)]
    pub description: String,
}

/// Answer of `GET /artifacts/{id}/download`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ArtifactLink {
    pub uri: String,
    /// RFC 3339, UTC.
    pub expire: String,
}

/// Answer of `POST /artifacts/directupload`: where the file goes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct UploadLink {
    /// The id of the artifact to be.
    pub id: String,
    pub uri: String,
    /// RFC 3339, UTC.
    pub expire: String,
    /// How the file is sent: `PUT`.
    pub method: String,
    /// Headers that the request must have.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub header: BTreeMap<String, String>,
}

/// All artifacts of one name.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Release {
    pub name: String,
    #[serde(default)]
    pub artifacts: Vec<Artifact>,
    /// RFC 3339, UTC.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub modified: Option<String>,
    #[serde(default)]
    pub artifacts_count: u64,
    #[serde(default)]
    pub tags: Vec<String>,
    #[serde(default)]
    pub notes: String,
}

/// Body of the version 2 `PATCH /deployments/releases/{name}`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReleaseChange {
    /// `None` keeps them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub notes: Option<String>,
}

/// An item of the `GET /software` of version 1 alpha 1: what a release is, without its artifacts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Software {
    pub name: String,
    /// `release`.
    pub kind: String,
    /// RFC 3339, UTC.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub modified: Option<String>,
    /// Device types of all artifacts together.
    #[serde(default)]
    pub compatible_types: Vec<String>,
    #[serde(default)]
    pub tags: Vec<String>,
    #[serde(default)]
    pub notes: String,
}

/// Body of `PATCH /deployments/{id}`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeploymentChange {
    /// The new map; an empty one takes the old one away.
    #[serde(default)]
    pub update_control_map: Option<Value>,
}

/// Body of the internal `POST .../configuration/deployments/{id}/devices/{device}`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct NewConfigurationDeployment {
    #[serde(default)]
    pub name: String,
    /// Any JSON value, or a text that holds one.
    #[serde(default)]
    pub configuration: Value,
    #[serde(default)]
    pub retries: u32,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub update_control_map: Option<Value>,
}

/// Body of the internal `POST .../devices/deployments/last`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LastStatusQuery {
    #[serde(default)]
    pub device_ids: Vec<String>,
}

/// Answer of the internal `POST .../devices/deployments/last`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LastStatuses {
    pub device_deployment_last_statuses: Vec<LastStatus>,
}

/// How a device's last finished deployment went.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LastStatus {
    pub device_id: String,
    pub deployment_id: String,
    pub device_deployment_id: String,
    pub device_deployment_status: DeviceStatus,
}

/// Storage limit and use of a tenant.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct StorageUsage {
    /// Bytes; 0 is unlimited.
    pub limit: u64,
    /// Bytes.
    pub usage: u64,
}

/// Body of the internal `PUT /tenants/{id}/limits/storage`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct StorageLimit {
    /// Bytes; 0 is unlimited.
    pub limit: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn depends_values_may_be_strings_or_lists() {
        let text = r#"{"id":"i","name":"n","info":{"format":"mender","version":3},"modified":"t",
            "artifact_depends":{"device_type":["a","b"],"key":"one"}}"#;
        let artifact: Result<Artifact, _> = serde_json::from_str(text);
        let depends = artifact
            .map(|artifact| artifact.artifact_depends)
            .unwrap_or_default();
        assert_eq!(
            depends.get("device_type"),
            Some(&vec!["a".to_owned(), "b".to_owned()])
        );
        assert_eq!(depends.get("key"), Some(&vec!["one".to_owned()]));
    }
}

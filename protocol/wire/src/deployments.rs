//! What a device and the deployments service say to each other.

use std::{collections::BTreeMap, fmt, str::FromStr};

use serde::{Deserialize, Serialize};

/// Body of `POST /api/devices/v2/deployments/device/deployments/next`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NextRequest {
    /// Everything the device provides: `device_type`, `artifact_name` and every other provides key.
    pub device_provides: BTreeMap<String, String>,
}

/// The answer to a poll: what to install and where to fetch it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Instructions {
    /// The deployment's id.
    pub id: String,
    pub artifact: ArtifactSource,
    /// Where the device is to pause and what it is to do then; only for devices that understand it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub update_control_map: Option<serde_json::Value>,
}

/// The artifact that a deployment assigns to a device.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ArtifactSource {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    #[serde(default)]
    pub artifact_name: String,
    pub source: Link,
    #[serde(default)]
    pub device_types_compatible: Vec<String>,
}

/// A link that authorises by itself, until it expires.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Link {
    pub uri: String,
    /// RFC 3339.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expire: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub method: Option<String>,
}

/// Status of one device in one deployment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum DeviceStatus {
    Pending,
    Downloading,
    PauseBeforeInstalling,
    Installing,
    PauseBeforeRebooting,
    Rebooting,
    PauseBeforeCommitting,
    Success,
    Failure,
    NoArtifact,
    AlreadyInstalled,
    Aborted,
    Decommissioned,
}

impl DeviceStatus {
    /// Every status, in the order in which a device passes through them.
    pub const ALL: [Self; 13] = [
        Self::Pending,
        Self::Downloading,
        Self::PauseBeforeInstalling,
        Self::Installing,
        Self::PauseBeforeRebooting,
        Self::Rebooting,
        Self::PauseBeforeCommitting,
        Self::Success,
        Self::Failure,
        Self::NoArtifact,
        Self::AlreadyInstalled,
        Self::Aborted,
        Self::Decommissioned,
    ];

    /// The word on the wire.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Downloading => "downloading",
            Self::PauseBeforeInstalling => "pause_before_installing",
            Self::Installing => "installing",
            Self::PauseBeforeRebooting => "pause_before_rebooting",
            Self::Rebooting => "rebooting",
            Self::PauseBeforeCommitting => "pause_before_committing",
            Self::Success => "success",
            Self::Failure => "failure",
            Self::NoArtifact => "noartifact",
            Self::AlreadyInstalled => "already-installed",
            Self::Aborted => "aborted",
            Self::Decommissioned => "decommissioned",
        }
    }

    /// Whether a device may report this status itself.
    #[must_use]
    pub const fn is_reportable(self) -> bool {
        !matches!(
            self,
            Self::Pending | Self::NoArtifact | Self::Aborted | Self::Decommissioned
        )
    }

    /// Whether the device has finished with the deployment.
    #[must_use]
    pub const fn is_final(self) -> bool {
        matches!(
            self,
            Self::Success
                | Self::Failure
                | Self::NoArtifact
                | Self::AlreadyInstalled
                | Self::Aborted
                | Self::Decommissioned
        )
    }
}

impl fmt::Display for DeviceStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A word that is no device status.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("unknown device status '{0}'")]
pub struct UnknownStatus(pub String);

impl FromStr for DeviceStatus {
    type Err = UnknownStatus;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::ALL
            .into_iter()
            .find(|status| status.as_str() == text)
            .ok_or_else(|| UnknownStatus(text.chars().take(64).collect()))
    }
}

impl Serialize for DeviceStatus {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

impl<'de> Deserialize<'de> for DeviceStatus {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

/// Body of `PUT .../device/deployments/{id}/status`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StatusReport {
    pub status: DeviceStatus,
    /// Free text, at most 200 characters.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub substate: Option<String>,
}

/// The longest `substate` the server takes, in characters.
pub const SUBSTATE_CHARS_MAX: usize = 200;

/// Body of `PUT .../device/deployments/{id}/log`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogReport {
    pub messages: Vec<LogMessage>,
}

/// One line of a deployment log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogMessage {
    /// RFC 3339.
    pub timestamp: String,
    pub level: String,
    pub message: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn status_words_round_trip() {
        for status in DeviceStatus::ALL {
            assert_eq!(status.as_str().parse(), Ok(status));
        }
        assert_eq!(
            "rolling".parse::<DeviceStatus>(),
            Err(UnknownStatus("rolling".into()))
        );
    }

    #[test]
    fn instructions_ignore_unknown_keys() {
        let text = r#"{"id":"d1","x":1,"artifact":{"artifact_name":"r2","source":{"uri":"http://h/a","expire":"2026-01-01T00:00:00Z","method":"GET"},"device_types_compatible":["qemu"]}}"#;
        let parsed: Result<Instructions, _> = serde_json::from_str(text);
        assert!(parsed.is_ok_and(|i| i.artifact.artifact_name == "r2"));
    }
}

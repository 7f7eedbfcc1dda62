//! A deployment as the server keeps it.

use std::fmt;

use ambidex_kit::rfc3339;
use ambidex_wire::deployments::DeviceStatus;
use ambidex_wire::management::deployments as wire;
use serde_json::{Map, Value};

use super::phase::Phase;

/// The kind of deployments of artifacts.
pub const SOFTWARE: &str = "software";
/// The kind of deployments of configurations.
pub const CONFIGURATION: &str = "configuration";

/// Where a deployment stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Status {
    /// Waits for its first start.
    Scheduled,
    /// No device has reported anything.
    Pending,
    InProgress,
    Finished,
}

impl Status {
    /// The word on the wire.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Scheduled => "scheduled",
            Self::Pending => "pending",
            Self::InProgress => "inprogress",
            Self::Finished => "finished",
        }
    }

    /// Reads the word on the wire.
    pub fn parse(text: &str) -> Option<Self> {
        [
            Self::Scheduled,
            Self::Pending,
            Self::InProgress,
            Self::Finished,
        ]
        .into_iter()
        .find(|status| status.as_str() == text)
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// How many devices have each status, in the order of [`DeviceStatus::ALL`].
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts(pub [i64; DeviceStatus::ALL.len()]);

impl Counts {
    /// One device leaves `from` and gets `to`.
    pub fn moved(from: DeviceStatus, to: DeviceStatus) -> Self {
        Self::default().plus(from, -1).plus(to, 1)
    }

    /// `n` more with `status`.
    #[must_use]
    pub fn plus(mut self, status: DeviceStatus, n: i64) -> Self {
        for (count, known) in self.0.iter_mut().zip(DeviceStatus::ALL) {
            if known == status {
                *count += n;
            }
        }
        self
    }

    /// The statistics on the wire: every status is a key.
    pub fn into_wire(self) -> wire::Statistics {
        DeviceStatus::ALL
            .into_iter()
            .zip(self.0)
            .map(|(status, count)| {
                (
                    status.as_str().to_owned(),
                    u64::try_from(count).unwrap_or(0),
                )
            })
            .collect()
    }
}

/// A deployment in the store.
#[derive(Debug, Clone, PartialEq)]
pub struct Deployment {
    pub id: String,
    /// Names the deployment in the rows of its devices.
    pub number: i64,
    pub name: String,
    pub artifact_name: String,
    pub kind: String,
    pub created_ms: i64,
    pub starts_ms: i64,
    pub active: bool,
    /// As stored: never [`Status::Scheduled`].
    pub status: Status,
    pub finished_ms: Option<i64>,
    /// Devices that have asked.
    pub device_count: u64,
    /// 0 without such a number.
    pub max_devices: u64,
    pub target_count: u64,
    pub dynamic: bool,
    pub filter: Option<String>,
    pub group: Option<String>,
    pub phased: bool,
    pub retries: u32,
    pub force_installation: bool,
    pub total_size_bytes: u64,
    /// Where devices are to pause, as JSON.
    pub control_map: Option<String>,
    /// Deployments of [`CONFIGURATION`] only: what is deployed.
    pub configuration: Option<String>,
    pub counts: Counts,
}

impl Deployment {
    /// The status that clients see at `now_ms`.
    pub const fn status_at(&self, now_ms: i64) -> Status {
        match self.status {
            Status::Pending if self.starts_ms > now_ms => Status::Scheduled,
            other => other,
        }
    }

    /// The deployment as clients see it.
    pub fn into_wire(
        self,
        phases: Vec<Phase>,
        artifacts: Vec<String>,
        groups: Vec<String>,
        now_ms: i64,
    ) -> wire::Deployment {
        let status = self.status_at(now_ms).as_str().to_owned();
        wire::Deployment {
            status,
            id: self.id,
            name: self.name,
            artifact_name: self.artifact_name,
            created: rfc3339(self.created_ms),
            finished: self.finished_ms.map(rfc3339),
            device_count: self.device_count,
            max_devices: (self.max_devices > 0).then_some(self.max_devices),
            artifacts,
            phases: phases
                .into_iter()
                .map(|phase| wire::Phase {
                    id: phase.id,
                    batch_size: phase.batch_size,
                    start_ts: Some(rfc3339(phase.starts_ms)),
                    device_count: phase.device_count,
                })
                .collect(),
            retries: self.retries,
            force_installation: self.force_installation,
            dynamic: self.dynamic,
            initial_device_count: self.dynamic.then_some(self.target_count),
            filter: self
                .filter
                .and_then(|text| serde_json::from_str(&text).ok()),
            groups: match self.group {
                Some(group) if groups.is_empty() => vec![group],
                _ => groups,
            },
            update_control_map: self
                .control_map
                .and_then(|text| serde_json::from_str(&text).ok()),
            configuration: self.configuration.as_deref().map(shortened),
            kind: self.kind,
            statistics: Some(wire::DeploymentStatistics {
                status: self.counts.into_wire(),
                total_size: self.total_size_bytes,
            }),
        }
    }
}

/// A configuration as operators see it: the keys, and no more than the beginnings of the values, for
/// they may be secrets.
fn shortened(configuration: &str) -> String {
    const SHOWN_CHARS: usize = 3;
    let cut = |text: &str| -> String {
        if text.chars().count() <= SHOWN_CHARS {
            return text.to_owned();
        }
        let start: String = text.chars().take(SHOWN_CHARS).collect();
        format!("{start}...<omitted>")
    };
    match serde_json::from_str::<Value>(configuration) {
        Ok(Value::Object(map)) => {
            let shown: Map<String, Value> = map
                .into_iter()
                .map(|(key, value)| match value {
                    Value::String(text) => (key, Value::String(cut(&text))),
                    other => (key, Value::String(cut(&other.to_string()))),
                })
                .collect();
            Value::Object(shown).to_string()
        }
        _ => cut(configuration),
    }
}

/// What a user sees whose roles are limited to groups.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Visible {
    pub groups: Vec<String>,
    /// Single devices besides those of the groups.
    pub devices: Vec<String>,
}

/// Which deployments a list shows.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Filter {
    pub status: Option<Status>,
    /// Part of the name or of the artifact's name, in any case.
    pub search: Option<String>,
    /// Inclusive.
    pub created_before_s: Option<i64>,
    /// Inclusive.
    pub created_after_s: Option<i64>,
    pub kind: Option<String>,
    pub names: Vec<String>,
    pub ids: Vec<String>,
    /// Oldest first.
    pub ascending: bool,
    /// `None`: everything.
    pub groups: Option<Visible>,
}

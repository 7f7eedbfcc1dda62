//! Exactly what must survive a power cut.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::{effect::Adoption, step::Step};

/// Saves of one deployment after which it counts as looping and is ended (reference client: 28).
pub const SAVES_MAX: u32 = 28;

/// Restarts in a row that may interrupt a download which makes no headway.
pub const STALLS_MAX: u32 = 10;

/// Restarts that one deployment may see while it is held. A hold may be long, so they are no sign of a loop; but nothing
/// goes on for ever.
pub const HELD_RESTARTS_MAX: u32 = 1000;

/// Marks an artifact name whose software may be neither the old nor the new one.
pub const INCONSISTENT_SUFFIX: &str = "_INCONSISTENT";

/// Longest stored reason, in characters: the server's limit on a `substate`.
pub const REASON_CHARS_MAX: usize = ambidex_wire::deployments::SUBSTATE_CHARS_MAX;

/// What the verified header of the artifact says.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Facts {
    pub artifact_name: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub artifact_group: Option<String>,
    /// `None`: an artifact without payload, which only changes name and provides.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub payload_type: Option<String>,
    /// `artifact_provides` of the type-info; `None` when it has none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub provides: Option<BTreeMap<String, String>>,
    /// `clears_artifact_provides`; `None` when the type-info has none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub clears: Option<Vec<String>>,
}

/// Who reboots the device.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reboot {
    #[default]
    No,
    /// The module does, in ArtifactReboot.
    Custom,
    /// The agent does.
    Automatic,
}

/// How the way back went.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Undo {
    /// Nothing to undo so far, or nothing that a restart of the deployment would not overwrite.
    #[default]
    NotNeeded,
    /// The update failed and was not (yet) undone.
    Missing,
    /// ArtifactRollback is under way or done without a fault so far.
    Clean,
    /// Something on the way back failed.
    Faulty,
}

/// How the deployment ended, as far as it is settled.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// Committed; the new name and provides are stored.
    Success,
    /// The old software runs, unchanged.
    Untouched,
    /// Failed without a clean way back.
    Inconsistent,
    /// Committed, but ArtifactCommit_Leave failed: the new software runs, its last step is missing.
    CommittedFaulty,
}

/// The durable state of one deployment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    pub deployment_id: String,
    /// Where the artifact comes from.
    pub uri: String,
    pub step: Step,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub facts: Option<Facts>,
    #[serde(default)]
    pub reboot: Reboot,
    #[serde(default)]
    pub rollback_reboot: Reboot,
    #[serde(default)]
    pub undo: Undo,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub verdict: Option<Verdict>,
    /// The first thing that went wrong, for the final report.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// How often this record was saved; see [`SAVES_MAX`].
    #[serde(default)]
    pub saves: u32,
    /// The furthest checkpoint at which a restart has found the download.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub furthest: Option<u64>,
    /// Restarts since then; see [`STALLS_MAX`].
    #[serde(default, skip_serializing_if = "is_zero")]
    pub stalls: u32,
    /// Restarts while the deployment was held; see [`HELD_RESTARTS_MAX`].
    #[serde(default, skip_serializing_if = "is_zero")]
    pub held_restarts: u32,
    /// The boot of the system in which this was saved, as the system names it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub boot: Option<String>,
    /// The agent was asked to stop here and did so in good order.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub stopped: bool,
    /// Not stored: this record was read from disk after its commit.
    #[serde(skip)]
    pub(crate) committed_on_disk: bool,
}

impl Record {
    #[must_use]
    pub fn new(deployment_id: impl Into<String>, uri: impl Into<String>) -> Self {
        Self {
            deployment_id: deployment_id.into(),
            uri: uri.into(),
            step: Step::ReportDownloading,
            facts: None,
            reboot: Reboot::No,
            rollback_reboot: Reboot::No,
            undo: Undo::NotNeeded,
            verdict: None,
            reason: None,
            saves: 0,
            furthest: None,
            stalls: 0,
            held_restarts: 0,
            boot: None,
            stopped: false,
            committed_on_disk: false,
        }
    }

    /// A record of which only these parts could be read; recovery rolls back.
    #[must_use]
    pub fn salvaged(deployment_id: impl Into<String>, facts: Option<Facts>, saves: u32) -> Self {
        Self {
            step: Step::Unknown,
            facts,
            saves,
            undo: Undo::Missing,
            reason: Some("the record of the deployment was damaged".into()),
            ..Self::new(deployment_id, "")
        }
    }

    /// Whether there is a payload handler to call.
    #[must_use]
    pub fn has_payload(&self) -> bool {
        self.facts
            .as_ref()
            .is_some_and(|facts| facts.payload_type.is_some())
    }

    /// What the verdict does to name, group and provides.
    #[must_use]
    pub fn adoption(&self) -> Adoption {
        match self.verdict {
            Some(Verdict::Success) => Adoption::Adopt,
            Some(Verdict::CommittedFaulty) => Adoption::AdoptInconsistent,
            Some(Verdict::Inconsistent) => Adoption::NameInconsistent,
            Some(Verdict::Untouched) | None => Adoption::Keep,
        }
    }

    /// Notes that a restart found the download at this checkpoint; whether it may be taken up once more.
    ///
    /// Headway ends the count of restarts, and an artifact has an end: so does a device that dies for ever.
    pub(crate) fn may_go_on_from(&mut self, checkpoint: u64) -> bool {
        if self.furthest.is_none_or(|furthest| checkpoint > furthest) {
            self.furthest = Some(checkpoint);
            self.stalls = 0;
        } else {
            self.stalls = self.stalls.saturating_add(1);
        }
        self.stalls < STALLS_MAX
    }

    pub(crate) fn blame(&mut self, reason: &str) {
        if self.reason.is_none() {
            self.reason = Some(reason.chars().take(REASON_CHARS_MAX).collect());
        }
    }
}

#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "the shape that serde asks for"
)]
fn is_zero(count: &u32) -> bool {
    *count == 0
}

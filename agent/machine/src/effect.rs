//! What the machine asks of the runner, and what the runner answers.

use ambidex_wire::deployments::DeviceStatus;
use serde::{Deserialize, Serialize};

use crate::record::{Facts, Reboot};

/// A state that has state scripts and belongs to a deployment (Idle and Sync belong to the poll loop).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ScriptState {
    Download,
    ArtifactInstall,
    ArtifactReboot,
    ArtifactCommit,
    ArtifactRollback,
    ArtifactRollbackReboot,
    ArtifactFailure,
}

impl ScriptState {
    /// The first part of a script's file name.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Download => "Download",
            Self::ArtifactInstall => "ArtifactInstall",
            Self::ArtifactReboot => "ArtifactReboot",
            Self::ArtifactCommit => "ArtifactCommit",
            Self::ArtifactRollback => "ArtifactRollback",
            Self::ArtifactRollbackReboot => "ArtifactRollbackReboot",
            Self::ArtifactFailure => "ArtifactFailure",
        }
    }
}

/// When in its state a script runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Action {
    Enter,
    Leave,
    Error,
}

impl Action {
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Enter => "Enter",
            Self::Leave => "Leave",
            Self::Error => "Error",
        }
    }
}

/// A call of the payload handler that is not a question.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Call {
    Install,
    Reboot,
    VerifyReboot,
    Commit,
    Rollback,
    RollbackReboot,
    VerifyRollbackReboot,
    Failure,
    /// Also removes the tree; must succeed when there is nothing (left) to clean.
    Cleanup,
}

impl Call {
    /// The name of the call in the update-module protocol.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Install => "ArtifactInstall",
            Self::Reboot => "ArtifactReboot",
            Self::VerifyReboot => "ArtifactVerifyReboot",
            Self::Commit => "ArtifactCommit",
            Self::Rollback => "ArtifactRollback",
            Self::RollbackReboot => "ArtifactRollbackReboot",
            Self::VerifyRollbackReboot => "ArtifactVerifyRollbackReboot",
            Self::Failure => "ArtifactFailure",
            Self::Cleanup => "Cleanup",
        }
    }
}

/// A place at which a deployment may be held: by the maintenance window, or because somebody's consent is missing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Gate {
    /// Before anything is done. The poll loop stands there, not the machine.
    Download,
    Install,
    Reboot,
    Commit,
}

impl Gate {
    pub const ALL: [Self; 4] = [Self::Download, Self::Install, Self::Reboot, Self::Commit];

    /// The word in configuration and answers.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Download => "download",
            Self::Install => "install",
            Self::Reboot => "reboot",
            Self::Commit => "commit",
        }
    }

    /// What the server is told of a deployment that is held here.
    #[must_use]
    pub const fn status(self) -> DeviceStatus {
        match self {
            Self::Download => DeviceStatus::Pending,
            Self::Install => DeviceStatus::PauseBeforeInstalling,
            Self::Reboot => DeviceStatus::PauseBeforeRebooting,
            Self::Commit => DeviceStatus::PauseBeforeCommitting,
        }
    }
}

/// How hard a status report is tried.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Insistence {
    /// One attempt. Answers: `Done`, `Aborted` (409), `Failed` for anything else.
    Once,
    /// With backoff until the server has taken it. Answers: `Done`, `Aborted`, `Failed` when given up, `Stopped`.
    UntilAccepted,
}

/// What becomes of artifact name, group and provides. Applying one twice equals applying it once.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Adoption {
    Keep,
    /// New name, group and provides, by the artifact's clears rules.
    Adopt,
    /// The same, with the name marked as inconsistent.
    AdoptInconsistent,
    /// New name marked as inconsistent, new group; the provides stay as they are.
    NameInconsistent,
}

/// How a deployment ends towards the server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Conclusion {
    /// `Success` or `Failure`.
    pub status: DeviceStatus,
    /// Why it failed.
    pub reason: Option<String>,
    pub adoption: Adoption,
}

/// One thing to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Effect {
    /// Make the record durable. Silent.
    Save,
    /// Make the record durable and change name, group and provides, in one atomic save. Silent. A failed save
    /// changes nothing: [`Effect::Conclude`] carries the change again.
    Settle(Adoption),
    /// Forget the API token, so that the next report needs a fresh login. Silent.
    DropToken,
    /// Report a status. See [`Insistence`].
    Report(DeviceStatus, Insistence),
    /// Run the state scripts of one state and action. `Done`, `Failed`, `Stopped` (while waiting to retry).
    Scripts(ScriptState, Action),
    /// Wait until the deployment may pass; at once where nothing holds it. `Done`, `Stopped`, `Aborted`, or `Failed`
    /// when somebody at the device does not want it.
    Hold(Gate),
    /// Fetch, verify and check the header. `Opened`, `Failed`, `Stopped`, `Aborted`.
    Open,
    /// Stream the payload to its handler. `Done`, `Failed`, `Stopped`, `Aborted`.
    Stream,
    /// `Done` or `Failed`.
    Call(Call),
    /// NeedsArtifactReboot. `RebootNeed` or `Failed`.
    AskReboot,
    /// SupportsRollback. `CanRollBack` or `Failed`.
    AskRollback,
    /// What must hold right before the commit besides contact to the server: the scripts' format version, a local
    /// health check if there is one. `Done` or `Failed`.
    CheckReadiness,
    /// Reboot the device. Does not return; when it does: `Done` (a reboot command that did nothing; the
    /// verification finds out) or `Failed`.
    RebootSystem,
    /// In one atomic save: clear the record, change name, group and provides, queue the final status. `Done` or `SaveFailed`.
    Conclude(Conclusion),
    /// Clear the record without a final status: the server offers the deployment again. `Done` or `SaveFailed`.
    Forget,
}

impl Effect {
    /// Whether the effect has no event of its own (but see [`Event::SaveFailed`]).
    #[must_use]
    pub const fn is_silent(&self) -> bool {
        matches!(self, Self::Save | Self::Settle(_) | Self::DropToken)
    }
}

/// The outcome of the last effect of a list, or of a save that failed before it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    Done,
    Failed(String),
    SaveFailed(String),
    Opened(Facts),
    RebootNeed(Reboot),
    CanRollBack(bool),
    /// The server has aborted the deployment (409).
    Aborted,
    /// The agent was asked to stop; the effect was given up in good order.
    Stopped,
}

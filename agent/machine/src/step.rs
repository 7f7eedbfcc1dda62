//! Where a deployment stands: fine steps for the order of calls, coarse phases for what is durable.

use serde::{Deserialize, Serialize};

/// One position in the order of calls. Names follow the reference client's states.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Step {
    ReportDownloading,
    /// Cleans up what the interrupted download left with its handler, before it is taken up.
    Restart,
    /// Asks, by its status, whether the server still wants the deployment whose download is taken up.
    ReportRestarted,
    DownloadEnter,
    Open,
    Stream,
    DownloadLeave,
    DownloadError,
    HoldInstall,
    ReportInstalling,
    InstallEnter,
    Install,
    InstallLeave,
    InstallError,
    AskReboot,
    HoldReboot,
    ReportRebooting,
    RebootEnter,
    Reboot,
    VerifyReboot,
    RebootLeave,
    RebootError,
    HoldCommit,
    ReportCommitting,
    CommitEnter,
    CheckReadiness,
    Commit,
    CommitError,
    CommitLeave,
    CommitLeaveError,
    AskRollback,
    RollbackEnter,
    Rollback,
    RollbackLeave,
    /// `ArtifactRollback_Leave` after a failed rollback: no rollback reboot follows.
    RollbackLeaveFailed,
    AskRollbackReboot,
    RollbackRebootEnter,
    RollbackReboot,
    VerifyRollbackReboot,
    RollbackRebootLeave,
    RollbackRebootError,
    FailureEnter,
    Failure,
    FailureLeave,
    Cleanup,
    Conclude,
    /// Tells the result that could not be queued.
    ReportFinal,
    /// Cleans up a download that a clean stop interrupted; the server offers it again.
    Discard,
    Forget,
    Done,
    /// A step that this version does not know (a record of another version, or a damaged one).
    #[serde(other)]
    Unknown,
}

/// What a restart finds: the last part of the flow of which anything may have happened.
///
/// | phase | durable before | a crash here means | after a restart |
/// |---|---|---|---|
/// | `Announced` | never saved | nothing happened; the server offers the deployment again | – |
/// | `Download` | Download_Enter | the inactive slot or the module's tree may be half written | with a checkpoint: Cleanup, then the download goes on; without: Cleanup, `failure` (clean stop: Cleanup, offered again) |
/// | `Ready` | the hold before the installation | the payload is in place, nothing is active | the hold again |
/// | `Install` | ArtifactInstall_Enter | the update may be partly active, a trial boot may be armed | rollback |
/// | `Armed` | the hold before the reboot | only the agent died, or the reboot happened early | the hold again, or as `Reboot` |
/// | `Reboot` | ArtifactReboot_Enter | the reboot happened or not; verification tells | ArtifactVerifyReboot, the normal path |
/// | `Verify` | ArtifactVerifyReboot | the new software failed its trial | rollback |
/// | `Trial` | the hold before the commit | the new software is on trial and was verified | verified again after a boot, then the hold again |
/// | `Contact` | the pre-commit report | the new software failed its trial | rollback (clean stop: verified again) |
/// | `Commit` | ArtifactCommit_Enter | the commit may have happened, nobody was told | rollback |
/// | `Committed` | after ArtifactCommit | the commit happened | ArtifactCommit_Leave again, `success` |
/// | `Unwind` | any Error action | the update failed, rollback not begun | asks for rollback support |
/// | `Rollback` | ArtifactRollback_Enter | rollback may be half done | the rollback again from its start |
/// | `RollbackReboot`, `VerifyRollback` | rollback reboot, its verification | the old software may run or not | ArtifactVerifyRollbackReboot |
/// | `Failure` | ArtifactFailure_Enter | | ArtifactFailure again |
/// | `Cleanup` | Cleanup, with verdict and provides | the tree may be gone | Cleanup again, the verdict stands |
/// | `Discard` | Cleanup of a stopped download | | Cleanup again, offered again |
/// | `Unknown` | | the record is from another version | rollback |
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Phase {
    Announced,
    Download,
    Ready,
    Install,
    Armed,
    Reboot,
    Verify,
    Trial,
    Contact,
    Commit,
    Committed,
    Unwind,
    Rollback,
    RollbackReboot,
    VerifyRollback,
    Failure,
    Cleanup,
    Discard,
    Over,
    Unknown,
}

impl Step {
    /// Every step, so that tests can prove that none is forgotten.
    pub const ALL: [Self; 51] = [
        Self::ReportDownloading,
        Self::Restart,
        Self::ReportRestarted,
        Self::DownloadEnter,
        Self::Open,
        Self::Stream,
        Self::DownloadLeave,
        Self::DownloadError,
        Self::HoldInstall,
        Self::ReportInstalling,
        Self::InstallEnter,
        Self::Install,
        Self::InstallLeave,
        Self::InstallError,
        Self::AskReboot,
        Self::HoldReboot,
        Self::ReportRebooting,
        Self::RebootEnter,
        Self::Reboot,
        Self::VerifyReboot,
        Self::RebootLeave,
        Self::RebootError,
        Self::HoldCommit,
        Self::ReportCommitting,
        Self::CommitEnter,
        Self::CheckReadiness,
        Self::Commit,
        Self::CommitError,
        Self::CommitLeave,
        Self::CommitLeaveError,
        Self::AskRollback,
        Self::RollbackEnter,
        Self::Rollback,
        Self::RollbackLeave,
        Self::RollbackLeaveFailed,
        Self::AskRollbackReboot,
        Self::RollbackRebootEnter,
        Self::RollbackReboot,
        Self::VerifyRollbackReboot,
        Self::RollbackRebootLeave,
        Self::RollbackRebootError,
        Self::FailureEnter,
        Self::Failure,
        Self::FailureLeave,
        Self::Cleanup,
        Self::Conclude,
        Self::ReportFinal,
        Self::Discard,
        Self::Forget,
        Self::Done,
        Self::Unknown,
    ];

    /// Whether the time of the deployment counts here, and its end fails the step. Not while it is held, not once a
    /// reboot or the commit is under way, not on the way back.
    #[must_use]
    pub const fn may_be_given_up(self) -> bool {
        matches!(
            self,
            Self::ReportRestarted
                | Self::DownloadEnter
                | Self::Open
                | Self::Stream
                | Self::DownloadLeave
                | Self::InstallEnter
                | Self::Install
                | Self::InstallLeave
                | Self::AskReboot
                | Self::RebootEnter
                | Self::VerifyReboot
                | Self::RebootLeave
                | Self::ReportCommitting
                | Self::CommitEnter
                | Self::CheckReadiness
        )
    }

    /// The phase that must be durable before this step's effect may run.
    #[must_use]
    pub const fn phase(self) -> Phase {
        match self {
            Self::ReportDownloading => Phase::Announced,
            Self::Restart
            | Self::ReportRestarted
            | Self::DownloadEnter
            | Self::Open
            | Self::Stream
            | Self::DownloadLeave
            | Self::DownloadError => Phase::Download,
            Self::HoldInstall | Self::ReportInstalling => Phase::Ready,
            Self::InstallEnter | Self::Install | Self::InstallLeave | Self::AskReboot => {
                Phase::Install
            }
            Self::HoldReboot | Self::ReportRebooting => Phase::Armed,
            Self::RebootEnter | Self::Reboot => Phase::Reboot,
            Self::VerifyReboot | Self::RebootLeave => Phase::Verify,
            Self::HoldCommit => Phase::Trial,
            Self::ReportCommitting => Phase::Contact,
            Self::CommitEnter | Self::CheckReadiness | Self::Commit => Phase::Commit,
            Self::CommitLeave | Self::CommitLeaveError => Phase::Committed,
            Self::InstallError | Self::RebootError | Self::CommitError | Self::AskRollback => {
                Phase::Unwind
            }
            Self::RollbackEnter
            | Self::Rollback
            | Self::RollbackLeave
            | Self::RollbackLeaveFailed
            | Self::AskRollbackReboot => Phase::Rollback,
            Self::RollbackRebootEnter | Self::RollbackReboot => Phase::RollbackReboot,
            Self::VerifyRollbackReboot | Self::RollbackRebootLeave | Self::RollbackRebootError => {
                Phase::VerifyRollback
            }
            Self::FailureEnter | Self::Failure | Self::FailureLeave => Phase::Failure,
            Self::Cleanup => Phase::Cleanup,
            Self::Discard => Phase::Discard,
            Self::Conclude | Self::ReportFinal | Self::Forget | Self::Done => Phase::Over,
            Self::Unknown => Phase::Unknown,
        }
    }
}

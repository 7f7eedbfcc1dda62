//! The calls of the update-module protocol, whoever answers them (agent-behaviour section 5.1).

use std::path::PathBuf;

use ambidex_artifact::ROOTFS_IMAGE;
use ambidex_delta::ROOTFS_DELTA;
use ambidex_platform::fs::FsError;
use ambidex_platform::process::ProcessError;

use crate::boot::BootError;
use crate::context::InstallContext;
use crate::module::ModuleHandler;
use crate::rootfs::RootfsHandler;

/// Whether, and by whom, the device is restarted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reboot {
    /// No restart.
    No,
    /// The handler restarts what has to be restarted in its `reboot` call.
    Custom,
    /// The agent restarts the device.
    Automatic,
}

/// Why a call failed.
#[derive(Debug, thiserror::Error)]
pub enum HandlerError {
    /// There is no module for the payload type.
    #[error(
        "no update module for payload type {payload_type}: {path} does not exist or is not executable; install it, or use an artifact of another type",
        path = .path.display()
    )]
    NoModule {
        /// The payload type.
        payload_type: String,
        /// Where the module was looked for.
        path: PathBuf,
    },
    /// The module ended with an error, or in time.
    #[error("update module {payload_type}: {call} {outcome}")]
    Failed {
        /// The payload type.
        payload_type: String,
        /// The call.
        call: &'static str,
        /// How it ended.
        outcome: String,
    },
    /// The module does not keep to the protocol.
    #[error("update module {payload_type}: {call}: {problem}")]
    Protocol {
        /// The payload type.
        payload_type: String,
        /// The call.
        call: &'static str,
        /// What is wrong.
        problem: String,
    },
    /// The program could not be run.
    #[error(transparent)]
    Process(#[from] ProcessError),
    /// A file could not be read or written.
    #[error(transparent)]
    Fs(#[from] FsError),
    /// The bootloader's variables could not be read or written.
    #[error(transparent)]
    Boot(#[from] BootError),
    /// The device is not, or not yet, in the state that the call needs.
    #[error("{0}")]
    State(String),
    /// The configuration does not allow the call.
    #[error("{0}")]
    Configuration(String),
}

/// Whether a payload of this type becomes the root file system of a slot.
#[must_use]
pub fn is_rootfs(payload_type: &str) -> bool {
    [ROOTFS_IMAGE, ROOTFS_DELTA].contains(&payload_type)
}

/// Installs one payload. Every call may be repeated after a power cut.
#[derive(Debug, Clone)]
pub enum Handler {
    /// The built-in handler of root file system images.
    Rootfs(RootfsHandler),
    /// An update module.
    Module(ModuleHandler),
}

macro_rules! forward {
    ($($(#[$doc:meta])* $name:ident -> $result:ty;)*) => {
        $(
            $(#[$doc])*
            ///
            /// # Errors
            /// When the call failed; what follows is decided by the state machine.
            pub async fn $name(&self) -> Result<$result, HandlerError> {
                match self {
                    Self::Rootfs(handler) => handler.$name().await,
                    Self::Module(handler) => handler.$name().await,
                }
            }
        )*
    };
}

impl Handler {
    /// The handler of a payload type, for a deployment that is already in progress (or, after a
    /// failed download, only to be cleaned up). Whether the module exists is seen at its first
    /// call: after a reboot the new system may lack it.
    ///
    /// # Errors
    /// When the type cannot be the name of a module.
    pub fn resume(payload_type: &str, context: &InstallContext) -> Result<Self, HandlerError> {
        if is_rootfs(payload_type)
            && !(context.rootfs_module && ModuleHandler::exists(payload_type, context))
        {
            return Ok(Self::Rootfs(RootfsHandler::new(context.clone())));
        }
        ModuleHandler::new(payload_type, context.clone()).map(Self::Module)
    }

    /// What a restart by the agent must be given as its argument (`"0 tryboot"` on a Raspberry Pi).
    ///
    /// # Errors
    /// When the boot loader is not there.
    pub fn reboot_argument(&self) -> Result<Option<&'static str>, HandlerError> {
        match self {
            Self::Rootfs(handler) => handler.reboot_argument(),
            Self::Module(_) => Ok(None),
        }
    }

    forward! {
        /// Makes the downloaded payload active or bootable (`ArtifactInstall`).
        install -> ();
        /// Asked after the installation and again after a rollback (`NeedsArtifactReboot`).
        needs_reboot -> Reboot;
        /// Restarts what has to be restarted, for [`Reboot::Custom`] (`ArtifactReboot`).
        reboot -> ();
        /// Checks that the new software runs (`ArtifactVerifyReboot`).
        verify_reboot -> ();
        /// Makes the update permanent (`ArtifactCommit`).
        commit -> ();
        /// Asked only after a failure, or by the standalone installation (`SupportsRollback`).
        supports_rollback -> bool;
        /// Goes back (`ArtifactRollback`).
        rollback -> ();
        /// Restarts into the old software, for [`Reboot::Custom`] (`ArtifactRollbackReboot`).
        rollback_reboot -> ();
        /// Checks that the old software runs (`ArtifactVerifyRollbackReboot`).
        verify_rollback_reboot -> ();
        /// Told that the update failed, after a rollback if there was one (`ArtifactFailure`).
        failure -> ();
        /// Removes what the installation left, last of all; the file tree goes whatever the
        /// module says (`Cleanup`).
        cleanup -> ();
    }
}

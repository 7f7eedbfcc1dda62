//! What the installer is told about the device, and how it tells of its progress.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crate::boot::BootConfig;

/// Free space that a payload stored as files must leave on the state's file system, for the
/// journal and the deployment log.
pub const RESERVE_BYTES: u64 = 1024 * 1024;

/// The device as the installer sees it. Cheap to clone.
#[derive(Debug, Clone)]
pub struct InstallContext {
    /// Update modules, one executable per payload type: `…/modules/v3`.
    pub modules_dir: PathBuf,
    /// The file tree of the deployment at work: `…/modules/v3/payloads/0000/tree`.
    pub work_dir: PathBuf,
    /// Where the artifact's state scripts go.
    pub scripts_dir: PathBuf,
    /// Time limit of one module call.
    pub module_timeout: Duration,
    /// Device type.
    pub device_type: String,
    /// Name of the artifact that is installed now.
    pub current_name: String,
    /// Group of the artifact that is installed now.
    pub current_group: Option<String>,
    /// The two root file systems.
    pub rootfs: RootfsConfig,
    /// Whether an executable `rootfs-image` (`rootfs-delta`) among the modules replaces the built-in handler.
    pub rootfs_module: bool,
    /// Free space to leave when payload files are stored.
    pub reserve_bytes: u64,
}

impl InstallContext {
    /// A context with the usual limits.
    pub fn new(
        modules_dir: impl Into<PathBuf>,
        work_dir: impl Into<PathBuf>,
        scripts_dir: impl Into<PathBuf>,
        device_type: impl Into<String>,
    ) -> Self {
        Self {
            modules_dir: modules_dir.into(),
            work_dir: work_dir.into(),
            scripts_dir: scripts_dir.into(),
            // agent-behaviour section 5.1
            module_timeout: Duration::from_secs(14_400),
            device_type: device_type.into(),
            current_name: "unknown".to_owned(),
            current_group: None,
            rootfs: RootfsConfig::default(),
            rootfs_module: false,
            reserve_bytes: RESERVE_BYTES,
        }
    }
}

/// The A/B pair and its bootloader.
#[derive(Debug, Clone, Default)]
pub struct RootfsConfig {
    /// Slot A: a device path, a `/dev/disk/by-…` link, or `PARTUUID=…` and the like.
    pub part_a: Option<PathBuf>,
    /// Slot B.
    pub part_b: Option<PathBuf>,
    /// Where the kernel tells of partitions, to find the slots by their names; `None`: the usual place.
    pub block_class: Option<PathBuf>,
    /// Where the bootloader keeps its variables.
    pub boot: BootConfig,
    /// The device (or a link to it) that holds the running root file system, where it cannot be
    /// recognised, for example below an overlay on an encrypted device.
    pub running_root: Option<PathBuf>,
    /// Reads the slot back after writing and compares checksums.
    pub verify_written: bool,
}

/// Told about payload bytes as they are written; called once per chunk (128 KiB), from the
/// installing thread.
pub trait Progress: Send + Sync {
    /// `done` of `size` bytes of the payload file `name` have been handed to the installer.
    fn payload(&self, name: &str, done: u64, size: u64);
}

/// Nobody is interested.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoProgress;

impl Progress for NoProgress {
    fn payload(&self, _name: &str, _done: u64, _size: u64) {}
}

/// Stops an installation that streams: set from any thread, looked at before every chunk and in
/// every wait.
#[derive(Debug, Clone, Default)]
pub struct CancelFlag(Arc<AtomicBool>);

impl CancelFlag {
    /// A flag that is not set.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Asks the installation to stop.
    pub fn cancel(&self) {
        self.0.store(true, Ordering::Release);
    }

    /// True once [`CancelFlag::cancel`] was called.
    #[must_use]
    pub fn is_cancelled(&self) -> bool {
        self.0.load(Ordering::Acquire)
    }
}

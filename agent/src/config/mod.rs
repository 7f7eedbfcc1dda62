//! The agent's configuration: one schema in two spellings.
//!
//! Owns: where the files are (`roots`), how they are read and merged (`load`), the keys
//! (`schema`), and the checks that turn them into a [`Config`] (`check`). Does not own: the state
//! directory's content. Read once at start; nothing here is changed while the agent runs.
//!
//! Source of the rules: reference agent, section 10; names of the native spelling: contract.

mod check;
mod device_type;
mod key_source;
mod load;
#[cfg(feature = "remote-terminal")]
mod mender_connect;
#[cfg(feature = "remote-terminal")]
mod remote;
mod remote_schema;
mod roots;
mod schema;
mod window;

use std::{path::PathBuf, time::Duration};

pub use ambidex_artifact::VerifyKey;
use ambidex_machine::Gate;

pub(crate) use check::parse_log_level;
pub use device_type::device_type;
pub use key_source::{KeySource, TokenUri};
pub use load::{Overrides, load, load_persistent};
pub use roots::{Roots, Spelling};
pub use window::Window;

/// Everything the agent may be told, checked and with defaults filled in.
#[derive(Debug, Clone)]
pub struct Config {
    /// Where configuration, data and state live.
    pub roots: Roots,
    /// The files that were read, in the order of their precedence (the last one wins).
    pub files: Vec<PathBuf>,
    /// Base URLs without a trailing slash, in the order in which they are tried. May be empty:
    /// standalone verbs need no server, the daemon refuses to start.
    pub servers: Vec<String>,
    pub tls: TlsConfig,
    /// Names the tenant on a multi-tenant server.
    pub tenant_token: Option<String>,
    /// `standard`, `system` or `micro`.
    pub device_tier: String,
    /// An identity key that is used as it is and never generated.
    pub auth_private_key: Option<KeySource>,
    /// The type of a key that the agent generates.
    pub key_type: KeyType,
    /// Public keys for artifacts. Not empty: a signature by one of them is required.
    pub verify_keys: Vec<VerifyKey>,
    /// The file with the one line `device_type=VALUE`.
    pub device_type_file: PathBuf,
    pub polls: PollConfig,
    pub http: HttpConfig,
    pub download: DownloadConfig,
    pub scripts: ScriptConfig,
    /// Limit of one update module call.
    pub module_timeout: Duration,
    /// The folder of the deployment logs.
    pub update_log_path: PathBuf,
    pub log_level: log::LevelFilter,
    /// The two root file system partitions, as written (may be links such as `/dev/disk/by-partlabel/…`).
    pub rootfs_part_a: Option<String>,
    pub rootfs_part_b: Option<String>,
    /// The device that holds the running root file system, where it cannot be recognised.
    pub running_root: Option<PathBuf>,
    /// Read a slot back after writing and compare checksums.
    pub verify_written: bool,
    /// An update module `rootfs-image` takes the place of the built-in handler.
    pub rootfs_module: bool,
    pub boot: BootConfig,
    /// Program and arguments that reboot the device; found in `PATH`.
    pub reboot_command: Vec<String>,
    /// How long a reboot may take before it counts as failed.
    pub reboot_timeout: Duration,
    pub commit: CommitConfig,
    /// When downloads, installations and reboots may begin; `None`: always.
    pub maintenance_window: Option<Window>,
    /// Where a deployment needs somebody's consent.
    pub consent_before: Vec<Gate>,
    /// Whether add-ons find the login on the message bus.
    pub dbus_login: bool,
    /// What remote access may do; `None` when it is off.
    #[cfg(feature = "remote-terminal")]
    pub remote: Option<ambidex_connect::Settings>,
}

/// How servers are authenticated, and this device to them by certificate.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TlsConfig {
    /// PEM files whose certificates are trusted in addition to the system's.
    pub server_certificates: Vec<PathBuf>,
    /// Accept any server certificate. For laboratories only.
    pub skip_verify: bool,
    /// Certificate chain and key for mutual TLS (PEM).
    pub client: Option<ClientCertificate>,
}

/// A certificate (PEM) with its key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClientCertificate {
    pub certificate: PathBuf,
    pub key: KeySource,
}

/// Type of a generated device key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum KeyType {
    /// What the reference agent generates since 5.0.
    #[default]
    Ed25519,
    EcdsaP256,
    /// RSA with 3072 bits, for servers that know nothing else.
    Rsa,
}

/// When the agent talks to the server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PollConfig {
    pub update_interval: Duration,
    pub inventory_interval: Duration,
    /// The first step of the backoff after an error.
    pub retry_interval_min: Duration,
    /// The cap of the backoff.
    pub retry_interval_max: Duration,
    /// Tries before the backoff gives up until the next regular poll; 0: three at every step.
    pub retry_count: u32,
}

/// Limits of every exchange with a server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HttpConfig {
    /// TCP and TLS handshake.
    pub connect_timeout: Duration,
    /// One whole API call.
    pub request_timeout: Duration,
    /// Longest silence in a download before it is taken up again.
    pub download_idle_timeout: Duration,
    /// Wait before a broken download is taken up again.
    pub download_retry_interval: Duration,
    /// Times one download may be taken up again in all.
    pub download_retry_count: u32,
}

/// How artifacts of deployments are downloaded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DownloadConfig {
    /// Keep what was received until the payload is in place.
    pub resume_after_restart: bool,
    /// Where it is kept; the directory is this agent's own.
    pub directory: PathBuf,
    /// So many bytes are made durable at a time: at most so many are received again after a power cut.
    pub checkpoint_bytes: u64,
    /// So much space has to stay free there.
    pub keep_free_bytes: u64,
    /// Bytes a second, if there is a limit.
    pub rate_limit: Option<u64>,
    /// How often the server is asked, in the middle of a download, whether the deployment was aborted.
    pub abort_check_interval: Duration,
}

/// Limits of state scripts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ScriptConfig {
    pub timeout: Duration,
    /// Wait after a script asked to be run again later (exit code 21).
    pub retry_interval: Duration,
    /// How long one script may go on asking.
    pub retry_timeout: Duration,
}

/// How the bootloader is spoken to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BootConfig {
    pub kind: BootKind,
    /// Folder of the two GRUB environment copies; `None`: the usual places are tried.
    pub env_dir: Option<PathBuf>,
    /// The file that says where the U-Boot environment is.
    pub fw_env_config: PathBuf,
    /// Mount points of the partition with `autoboot.txt` and of the EFI system partition; `None`: the usual places.
    pub autoboot_dir: Option<PathBuf>,
    pub esp: Option<PathBuf>,
    /// Numbers of the boot partitions of slot A and slot B, for the firmware of the Raspberry Pi.
    pub boot_parts: [u32; 2],
    /// Where that firmware tells of this boot, and where a prepared trial is noted; `None`: the usual places.
    pub firmware_dir: Option<PathBuf>,
    pub armed_file: Option<PathBuf>,
    /// The vendor's program.
    pub script: Option<PathBuf>,
    /// Program and arguments that bring a slot's boot files to their place.
    pub prepare_slot: Vec<String>,
}

/// The bootloader back end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum BootKind {
    /// Whatever is found on the device.
    #[default]
    Auto,
    Grub,
    Uboot,
    /// The reference agent's command line tools, found in `PATH`.
    Tools,
    /// The firmware of the Raspberry Pi.
    Tryboot,
    SystemdBoot,
    /// A program of the board's vendor.
    Script,
}

/// What must hold before a new system is made permanent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CommitConfig {
    /// The new software must have reached the server with a fresh login.
    pub server_contact: bool,
    /// A program that must end with exit code 0 on the new software.
    pub health_check: Option<Vec<String>>,
    pub health_check_timeout: Duration,
}

/// Why the configuration cannot be used. The text names the file, the key and the remedy.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    #[error("cannot read the configuration file '{}': {reason}", .file.display())]
    Unreadable { file: PathBuf, reason: String },
    #[error("the configuration file '{}' cannot be understood: {reason}", .file.display())]
    Syntax { file: PathBuf, reason: String },
    #[error("{origin}: the key '{key}' {reason}")]
    Key {
        origin: String,
        key: String,
        reason: String,
    },
}

//! The keys of the `[remote]` table. Every build takes them; one without remote access passes over them.

#![cfg_attr(
    not(feature = "remote-terminal"),
    expect(dead_code, reason = "nothing in this build has a use for them")
)]

use serde::Deserialize;

use super::schema::Seconds;

/// Remote access. Its defaults are in `config/remote.rs`.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct RawRemote {
    pub enabled: Option<bool>,
    pub user: Option<String>,
    pub shell: Option<String>,
    pub shell_arguments: Option<Vec<String>>,
    #[serde(default)]
    pub terminal: RawTerminal,
    #[serde(default)]
    pub sessions: RawSessions,
    #[serde(default)]
    pub file_transfer: RawFileTransfer,
    #[serde(default)]
    pub port_forward: RawPortForward,
    #[serde(default)]
    pub commands: RawSwitch,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct RawTerminal {
    pub enabled: Option<bool>,
    pub width: Option<u16>,
    pub height: Option<u16>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct RawSessions {
    pub max_per_user: Option<usize>,
    pub expire_after_seconds: Option<Seconds>,
    pub expire_after_idle_seconds: Option<Seconds>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct RawSwitch {
    pub enabled: Option<bool>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct RawPortForward {
    pub enabled: Option<bool>,
    pub targets: Option<Vec<String>>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct RawFileTransfer {
    pub enabled: Option<bool>,
    #[serde(default)]
    pub limits: RawFileLimits,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct RawFileLimits {
    pub enabled: Option<bool>,
    pub chroot: Option<String>,
    pub follow_symlinks: Option<bool>,
    pub allow_overwrite: Option<bool>,
    pub allow_suid: Option<bool>,
    pub owner_get: Option<Vec<String>>,
    pub group_get: Option<Vec<String>>,
    pub owner_put: Option<String>,
    pub group_put: Option<String>,
    /// Octal.
    pub umask: Option<String>,
    pub max_file_size: Option<u64>,
    pub max_bytes_tx_per_minute: Option<u64>,
    pub max_bytes_rx_per_minute: Option<u64>,
}

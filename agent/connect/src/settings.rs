//! What remote access may do. Plain data; the defaults are the reference's where they are safe.

use std::path::PathBuf;
use std::time::Duration;

use ambidex_platform::account::{self, Account};
use ambidex_wire::session::{PROTO_CLIENT, PROTO_FILE, PROTO_FORWARD, PROTO_SHELL};

pub use crate::targets::{NoTarget, Target, Targets};

/// Everything remote access may be told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// Shells.
    pub terminal: Terminal,
    /// How many sessions, for how long.
    pub sessions: Sessions,
    /// Files.
    pub file_transfer: FileTransfer,
    /// Connections that may be forwarded.
    pub port_forward: PortForward,
    /// Whether a user may trigger the update daemon.
    pub commands: bool,
    /// A directory of this agent's own for what must survive a power cut.
    pub state: PathBuf,
    /// Waits; others than the default are for tests.
    pub times: Times,
}

/// Shells.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Terminal {
    /// Whether they are offered.
    pub enabled: bool,
    /// In whose name they run. Without one there are none.
    pub user: Option<String>,
    /// The program; a login shell of this system.
    pub shell: String,
    /// Its arguments; `None`: those of a login shell.
    pub arguments: Option<Vec<String>>,
    /// Columns and rows where the user's side does not say.
    pub size: (u16, u16),
}

/// Forwarded connections.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PortForward {
    /// Whether there are any.
    pub enabled: bool,
    /// Where they may lead.
    pub targets: Targets,
}

/// Limits of shell sessions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sessions {
    /// Shells of one user at a time.
    pub max_per_user: usize,
    /// Since the start of a shell; counts only where `expire_after_idle` is not given.
    pub expire_after: Option<Duration>,
    /// Since the user's last input.
    pub expire_after_idle: Option<Duration>,
}

/// Files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileTransfer {
    /// Whether they may be copied at all.
    pub enabled: bool,
    /// What is allowed.
    pub limits: FileLimits,
}

/// What is allowed with files. Without limits everything is, but files that run as somebody else.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct FileLimits {
    /// Whether the limits count; `allow_suid` always does.
    pub enabled: bool,
    /// The directory that no path leads out of.
    pub chroot: Option<PathBuf>,
    /// Symbolic links on the way are followed.
    pub follow_symlinks: bool,
    /// An existing file may be replaced.
    pub allow_overwrite: bool,
    /// A file may be stored with the set-user-id or set-group-id bit.
    pub allow_suid: bool,
    /// Only files of one of these users may be read; empty: of anybody.
    pub owner_get: Vec<String>,
    /// Only files of one of these groups may be read.
    pub group_get: Vec<String>,
    /// Files belong to this user, whatever was asked.
    pub owner_put: Option<String>,
    /// Files belong to this group, whatever was asked.
    pub group_put: Option<String>,
    /// Permissions that files never get.
    pub umask: u32,
    /// Bytes of one file; 0: any.
    pub max_file_size: u64,
    /// Bytes a minute from the device, all sessions together; 0: any.
    pub tx_bytes_per_minute: u64,
    /// Bytes a minute to the device, all sessions together; 0: any.
    pub rx_bytes_per_minute: u64,
}

/// Waits of the protocol (remote-terminal facts, sections 4, 5, 7 and 8).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Times {
    /// Silence of a session's user before they are asked for a sign of life.
    pub session_ping: Duration,
    /// And after that, before the session ends.
    pub session_patience: Duration,
    /// Between questions whether the user of a shell is there. Half of the reference's, so that one lost
    /// question is no lost shell.
    pub shell_ping: Duration,
    /// Silence of the user after which a shell ends.
    pub shell_silence: Duration,
    /// Silence of the server before it is asked for a sign of life. Above the 30 s after which the reference's
    /// asks, below the 54 s after which the reference's device does.
    pub socket_ping: Duration,
    /// Silence of the server after which the connection counts as dead.
    pub socket_silence: Duration,
    /// How long the server may take nothing. Longer than a server waits for a slow user.
    pub write_stall: Duration,
    /// Silence after which a forwarded connection ends.
    pub forward_idle: Duration,
    /// How long a forwarded connection may take to be made.
    pub forward_connect: Duration,
    /// Between telling a shell to end and killing it.
    pub shell_grace: Duration,
}

impl Default for Times {
    fn default() -> Times {
        let seconds = Duration::from_secs;
        Times {
            session_ping: seconds(48),
            session_patience: seconds(12),
            shell_ping: seconds(30),
            shell_silence: seconds(65),
            socket_ping: seconds(45),
            socket_silence: seconds(60),
            write_stall: seconds(30),
            forward_idle: seconds(600),
            forward_connect: seconds(20),
            shell_grace: seconds(2),
        }
    }
}

impl Settings {
    /// Everything on, in the name of `user`, with what must survive below `state`.
    #[must_use]
    pub fn new(user: Option<String>, state: PathBuf) -> Settings {
        Settings {
            terminal: Terminal {
                enabled: true,
                user,
                shell: "/bin/sh".to_owned(),
                arguments: None,
                size: (80, 40),
            },
            sessions: Sessions {
                max_per_user: 1,
                expire_after: None,
                expire_after_idle: Some(Duration::from_secs(600)),
            },
            file_transfer: FileTransfer {
                enabled: true,
                limits: FileLimits::default(),
            },
            port_forward: PortForward {
                enabled: true,
                targets: Targets::default(),
            },
            commands: true,
            state,
            times: Times::default(),
        }
    }

    /// The protocols that are served now: what is switched on, shells only where one could start.
    #[must_use]
    pub fn protocols(&self) -> Vec<u16> {
        [
            (PROTO_SHELL, self.terminal.account().is_ok()),
            (PROTO_FILE, self.file_transfer.enabled),
            (PROTO_FORWARD, self.port_forward.enabled),
            (PROTO_CLIENT, self.commands),
        ]
        .into_iter()
        .filter_map(|(proto, on)| on.then_some(proto))
        .collect()
    }
}

/// Why there are no shells.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum NoShell {
    /// Switched off.
    #[error("the terminal is switched off on this device")]
    Disabled,
    /// Nobody to run as.
    #[error("no user is configured for the terminal: set remote.user")]
    NoUser,
    /// Not a user of this device.
    #[error("the user '{0}' (remote.user) does not exist on this device")]
    UnknownUser(String),
    /// Another name for root.
    #[error(
        "the user '{0}' (remote.user) has the rights of root; say so with remote.user = \"root\""
    )]
    HiddenRoot(String),
    /// The agent is neither root nor that user.
    #[error("the agent may not start programs as '{0}' (remote.user): run it as root")]
    NotAllowed(String),
    /// The user database failed.
    #[error("the user '{0}' (remote.user) cannot be looked up: {1}")]
    Lookup(String, String),
    /// Not a shell of this system.
    #[error(
        "'{0}' (remote.shell) is no login shell of this device: it must be listed in /etc/shells"
    )]
    NotAShell(String),
}

impl Terminal {
    /// In whose name a shell would run.
    ///
    /// # Errors
    /// [`NoShell`], with the remedy.
    pub fn account(&self) -> Result<Account, NoShell> {
        if !self.enabled {
            return Err(NoShell::Disabled);
        }
        let user = self.user.as_deref().filter(|user| !user.is_empty());
        let user = user.ok_or(NoShell::NoUser)?;
        let found = Account::lookup(user)
            .map_err(|error| NoShell::Lookup(user.to_owned(), error.to_string()))?;
        let account = found.ok_or_else(|| NoShell::UnknownUser(user.to_owned()))?;
        if account.is_root() && user != "root" {
            return Err(NoShell::HiddenRoot(user.to_owned()));
        }
        if !account.can_be_assumed() {
            return Err(NoShell::NotAllowed(user.to_owned()));
        }
        if !account::is_login_shell(&self.shell) {
            return Err(NoShell::NotAShell(self.shell.clone()));
        }
        Ok(account)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shell_needs_a_user_who_exists() {
        let terminal = |user: Option<&str>| Terminal {
            user: user.map(str::to_owned),
            ..Settings::new(None, PathBuf::new()).terminal
        };
        assert_eq!(terminal(None).account(), Err(NoShell::NoUser));
        assert_eq!(terminal(Some("")).account(), Err(NoShell::NoUser));
        let unknown = terminal(Some("no-such-user-here")).account().unwrap_err();
        assert!(
            unknown.to_string().contains("no-such-user-here"),
            "{unknown}"
        );
        let mut off = terminal(Some("root"));
        off.enabled = false;
        assert_eq!(off.account(), Err(NoShell::Disabled));
        if account::is_root() {
            assert!(terminal(Some("root")).account().unwrap().is_root());
            let mut wrong = terminal(Some("root"));
            wrong.shell = "/usr/bin/id".to_owned();
            assert!(matches!(wrong.account(), Err(NoShell::NotAShell(_))));
        }
    }

    #[test]
    fn only_what_is_on_is_offered() {
        let mut settings = Settings::new(None, PathBuf::new());
        assert_eq!(settings.protocols(), [2, 3, 4]);
        settings.file_transfer.enabled = false;
        settings.commands = false;
        assert_eq!(settings.protocols(), [3]);
    }
}

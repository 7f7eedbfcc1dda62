//! Restarting the device, and knowing whether it was restarted.

use std::path::Path;
use std::time::Duration;

use crate::fs::{self, FsError};
use crate::process::{self, Command, ProcessError};

/// How long the process may stay alive after a reboot command that succeeded; by then the init
/// system has stopped it on any healthy device (agent-behaviour section 3.3).
pub const REBOOT_WAIT: Duration = Duration::from_secs(600);

/// Why the device did not restart.
#[derive(Debug, thiserror::Error)]
pub enum RebootError {
    /// No command is configured.
    #[error("no reboot command is configured; set reboot_command")]
    NoCommand,
    /// The command could not be run.
    #[error("cannot restart the device: {0}")]
    Process(ProcessError),
    /// The command ran and failed.
    #[error("the reboot command `{command}` {outcome}")]
    Failed {
        /// The command line.
        command: String,
        /// How it ended.
        outcome: String,
    },
    /// The command succeeded and nothing happened.
    #[error(
        "the device did not restart within {} s after `{command}` succeeded",
        .waited.as_secs()
    )]
    StillAlive {
        /// The command line.
        command: String,
        /// How long was waited.
        waited: Duration,
    },
}

/// Restarts the device and does not return unless that failed: see [`reboot_within`].
pub async fn reboot(command: &[String]) -> RebootError {
    reboot_within(command, REBOOT_WAIT).await
}

/// Flushes all file systems, runs the reboot command and waits for the end of this process.
/// Returning at all is the error.
pub async fn reboot_within(command: &[String], wait: Duration) -> RebootError {
    let Some((program, args)) = command.split_first() else {
        return RebootError::NoCommand;
    };
    // what is not flushed yet belongs to others (logs, applications); the agent's own files are
    let _ = tokio::task::spawn_blocking(nix::unistd::sync).await;
    let line = command.join(" ");
    let mut child = Command::new(program, wait);
    child.args = args.iter().map(Into::into).collect();
    let started = tokio::time::Instant::now();
    let exit = process::run(&child, &mut |_, text| log::info!("{program}: {text}")).await;
    match exit {
        Err(error) => RebootError::Process(error),
        Ok(exit) if exit.timed_out => RebootError::StillAlive {
            command: line,
            waited: wait,
        },
        // a reboot command stopped by a signal is the shutdown reaching it before us
        Ok(exit) if exit.success() || exit.signal.is_some() => {
            tokio::time::sleep_until(started + wait).await;
            RebootError::StillAlive {
                command: line,
                waited: wait,
            }
        }
        Ok(exit) => RebootError::Failed {
            command: line,
            outcome: exit.to_string(),
        },
    }
}

/// The kernel's identifier of this boot: differs after every restart.
///
/// # Errors
/// When the kernel does not tell.
pub fn boot_id() -> Result<String, FsError> {
    let bytes = fs::read_bounded(Path::new("/proc/sys/kernel/random/boot_id"), 256)?;
    Ok(String::from_utf8_lossy(&bytes).trim().to_owned())
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests fail loudly")]
mod tests {
    use super::*;

    fn command(text: &str) -> Vec<String> {
        vec!["sh".to_owned(), "-c".to_owned(), text.to_owned()]
    }

    #[tokio::test]
    async fn a_failing_command_is_told_with_its_code() {
        let error = reboot_within(&command("exit 3"), Duration::from_secs(5)).await;
        assert!(matches!(error, RebootError::Failed { .. }));
        assert!(error.to_string().contains("code 3"), "{error}");
    }

    #[tokio::test]
    async fn a_command_without_effect_is_noticed() {
        let error = reboot_within(&command("true"), Duration::from_millis(200)).await;
        assert!(matches!(error, RebootError::StillAlive { .. }), "{error}");
        assert!(matches!(reboot(&[]).await, RebootError::NoCommand));
    }

    #[test]
    fn the_boot_id_is_stable_within_a_boot() {
        let id = boot_id().unwrap();
        assert_eq!(id, boot_id().unwrap());
        assert!(id.len() >= 32, "{id}");
    }
}

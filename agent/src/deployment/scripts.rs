//! State scripts: programs of the device maker or of the artifact around every state.
//!
//! Idle, Sync and Download scripts come from the running root file system, all others from the artifact
//! (they must survive the reboot into the new system). Source: `agent-behaviour` section 4.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use ambidex_machine::{Action, ScriptState};
use ambidex_platform::{
    clock, fs,
    process::{self, Command},
};

use super::stop::Stop;
use crate::config::{Config, ScriptConfig};

/// A script that ends with this code wants to be run again later.
const EXIT_RETRY_LATER: i32 = 21;
/// Script formats that this agent runs.
const VERSIONS: [&str; 2] = ["2", "3"];
/// Bytes of a `version` file; more is none.
const VERSION_BYTES_MAX: u64 = 64;
/// Entries of a scripts directory that are looked at.
const ENTRIES_MAX: usize = 4096;

/// A state with scripts, including those of the poll loop.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    Idle,
    Sync,
    Deployment(ScriptState),
}

impl State {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Idle => "Idle",
            Self::Sync => "Sync",
            Self::Deployment(state) => state.as_str(),
        }
    }

    const fn belongs_to_rootfs(self) -> bool {
        matches!(
            self,
            Self::Idle | Self::Sync | Self::Deployment(ScriptState::Download)
        )
    }
}

/// Why a state's scripts did not all end well.
#[derive(Debug, thiserror::Error)]
pub enum ScriptError {
    #[error("the state script {script} {outcome}")]
    Failed { script: String, outcome: String },
    #[error(
        "the state script {script} asked for more time again and again for {} s (state_script_retry_timeout_seconds)",
        .limit.as_secs()
    )]
    RetriesUsedUp { script: String, limit: Duration },
    #[error(
        "the state scripts in {} have the format version {found:?}; this agent runs 2 and 3: write 3 into {} or remove the file",
        .dir.display(), .dir.join("version").display()
    )]
    Version { dir: PathBuf, found: String },
    #[error(transparent)]
    Unreadable(#[from] fs::FsError),
    /// Given up in good order while waiting to run a script again.
    #[error("the agent was asked to stop")]
    Stopped,
}

/// The two script directories and their limits.
#[derive(Debug, Clone)]
pub struct Scripts {
    rootfs_dir: PathBuf,
    artifact_dir: PathBuf,
    limits: ScriptConfig,
}

impl Scripts {
    #[must_use]
    pub fn new(config: &Config) -> Self {
        Self {
            rootfs_dir: config.roots.rootfs_scripts(),
            artifact_dir: config.roots.artifact_scripts(),
            limits: config.scripts,
        }
    }

    /// Runs the scripts of one state and action, one after the other in the order of their names.
    ///
    /// The first failure ends it; failures of Idle and Error scripts are only logged.
    ///
    /// # Errors
    /// What failed, or that the agent was asked to stop.
    pub async fn run(&self, state: State, action: Action, stop: &Stop) -> Result<(), ScriptError> {
        let dir = if state.belongs_to_rootfs() {
            &self.rootfs_dir
        } else {
            &self.artifact_dir
        };
        let forgiving = state == State::Idle || action == Action::Error;
        let outcome = self.run_from(dir, state, action, forgiving, stop).await;
        match outcome {
            Err(error) if forgiving && !matches!(error, ScriptError::Stopped) => {
                log::warn!("{error}; going on");
                Ok(())
            }
            other => other,
        }
    }

    async fn run_from(
        &self,
        dir: &Path,
        state: State,
        action: Action,
        forgiving: bool,
        stop: &Stop,
    ) -> Result<(), ScriptError> {
        let scripts = list(dir, state.as_str(), action.as_str())?;
        if scripts.is_empty() {
            return Ok(());
        }
        check_version(dir)?;
        for script in scripts {
            match self.run_one(&script, stop).await {
                Err(error) if forgiving && !matches!(error, ScriptError::Stopped) => {
                    log::warn!("{error}; going on");
                }
                other => other?,
            }
        }
        Ok(())
    }

    async fn run_one(&self, path: &Path, stop: &Stop) -> Result<(), ScriptError> {
        let script = path
            .file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned();
        let asked_since = clock::monotonic();
        loop {
            log::info!("running the state script {script}");
            let command = Command::new(path, self.limits.timeout);
            let exit = process::run(&command, &mut |_, line| log::info!("{script}: {line}"))
                .await
                .map_err(|error| ScriptError::Failed {
                    script: script.clone(),
                    outcome: format!("did not run: {error}"),
                })?;
            if exit.success() {
                return Ok(());
            }
            if exit.timed_out || exit.code != Some(EXIT_RETRY_LATER) {
                return Err(ScriptError::Failed {
                    script,
                    outcome: exit.to_string(),
                });
            }
            let limit = self.limits.retry_timeout;
            if asked_since
                .elapsed()
                .saturating_add(self.limits.retry_interval)
                > limit
            {
                return Err(ScriptError::RetriesUsedUp { script, limit });
            }
            log::info!(
                "{script} asked to be run again in {:?}",
                self.limits.retry_interval
            );
            tokio::select! {
                () = stop.requested() => return Err(ScriptError::Stopped),
                () = tokio::time::sleep(self.limits.retry_interval) => {}
            }
        }
    }

    /// Whether the root file system's scripts have a format that this agent runs; looked at before the commit.
    ///
    /// # Errors
    /// When they have another one.
    pub fn check_rootfs_version(&self) -> Result<(), ScriptError> {
        check_version(&self.rootfs_dir)
    }
}

fn check_version(dir: &Path) -> Result<(), ScriptError> {
    let Some(bytes) = fs::read_if_present(&dir.join("version"), VERSION_BYTES_MAX)? else {
        return Ok(());
    };
    let found = String::from_utf8_lossy(&bytes).trim().to_owned();
    if VERSIONS.contains(&found.as_str()) {
        Ok(())
    } else {
        Err(ScriptError::Version {
            dir: dir.to_owned(),
            found,
        })
    }
}

/// The runnable scripts of a state and action, sorted by name. A directory that is not there has none.
fn list(dir: &Path, state: &str, action: &str) -> Result<Vec<PathBuf>, fs::FsError> {
    let mut scripts = Vec::new();
    let entries = match std::fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(scripts),
        Err(error) => return Err(fs::FsError::new("list the state scripts in", dir, error)),
    };
    for entry in entries.take(ENTRIES_MAX) {
        let path = entry
            .map_err(|error| fs::FsError::new("list the state scripts in", dir, error))?
            .path();
        let named = path.file_name().and_then(|name| name.to_str());
        if !named.is_some_and(|name| matches(name, state, action)) {
            continue;
        }
        if fs::is_executable_file(&path) {
            scripts.push(path);
        } else {
            log::warn!(
                "the state script {} is not executable and is left out",
                path.display()
            );
        }
    }
    scripts.sort();
    Ok(scripts)
}

/// `<State>_<Action>_<NN>` or `<State>_<Action>_<NN>_<anything>`.
fn matches(name: &str, state: &str, action: &str) -> bool {
    let rest = name
        .strip_prefix(state)
        .and_then(|rest| rest.strip_prefix('_'))
        .and_then(|rest| rest.strip_prefix(action))
        .and_then(|rest| rest.strip_prefix('_'));
    let Some(rest) = rest else { return false };
    let bytes = rest.as_bytes();
    let numbered = bytes.len() >= 2 && bytes[..2].iter().all(u8::is_ascii_digit);
    numbered && (bytes.len() == 2 || (bytes[2] == b'_' && !rest.contains(char::is_whitespace)))
}

#[cfg(test)]
mod tests;

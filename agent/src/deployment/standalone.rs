//! Updates without a server: `install`, `commit`, `rollback`, `resume`.
//!
//! An installation that can be rolled back stops before its commit and waits for a word; its state survives in the
//! store. Never reboots. The texts and exit codes are the reference client's (`agent-behaviour` 6.4).

mod flow;
mod report;

use std::{fs::File, path::PathBuf, str::FromStr, sync::Arc};

use ambidex_machine::Facts;
use serde::{Deserialize, Serialize};

use super::{
    bootstrap, doubt,
    handling::Handling,
    scripts::Scripts,
    stop::Stop,
    store::{Store, StoreError},
};
use crate::{api::Link, config::Config};

pub use report::Report;

/// Where the artifact comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    File(PathBuf),
    Url(String),
}

impl From<&str> for Source {
    fn from(text: &str) -> Self {
        if text.starts_with("http://") || text.starts_with("https://") {
            Self::Url(text.to_owned())
        } else {
            Self::File(text.into())
        }
    }
}

/// A point at which `--stop-before` ends the work for now; `resume` goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StopBefore {
    InstallEnter,
    CommitEnter,
    CommitLeave,
    RollbackEnter,
    FailureEnter,
    Cleanup,
}

impl StopBefore {
    const ALL: [(Self, &'static str); 6] = [
        (Self::InstallEnter, "ArtifactInstall_Enter"),
        (Self::CommitEnter, "ArtifactCommit_Enter"),
        (Self::CommitLeave, "ArtifactCommit_Leave"),
        (Self::RollbackEnter, "ArtifactRollback_Enter"),
        (Self::FailureEnter, "ArtifactFailure_Enter"),
        (Self::Cleanup, "Cleanup"),
    ];
}

/// A word that is no state to stop before.
#[derive(Debug, thiserror::Error)]
#[error("cannot stop before '{word}'; possible are {}", StopBefore::ALL.map(|(_, name)| name).join(", "))]
pub struct UnknownStop {
    word: String,
}

impl FromStr for StopBefore {
    type Err = UnknownStop;

    fn from_str(text: &str) -> Result<Self, UnknownStop> {
        Self::ALL
            .iter()
            .find(|(_, name)| *name == text)
            .map(|(stop, _)| *stop)
            .ok_or_else(|| UnknownStop {
                word: text.to_owned(),
            })
    }
}

/// What a standalone installation needs to go on after a restart.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pending {
    pub facts: Facts,
    pub at: At,
    /// The update failed, or was called back.
    #[serde(default)]
    pub failed: bool,
    /// The old software is back.
    #[serde(default)]
    pub rolled_back: bool,
    /// ArtifactCommit has succeeded.
    #[serde(default)]
    pub committed: bool,
}

/// Where a standalone installation stands. `Before…` is a place to wait; the others mean that the step may have
/// begun.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum At {
    BeforeInstallEnter,
    InstallEnter,
    BeforeCommitEnter,
    CommitEnter,
    BeforeCommitLeave,
    CommitLeave,
    RollbackEnter,
    FailureEnter,
    Cleanup,
}

/// The standalone verbs. The caller holds the state directory's lock.
pub struct Standalone {
    config: Arc<Config>,
    link: Link,
    store: Store,
    scripts: Scripts,
    handling: Handling,
    stop: Stop,
    stops: Vec<StopBefore>,
}

impl Standalone {
    /// # Errors
    /// When the state directory cannot be used.
    pub fn new(
        config: Arc<Config>,
        link: Link,
        stops: Vec<StopBefore>,
        stop: Stop,
    ) -> Result<Self, StoreError> {
        let mut store = Store::open(&config.roots.state)?;
        bootstrap::ensure_name(
            &mut store,
            &config.roots.state,
            &config.roots.bootstrap_artifact(),
        )?;
        let scripts = Scripts::new(&config);
        Ok(Self {
            config,
            link,
            store,
            scripts,
            handling: Handling::default(),
            stop,
            stops,
        })
    }

    /// Installs an artifact; commits it at once when it cannot be rolled back.
    pub async fn install(&mut self, source: &Source) -> Report {
        if let Some(record) = self.store.deployment() {
            let id = &record.deployment_id;
            return Report::refused(format!(
                "deployment {id} is in progress; the daemon finishes it"
            ));
        }
        if let Some(pending) = self.store.standalone() {
            let name = &pending.facts.artifact_name;
            return Report::refused(format!(
                "the update to {name} is in progress; `commit`, `rollback` or `resume` it first"
            ));
        }
        doubt::settle(&mut self.store, &self.config, &self.stop).await;
        match source {
            Source::File(path) => match File::open(path) {
                Ok(file) => {
                    self.install_from(&path.display().to_string(), file, Box::new(|| {}))
                        .await
                }
                Err(error) => Report::not_read(format!("cannot open {}: {error}", path.display())),
            },
            Source::Url(url) => {
                let download = self.link.download(url, None);
                let handle = download.handle();
                self.install_from(url, download, Box::new(move || handle.cancel()))
                    .await
            }
        }
    }

    /// Makes an installed update permanent.
    pub async fn commit(&mut self) -> Report {
        let Some(pending) = self.store.standalone().cloned() else {
            return Report::nothing_in_progress();
        };
        match pending.at {
            At::BeforeCommitEnter | At::CommitEnter => {
                self.go(
                    Pending {
                        at: At::CommitEnter,
                        ..pending
                    },
                    Report::default(),
                )
                .await
            }
            at => Report::refused(format!(
                "the update cannot be committed from {at:?}; try `resume` or `rollback`"
            )),
        }
    }

    /// Takes an update back.
    pub async fn rollback(&mut self) -> Report {
        let Some(pending) = self.store.standalone().cloned() else {
            return Report::nothing_in_progress();
        };
        match pending.at {
            At::BeforeInstallEnter
            | At::InstallEnter
            | At::BeforeCommitEnter
            | At::CommitEnter
            | At::BeforeCommitLeave => {
                let called_back = Pending {
                    failed: true,
                    committed: false,
                    ..pending
                };
                let mut report = Report::default();
                let pending = self.choose_way_back(called_back, &mut report).await;
                self.go(pending, report).await
            }
            at => Report::refused(format!(
                "the update cannot be rolled back from {at:?}; try `resume`"
            )),
        }
    }

    /// Goes on where a stop or a restart interrupted.
    pub async fn resume(&mut self) -> Report {
        let Some(pending) = self.store.standalone().cloned() else {
            return Report::nothing_in_progress();
        };
        let mut report = Report::default();
        let pending = match pending.at {
            // It may have happened or not: only the way back is certain.
            At::InstallEnter | At::CommitEnter => {
                report.interrupted(pending.at);
                let failed = Pending {
                    failed: true,
                    ..pending
                };
                self.choose_way_back(failed, &mut report).await
            }
            _ => pending,
        };
        self.go(pending, report).await
    }
}

//! The steps of a standalone update, each behind a durable note.

use std::io::Read;

use ambidex_machine::{Action, Adoption, Call, Facts, Reboot, ScriptState};

use super::{At, Pending, Report, Standalone, StopBefore};
use crate::deployment::{
    doubt,
    fetching::{Fetching, Opened, Streamed},
    handling,
    scripts::State,
};

/// What follows a step.
enum Next {
    At(At),
    /// Enough for now: `commit`, `rollback` or `resume` goes on.
    Wait,
}

impl Standalone {
    /// `name` is the artifact's file or URL, for the complaint when it cannot be installed.
    pub(super) async fn install_from<R: Read + Send + 'static>(
        &mut self,
        name: &str,
        input: R,
        cancel_source: Box<dyn Fn() + Send>,
    ) -> Report {
        let context = match handling::context(&self.config, &self.store) {
            Ok(context) => context,
            Err(error) => return Report::not_read(error.to_string()),
        };
        let provides = self.store.provides().clone();
        let mut fetching = Fetching::start(input, cancel_source, context, provides, &self.config);
        let facts = match fetching.open(&self.stop, std::future::pending()).await {
            Opened::Header(facts) => *facts,
            Opened::Failed(reason) => {
                return Report::not_read(format!("cannot install {name}: {reason}"));
            }
            Opened::Stopped | Opened::Aborted => return Report::not_read(STOPPED.into()),
        };
        if facts.payload_type.is_none() {
            return self.adopt_empty(&facts);
        }
        let mut report = Report::default();
        doubt::begin(&mut self.store, &self.config, None, &facts).await;
        if let Err(reason) = self.download(fetching, &facts).await {
            log::error!("cannot install {name}: {reason}");
            self.run_forgiving(ScriptState::Download, Action::Error)
                .await;
            if let Err(reason) = self.call(Call::Cleanup, &facts).await {
                log::warn!("{reason}");
            }
            return Report {
                failed: true,
                streaming_failed: true,
                not_modified: true,
                ..report
            };
        }
        report.streamed = true;
        let pending = Pending {
            facts,
            at: At::BeforeInstallEnter,
            failed: false,
            rolled_back: false,
            committed: false,
        };
        self.go(pending, report).await
    }

    fn adopt_empty(&mut self, facts: &Facts) -> Report {
        match self
            .store
            .save_standalone(None, Adoption::Adopt, Some(facts))
        {
            Ok(()) => Report {
                installed: true,
                committed: true,
                ..Report::default()
            },
            Err(error) => Report::not_read(error.to_string()),
        }
    }

    async fn download(&mut self, fetching: Fetching, facts: &Facts) -> Result<(), String> {
        if let Err(reason) = self.run(ScriptState::Download, Action::Enter).await {
            fetching.end().await;
            return Err(reason);
        }
        match fetching.stream(&self.stop, std::future::pending()).await {
            Streamed::Done {
                handler,
                payload_bytes,
            } => {
                self.handling.adopt(handler);
                doubt::complete(&mut self.store, Some(facts), payload_bytes);
            }
            Streamed::Failed(reason) => return Err(reason),
            Streamed::Stopped | Streamed::Aborted => return Err(STOPPED.into()),
        }
        self.run(ScriptState::Download, Action::Leave).await
    }

    /// Goes from where the update stands to its end, or to where it has to wait.
    pub(super) async fn go(&mut self, mut pending: Pending, mut report: Report) -> Report {
        loop {
            if !self.note(&mut pending, &mut report) {
                return report;
            }
            if self.stops_before(pending.at) {
                return report;
            }
            let next = match pending.at {
                At::BeforeInstallEnter => Next::At(At::InstallEnter),
                At::InstallEnter => self.install_step(&mut pending, &mut report).await,
                At::BeforeCommitEnter => Next::At(At::CommitEnter),
                At::CommitEnter => self.commit_step(&mut pending, &mut report).await,
                At::BeforeCommitLeave => Next::At(At::CommitLeave),
                At::CommitLeave => {
                    if let Err(reason) = self.run(ScriptState::ArtifactCommit, Action::Leave).await
                    {
                        log::error!("{reason}");
                        report.post_commit_failed = true;
                        fail(&mut pending, &mut report);
                    }
                    Next::At(At::Cleanup)
                }
                At::RollbackEnter => self.rollback_step(&mut pending, &mut report).await,
                At::FailureEnter => self.failure_step(&mut pending, &mut report).await,
                At::Cleanup => {
                    self.cleanup_step(&pending, &mut report).await;
                    return report;
                }
            };
            match next {
                Next::At(at) => pending.at = at,
                Next::Wait => return report,
            }
        }
    }

    /// Makes the position durable. Going forward needs that; going back does not.
    fn note(&mut self, pending: &mut Pending, report: &mut Report) -> bool {
        // Name and provides change with the note that only Cleanup is left.
        let adoption = if pending.at == At::Cleanup {
            adoption(pending)
        } else {
            Adoption::Keep
        };
        let facts = pending.facts.clone();
        let Err(error) = self
            .store
            .save_standalone(Some(pending), adoption, Some(&facts))
        else {
            return true;
        };
        log::error!("{error}");
        report.failed = true;
        match pending.at {
            At::BeforeInstallEnter | At::InstallEnter => {
                report.install_failed = true;
                report.not_modified = true;
                pending.rolled_back = true;
                pending.failed = true;
                pending.at = At::Cleanup;
            }
            At::BeforeCommitEnter | At::CommitEnter => {
                report.commit_failed = true;
                // Stays installed and uncommitted, as the last note says.
                return false;
            }
            _ => {}
        }
        true
    }

    fn stops_before(&self, at: At) -> bool {
        let stop = match at {
            At::BeforeInstallEnter => StopBefore::InstallEnter,
            At::BeforeCommitEnter => StopBefore::CommitEnter,
            At::BeforeCommitLeave => StopBefore::CommitLeave,
            At::RollbackEnter => StopBefore::RollbackEnter,
            At::FailureEnter => StopBefore::FailureEnter,
            At::Cleanup => StopBefore::Cleanup,
            At::InstallEnter | At::CommitEnter | At::CommitLeave => return false,
        };
        self.stops.contains(&stop)
    }

    async fn install_step(&mut self, pending: &mut Pending, report: &mut Report) -> Next {
        let mut outcome = self.run(ScriptState::ArtifactInstall, Action::Enter).await;
        if outcome.is_ok() {
            outcome = self.call(Call::Install, &pending.facts).await;
        }
        if outcome.is_ok() {
            outcome = self.run(ScriptState::ArtifactInstall, Action::Leave).await;
        }
        if let Err(reason) = outcome {
            log::error!("{reason}");
            report.install_failed = true;
            self.run_forgiving(ScriptState::ArtifactInstall, Action::Error)
                .await;
            return self.way_back(pending, report).await;
        }
        let questions = self.questions(&pending.facts).await;
        match questions {
            Err(reason) => {
                log::error!("{reason}");
                report.install_failed = true;
                self.way_back(pending, report).await
            }
            Ok((reboot, can_roll_back)) => {
                report.installed = true;
                report.streamed = false;
                report.reboot_wanted = reboot != Reboot::No;
                if can_roll_back {
                    pending.at = At::BeforeCommitEnter;
                    self.note(pending, report);
                    return Next::Wait;
                }
                report.committed_at_once = true;
                Next::At(At::BeforeCommitEnter)
            }
        }
    }

    async fn questions(&mut self, facts: &Facts) -> Result<(Reboot, bool), String> {
        let reboot = self
            .handling
            .needs_reboot(&self.config, &self.store, Some(facts))
            .await?;
        let can_roll_back = self
            .handling
            .supports_rollback(&self.config, &self.store, Some(facts))
            .await?;
        Ok((reboot, can_roll_back))
    }

    async fn commit_step(&mut self, pending: &mut Pending, report: &mut Report) -> Next {
        let mut outcome = self.run(ScriptState::ArtifactCommit, Action::Enter).await;
        if outcome.is_ok() {
            outcome = self.call(Call::Commit, &pending.facts).await;
        }
        match outcome {
            Ok(()) => {
                report.committed = true;
                pending.committed = true;
                Next::At(At::BeforeCommitLeave)
            }
            Err(reason) => {
                log::error!("{reason}");
                report.commit_failed = true;
                self.run_forgiving(ScriptState::ArtifactCommit, Action::Error)
                    .await;
                self.way_back(pending, report).await
            }
        }
    }

    async fn way_back(&mut self, pending: &mut Pending, report: &mut Report) -> Next {
        fail(pending, report);
        *pending = self.choose_way_back(pending.clone(), report).await;
        Next::At(pending.at)
    }

    /// Rollback where the handler can, the failure step otherwise.
    pub(super) async fn choose_way_back(
        &mut self,
        mut pending: Pending,
        report: &mut Report,
    ) -> Pending {
        let can = self
            .handling
            .supports_rollback(&self.config, &self.store, Some(&pending.facts))
            .await;
        pending.at = match can {
            Ok(true) => At::RollbackEnter,
            Ok(false) => {
                report.no_rollback = true;
                report.failed = true;
                At::FailureEnter
            }
            Err(reason) => {
                log::error!("{reason}");
                report.no_rollback = true;
                report.failed = true;
                At::FailureEnter
            }
        };
        pending
    }

    async fn rollback_step(&mut self, pending: &mut Pending, report: &mut Report) -> Next {
        let entered = self.run(ScriptState::ArtifactRollback, Action::Enter).await;
        let rolled_back = self.call(Call::Rollback, &pending.facts).await;
        let left = self.run(ScriptState::ArtifactRollback, Action::Leave).await;
        let clean = [entered, rolled_back, left]
            .into_iter()
            .all(|outcome| match outcome {
                Ok(()) => true,
                Err(reason) => {
                    log::error!("{reason}");
                    false
                }
            });
        pending.rolled_back = clean;
        pending.failed = true;
        report.rolled_back = clean;
        if !clean {
            report.rollback_failed = true;
            report.failed = true;
        }
        Next::At(At::FailureEnter)
    }

    async fn failure_step(&mut self, pending: &mut Pending, report: &mut Report) -> Next {
        let entered = self.run(ScriptState::ArtifactFailure, Action::Enter).await;
        let called = self.call(Call::Failure, &pending.facts).await;
        let left = self.run(ScriptState::ArtifactFailure, Action::Leave).await;
        for reason in [entered, called, left].into_iter().filter_map(Result::err) {
            log::error!("{reason}");
            pending.rolled_back = false;
            report.rolled_back = false;
            report.rollback_failed = true;
            report.failed = true;
        }
        pending.failed = true;
        Next::At(At::Cleanup)
    }

    async fn cleanup_step(&mut self, pending: &Pending, report: &mut Report) {
        report.cleaned = true;
        if let Err(reason) = self.call(Call::Cleanup, &pending.facts).await {
            log::error!("{reason}");
            report.cleanup_failed = true;
            report.failed = true;
        }
        if let Err(error) =
            self.store
                .save_standalone(None, adoption(pending), Some(&pending.facts))
        {
            log::error!("{error}");
            report.cleanup_failed = true;
            report.failed = true;
        }
    }

    // ---- one call ------------------------------------------------------------------------------

    async fn run(&self, state: ScriptState, action: Action) -> Result<(), String> {
        self.scripts
            .run(State::Deployment(state), action, &self.stop)
            .await
            .map_err(|error| error.to_string())
    }

    async fn run_forgiving(&self, state: ScriptState, action: Action) {
        if let Err(reason) = self.run(state, action).await {
            log::warn!("{reason}");
        }
    }

    async fn call(&mut self, call: Call, facts: &Facts) -> Result<(), String> {
        self.handling
            .call(call, &self.config, &self.store, Some(facts))
            .await
    }
}

const STOPPED: &str = "the agent was asked to stop";

fn fail(pending: &mut Pending, report: &mut Report) {
    pending.failed = true;
    report.failed = true;
}

fn adoption(pending: &Pending) -> Adoption {
    match (pending.failed, pending.committed, pending.rolled_back) {
        (false, _, _) => Adoption::Adopt,
        (true, true, _) => Adoption::AdoptInconsistent,
        (true, false, true) => Adoption::Keep,
        (true, false, false) => Adoption::NameInconsistent,
    }
}

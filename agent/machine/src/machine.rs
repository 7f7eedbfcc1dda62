//! The transitions.

use ambidex_wire::deployments::DeviceStatus;

use crate::{
    effect::{Action, Call, Conclusion, Effect, Event, Gate, Insistence, ScriptState},
    record::{Facts, HELD_RESTARTS_MAX, Reboot, Record, SAVES_MAX, Undo, Verdict},
    step::{Phase, Step},
};

type Next = (Record, Vec<Effect>);

/// What a start of the agent finds besides the record.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Found {
    /// How much of this deployment's artifact is durable on the device, if its download can be taken up.
    pub checkpoint: Option<u64>,
    /// The name of this boot of the system, if it has one.
    pub boot: Option<String>,
}

/// Starts a deployment that the server has offered. `record` comes from [`Record::new`].
#[must_use]
pub fn begin(mut record: Record, found: &Found) -> Next {
    record.boot.clone_from(&found.boot);
    act(record)
}

/// Goes on from the outcome of the last effect.
#[must_use]
pub fn step(mut record: Record, event: Event) -> Next {
    match event {
        Event::SaveFailed(reason) => save_failed(record, &reason),
        Event::Stopped => stopped(record),
        event => {
            if let Event::Failed(reason) = &event
                && !reason_is_harmless(record.step)
            {
                record.blame(reason);
            }
            transition(record, event)
        }
    }
}

/// Goes on after a restart, from the record as it was found on disk.
///
/// Every recovery saves first, so that a device that dies again and again counts its attempts and ends.
#[must_use]
pub fn recover(mut record: Record, found: &Found) -> Next {
    let phase = record.step.phase();
    let was_stopped = std::mem::take(&mut record.stopped);
    record.committed_on_disk = phase == Phase::Committed;
    let same_boot = found.boot.is_some() && record.boot == found.boot;
    record.boot.clone_from(&found.boot);
    if let Some(hold) = hold_of(phase, record.reboot, same_boot) {
        return hold_again(record, hold);
    }
    let goes_on = phase == Phase::Download
        && found
            .checkpoint
            .is_some_and(|offset| was_stopped || record.may_go_on_from(offset));
    let target = match phase {
        Phase::Download if goes_on => {
            // Nothing is active yet, and `stalls` counts: what follows has all its saves.
            record.saves = 0;
            Step::Restart
        }
        Phase::Download if was_stopped => Step::Discard,
        Phase::Announced | Phase::Discard => Step::Discard,
        Phase::Contact if was_stopped && record.reboot != Reboot::No => Step::VerifyReboot,
        Phase::Contact if was_stopped => Step::ReportCommitting,
        Phase::Download => {
            record.verdict = Some(Verdict::Untouched);
            record.blame("the download was interrupted by a restart of the device");
            Step::Cleanup
        }
        Phase::Armed | Phase::Reboot | Phase::Trial => Step::VerifyReboot,
        Phase::Ready => Step::HoldInstall,
        Phase::Install
        | Phase::Verify
        | Phase::Contact
        | Phase::Commit
        | Phase::Unwind
        | Phase::Unknown => {
            record.undo = Undo::Missing;
            record.blame(interruption(phase));
            Step::AskRollback
        }
        Phase::Committed => Step::CommitLeave,
        Phase::Rollback => {
            // The whole rollback runs again: faults of the interrupted one do not count.
            record.undo = Undo::Clean;
            Step::RollbackEnter
        }
        Phase::RollbackReboot | Phase::VerifyRollback => Step::VerifyRollbackReboot,
        Phase::Failure => Step::FailureEnter,
        Phase::Cleanup => Step::Cleanup,
        Phase::Over => Step::Conclude,
    };
    enter(record, target, Entry::Saving)
}

/// The hold that stands again after a restart in this phase, if it is one in which nothing has happened meanwhile.
const fn hold_of(phase: Phase, reboot: Reboot, same_boot: bool) -> Option<Step> {
    match phase {
        Phase::Ready => Some(Step::HoldInstall),
        // the system was booted: that was the reboot
        Phase::Armed if same_boot => Some(Step::HoldReboot),
        Phase::Trial if same_boot || matches!(reboot, Reboot::No) => Some(Step::HoldCommit),
        _ => None,
    }
}

fn hold_again(mut record: Record, hold: Step) -> Next {
    record.held_restarts = record.held_restarts.saturating_add(1);
    if record.held_restarts < HELD_RESTARTS_MAX {
        record.step = hold;
        let (record, mut effects) = act(record);
        effects.insert(0, Effect::Save);
        return (record, effects);
    }
    record.blame("the device restarted too often while the deployment was held");
    if hold == Step::HoldInstall {
        settle(record, Verdict::Untouched)
    } else {
        go(record, Step::AskRollback)
    }
}

fn interruption(phase: Phase) -> &'static str {
    match phase {
        Phase::Install => "the device restarted unexpectedly while installing",
        Phase::Verify => {
            "the device restarted unexpectedly while the new software was being verified"
        }
        Phase::Contact => {
            "the device restarted unexpectedly before the new software had reached the server"
        }
        Phase::Commit => "the device restarted unexpectedly while committing",
        _ => "the device restarted unexpectedly during the deployment",
    }
}

/// Steps whose failure does not fail the deployment.
const fn reason_is_harmless(step: Step) -> bool {
    matches!(
        step,
        Step::ReportDownloading
            | Step::Restart
            | Step::ReportRestarted
            | Step::ReportInstalling
            | Step::ReportRebooting
    )
}

fn transition(mut record: Record, event: Event) -> Next {
    let done = event == Event::Done;
    let step = record.step;
    match step {
        Step::ReportDownloading | Step::ReportRestarted | Step::ReportInstalling
            if event == Event::Aborted =>
        {
            aborted(record)
        }
        Step::Restart => {
            // Cleaned up: there is no handler until the header is verified again.
            record.facts = None;
            go(record, Step::ReportRestarted)
        }
        Step::ReportDownloading | Step::ReportRestarted => go(record, Step::DownloadEnter),
        Step::DownloadEnter => go_if(record, done, Step::Open, Step::DownloadError),
        Step::Open => match event {
            Event::Opened(facts) => opened(record, facts),
            Event::Aborted => aborted(record),
            _ => go(record, Step::DownloadError),
        },
        Step::Stream if event == Event::Aborted => aborted(record),
        Step::Stream => go_if(record, done, Step::DownloadLeave, Step::DownloadError),
        Step::DownloadLeave if done && !record.has_payload() => settle(record, Verdict::Success),
        Step::DownloadLeave => go_if(record, done, Step::HoldInstall, Step::DownloadError),
        Step::DownloadError => settle(record, Verdict::Untouched),

        Step::HoldInstall if event == Event::Aborted => aborted(record),
        Step::HoldInstall if !done => settle(record, Verdict::Untouched),
        Step::HoldInstall => go(record, Step::ReportInstalling),

        Step::ReportInstalling => go(record, Step::InstallEnter),
        Step::InstallEnter => go_if(record, done, Step::Install, Step::InstallError),
        Step::Install => go_if(record, done, Step::InstallLeave, Step::InstallError),
        Step::InstallLeave => go_if(record, done, Step::AskReboot, Step::InstallError),
        Step::AskReboot => match event {
            Event::RebootNeed(need) => {
                record.reboot = need;
                let next = if need == Reboot::No {
                    Step::HoldCommit
                } else {
                    Step::HoldReboot
                };
                go(record, next)
            }
            _ => go(record, Step::AskRollback),
        },

        Step::HoldReboot | Step::ReportRebooting | Step::HoldCommit | Step::ReportCommitting
            if event == Event::Aborted =>
        {
            record.blame(ABORTED);
            go(record, Step::AskRollback)
        }
        Step::HoldReboot => go_if(record, done, Step::ReportRebooting, Step::AskRollback),
        Step::HoldCommit => go_if(record, done, Step::ReportCommitting, Step::AskRollback),
        Step::ReportRebooting => go(record, Step::RebootEnter),
        Step::RebootEnter => go_if(record, done, Step::Reboot, Step::RebootError),
        Step::Reboot => go_if(record, done, Step::VerifyReboot, Step::RebootError),
        Step::VerifyReboot => go_if(record, done, Step::RebootLeave, Step::RebootError),
        Step::RebootLeave => go_if(record, done, Step::HoldCommit, Step::RebootError),

        Step::ReportCommitting => go_if(record, done, Step::CommitEnter, Step::AskRollback),
        Step::CommitEnter => go_if(record, done, Step::CheckReadiness, Step::CommitError),
        Step::CheckReadiness => go_if(record, done, Step::Commit, Step::CommitError),
        Step::Commit => go_if(record, done, Step::CommitLeave, Step::CommitError),
        Step::CommitLeave if done => settle(record, Verdict::Success),
        Step::CommitLeave => go(record, Step::CommitLeaveError),
        Step::CommitLeaveError => settle(record, Verdict::CommittedFaulty),

        Step::InstallError | Step::RebootError | Step::CommitError => go(record, Step::AskRollback),
        Step::AskRollback => {
            let able = event == Event::CanRollBack(true);
            record.undo = if able { Undo::Clean } else { Undo::Missing };
            go_if(record, able, Step::RollbackEnter, Step::FailureEnter)
        }
        Step::RollbackEnter => go(faulty_unless(record, done), Step::Rollback),
        Step::Rollback => go_if(
            faulty_unless(record, done),
            done,
            Step::RollbackLeave,
            Step::RollbackLeaveFailed,
        ),
        Step::RollbackLeave => go(faulty_unless(record, done), Step::AskRollbackReboot),
        Step::RollbackLeaveFailed => go(record, Step::FailureEnter),
        Step::AskRollbackReboot => match event {
            Event::RebootNeed(Reboot::No) => go(record, Step::FailureEnter),
            Event::RebootNeed(need) => {
                record.rollback_reboot = need;
                go(record, Step::RollbackRebootEnter)
            }
            _ => go(faulty_unless(record, false), Step::FailureEnter),
        },
        Step::RollbackRebootEnter => go(faulty_unless(record, done), Step::RollbackReboot),
        Step::RollbackReboot => go(record, Step::VerifyRollbackReboot),
        Step::VerifyRollbackReboot => go_if(
            record,
            done,
            Step::RollbackRebootLeave,
            Step::RollbackReboot,
        ),
        Step::RollbackRebootLeave if done => go(record, Step::FailureEnter),
        Step::RollbackRebootLeave => go(faulty_unless(record, false), Step::RollbackRebootError),
        Step::RollbackRebootError => go(record, Step::FailureEnter),

        Step::FailureEnter => go(faulty_unless(record, done), Step::Failure),
        Step::Failure => go(faulty_unless(record, done), Step::FailureLeave),
        Step::FailureLeave => {
            let record = faulty_unless(record, done);
            let clean = record.undo == Undo::Clean;
            settle(
                record,
                if clean {
                    Verdict::Untouched
                } else {
                    Verdict::Inconsistent
                },
            )
        }
        Step::Cleanup => go(record, Step::Conclude),
        Step::Discard => go(record, Step::Forget),
        Step::Unknown => go(record, Step::AskRollback),
        Step::Conclude | Step::ReportFinal | Step::Forget | Step::Done => over(record),
    }
}

fn over(mut record: Record) -> Next {
    record.step = Step::Done;
    (record, Vec::new())
}

const ABORTED: &str = "the deployment was aborted on the server";

/// The server no longer wants the deployment, and nothing of it is active yet.
fn aborted(mut record: Record) -> Next {
    record.blame(ABORTED);
    settle(record, Verdict::Untouched)
}

/// The header is verified: what it says must be durable before the handler may act, because only the payload
/// type tells a restart whom to call for Cleanup.
fn opened(mut record: Record, facts: Facts) -> Next {
    record.facts = Some(facts);
    if record.has_payload() {
        enter(record, Step::Stream, Entry::Saving)
    } else {
        go(record, Step::DownloadLeave)
    }
}

fn faulty_unless(mut record: Record, done: bool) -> Record {
    if !done {
        record.undo = Undo::Faulty;
    }
    record
}

fn settle(mut record: Record, verdict: Verdict) -> Next {
    record.verdict = Some(verdict);
    go(record, Step::Cleanup)
}

fn go_if(record: Record, condition: bool, yes: Step, no: Step) -> Next {
    go(record, if condition { yes } else { no })
}

fn go(record: Record, step: Step) -> Next {
    enter(record, step, Entry::Flow)
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Entry {
    /// Saves when the phase changes.
    Flow,
    /// Saves in any case.
    Saving,
}

/// Moves to a step: a durable record of its phase first, then its effect.
fn enter(mut record: Record, step: Step, entry: Entry) -> Next {
    // Without a payload there is no handler and no tree: the last save does it all.
    let step = match step {
        Step::Cleanup if !record.has_payload() => Step::Conclude,
        Step::Discard if !record.has_payload() => Step::Forget,
        Step::Restart if !record.has_payload() => Step::ReportRestarted,
        step => step,
    };
    let from = record.step.phase();
    let to = step.phase();
    record.step = step;
    if to == Phase::Unwind {
        record.undo = Undo::Missing;
    }
    if to == Phase::Over || (from == to && entry == Entry::Flow) {
        return act(record);
    }
    record.saves = record.saves.saturating_add(1);
    // Coming to Cleanup is coming to an end; only coming back to it again and again is a loop.
    let ends = to == Phase::Cleanup && entry == Entry::Flow;
    if record.saves >= SAVES_MAX && !ends {
        return loop_ended(record);
    }
    let save = if to == Phase::Cleanup {
        Effect::Settle(record.adoption())
    } else {
        Effect::Save
    };
    let (record, mut effects) = act(record);
    effects.insert(0, save);
    (record, effects)
}

/// Ends a deployment that has been saved too often: it would go on for ever otherwise.
///
/// A settled verdict stands (only Cleanup was looping); a commit stands, too.
fn loop_ended(mut record: Record) -> Next {
    record.blame("the deployment did not come to an end and was stopped");
    if record.verdict.is_none() {
        let committed = record.step.phase() == Phase::Committed;
        record.verdict = Some(if committed {
            Verdict::CommittedFaulty
        } else {
            Verdict::Inconsistent
        });
    }
    record.step = Step::Conclude;
    act(record)
}

/// The effect of the record's step.
fn act(record: Record) -> Next {
    use Action::{Enter, Error, Leave};
    use Insistence::{Once, UntilAccepted};
    use ScriptState as S;

    let effect = match record.step {
        Step::ReportDownloading => Effect::Report(DeviceStatus::Downloading, Once),
        Step::ReportRestarted => Effect::Report(DeviceStatus::Downloading, UntilAccepted),
        Step::DownloadEnter => Effect::Scripts(S::Download, Enter),
        Step::Open => Effect::Open,
        Step::Stream => Effect::Stream,
        Step::DownloadLeave => Effect::Scripts(S::Download, Leave),
        Step::DownloadError => Effect::Scripts(S::Download, Error),
        Step::HoldInstall => Effect::Hold(Gate::Install),
        Step::HoldReboot => Effect::Hold(Gate::Reboot),
        Step::HoldCommit => Effect::Hold(Gate::Commit),
        Step::ReportInstalling => Effect::Report(DeviceStatus::Installing, Once),
        Step::InstallEnter => Effect::Scripts(S::ArtifactInstall, Enter),
        Step::Install => Effect::Call(Call::Install),
        Step::InstallLeave => Effect::Scripts(S::ArtifactInstall, Leave),
        Step::InstallError => Effect::Scripts(S::ArtifactInstall, Error),
        Step::AskReboot | Step::AskRollbackReboot => Effect::AskReboot,
        Step::ReportRebooting => Effect::Report(DeviceStatus::Rebooting, Once),
        Step::RebootEnter => Effect::Scripts(S::ArtifactReboot, Enter),
        Step::Reboot if record.reboot == Reboot::Custom => Effect::Call(Call::Reboot),
        Step::Reboot => Effect::RebootSystem,
        Step::VerifyReboot => Effect::Call(Call::VerifyReboot),
        Step::RebootLeave => Effect::Scripts(S::ArtifactReboot, Leave),
        Step::RebootError => Effect::Scripts(S::ArtifactReboot, Error),
        Step::ReportCommitting => {
            let report = Effect::Report(DeviceStatus::Installing, UntilAccepted);
            return (record, vec![Effect::DropToken, report]);
        }
        Step::CommitEnter => Effect::Scripts(S::ArtifactCommit, Enter),
        Step::CheckReadiness => Effect::CheckReadiness,
        Step::Commit => Effect::Call(Call::Commit),
        Step::CommitError | Step::CommitLeaveError => Effect::Scripts(S::ArtifactCommit, Error),
        Step::CommitLeave => Effect::Scripts(S::ArtifactCommit, Leave),
        Step::AskRollback | Step::Unknown => Effect::AskRollback,
        Step::RollbackEnter => Effect::Scripts(S::ArtifactRollback, Enter),
        Step::Rollback => Effect::Call(Call::Rollback),
        Step::RollbackLeave | Step::RollbackLeaveFailed => {
            Effect::Scripts(S::ArtifactRollback, Leave)
        }
        Step::RollbackRebootEnter => Effect::Scripts(S::ArtifactRollbackReboot, Enter),
        Step::RollbackReboot if record.rollback_reboot == Reboot::Custom => {
            Effect::Call(Call::RollbackReboot)
        }
        Step::RollbackReboot => Effect::RebootSystem,
        Step::VerifyRollbackReboot => Effect::Call(Call::VerifyRollbackReboot),
        Step::RollbackRebootLeave => Effect::Scripts(S::ArtifactRollbackReboot, Leave),
        Step::RollbackRebootError => Effect::Scripts(S::ArtifactRollbackReboot, Error),
        Step::FailureEnter => Effect::Scripts(S::ArtifactFailure, Enter),
        Step::Failure => Effect::Call(Call::Failure),
        Step::FailureLeave => Effect::Scripts(S::ArtifactFailure, Leave),
        Step::Cleanup | Step::Discard | Step::Restart => Effect::Call(Call::Cleanup),
        Step::Conclude => Effect::Conclude(conclusion(&record)),
        Step::ReportFinal => Effect::Report(conclusion(&record).status, UntilAccepted),
        Step::Forget => Effect::Forget,
        Step::Done => return (record, Vec::new()),
    };
    (record, vec![effect])
}

fn conclusion(record: &Record) -> Conclusion {
    let success = record.verdict == Some(Verdict::Success);
    Conclusion {
        status: if success {
            DeviceStatus::Success
        } else {
            DeviceStatus::Failure
        },
        reason: if success { None } else { record.reason.clone() },
        adoption: record.adoption(),
    }
}

/// A save did not reach the disk. Going forward needs the disk; going back and coming to an end do not.
fn save_failed(mut record: Record, reason: &str) -> Next {
    if record.stopped {
        return (record, Vec::new());
    }
    match record.step.phase() {
        Phase::Download | Phase::Ready => {
            record.blame(reason);
            go(record, Step::DownloadError)
        }
        Phase::Install => {
            record.blame(reason);
            go(record, Step::InstallError)
        }
        Phase::Armed | Phase::Reboot | Phase::Verify => {
            record.blame(reason);
            go(record, Step::RebootError)
        }
        Phase::Trial | Phase::Contact => {
            record.blame(reason);
            go(record, Step::AskRollback)
        }
        // The disk already says that it is committed: there is no way back.
        Phase::Committed if record.committed_on_disk => act(record),
        Phase::Commit | Phase::Committed => {
            record.blame(reason);
            go(record, Step::CommitError)
        }
        // A reboot that no record knows of would be made again after it, without end: look first whether it is needed.
        Phase::RollbackReboot if record.step == Step::RollbackRebootEnter => {
            go(record, Step::VerifyRollbackReboot)
        }
        Phase::Announced
        | Phase::Unwind
        | Phase::Rollback
        | Phase::RollbackReboot
        | Phase::VerifyRollback
        | Phase::Failure
        | Phase::Cleanup
        | Phase::Discard
        | Phase::Unknown => act(record),
        // The result cannot be queued: tell it now. What the disk still says leads to the same result after a restart,
        // except for an artifact without payload: its success was nothing but this save.
        Phase::Over if record.step == Step::Conclude => {
            if record.verdict == Some(Verdict::Success) && !record.has_payload() {
                record.verdict = Some(Verdict::Untouched);
                record.blame(reason);
            }
            go(record, Step::ReportFinal)
        }
        Phase::Over => over(record),
    }
}

/// A clean stop. Where nothing is active yet, or where only the server is waited for, the record says so and the
/// next start goes on. Anywhere else a stop is what a crash is.
fn stopped(mut record: Record) -> Next {
    record.stopped = true;
    let effects = match record.step.phase() {
        Phase::Download | Phase::Ready | Phase::Armed | Phase::Trial | Phase::Contact => {
            vec![Effect::Save]
        }
        _ => Vec::new(),
    };
    (record, effects)
}

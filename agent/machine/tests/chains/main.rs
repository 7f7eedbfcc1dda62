//! The order of calls and statuses equals the reference client's (agent-behaviour 3.1-3.4, rows S1-S14 and R1-R7).
//!
//! Notation: scripts as `State_Action`, calls by their protocol name, statuses as `<status>`, questions as `?`.

mod restarts;

use ambidex_machine::{
    Adoption, Effect, Event, Facts, Found, Insistence, Reboot, Record, begin, recover, step,
};

#[derive(Default)]
struct Case {
    reboot: Reboot,
    no_rollback: bool,
    empty: bool,
    /// Names that fail, once each or (with a trailing `*`) always.
    fail: &'static [&'static str],
    /// Names after whose start the process dies, once each or (`*`) always.
    kill: &'static [&'static str],
    /// The ordinal of the status that is answered with 409.
    abort_at: Option<usize>,
    save_fails_at: Option<usize>,
    /// What a restart finds of the artifact.
    checkpoint: Option<u64>,
}

struct Outcome {
    chain: String,
    statuses: String,
    adoption: Adoption,
    saves: u32,
}

fn name(effect: &Effect) -> String {
    match effect {
        Effect::Scripts(state, action) => format!("{}_{}", state.as_str(), action.as_str()),
        Effect::Call(call) => call.as_str().to_string(),
        Effect::Stream => "Download".into(),
        Effect::Open => "Open".into(),
        Effect::AskReboot => "NeedsArtifactReboot".into(),
        Effect::AskRollback => "SupportsRollback".into(),
        Effect::CheckReadiness => "CheckReadiness".into(),
        Effect::RebootSystem => "reboot".into(),
        Effect::Report(status, Insistence::Once) => format!("<{status}>"),
        Effect::Report(status, Insistence::UntilAccepted) => format!("<{status}!>"),
        other => format!("{other:?}"),
    }
}

/// Whether the name stands in the list, and has not been used up.
fn hit(list: &[&str], used: &mut Vec<String>, name: &str) -> bool {
    if list
        .iter()
        .any(|entry| entry.strip_suffix('*') == Some(name))
    {
        return true;
    }
    if list.contains(&name) && !used.iter().any(|entry| entry == name) {
        used.push(name.into());
        return true;
    }
    false
}

fn found_with(checkpoint: Option<u64>) -> Found {
    Found {
        checkpoint,
        ..Found::default()
    }
}

fn play(case: &Case) -> Outcome {
    let (mut failed, mut killed) = (Vec::new(), Vec::new());
    let (mut chain, mut statuses) = (Vec::new(), Vec::new());
    let mut disk: Option<Record> = None;
    let mut adoption = Adoption::Keep;
    let mut saves = 0;
    let mut next = begin(Record::new("d", "http://server/a"), &Found::default());
    'flow: for _ in 0..1000 {
        let (record, effects) = next;
        let mut answer = None;
        for effect in effects {
            let name = name(&effect);
            answer = match &effect {
                Effect::Save | Effect::Settle(_) => {
                    saves += 1;
                    if case.save_fails_at == Some(saves) {
                        Some(Event::SaveFailed("disk full".into()))
                    } else {
                        disk = Some(record.clone());
                        None
                    }
                }
                Effect::DropToken => None,
                Effect::Hold(_) => Some(Event::Done),
                Effect::Report(status, _) => {
                    statuses.push(status.to_string());
                    let fails = hit(case.fail, &mut failed, &name);
                    Some(if case.abort_at == Some(statuses.len() - 1) {
                        Event::Aborted
                    } else if fails {
                        Event::Failed("no answer".into())
                    } else {
                        Event::Done
                    })
                }
                Effect::Conclude(conclusion) => {
                    statuses.push(conclusion.status.to_string());
                    adoption = conclusion.adoption;
                    Some(Event::Done)
                }
                _ => {
                    if !matches!(
                        effect,
                        Effect::Open
                            | Effect::AskReboot
                            | Effect::AskRollback
                            | Effect::CheckReadiness
                    ) {
                        chain.push(name.replace("Artifact", ""));
                    }
                    if hit(case.kill, &mut killed, &name) {
                        let Some(found) = disk.clone() else {
                            break 'flow;
                        };
                        next = recover(found, &found_with(case.checkpoint));
                        continue 'flow;
                    }
                    let payload_type = (!case.empty).then(|| "mod".to_string());
                    Some(match (&effect, hit(case.fail, &mut failed, &name)) {
                        (_, true) => Event::Failed(format!("{name} failed")),
                        (Effect::Open, _) => Event::Opened(Facts {
                            artifact_name: "new".into(),
                            payload_type,
                            ..Facts::default()
                        }),
                        (Effect::AskReboot, _) => Event::RebootNeed(case.reboot),
                        (Effect::AskRollback, _) => Event::CanRollBack(!case.no_rollback),
                        _ => Event::Done,
                    })
                }
            };
            if answer.is_some() {
                break;
            }
        }
        match answer {
            Some(event) => next = step(record, event),
            None => break,
        }
    }
    Outcome {
        chain: chain.join(" "),
        statuses: statuses.join(" "),
        adoption,
        saves: u32::try_from(saves).unwrap_or(0),
    }
}

fn check(case: &Case, chain: &str, statuses: &str, adoption: Adoption) {
    let outcome = play(case);
    let chain: Vec<&str> = chain.split_whitespace().collect();
    assert_eq!(outcome.chain, chain.join(" "), "chain");
    assert_eq!(outcome.statuses, statuses, "statuses");
    assert_eq!(outcome.adoption, adoption, "adoption");
}

const DOWN: &str = "Download_Enter Download Download_Leave";
const INSTALL: &str = "Install_Enter Install Install_Leave";
const REBOOT: &str = "Reboot_Enter Reboot VerifyReboot Reboot_Leave";
const COMMIT: &str = "Commit_Enter Commit Commit_Leave Cleanup";
const ROLLBACK: &str = "Rollback_Enter Rollback Rollback_Leave";
const BACK: &str = "RollbackReboot_Enter RollbackReboot VerifyRollbackReboot RollbackReboot_Leave";
const FAILURE: &str = "Failure_Enter Failure Failure_Leave Cleanup";

fn rebooting() -> Case {
    Case {
        reboot: Reboot::Custom,
        ..Case::default()
    }
}

fn s(parts: &[&str]) -> String {
    parts.join(" ")
}

#[test]
fn normal_flows() {
    check(
        &rebooting(),
        &s(&[DOWN, INSTALL, REBOOT, COMMIT]),
        "downloading installing rebooting installing success",
        Adoption::Adopt,
    );
    check(
        &Case {
            no_rollback: true,
            ..Case::default()
        },
        &s(&[DOWN, INSTALL, COMMIT]),
        "downloading installing installing success",
        Adoption::Adopt,
    );
    check(
        &Case {
            reboot: Reboot::Automatic,
            ..Case::default()
        },
        &s(&[
            DOWN,
            INSTALL,
            "Reboot_Enter reboot VerifyReboot Reboot_Leave",
            COMMIT,
        ]),
        "downloading installing rebooting installing success",
        Adoption::Adopt,
    );
    check(
        &Case {
            empty: true,
            ..Case::default()
        },
        "Download_Enter Download_Leave",
        "downloading success",
        Adoption::Adopt,
    );
}

#[test]
fn failures_while_downloading_need_no_rollback() {
    for (fail, chain) in [
        ("Download", "Download_Enter Download Download_Error Cleanup"),
        ("Download_Enter", "Download_Enter Download_Error"),
        ("Open", "Download_Enter Download_Error"),
        (
            "Download_Leave",
            "Download_Enter Download Download_Leave Download_Error Cleanup",
        ),
    ] {
        let fail: &'static [&'static str] = Vec::leak(vec![fail]);
        check(
            &Case {
                fail,
                ..rebooting()
            },
            chain,
            "downloading failure",
            Adoption::Keep,
        );
    }
    check(
        &Case {
            kill: &["Download"],
            ..rebooting()
        },
        "Download_Enter Download Cleanup",
        "downloading failure",
        Adoption::Keep,
    );
    check(
        &Case {
            kill: &["Download_Enter"],
            ..rebooting()
        },
        "Download_Enter",
        "downloading failure",
        Adoption::Keep,
    );
}

#[test]
fn failures_while_installing() {
    check(
        &Case {
            fail: &["ArtifactInstall"],
            ..rebooting()
        },
        &s(&[
            DOWN,
            "Install_Enter Install Install_Error",
            ROLLBACK,
            BACK,
            FAILURE,
        ]),
        "downloading installing failure",
        Adoption::Keep,
    );
    check(
        &Case {
            fail: &["ArtifactInstall"],
            no_rollback: true,
            ..rebooting()
        },
        &s(&[DOWN, "Install_Enter Install Install_Error", FAILURE]),
        "downloading installing failure",
        Adoption::NameInconsistent,
    );
    check(
        &Case {
            fail: &["ArtifactInstall_Enter"],
            ..rebooting()
        },
        &s(&[DOWN, "Install_Enter Install_Error", ROLLBACK, BACK, FAILURE]),
        "downloading installing failure",
        Adoption::Keep,
    );
    check(
        &Case {
            fail: &["ArtifactInstall_Leave"],
            ..rebooting()
        },
        &s(&[DOWN, INSTALL, "Install_Error", ROLLBACK, BACK, FAILURE]),
        "downloading installing failure",
        Adoption::Keep,
    );
    check(
        &Case {
            kill: &["ArtifactInstall"],
            ..rebooting()
        },
        &s(&[DOWN, "Install_Enter Install", ROLLBACK, BACK, FAILURE]),
        "downloading installing failure",
        Adoption::Keep,
    );
    check(
        &Case {
            kill: &["ArtifactInstall"],
            no_rollback: true,
            ..rebooting()
        },
        &s(&[DOWN, "Install_Enter Install", FAILURE]),
        "downloading installing failure",
        Adoption::NameInconsistent,
    );
    check(
        &Case {
            fail: &["NeedsArtifactReboot*"],
            ..rebooting()
        },
        &s(&[DOWN, INSTALL, ROLLBACK, FAILURE]),
        "downloading installing failure",
        Adoption::NameInconsistent,
    );
    check(
        &Case {
            fail: &["ArtifactInstall", "SupportsRollback"],
            ..rebooting()
        },
        &s(&[DOWN, "Install_Enter Install Install_Error", FAILURE]),
        "downloading installing failure",
        Adoption::NameInconsistent,
    );
}

#[test]
fn failures_around_the_reboot() {
    check(
        &Case {
            kill: &["ArtifactReboot"],
            ..rebooting()
        },
        &s(&[
            DOWN,
            INSTALL,
            "Reboot_Enter Reboot VerifyReboot Reboot_Leave",
            COMMIT,
        ]),
        "downloading installing rebooting installing success",
        Adoption::Adopt,
    );
    check(
        &Case {
            kill: &["ArtifactReboot_Enter"],
            ..rebooting()
        },
        &s(&[
            DOWN,
            INSTALL,
            "Reboot_Enter VerifyReboot Reboot_Leave",
            COMMIT,
        ]),
        "downloading installing rebooting installing success",
        Adoption::Adopt,
    );
    check(
        &Case {
            fail: &["ArtifactReboot"],
            ..rebooting()
        },
        &s(&[
            DOWN,
            INSTALL,
            "Reboot_Enter Reboot Reboot_Error",
            ROLLBACK,
            BACK,
            FAILURE,
        ]),
        "downloading installing rebooting failure",
        Adoption::Keep,
    );
    check(
        &Case {
            fail: &["ArtifactVerifyReboot"],
            ..rebooting()
        },
        &s(&[
            DOWN,
            INSTALL,
            "Reboot_Enter Reboot VerifyReboot Reboot_Error",
            ROLLBACK,
            BACK,
            FAILURE,
        ]),
        "downloading installing rebooting failure",
        Adoption::Keep,
    );
    check(
        &Case {
            kill: &["ArtifactVerifyReboot"],
            ..rebooting()
        },
        &s(&[
            DOWN,
            INSTALL,
            "Reboot_Enter Reboot VerifyReboot",
            ROLLBACK,
            BACK,
            FAILURE,
        ]),
        "downloading installing rebooting failure",
        Adoption::Keep,
    );
}

#[test]
fn failures_around_the_commit() {
    let until_commit = s(&[DOWN, INSTALL, REBOOT]);
    check(
        &Case {
            fail: &["ArtifactCommit"],
            ..rebooting()
        },
        &s(&[
            &until_commit,
            "Commit_Enter Commit Commit_Error",
            ROLLBACK,
            BACK,
            FAILURE,
        ]),
        "downloading installing rebooting installing failure",
        Adoption::Keep,
    );
    check(
        &Case {
            kill: &["ArtifactCommit"],
            ..rebooting()
        },
        &s(&[
            &until_commit,
            "Commit_Enter Commit",
            ROLLBACK,
            BACK,
            FAILURE,
        ]),
        "downloading installing rebooting installing failure",
        Adoption::Keep,
    );
    check(
        &Case {
            fail: &["CheckReadiness"],
            ..rebooting()
        },
        &s(&[
            &until_commit,
            "Commit_Enter Commit_Error",
            ROLLBACK,
            BACK,
            FAILURE,
        ]),
        "downloading installing rebooting installing failure",
        Adoption::Keep,
    );
    check(
        &Case {
            kill: &["ArtifactCommit_Leave"],
            ..rebooting()
        },
        &s(&[
            &until_commit,
            "Commit_Enter Commit Commit_Leave Commit_Leave Cleanup",
        ]),
        "downloading installing rebooting installing success",
        Adoption::Adopt,
    );
    check(
        &Case {
            fail: &["ArtifactCommit_Leave"],
            ..rebooting()
        },
        &s(&[
            &until_commit,
            "Commit_Enter Commit Commit_Leave Commit_Error Cleanup",
        ]),
        "downloading installing rebooting installing failure",
        Adoption::AdoptInconsistent,
    );
    // Better than the reference: a power cut in Cleanup after the commit is still a success (R5).
    check(
        &Case {
            kill: &["Cleanup"],
            ..rebooting()
        },
        &s(&[
            &until_commit,
            "Commit_Enter Commit Commit_Leave Cleanup Cleanup",
        ]),
        "downloading installing rebooting installing success",
        Adoption::Adopt,
    );
    // The server was not reached from the new software (S14).
    check(
        &Case {
            fail: &["<installing!>"],
            ..rebooting()
        },
        &s(&[&until_commit, ROLLBACK, BACK, FAILURE]),
        "downloading installing rebooting installing failure",
        Adoption::Keep,
    );
}

#[test]
fn failures_on_the_way_back() {
    let failed = s(&[
        DOWN,
        INSTALL,
        "Reboot_Enter Reboot VerifyReboot Reboot_Error",
    ]);
    let statuses = "downloading installing rebooting failure";
    let opener = "ArtifactVerifyReboot";
    let run = |fail: &[&'static str], kill: &[&'static str], rest: &[&str], adoption| {
        let fail: &'static [&'static str] = Vec::leak([&[opener], fail].concat());
        let kill: &'static [&'static str] = Vec::leak(kill.to_vec());
        check(
            &Case {
                fail,
                kill,
                ..rebooting()
            },
            &s(&[&[failed.as_str()], rest].concat()),
            statuses,
            adoption,
        );
    };
    run(
        &["ArtifactRollback"],
        &[],
        &[ROLLBACK, FAILURE],
        Adoption::NameInconsistent,
    );
    run(
        &[],
        &["ArtifactRollback"],
        &["Rollback_Enter Rollback", ROLLBACK, BACK, FAILURE],
        Adoption::Keep,
    );
    run(
        &["ArtifactRollback_Enter"],
        &[],
        &[ROLLBACK, BACK, FAILURE],
        Adoption::NameInconsistent,
    );
    run(
        &["ArtifactRollbackReboot"],
        &[],
        &[ROLLBACK, BACK, FAILURE],
        Adoption::Keep,
    );
    run(
        &[],
        &["ArtifactRollbackReboot"],
        &[ROLLBACK, BACK, FAILURE],
        Adoption::Keep,
    );
    run(
        &["ArtifactVerifyRollbackReboot"],
        &[],
        &[
            ROLLBACK,
            "RollbackReboot_Enter RollbackReboot VerifyRollbackReboot RollbackReboot VerifyRollbackReboot",
            "RollbackReboot_Leave",
            FAILURE,
        ],
        Adoption::Keep,
    );
    run(
        &["ArtifactRollbackReboot_Leave"],
        &[],
        &[ROLLBACK, BACK, "RollbackReboot_Error", FAILURE],
        Adoption::NameInconsistent,
    );
    run(
        &["ArtifactFailure"],
        &[],
        &[ROLLBACK, BACK, FAILURE],
        Adoption::NameInconsistent,
    );
    run(
        &[],
        &["ArtifactFailure"],
        &[ROLLBACK, BACK, "Failure_Enter Failure", FAILURE],
        Adoption::Keep,
    );
    run(
        &["Cleanup"],
        &[],
        &[ROLLBACK, BACK, FAILURE],
        Adoption::Keep,
    );
    run(
        &[],
        &["Cleanup"],
        &[ROLLBACK, BACK, FAILURE, "Cleanup"],
        Adoption::Keep,
    );
}

#[test]
fn aborts_at_every_status() {
    for (at, chain, statuses) in [
        (0, String::new(), "downloading failure"),
        (1, s(&[DOWN, "Cleanup"]), "downloading installing failure"),
        (
            2,
            s(&[DOWN, INSTALL, ROLLBACK, BACK, FAILURE]),
            "downloading installing rebooting failure",
        ),
        (
            3,
            s(&[DOWN, INSTALL, REBOOT, ROLLBACK, BACK, FAILURE]),
            "downloading installing rebooting installing failure",
        ),
    ] {
        check(
            &Case {
                abort_at: Some(at),
                ..rebooting()
            },
            &chain,
            statuses,
            Adoption::Keep,
        );
    }
}

#[test]
fn unanswered_statuses_do_not_matter_before_the_commit() {
    check(
        &Case {
            fail: &["<downloading>", "<installing>", "<rebooting>"],
            ..rebooting()
        },
        &s(&[DOWN, INSTALL, REBOOT, COMMIT]),
        "downloading installing rebooting installing success",
        Adoption::Adopt,
    );
}

#[test]
fn an_unwritable_disk_stops_the_way_forward() {
    check(
        &Case {
            save_fails_at: Some(1),
            ..rebooting()
        },
        "Download_Error",
        "downloading failure",
        Adoption::Keep,
    );
    // Saves 1 and 2 belong to the download: marker and header facts. At the third one nothing is active yet.
    check(
        &Case {
            save_fails_at: Some(3),
            ..rebooting()
        },
        &s(&[DOWN, "Download_Error Cleanup"]),
        "downloading failure",
        Adoption::Keep,
    );
    check(
        &Case {
            save_fails_at: Some(4),
            ..rebooting()
        },
        &s(&[DOWN, "Install_Error", ROLLBACK, BACK, FAILURE]),
        "downloading installing failure",
        Adoption::Keep,
    );
}

#[test]
fn loops_end() {
    let verification = Case {
        fail: &["ArtifactVerifyReboot", "ArtifactVerifyRollbackReboot*"],
        ..rebooting()
    };
    let outcome = play(&verification);
    assert!(
        outcome
            .chain
            .ends_with("RollbackReboot VerifyRollbackReboot"),
        "{}",
        outcome.chain
    );
    assert_eq!(outcome.statuses, "downloading installing rebooting failure");
    assert_eq!(outcome.adoption, Adoption::NameInconsistent);
    assert!(outcome.saves < 28, "{} saves", outcome.saves);

    let dying = Case {
        fail: &["ArtifactVerifyReboot"],
        kill: &["ArtifactFailure*"],
        ..rebooting()
    };
    let outcome = play(&dying);
    assert!(
        outcome.chain.ends_with("Failure_Enter Failure"),
        "{}",
        outcome.chain
    );
    assert_eq!(outcome.adoption, Adoption::NameInconsistent);

    // Dying in every Cleanup after a good commit is still a success.
    let dying = Case {
        kill: &["Cleanup*"],
        ..rebooting()
    };
    let outcome = play(&dying);
    assert_eq!(
        outcome.statuses,
        "downloading installing rebooting installing success"
    );
    assert_eq!(outcome.adoption, Adoption::Adopt);
}

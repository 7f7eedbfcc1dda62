//! What may go wrong in a simulated deployment, apart from crashes.

use ambidex_machine::{Action, Call, Gate, ScriptState};

/// The kind of payload.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// The A/B handler: the agent reboots.
    Rootfs,
    /// A module that reboots by itself and can roll back.
    RebootingModule,
    /// A module without reboot that can roll back.
    PlainModule,
    /// A module without reboot and without rollback.
    NoRollback,
    /// No payload at all.
    Empty,
}

impl Kind {
    pub const ALL: [Self; 5] = [
        Self::Rootfs,
        Self::RebootingModule,
        Self::PlainModule,
        Self::NoRollback,
        Self::Empty,
    ];
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum What {
    Scripts(ScriptState, Action),
    Call(Call),
    /// Somebody at the device does not want it.
    Hold(Gate),
    Open,
    Stream,
    AskReboot,
    AskRollback,
    CheckReadiness,
    /// The system's reboot command does nothing.
    System,
}

impl What {
    /// Whether it makes a difference that a download can be taken up.
    pub fn meets_the_download(self) -> bool {
        matches!(
            self,
            Self::Scripts(ScriptState::Download, _)
                | Self::Call(Call::Cleanup)
                | Self::Open
                | Self::Stream
        )
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Times {
    Once,
    Always,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Network {
    Up,
    /// The new software breaks the connection.
    DownOnNew,
    /// The server is away from the first save to the end of the deployment.
    DownDuringDeployment,
}

#[derive(Debug, Clone)]
pub struct Scenario {
    pub kind: Kind,
    pub failures: Vec<(What, Times)>,
    pub network: Network,
    pub new_panics: bool,
    /// What was received of the artifact survives.
    pub spooled: bool,
    /// The deployment is held at every gate for a moment.
    pub held: bool,
    /// The ordinal of the status report that is answered with 409, and all after it.
    pub abort_at: Option<usize>,
    /// The store cannot be written from this write on.
    pub store_broken_from: Option<u32>,
    /// One write fails.
    pub store_broken_at: Option<u32>,
    /// Two writes fail, one after the other: the end of a deployment and its result. What was received of the artifact
    /// stays as well.
    pub store_broken_for_two_at: Option<u32>,
}

/// A deliberate mistake in the interpreter, to prove that the checker sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mutation {
    SaveAfterActing,
    ForgetVerdict,
    ReportWithoutQueue,
    CommitWithoutContact,
    /// Recovery skips the way back and cleans up.
    RecoverBlindly,
    /// Nobody asks the running slot.
    NeverSettle,
    /// A download is taken up without asking whether the deployment is still wanted.
    TakeUpUnasked,
}

impl Scenario {
    pub fn plain(kind: Kind) -> Self {
        Self {
            kind,
            failures: Vec::new(),
            network: Network::Up,
            new_panics: false,
            spooled: false,
            held: false,
            abort_at: None,
            store_broken_from: None,
            store_broken_at: None,
            store_broken_for_two_at: None,
        }
    }

    /// Whether a crash or failure may leave software that is neither old nor new, or that nobody can vouch for.
    pub fn may_be_inconsistent(&self) -> bool {
        use Action::Leave;
        use ScriptState as S;
        self.kind == Kind::NoRollback
            || self.store_broken_from.is_some()
            || self.store_broken_at.is_some()
            || self.store_broken_for_two_at.is_some()
            || self.failures.iter().any(|(what, times)| match what {
                What::Scripts(
                    S::ArtifactRollback | S::ArtifactRollbackReboot | S::ArtifactFailure,
                    _,
                )
                | What::Scripts(S::ArtifactCommit, Leave)
                | What::Call(Call::Rollback | Call::Failure)
                | What::AskReboot
                | What::AskRollback => true,
                What::Call(Call::VerifyRollbackReboot | Call::RollbackReboot) | What::System => {
                    *times == Times::Always
                }
                _ => false,
            })
    }

    pub fn store_sound(&self) -> bool {
        self.store_broken_from.is_none()
            && self.store_broken_at.is_none()
            && self.store_broken_for_two_at.is_none()
    }
}

/// Every single thing that can be told to fail.
pub fn everything() -> Vec<What> {
    use Action::{Enter, Error, Leave};
    use ScriptState as S;
    let mut all = Vec::new();
    for state in [
        S::Download,
        S::ArtifactInstall,
        S::ArtifactReboot,
        S::ArtifactCommit,
        S::ArtifactRollback,
        S::ArtifactRollbackReboot,
        S::ArtifactFailure,
    ] {
        for action in [Enter, Leave, Error] {
            all.push(What::Scripts(state, action));
        }
    }
    for call in [
        Call::Install,
        Call::Reboot,
        Call::VerifyReboot,
        Call::Commit,
        Call::Rollback,
        Call::RollbackReboot,
        Call::VerifyRollbackReboot,
        Call::Failure,
        Call::Cleanup,
    ] {
        all.push(What::Call(call));
    }
    all.extend([
        What::Hold(Gate::Install),
        What::Hold(Gate::Reboot),
        What::Hold(Gate::Commit),
        What::Open,
        What::Stream,
        What::AskReboot,
        What::AskRollback,
        What::CheckReadiness,
        What::System,
    ]);
    all
}

/// The failures that start the way back, so that every failure on it is met.
pub const OPENERS: [What; 4] = [
    What::Call(Call::Install),
    What::Call(Call::Reboot),
    What::Call(Call::VerifyReboot),
    What::Call(Call::Commit),
];

/// Every scenario of the exhaustive test.
pub fn all() -> Vec<Scenario> {
    let mut scenarios = Vec::new();
    for kind in Kind::ALL {
        let plain = Scenario::plain(kind);
        scenarios.push(plain.clone());
        scenarios.push(Scenario {
            spooled: true,
            ..plain.clone()
        });
        scenarios.push(Scenario {
            held: true,
            ..plain.clone()
        });
        for network in [Network::DownOnNew, Network::DownDuringDeployment] {
            scenarios.push(Scenario {
                network,
                ..plain.clone()
            });
        }
        if kind == Kind::Rootfs {
            scenarios.push(Scenario {
                new_panics: true,
                ..plain.clone()
            });
        }
        for ordinal in 0..4 {
            for spooled in [false, true] {
                scenarios.push(Scenario {
                    abort_at: Some(ordinal),
                    spooled,
                    ..plain.clone()
                });
            }
        }
        for write in 1..=12 {
            for spooled in [false, true] {
                scenarios.push(Scenario {
                    store_broken_from: Some(write),
                    spooled,
                    ..plain.clone()
                });
                scenarios.push(Scenario {
                    store_broken_at: Some(write),
                    spooled,
                    ..plain.clone()
                });
                scenarios.push(Scenario {
                    store_broken_for_two_at: Some(write),
                    spooled,
                    ..plain.clone()
                });
                // the deployment ends before anything is active, and that is told without any note of it
                for what in [What::Stream, What::Hold(Gate::Install)] {
                    scenarios.push(Scenario {
                        store_broken_for_two_at: Some(write),
                        failures: vec![(what, Times::Once)],
                        spooled,
                        ..plain.clone()
                    });
                }
            }
        }
        for what in everything() {
            for times in [Times::Once, Times::Always] {
                scenarios.push(Scenario {
                    failures: vec![(what, times)],
                    ..plain.clone()
                });
                if what.meets_the_download() {
                    scenarios.push(Scenario {
                        failures: vec![(what, times)],
                        spooled: true,
                        ..plain.clone()
                    });
                }
                for opener in OPENERS {
                    if opener != what {
                        let failures = vec![(opener, Times::Once), (what, times)];
                        scenarios.push(Scenario {
                            failures,
                            ..plain.clone()
                        });
                    }
                }
            }
        }
    }
    scenarios
}

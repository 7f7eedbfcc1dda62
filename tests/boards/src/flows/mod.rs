//! The flows of a campaign: what happens to a board, and what must come of it. Each begins on a board at rest and leaves
//! it at rest, so they run one after the other on one board.

mod cuts;
mod damage;
mod moments;
mod refusals;
mod rollbacks;
mod updates;

use std::future::Future;
use std::pin::Pin;

use anyhow::Result;

use crate::rig::{Rig, Target};

pub use cuts::{Broken, Finding, Plan, Tally, power_cuts};

/// What a board must offer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Need {
    /// Power, console, network.
    Nothing,
    /// A disk that can be looked at from outside.
    Disk,
    /// The same, with a boot environment on it.
    Environment,
}

impl Need {
    /// Why a board cannot have the flow.
    pub fn missing(self, target: &Target) -> Result<Option<&'static str>> {
        let emulated = !matches!(target, Target::Hardware(_));
        Ok(match self {
            Self::Disk | Self::Environment if !emulated => {
                Some("its storage cannot be looked at from outside")
            }
            Self::Environment if !target.kind()?.has_environment() => {
                Some("its boot loader has no environment")
            }
            _ => None,
        })
    }
}

type Run = for<'a> fn(&'a mut Rig) -> Pin<Box<dyn Future<Output = Result<()>> + 'a>>;

/// A flow.
#[derive(Debug, Clone, Copy)]
pub struct Flow {
    pub name: &'static str,
    /// For `--help` and the table.
    pub about: &'static str,
    pub need: Need,
    pub run: Run,
}

impl Flow {
    /// Decided by the agent alone: one board is enough for a test run.
    pub fn is_the_agents(&self) -> bool {
        matches!(
            self.name,
            "server-killed"
                | "signature"
                | "there-and-back"
                | "downgrade"
                | "too-large"
                | "no-network"
                | "unhealthy"
                | "hung-check"
                | "refused-commit"
                | "aborted"
        )
    }
}

macro_rules! flow {
    ($name:literal, $need:ident, $run:path, $about:literal) => {
        Flow {
            name: $name,
            about: $about,
            need: Need::$need,
            run: |rig| Box::pin($run(rig)),
        }
    };
}

/// What installs. The last two count what those before them have done on the same board.
pub const UPDATES: &[Flow] = &[
    flow!(
        "self-test",
        Nothing,
        updates::self_test,
        "ambidex-agent board check finds nothing wrong"
    ),
    flow!(
        "commit",
        Nothing,
        updates::commit,
        "an update is installed, committed, and stays"
    ),
    flow!(
        "damaged-copy",
        Environment,
        damage::one_copy,
        "one damaged copy of the boot environment is healed by an update"
    ),
    flow!(
        "damaged-both",
        Environment,
        damage::both_copies,
        "with both copies damaged a good slot boots; updates go on, or wait for people where there are no defaults"
    ),
    flow!(
        "server-killed",
        Disk,
        updates::server_killed,
        "the server dies during the download and comes back"
    ),
    flow!(
        "signature",
        Nothing,
        refusals::signature,
        "a wrong or missing signature is refused, a right one taken"
    ),
    flow!(
        "there-and-back",
        Nothing,
        updates::there_and_back,
        "A to B to A, twice"
    ),
    flow!(
        "downgrade",
        Nothing,
        updates::downgrade,
        "an older release is installed over a newer one"
    ),
];

/// What does not install, and what goes back.
pub const ROLLBACKS: &[Flow] = &[
    flow!(
        "too-large",
        Nothing,
        refusals::too_large,
        "an image larger than the slot is refused"
    ),
    flow!(
        "kernel-panic",
        Nothing,
        rollbacks::kernel_panic,
        "the new kernel panics"
    ),
    flow!(
        "hang",
        Nothing,
        rollbacks::hang,
        "the new system hangs; the watchdog resets the board"
    ),
    flow!(
        "no-network",
        Nothing,
        rollbacks::no_network,
        "the new system cannot reach the server"
    ),
    flow!(
        "unhealthy",
        Nothing,
        rollbacks::unhealthy,
        "the new system's health check fails"
    ),
    flow!(
        "hung-check",
        Nothing,
        rollbacks::hung_check,
        "the new system's health check does not end in time"
    ),
    flow!(
        "refused-commit",
        Nothing,
        rollbacks::refused_commit,
        "a state script refuses the commit"
    ),
    flow!(
        "aborted",
        Nothing,
        rollbacks::aborted,
        "the deployment is aborted while the board reboots"
    ),
];

/// The power goes at chosen moments.
pub const MOMENTS: &[Flow] = &[
    flow!(
        "cut-in-write",
        Disk,
        moments::in_the_write,
        "the power goes in the middle of the write"
    ),
    flow!(
        "cut-at-reboot",
        Nothing,
        moments::at_the_reboot,
        "the power goes at the reboot"
    ),
    flow!(
        "cut-in-trial",
        Nothing,
        moments::in_the_trial,
        "the power goes in the boot loader of the trial"
    ),
    flow!(
        "cut-before-commit",
        Nothing,
        moments::before_the_commit,
        "the power goes before the commit"
    ),
];

/// Every flow, in the order in which they run. The random cuts come after them, on a board of their own.
pub fn all() -> impl Iterator<Item = &'static Flow> {
    UPDATES.iter().chain(ROLLBACKS).chain(MOMENTS)
}

/// Runs those of `flows` that the board can have, one after the other.
pub async fn run_all(
    rig: &mut Rig,
    target: &Target,
    flows: impl Iterator<Item = &Flow>,
) -> Result<()> {
    use anyhow::Context as _;
    for flow in flows {
        if let Some(reason) = flow.need.missing(target)? {
            eprintln!("{}: not on {}: {reason}", flow.name, target.name());
            continue;
        }
        let watch = crate::rig::Watch::start();
        (flow.run)(rig)
            .await
            .with_context(|| format!("in the flow {}", flow.name))?;
        eprintln!("{}: {:.1} s", flow.name, watch.seconds());
    }
    Ok(())
}

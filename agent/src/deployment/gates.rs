//! Where a deployment is held, and by whose wish.
//!
//! Before download, installation, reboot and commit a deployment passes a gate. It is closed outside the maintenance
//! window, where the configuration asks for somebody's consent, and while somebody has paused deployments. Wishes of
//! people at the device are durable: a hold that a restart ended would be none.
//!
//! Shared by the poll loop, the runner and the control socket; all state is behind one short lock, and every change
//! wakes who waits at a gate.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use ambidex_machine::Gate;
use ambidex_platform::{
    clock,
    record::{RecordError, RecordFile},
};
use serde::{Deserialize, Serialize};
use tokio::sync::watch;

use crate::config::{Config, Window};

/// Name of the record file in the state directory.
const NAME: &str = "consent";

/// Between looks at the clock: it may be set, or jump.
const CLOCK_CHECK: Duration = Duration::from_secs(60);

/// Between polls while the clock is not set: a time service needs some minutes after the start.
const CLOCK_POLL: Duration = Duration::from_secs(300);

/// The reason of a deployment that somebody at the device has ended.
pub const UNWANTED: &str = "the deployment was aborted at the device";

/// Why a gate is closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Held {
    /// Outside the maintenance window, which opens after this long.
    Window(Duration),
    /// Whether the maintenance window is open cannot be told before the clock is set.
    Clock,
    /// Somebody has to agree.
    Consent,
    /// Somebody has paused deployments.
    Paused,
}

impl Held {
    /// When to look again; a change wakes earlier.
    #[must_use]
    pub fn look_again(self) -> Duration {
        match self {
            Self::Window(wait) => wait.min(CLOCK_CHECK),
            Self::Clock => CLOCK_CHECK,
            Self::Consent | Self::Paused => Duration::MAX,
        }
    }

    /// When the server is to be asked again for a deployment that waits there; `None`: at the regular time.
    #[must_use]
    pub const fn ask_again(self) -> Option<Duration> {
        match self {
            Self::Window(wait) => Some(wait),
            Self::Clock => Some(CLOCK_POLL),
            Self::Consent | Self::Paused => None,
        }
    }

    /// What holds it, without how long.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Window(_) => "window",
            Self::Clock => "clock",
            Self::Consent => "consent",
            Self::Paused => "paused",
        }
    }
}

impl std::fmt::Display for Held {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Window(wait) => write!(
                f,
                "outside the maintenance window, which opens in {} min",
                wait.as_secs().div_ceil(60)
            ),
            Self::Clock => f.write_str(
                "the clock is not synchronised, so nobody knows whether the maintenance window is open",
            ),
            Self::Consent => {
                f.write_str("it needs consent: ambidex-agent deployment continue (or abort)")
            }
            Self::Paused => f.write_str("paused: ambidex-agent deployment continue (or abort)"),
        }
    }
}

/// What people at the device want.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Wishes {
    #[serde(default)]
    paused: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    consent: Option<Consent>,
    /// The deployment that is to end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    unwanted: Option<String>,
}

/// The gates that one deployment may pass.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Consent {
    deployment_id: String,
    gates: Vec<Gate>,
}

/// What goes on, for people at the device.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct View {
    /// Deployments are paused at their next gate.
    pub paused: bool,
    /// The deployment in work or at the first gate: its id.
    pub deployment_id: Option<String>,
    /// The gate at which it stands, and why.
    pub held: Option<(Gate, Held)>,
    /// It ends at its next gate.
    pub unwanted: bool,
}

/// Why a wish was not taken.
#[derive(Debug, thiserror::Error)]
pub enum WishError {
    #[error("no deployment is in progress or offered")]
    Nothing,
    #[error("no deployment is held and deployments are not paused")]
    NotHeld,
    #[error("the wish cannot be stored: {0}; nothing was changed")]
    Store(#[from] RecordError),
}

/// A handle; cheap to clone.
#[derive(Debug, Clone)]
pub struct Gates(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    window: Option<Window>,
    is_clock_synchronised: fn() -> bool,
    consent_before: Vec<Gate>,
    file: RecordFile,
    state: Mutex<State>,
    changes: watch::Sender<()>,
}

#[derive(Debug, Default)]
struct State {
    wishes: Wishes,
    deployment_id: Option<String>,
    held: Option<(Gate, Held)>,
}

impl Gates {
    /// Reads the wishes of an earlier life; those that cannot be understood are none, with a word in the log.
    #[must_use]
    pub fn open(config: &Config) -> Self {
        Self::with_clock(config, clock::is_synchronised)
    }

    fn with_clock(config: &Config, is_clock_synchronised: fn() -> bool) -> Self {
        let file = RecordFile::open(&config.roots.state, NAME);
        let wishes = match file.load() {
            Ok(loaded) => loaded
                .bytes()
                .map(serde_json::from_slice)
                .transpose()
                .map_err(|error| error.to_string()),
            Err(error) => Err(error.to_string()),
        };
        let wishes = wishes.unwrap_or_else(|error| {
            log::error!("what was wished at this device cannot be understood: {error}");
            None
        });
        Self(Arc::new(Inner {
            window: config.maintenance_window.clone(),
            is_clock_synchronised,
            consent_before: config.consent_before.clone(),
            file,
            state: Mutex::new(State {
                wishes: wishes.unwrap_or_default(),
                ..State::default()
            }),
            changes: watch::Sender::new(()),
        }))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // every critical section is plain assignments: a poisoned state is still whole
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Why this deployment may not pass; `None` when it may.
    #[must_use]
    pub fn closed(&self, gate: Gate, deployment_id: &str) -> Option<Held> {
        let wishes = self.state().wishes.clone();
        if wishes.paused {
            return Some(Held::Paused);
        }
        // consent counts for the window, too: who gives it knows what time it is
        let agreed = wishes.consent.is_some_and(|consent| {
            consent.deployment_id == deployment_id && consent.gates.contains(&gate)
        });
        if agreed {
            return None;
        }
        if self.0.consent_before.contains(&gate) {
            return Some(Held::Consent);
        }
        let window = self.0.window.as_ref().filter(|window| match gate {
            Gate::Download => window.download,
            Gate::Install => window.install,
            Gate::Reboot => window.reboot,
            Gate::Commit => false,
        })?;
        if window.needs_synchronised_clock && !(self.0.is_clock_synchronised)() {
            return Some(Held::Clock);
        }
        let now = jiff::Timestamp::try_from(clock::wall()).ok()?;
        window.opens_in(now).map(Held::Window)
    }

    /// Whether somebody at the device wants this deployment to end.
    #[must_use]
    pub fn is_unwanted(&self, deployment_id: &str) -> bool {
        self.state().wishes.unwanted.as_deref() == Some(deployment_id)
    }

    /// Returns when somebody at the device wants this deployment to end.
    pub async fn unwanted(&self, deployment_id: &str) {
        let mut changes = self.changes();
        while !self.is_unwanted(deployment_id) {
            if changes.changed().await.is_err() {
                std::future::pending::<()>().await;
            }
        }
    }

    /// Sees every change of wishes from now on.
    #[must_use]
    pub fn changes(&self) -> watch::Receiver<()> {
        self.0.changes.subscribe()
    }

    /// Shows people what goes on.
    pub fn show(&self, deployment_id: Option<&str>, held: Option<(Gate, Held)>) {
        let mut state = self.state();
        state.deployment_id = deployment_id.map(str::to_owned);
        state.held = held;
    }

    /// A deployment has ended: what was wished of it is of no use any more.
    pub fn ended(&self, deployment_id: &str) {
        let mut wishes = self.state().wishes.clone();
        wishes
            .consent
            .take_if(|consent| consent.deployment_id == deployment_id);
        wishes.unwanted.take_if(|id| id == deployment_id);
        if let Err(error) = self.store(wishes) {
            log::warn!("{error}");
        }
        self.show(None, None);
    }

    /// What goes on.
    #[must_use]
    pub fn view(&self) -> View {
        let state = self.state();
        View {
            paused: state.wishes.paused,
            unwanted: state.wishes.unwanted.is_some()
                && state.wishes.unwanted == state.deployment_id,
            deployment_id: state.deployment_id.clone(),
            held: state.held,
        }
    }

    /// Holds deployments at their next gate.
    ///
    /// # Errors
    /// When that cannot be stored.
    pub fn pause(&self) -> Result<(), WishError> {
        let mut wishes = self.state().wishes.clone();
        wishes.paused = true;
        self.store(wishes)
    }

    /// Ends a pause, and agrees to what is held now.
    ///
    /// # Errors
    /// When nothing is held or paused.
    pub fn go_on(&self) -> Result<(), WishError> {
        let (mut wishes, held) = {
            let state = self.state();
            let at = state.held.map(|(gate, _)| gate);
            (state.wishes.clone(), state.deployment_id.clone().zip(at))
        };
        if !wishes.paused && held.is_none() {
            return Err(WishError::NotHeld);
        }
        wishes.paused = false;
        if let Some((deployment_id, gate)) = held {
            match &mut wishes.consent {
                Some(consent) if consent.deployment_id == deployment_id => consent.gates.push(gate),
                consent => {
                    *consent = Some(Consent {
                        deployment_id,
                        gates: vec![gate],
                    });
                }
            }
        }
        self.store(wishes)?;
        // who waits there says it again when something else holds it
        self.state().held = None;
        Ok(())
    }

    /// Ends the deployment in work: at once while it downloads or is held, else at its next gate.
    ///
    /// # Errors
    /// When there is none.
    pub fn abort(&self) -> Result<(), WishError> {
        let (mut wishes, id) = {
            let state = self.state();
            (state.wishes.clone(), state.deployment_id.clone())
        };
        wishes.unwanted = Some(id.ok_or(WishError::Nothing)?);
        self.store(wishes)
    }

    fn store(&self, wishes: Wishes) -> Result<(), WishError> {
        if self.state().wishes == wishes {
            return Ok(());
        }
        let bytes = serde_json::to_vec(&wishes).expect("invariant: wishes are always JSON");
        self.0.file.save(&bytes)?;
        self.state().wishes = wishes;
        self.0.changes.send_replace(());
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{self, Overrides};

    fn gates(window: &str, is_clock_synchronised: fn() -> bool) -> (tempfile::TempDir, Gates) {
        let dir = tempfile::tempdir().unwrap();
        let text = format!("server_url = \"https://a\"\n[maintenance_window]\n{window}\n");
        std::fs::write(dir.path().join("agent.toml"), text).unwrap();
        let config = config::load(&Overrides {
            conf_dir: Some(dir.path().into()),
            data_dir: Some(dir.path().into()),
            state_dir: Some(dir.path().into()),
            ..Overrides::default()
        })
        .unwrap();
        let gates = Gates::with_clock(&config, is_clock_synchronised);
        (dir, gates)
    }

    /// W27: whether the window is open cannot be told by a clock that nobody has set.
    #[test]
    fn a_window_stays_closed_until_the_clock_is_set() {
        let always = "times = [\"00:00-24:00\"]\ntime_zone = \"UTC\"";
        let (_dir, unset) = gates(always, || false);
        for gate in [Gate::Download, Gate::Install, Gate::Reboot] {
            assert_eq!(unset.closed(gate, "d1"), Some(Held::Clock), "{gate:?}");
        }
        assert_eq!(unset.closed(Gate::Commit, "d1"), None);
        let waiting = Held::Clock.look_again();
        assert!(waiting <= Duration::from_secs(60), "{waiting:?}");

        let (_dir, set) = gates(always, || true);
        assert_eq!(set.closed(Gate::Download, "d1"), None);
        let any = format!("{always}\nneeds_synchronised_clock = false");
        let (_dir, unset) = gates(&any, || false);
        assert_eq!(unset.closed(Gate::Download, "d1"), None);
    }
}

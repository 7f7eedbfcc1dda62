//! The daemon: finishes what a restart interrupted, then polls until it is told to stop.
//!
//! Owns the loop and its [`schedule`], signals, the claim on the state directory, readiness and
//! watchdog of the service manager. Decides nothing within a deployment (`deployment`).
//!
//! Concurrency: one task does everything in turn; remote access, the login on the message bus and the control
//! socket have one each beside it. Triggers that come during a deployment wait in their streams. The wish to stop is seen everywhere through [`Stop`]; what does not end by
//! itself within a few seconds is dropped, which the journal makes harmless.

pub mod control;
mod presence;
mod schedule;
pub(crate) mod signals;
mod wishes;

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use ambidex_machine::{Action, Gate};
use ambidex_platform::{
    fs::{self, FsError},
    lock::{LockError, StateLock},
    memory, timer,
};
use ambidex_wire::deployments::Instructions;
use control::Control;
use schedule::{Due, Schedule};
use sd_notify::NotifyState;
use signals::{Stops, Triggers, Wish};
use wishes::RemoteAccess;

pub use presence::{PresenceError, daemon_pid, trigger_inventory, trigger_update};

use crate::{
    api::{Link, LinkError, LinkErrorKind},
    backoff::Backoff,
    clock,
    config::Config,
    deployment::{
        Delivery, Gates, Outcome, Runner, Stop, UNWANTED,
        scripts::{ScriptError, Scripts, State},
        stop,
        store::StoreError,
    },
    inventory::{Facts, Inventory},
};

/// How long work in progress may take to come to an end in good order.
const STOP_LIMIT: Duration = Duration::from_secs(20);

/// Between looks whether a deployment is held.
const HOLD_LOOK: Duration = Duration::from_secs(30);

/// Between looks whether a standalone verb has ended.
const LOCK_RETRY: Duration = Duration::from_secs(5);

/// A wait before which memory is given back, and the connection to the server.
const LONG_WAIT: Duration = Duration::from_secs(30);

/// Why the daemon does not run.
#[derive(Debug, thiserror::Error)]
pub enum DaemonError {
    #[error("another daemon runs already: {0}")]
    Claimed(LockError),
    #[error("the state directory cannot be used: {0}; it must exist and be writable for root")]
    State(#[from] FsError),
    #[error("no server is configured: set server_url in agent.toml (ServerURL in mender.conf)")]
    NoServer,
    #[error("signals cannot be received: {0}")]
    Signals(std::io::Error),
    #[error("{0}")]
    Deployment(String),
}

/// Runs until SIGTERM, SIGINT or SIGQUIT.
///
/// # Errors
/// Only what makes running pointless: another daemon, an unusable state directory, no server.
pub async fn run(config: Arc<Config>) -> Result<(), DaemonError> {
    if let Err(error) = fs::create_dir(&config.roots.state, 0o700)
        && !error.is_read_only()
    {
        return Err(error.into());
    }
    let _claim = presence::claim(&config.roots.state).map_err(|error| match error {
        LockError::Held { .. } => DaemonError::Claimed(error),
        LockError::Fs(error) => DaemonError::State(error),
    })?;
    let mut stops = Stops::listen().map_err(DaemonError::Signals)?;
    let triggers = Triggers::listen().map_err(DaemonError::Signals)?;
    let (stopper, stop) = stop::pair();

    log::info!(
        "ambidex-agent {} starts, state in '{}'",
        crate::VERSION,
        config.roots.state.display()
    );
    signals::notify(NotifyState::Ready);
    signals::feed_watchdog();

    let mut daemon = Daemon::new(config, stop.clone());
    let mut control = Control::start(&daemon.config.roots.state, &daemon.gates);
    let mut remote = RemoteAccess::start(&daemon.config, &daemon.link, &stop);
    #[cfg(feature = "dbus")]
    if daemon.config.dbus_login {
        // ends with the wish to stop, and holds nothing that must be ended in order
        tokio::spawn(crate::dbus::run(daemon.link.clone(), stop.clone()));
    }
    let ended = {
        let work = daemon.follow(triggers, &mut remote, &mut control);
        tokio::pin!(work);
        tokio::select! {
            ended = &mut work => ended,
            () = stops.next() => {
                log::info!("asked to stop");
                signals::notify(NotifyState::Stopping);
                stopper.stop();
                tokio::time::timeout(STOP_LIMIT, work).await.unwrap_or_else(|_| {
                    log::warn!(
                        "the work in progress did not end within {} s; it goes on after the next start",
                        STOP_LIMIT.as_secs()
                    );
                    Ok(())
                })
            }
        }
    };
    stopper.stop();
    remote.ended().await;
    ended
}

struct Daemon {
    config: Arc<Config>,
    link: Link,
    scripts: Scripts,
    inventory: Inventory,
    schedule: Schedule,
    stop: Stop,
    gates: Gates,
    /// Logins that the schedule knows of.
    logins: u64,
    /// The deployment that Sync scripts keep from beginning, and how often they may.
    kept_back: Option<(String, Backoff)>,
}

impl Daemon {
    fn new(config: Arc<Config>, stop: Stop) -> Self {
        Self {
            link: Link::new(Arc::clone(&config)),
            scripts: Scripts::new(&config),
            inventory: Inventory::default(),
            schedule: Schedule::new(config.polls, Instant::now()),
            stop,
            gates: Gates::open(&config),
            logins: 0,
            kept_back: None,
            config,
        }
    }

    async fn follow(
        &mut self,
        mut triggers: Triggers,
        remote: &mut RemoteAccess,
        control: &mut Control,
    ) -> Result<(), DaemonError> {
        // before the network: a device that cannot reach a server must still roll back
        self.recover().await?;
        if self.config.servers.is_empty() {
            return Err(DaemonError::NoServer);
        }
        self.wait_for_clock().await;
        self.idle(Action::Enter).await;
        let mut wishes = self.gates.changes();
        while !self.stop.is_requested() {
            let next = self.schedule.next();
            if next.saturating_duration_since(Instant::now()) > LONG_WAIT {
                self.link.rest();
                memory::give_code_back();
            }
            tokio::select! {
                () = self.stop.requested() => break,
                wish = triggers.next() => self.grant(wish),
                wish = remote.next() => self.grant(wish),
                wish = control.next() => self.grant(wish),
                // a deployment may stand at the first gate: it is offered again
                _ = wishes.changed() => self.schedule.trigger_update(Instant::now()),
                () = timer::sleep_until(next) => {}
            }
            let due = self.schedule.due(Instant::now());
            if due.inventory || due.update {
                self.turn(due).await;
            }
        }
        log::info!("stopped");
        Ok(())
    }

    fn grant(&mut self, wish: Wish) {
        let now = Instant::now();
        match wish {
            Wish::Update => {
                log::info!("asked to check for a deployment");
                self.schedule.trigger_update(now);
            }
            Wish::Inventory => {
                log::info!("asked to send the inventory");
                self.schedule.trigger_inventory(now);
            }
        }
    }

    /// Finishes what a restart interrupted.
    async fn recover(&mut self) -> Result<(), DaemonError> {
        let Some(_lock) = self.wait_for_lock().await else {
            return Ok(());
        };
        let mut runner = self
            .runner()
            .map_err(|error| DaemonError::Deployment(error.to_string()))?;
        let facts = self.facts(&runner);
        match self.accompany(runner.recover(), &facts).await {
            None => {}
            Some(Outcome::Stopped) => self.going_down().await,
            Some(outcome) => log::info!("the interrupted deployment ended: {outcome:?}"),
        }
        Ok(())
    }

    /// A device without a battery gets its time from the network: a moment of patience spares it refused certificates.
    async fn wait_for_clock(&self) {
        if !clock::is_certainly_wrong() {
            return;
        }
        let limit = self.config.clock_wait;
        log::warn!(
            "the clock stands before the day of this program's build; waiting up to {} s for a time service",
            limit.as_secs()
        );
        tokio::select! {
            () = self.stop.requested() => {}
            set = clock::wait_until_plausible(limit) => {
                log::info!("{}", if set { "the clock is set" } else { "the clock is still wrong; going on" });
            }
        }
    }

    fn runner(&self) -> Result<Runner, StoreError> {
        Runner::new(
            Arc::clone(&self.config),
            self.link.clone(),
            self.stop.clone(),
            self.gates.clone(),
        )
    }

    /// The device reboots, or the agent was asked to stop. Nothing more must be done until then: a
    /// daemon that ended here would be started again by the service manager on the old system.
    async fn going_down(&self) {
        if !self.stop.is_requested() {
            log::info!("waiting for the reboot");
        }
        self.stop.requested().await;
    }

    /// One visit to the server, and the deployment it may bring.
    async fn turn(&mut self, due: Due) {
        let Some(_lock) = self.lock() else { return };
        let mut runner = match self.runner() {
            Ok(runner) => runner,
            Err(error) => return self.put_off(due, &error.to_string()),
        };
        self.idle(Action::Leave).await;
        if let Some(instructions) = self.sync(due, &mut runner).await {
            match self.begin(&instructions, &mut runner).await {
                Outcome::Stopped => return self.going_down().await,
                Outcome::Success | Outcome::Failure => {
                    self.schedule.deployment_ended(Instant::now())
                }
                // something is in the way, which the regular interval is soon enough for
                Outcome::Declined => {}
            }
        }
        self.idle(Action::Enter).await;
    }

    /// Lets a deployment through the first gate, or leaves it on the server until the gate opens.
    async fn begin(&mut self, instructions: &Instructions, runner: &mut Runner) -> Outcome {
        let id = &instructions.id;
        self.kept_back = None;
        if self.gates.is_unwanted(id) {
            return runner.refuse(instructions, UNWANTED).await;
        }
        let Some(held) = self.gates.closed(Gate::Download, id) else {
            let facts = self.facts(runner);
            return self.accompany(runner.run(instructions), &facts).await;
        };
        self.gates.show(Some(id), Some((Gate::Download, held)));
        log::info!("deployment {id} is held before download: {held}");
        self.schedule.held(Instant::now(), held.ask_again());
        Outcome::Declined
    }

    /// Sends the inventory when it is due while a deployment is held, which may take days. While one is at work it waits:
    /// the end of the deployment brings it.
    async fn accompany<T>(&mut self, deployment: impl Future<Output = T>, facts: &Facts) -> T {
        tokio::pin!(deployment);
        loop {
            let now = Instant::now();
            let look = if self.gates.view().held.is_some() {
                self.schedule.next_inventory().max(now)
            } else {
                now + HOLD_LOOK.min(self.config.polls.retry_interval_min)
            };
            tokio::select! {
                ended = &mut deployment => return ended,
                () = tokio::time::sleep_until(tokio::time::Instant::from_std(look)) => {}
            }
            let due = self.schedule.next_inventory() <= Instant::now();
            if !due || self.gates.view().held.is_none() || self.config.servers.is_empty() {
                continue;
            }
            tokio::select! {
                ended = &mut deployment => return ended,
                sent = self.inventory.send(&self.link, &self.config, facts) => match sent {
                    Ok(_) => self.schedule.inventory_done(Instant::now()),
                    Err(error) => self.inventory_failed(&error),
                },
            }
        }
    }

    async fn wait_for_lock(&mut self) -> Option<Option<StateLock>> {
        loop {
            if let Some(lock) = self.lock() {
                return Some(lock);
            }
            tokio::select! {
                () = self.stop.requested() => return None,
                () = tokio::time::sleep(LOCK_RETRY) => {}
            }
        }
    }

    /// The right to work on the device. `Some(None)` where the file system is read-only.
    fn lock(&mut self) -> Option<Option<StateLock>> {
        match StateLock::acquire(&self.config.roots.state) {
            Ok(lock) => Some(Some(lock)),
            Err(LockError::Fs(error)) if error.is_read_only() => Some(None),
            Err(error) => {
                log::warn!("{error}");
                self.schedule.postponed(Instant::now());
                None
            }
        }
    }

    async fn sync(&mut self, due: Due, runner: &mut Runner) -> Option<Instructions> {
        if let Err(error) = self
            .scripts
            .run(State::Sync, Action::Enter, &self.stop)
            .await
        {
            self.put_off(due, &error.to_string());
            self.sync_error().await;
            return None;
        }
        let stop = self.stop.clone();
        let visited = tokio::select! {
            () = stop.requested() => return None,
            visited = self.visit(due, runner) => visited,
        };
        let Ok(found) = visited else {
            self.sync_error().await;
            return None;
        };
        if let Err(error) = self
            .scripts
            .run(State::Sync, Action::Leave, &self.stop)
            .await
        {
            match found.filter(|_| !matches!(error, ScriptError::Stopped)) {
                None => self.put_off(due, &error.to_string()),
                Some(instructions) => self.keep_back(&instructions, runner, &error).await,
            }
            self.sync_error().await;
            return None;
        }
        found
    }

    /// Sync scripts let a deployment wait, as they do with the reference, but not for ever: it ends with their reason.
    async fn keep_back(
        &mut self,
        instructions: &Instructions,
        runner: &mut Runner,
        error: &ScriptError,
    ) {
        let id = &instructions.id;
        if self.kept_back.as_ref().is_none_or(|(kept, _)| kept != id) {
            self.kept_back = Some((id.clone(), Backoff::new(&self.config.polls)));
        }
        let wait = self
            .kept_back
            .as_mut()
            .and_then(|(_, backoff)| backoff.next_wait());
        if let Some(wait) = wait {
            let wait = self.schedule.kept_back(Instant::now(), wait);
            log::warn!(
                "{error}; deployment {id} has to wait, trying again in {} s",
                wait.as_secs()
            );
            return;
        }
        self.kept_back = None;
        let reason = format!("the deployment was never let through: {error}");
        if runner.refuse(instructions, &reason).await == Outcome::Failure {
            self.schedule.deployment_ended(Instant::now());
        }
    }

    fn put_off(&mut self, due: Due, reason: &str) {
        let now = Instant::now();
        if due.inventory {
            self.schedule.inventory_failed(now, None);
        }
        if due.update {
            self.schedule.update_failed(now, None);
        }
        log::error!("{reason}; the server is asked later");
    }

    /// Logs in if needed, sends the inventory, asks for a deployment. `Err`: something went wrong and
    /// was logged.
    async fn visit(
        &mut self,
        mut due: Due,
        runner: &mut Runner,
    ) -> Result<Option<Instructions>, ()> {
        if !self.link.is_authorized()
            && let Err(error) = self.link.authorize().await
        {
            self.login_failed(&error);
            return Err(());
        }
        if self.notice_login() {
            due = Due {
                inventory: true,
                update: true,
            };
        }
        // what the server has not heard of yet comes before anything new
        if runner.deliver_reports().await == Delivery::Waiting {
            due.update = false;
            self.schedule.update_failed(Instant::now(), None);
        }
        let facts = self.facts(runner);
        let mut outcome = Ok(None);
        if due.inventory {
            match self.inventory.send(&self.link, &self.config, &facts).await {
                Ok(sent) => {
                    log::debug!(
                        "the inventory {}",
                        if sent { "was sent" } else { "has not changed" }
                    );
                    self.schedule.inventory_done(Instant::now());
                }
                Err(error) => {
                    self.inventory_failed(&error);
                    outcome = Err(());
                }
            }
        }
        if due.update && self.link.is_authorized() {
            outcome = self.check(facts).await;
        }
        if self.notice_login() {
            // a login in the middle: the server may have lost what it knew
            self.schedule.trigger_inventory(Instant::now());
        }
        outcome
    }

    async fn check(&mut self, facts: Facts) -> Result<Option<Instructions>, ()> {
        if facts.device_type.is_none() {
            // the reason was logged with the facts
            self.schedule.update_failed(Instant::now(), None);
            return Err(());
        }
        match self.link.next_deployment(&facts.provides).await {
            Ok(found) => {
                if found.is_none() {
                    self.gates.show(None, None);
                    log::debug!("no deployment for this device");
                }
                self.schedule.update_done(Instant::now());
                Ok(found)
            }
            Err(error) if error.kind() == LinkErrorKind::Unauthorized => {
                self.login_failed(&error);
                Err(())
            }
            Err(error) => {
                let wait = self
                    .schedule
                    .update_failed(Instant::now(), error.retry_after());
                log::warn!("{error}; trying again in {} s", wait.as_secs());
                Err(())
            }
        }
    }

    fn inventory_failed(&mut self, error: &LinkError) {
        if error.kind() == LinkErrorKind::Unauthorized {
            return self.login_failed(error);
        }
        let wait = self
            .schedule
            .inventory_failed(Instant::now(), error.retry_after());
        log::warn!("{error}; trying again in {} s", wait.as_secs());
    }

    fn login_failed(&mut self, error: &LinkError) {
        let wait = self
            .schedule
            .login_failed(Instant::now(), error.retry_after());
        log::warn!("{error}; trying again in {} s", wait.as_secs());
    }

    /// True once after every login.
    fn notice_login(&mut self) -> bool {
        let logins = self.link.logins();
        if logins == self.logins {
            return false;
        }
        self.logins = logins;
        self.schedule.logged_in(Instant::now());
        true
    }

    /// What the device has installed, as its state says now: a standalone verb may have changed it.
    fn facts(&self, runner: &Runner) -> Facts {
        match runner.provides() {
            Ok(provides) => Facts {
                device_type: provides.get("device_type").cloned(),
                provides,
            },
            Err(error) => {
                log::error!("{error}; without a device type no deployment can be asked for");
                Facts {
                    device_type: None,
                    provides: runner.store().provides().clone(),
                }
            }
        }
    }

    async fn sync_error(&self) {
        // Error scripts are never a reason to fail
        let _ = self
            .scripts
            .run(State::Sync, Action::Error, &self.stop)
            .await;
    }

    async fn idle(&self, action: Action) {
        // Idle scripts neither
        let _ = self.scripts.run(State::Idle, action, &self.stop).await;
    }
}

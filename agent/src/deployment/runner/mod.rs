//! Executes what the state machine decides, for deployments of a server.
//!
//! Owns the order "record, act": a save that fails stops the list of effects, so that nothing acts without its record.
//! All waiting here ends early when a stop is asked for; what that means for the deployment is the machine's business.

mod download;
mod told;

use std::{collections::BTreeMap, sync::Arc};

use ambidex_machine::{
    self as machine, Action, Adoption, Call, Conclusion, Effect, Event, Found, Insistence, Phase,
    Record, ScriptState, Verdict,
};
use ambidex_platform::{clock, reboot};
use ambidex_wire::deployments::{DeviceStatus, Instructions};

use super::{
    bootstrap, conditions,
    fetching::Fetching,
    gates::{Gates, UNWANTED},
    handling::Handling,
    reports::{self, Delivery, Effort},
    scripts::{ScriptError, Scripts, State},
    spooling,
    stop::Stop,
    store::{Store, StoreError},
};
use crate::{
    api::Link,
    config::{Config, ConfigError, device_type},
    logbook,
};

/// How a deployment ended, for the poll loop.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    Success,
    Failure,
    /// The agent was asked to stop, or the device is rebooting: the next start goes on.
    Stopped,
    /// Nothing was installed: the deployment's result is known already, or something else is in the way.
    Declined,
}

/// Carries deployments through their states. One at a time.
pub struct Runner {
    config: Arc<Config>,
    link: Link,
    store: Store,
    scripts: Scripts,
    stop: Stop,
    gates: Gates,
    handling: Handling,
    fetching: Option<Fetching>,
}

/// What an effect led to.
enum Executed {
    Event(Event),
    /// The list had no acting effect: the machine is done.
    Over,
    /// The device is going down.
    GoingDown,
}

impl Runner {
    /// Opens the state and makes sure that the device has a name. The caller holds the state directory's lock.
    ///
    /// # Errors
    /// When the state directory cannot be used.
    pub fn new(
        config: Arc<Config>,
        link: Link,
        stop: Stop,
        gates: Gates,
    ) -> Result<Self, StoreError> {
        let mut store = Store::open(&config.roots.state)?;
        if let Err(error) = bootstrap::ensure_name(
            &mut store,
            &config.roots.state,
            &config.roots.bootstrap_artifact(),
        ) {
            // A read-only state directory: the server must still hear of it (a deployment fails in good order).
            log::error!("{error}");
        }
        let scripts = Scripts::new(&config);
        Ok(Self {
            config,
            link,
            store,
            scripts,
            stop,
            gates,
            handling: Handling::default(),
            fetching: None,
        })
    }

    /// What the device provides, as polls and inventory tell it: everything stored, and the device type.
    ///
    /// # Errors
    /// When the device type cannot be read.
    pub fn provides(&self) -> Result<BTreeMap<String, String>, ConfigError> {
        let mut provides = self.store.provides().clone();
        provides
            .entry("artifact_name".into())
            .or_insert_with(|| super::store::UNKNOWN_NAME.into());
        provides.insert("device_type".into(), device_type(&self.config)?);
        Ok(provides)
    }

    /// The durable state, to read.
    #[must_use]
    pub fn store(&self) -> &Store {
        &self.store
    }

    /// The state scripts, for Idle and Sync.
    #[must_use]
    pub fn scripts(&self) -> &Scripts {
        &self.scripts
    }

    /// Goes on with the deployment that a restart interrupted, if there is one. To be called once, at start.
    pub async fn recover(&mut self) -> Option<Outcome> {
        let Some(record) = self.store.deployment().cloned() else {
            spooling::discard(&self.config.download);
            return None;
        };
        self.begin_log(&record.deployment_id);
        log::info!(
            "going on with deployment {} after a restart ({:?})",
            record.deployment_id,
            record.step
        );
        Some(self.go_on(record).await)
    }

    async fn go_on(&mut self, record: Record) -> Outcome {
        let found = Found {
            checkpoint: spooling::checkpoint(&self.config.download, &record.deployment_id),
            boot: clock::boot_id(),
        };
        self.drive(machine::recover(record, &found)).await
    }

    /// Ends a deployment that was not begun, because somebody at the device does not want it.
    pub async fn refuse(&mut self, instructions: &Instructions) -> Outcome {
        let id = &instructions.id;
        let mut record = Record::new(id, &instructions.artifact.source.uri);
        record.reason = Some(UNWANTED.into());
        let conclusion = Conclusion {
            status: DeviceStatus::Failure,
            reason: record.reason.clone(),
            adoption: Adoption::Keep,
        };
        self.begin_log(id);
        if let Event::SaveFailed(error) = self.conclude(&record, &conclusion) {
            log::error!("deployment {id} cannot be refused: {error}");
            return Outcome::Declined;
        }
        logbook::detach();
        self.gates.ended(id);
        self.deliver(Effort::Insist).await;
        Outcome::Failure
    }

    /// Carries out a deployment.
    pub async fn run(&mut self, instructions: &Instructions) -> Outcome {
        let id = &instructions.id;
        if self
            .store
            .reports()
            .iter()
            .any(|report| report.deployment_id == *id)
        {
            log::info!(
                "the result of deployment {id} is known already; the server has not heard of it yet"
            );
            self.deliver(Effort::Insist).await;
            return Outcome::Declined;
        }
        if let Some(pending) = self.store.standalone() {
            log::warn!(
                "the standalone update to {} is not finished: `commit` or `rollback` it; deployment {id} has to wait",
                pending.facts.artifact_name
            );
            return Outcome::Declined;
        }
        if let Some(record) = self.store.deployment().cloned() {
            log::warn!(
                "deployment {} is not finished; {id} has to wait",
                record.deployment_id
            );
            return self.go_on(record).await;
        }
        spooling::discard(&self.config.download);
        self.begin_log(id);
        log::info!("deployment {id}: {}", instructions.artifact.artifact_name);
        let found = Found {
            checkpoint: None,
            boot: clock::boot_id(),
        };
        let record = Record::new(id, &instructions.artifact.source.uri);
        self.drive(machine::begin(record, &found)).await
    }

    /// Sends results that the server has not taken yet; to be called before each poll.
    pub async fn deliver_reports(&mut self) -> Delivery {
        self.deliver(Effort::Once).await
    }

    async fn deliver(&mut self, effort: Effort) -> Delivery {
        reports::deliver(
            &mut self.store,
            &self.link,
            &self.config,
            effort,
            &self.stop,
        )
        .await
    }

    fn begin_log(&self, id: &str) {
        if let Err(error) = logbook::attach(&self.config.update_log_path, id) {
            log::warn!("this deployment has no log: {error}");
        }
    }

    async fn drive(&mut self, mut next: (Record, Vec<Effect>)) -> Outcome {
        self.gates.show(Some(&next.0.deployment_id), None);
        let (record, going_down) = loop {
            let (record, effects) = next;
            match self.execute(&record, effects).await {
                Executed::Event(event) => {
                    if let Event::Failed(reason) | Event::SaveFailed(reason) = &event {
                        log::error!("{:?}: {reason}", record.step);
                    }
                    next = machine::step(record, event);
                }
                Executed::Over => break (record, false),
                Executed::GoingDown => break (record, true),
            }
        };
        self.handling = Handling::default();
        if going_down || record.stopped {
            log::info!(
                "stopping; deployment {} goes on at the next start",
                record.deployment_id
            );
            logbook::detach();
            return Outcome::Stopped;
        }
        let outcome = match record.verdict {
            Some(Verdict::Success) => Outcome::Success,
            Some(_) => Outcome::Failure,
            None => Outcome::Declined,
        };
        log::info!("deployment {} ended: {outcome:?}", record.deployment_id);
        self.gates.ended(&record.deployment_id);
        logbook::detach();
        if outcome != Outcome::Declined {
            self.deliver(Effort::Insist).await;
        }
        outcome
    }

    async fn execute(&mut self, record: &Record, effects: Vec<Effect>) -> Executed {
        for effect in effects {
            let silent = effect.is_silent();
            match self.perform(record, effect).await {
                Executed::Over if silent => {}
                executed => return executed,
            }
        }
        Executed::Over
    }

    async fn perform(&mut self, record: &Record, effect: Effect) -> Executed {
        if !effect.is_silent() && effect != Effect::Stream {
            self.end_fetching().await;
        }
        let event = match effect {
            Effect::Save => return self.save(record, Adoption::Keep),
            Effect::Settle(adoption) => return self.save(record, adoption),
            Effect::DropToken => {
                self.link.drop_token();
                return Executed::Over;
            }
            Effect::Report(status, Insistence::Once) => self.report_once(record, status).await,
            Effect::Report(status, Insistence::UntilAccepted) => {
                self.report_until_accepted(record, status).await
            }
            Effect::Hold(gate) => self.hold(record, gate).await,
            Effect::Scripts(state, action) => self.run_scripts(state, action).await,
            Effect::Open => self.open(record).await,
            Effect::Stream => self.stream(record).await,
            Effect::Call(call) => return self.call(record, call).await,
            Effect::AskReboot => {
                let facts = record.facts.as_ref();
                match self
                    .handling
                    .needs_reboot(&self.config, &self.store, facts)
                    .await
                {
                    Ok(need) => Event::RebootNeed(need),
                    Err(reason) => Event::Failed(reason),
                }
            }
            Effect::AskRollback => {
                let facts = record.facts.as_ref();
                match self
                    .handling
                    .supports_rollback(&self.config, &self.store, facts)
                    .await
                {
                    Ok(able) => Event::CanRollBack(able),
                    Err(reason) => Event::Failed(reason),
                }
            }
            Effect::CheckReadiness => {
                done_or_failed(conditions::check(&self.config, &self.scripts).await)
            }
            Effect::RebootSystem => return self.reboot(record).await,
            Effect::Conclude(conclusion) => self.conclude(record, &conclusion),
            Effect::Forget => {
                spooling::discard(&self.config.download);
                done_or_save_failed(self.store.forget_deployment())
            }
        };
        Executed::Event(event)
    }

    fn save(&mut self, record: &Record, adoption: Adoption) -> Executed {
        let saved = self.store.save_deployment(record, adoption);
        if record.step.phase() != Phase::Download {
            // in place or given up, even where that could not be saved: nothing may take it up again
            spooling::discard(&self.config.download);
        }
        match saved {
            Ok(()) => Executed::Over,
            Err(error) => Executed::Event(Event::SaveFailed(error.to_string())),
        }
    }

    fn conclude(&mut self, record: &Record, conclusion: &Conclusion) -> Event {
        if let Some(reason) = &conclusion.reason {
            log::error!("the deployment failed: {reason}");
        }
        logbook::sync();
        spooling::discard(&self.config.download);
        let with_log = conclusion.status == DeviceStatus::Failure;
        done_or_save_failed(self.store.conclude(record, conclusion, with_log))
    }

    async fn run_scripts(&self, state: ScriptState, action: Action) -> Event {
        match self
            .scripts
            .run(State::Deployment(state), action, &self.stop)
            .await
        {
            Ok(()) => Event::Done,
            Err(ScriptError::Stopped) => Event::Stopped,
            Err(error) => Event::Failed(error.to_string()),
        }
    }

    async fn call(&mut self, record: &Record, call: Call) -> Executed {
        logbook::sync();
        let outcome = self
            .handling
            .call(call, &self.config, &self.store, record.facts.as_ref())
            .await;
        // A module that has asked for a reboot returns before the device goes down: to judge now whether the
        // reboot worked would be too early.
        if matches!(call, Call::Reboot | Call::RollbackReboot)
            && outcome.is_ok()
            && self.stop.is_requested()
        {
            return Executed::GoingDown;
        }
        Executed::Event(done_or_failed(outcome))
    }

    async fn reboot(&mut self, record: &Record) -> Executed {
        let facts = record.facts.as_ref();
        let argument = self
            .handling
            .reboot_argument(&self.config, &self.store, facts);
        let mut command = self.config.reboot_command.clone();
        match argument {
            Ok(argument) => command.extend(argument.map(str::to_owned)),
            // without it a trial does not begin and the old system comes up: better than no restart
            Err(reason) => log::error!("the restart has no argument: {reason}"),
        }
        log::info!("rebooting");
        logbook::sync();
        tokio::select! {
            error = reboot::reboot_within(&command, self.config.reboot_timeout) => {
                Executed::Event(Event::Failed(error.to_string()))
            }
            () = self.stop.requested() => Executed::GoingDown,
        }
    }
}

fn done_or_failed(outcome: Result<(), String>) -> Event {
    match outcome {
        Ok(()) => Event::Done,
        Err(reason) => Event::Failed(reason),
    }
}

fn done_or_save_failed(outcome: Result<(), StoreError>) -> Event {
    match outcome {
        Ok(()) => Event::Done,
        Err(error) => Event::SaveFailed(error.to_string()),
    }
}

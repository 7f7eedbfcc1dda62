//! A simulated device, its disk, its bootloader and its server.

mod settle;

use ambidex_machine::{
    Adoption, Call, Conclusion, Effect, Event, Facts, Found, Gate, Insistence, Pair, Phase, Reboot,
    Record, ScriptState, Step,
};
use ambidex_wire::deployments::DeviceStatus;

use crate::scenario::{Kind, Mutation, Network, Scenario, Times, What};

/// How the agent's life ends at a chosen moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Crash {
    /// The process dies; the device stays up.
    Kill,
    /// The power goes; the bootloader decides what comes up.
    Power,
    /// SIGTERM, then the device goes on or loses power.
    Stop,
}

/// Control flow of a simulated life: it ended, by accident, by a reboot or by a stop.
#[derive(Debug)]
pub enum End {
    Crashed,
    Rebooted,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Software {
    Old,
    New,
    /// Half written.
    Mixed,
}

#[derive(Debug, Clone)]
struct Env {
    part: usize,
    upgrade_available: bool,
    bootcount: u32,
}

/// Name, provides, record and queue: one atomic file.
#[derive(Debug, Clone)]
pub struct Disk {
    pub record: Option<Record>,
    pub name: String,
    pub provides: Software,
    pub queue: Vec<DeviceStatus>,
    /// Both truths about the slots, until one is known.
    pub doubt: Option<Pair>,
}

#[derive(Debug)]
pub struct World<'a> {
    pub scenario: &'a Scenario,
    pub plan: &'a [(usize, Crash)],
    pub mutation: Option<Mutation>,
    // time
    pub ticks: usize,
    pub lives: u32,
    pub trace: Vec<String>,
    // device
    running: usize,
    slots: [Software; 2],
    env: Env,
    orig_part: Option<usize>,
    app: Software,
    backup: bool,
    app_rebooted: bool,
    boots: u32,
    pub tree: bool,
    pub bricked: bool,
    // storage
    pub disk: Disk,
    pub memory: Disk,
    writes: u32,
    late_save: Option<Record>,
    /// How much of the artifact is durable.
    pub checkpoint: Option<u64>,
    /// How much of it came over the network, in all lives.
    pub received: u64,
    /// The moments at which it did.
    pub streaming: Vec<usize>,
    /// The moments at which the deployment was held.
    pub holding: Vec<usize>,
    // server
    pub network_up: bool,
    pub reports: Vec<DeviceStatus>,
    pub finals: Vec<DeviceStatus>,
    pub aborted: bool,
    pub repeated_delivery_possible: bool,
    // evidence
    pub commits: u32,
    pub commit_recorded: bool,
    /// The running slot said that the new software runs, after a failure.
    pub found_new: bool,
    /// The name was marked as inconsistent, if only until the slot was asked.
    pub marked: bool,
    contact: bool,
    failures_done: Vec<usize>,
    pub faults: Vec<String>,
    pub inconsistency_allowed: bool,
}

pub const DEPLOYMENT: &str = "d1";

/// Parts in which an artifact is received.
pub const PARTS: u64 = 3;

impl<'a> World<'a> {
    pub fn new(
        scenario: &'a Scenario,
        plan: &'a [(usize, Crash)],
        mutation: Option<Mutation>,
    ) -> Self {
        let disk = Disk {
            record: None,
            name: "old".into(),
            provides: Software::Old,
            queue: Vec::new(),
            doubt: None,
        };
        Self {
            scenario,
            plan,
            mutation,
            ticks: 0,
            lives: 0,
            trace: Vec::new(),
            running: 0,
            slots: [Software::Old, Software::Old],
            env: Env {
                part: 0,
                upgrade_available: false,
                bootcount: 0,
            },
            orig_part: None,
            app: Software::Old,
            backup: false,
            app_rebooted: false,
            boots: 0,
            tree: false,
            bricked: false,
            memory: disk.clone(),
            disk,
            writes: 0,
            late_save: None,
            checkpoint: None,
            received: 0,
            streaming: Vec::new(),
            holding: Vec::new(),
            network_up: true,
            reports: Vec::new(),
            finals: Vec::new(),
            aborted: false,
            repeated_delivery_possible: false,
            commits: 0,
            commit_recorded: false,
            found_new: false,
            marked: false,
            contact: false,
            failures_done: Vec::new(),
            faults: Vec::new(),
            inconsistency_allowed: scenario.may_be_inconsistent(),
        }
    }

    /// What a start of the agent finds besides the record.
    pub fn found(&self) -> Found {
        Found {
            checkpoint: self.checkpoint,
            boot: Some(self.boots.to_string()),
        }
    }

    fn fault(&mut self, text: impl Into<String>) {
        self.faults.push(text.into());
    }

    /// A moment at which the plan may end this life.
    pub fn moment(&mut self) -> Result<(), End> {
        let now = self.ticks;
        self.ticks += 1;
        match self
            .plan
            .iter()
            .find(|(tick, crash)| *tick == now && *crash != Crash::Stop)
        {
            Some((_, crash)) => {
                self.trace.push(format!("-- {crash:?} --"));
                self.die(*crash);
                Err(End::Crashed)
            }
            None => Ok(()),
        }
    }

    fn stop_due(&self) -> bool {
        self.plan
            .iter()
            .any(|(tick, crash)| *tick == self.ticks && *crash == Crash::Stop)
    }

    pub fn die(&mut self, crash: Crash) {
        self.memory = self.disk.clone();
        self.late_save = None;
        self.contact = false;
        if crash == Crash::Power {
            self.boot();
        }
    }

    /// Power on: what the GRUB and U-Boot integrations do (section 7.4, 7.5).
    pub fn boot(&mut self) {
        self.app_rebooted = true;
        self.boots += 1;
        loop {
            if self.env.upgrade_available {
                if self.env.bootcount == 0 {
                    self.env.bootcount = 1;
                } else {
                    self.env = Env {
                        part: 1 - self.env.part,
                        upgrade_available: false,
                        bootcount: 0,
                    };
                }
            }
            let software = self.slots[self.env.part];
            let boots = match software {
                Software::Old => true,
                Software::New => !self.scenario.new_panics,
                Software::Mixed => false,
            };
            if boots {
                self.running = self.env.part;
                return;
            }
            if !self.env.upgrade_available {
                self.bricked = true;
                return;
            }
        }
    }

    /// The software that runs now.
    pub fn software(&self) -> Software {
        match self.scenario.kind {
            Kind::Rootfs => self.slots[self.running],
            Kind::Empty => self.memory.provides,
            _ => self.app,
        }
    }

    pub fn trial_pending(&self) -> bool {
        self.env.upgrade_available || self.running != self.env.part
    }

    fn fails(&mut self, what: What) -> bool {
        let index = self.scenario.failures.iter().position(|(w, _)| *w == what);
        match index {
            Some(index) if self.scenario.failures[index].1 == Times::Always => true,
            Some(index) if !self.failures_done.contains(&index) => {
                self.failures_done.push(index);
                true
            }
            _ => false,
        }
    }

    fn reachable(&self) -> bool {
        match self.scenario.network {
            Network::Up => self.network_up,
            Network::DownOnNew => self.network_up && self.software() == Software::Old,
            Network::DownDuringDeployment => self.network_up && self.memory.record.is_none(),
        }
    }

    // ---- the store -----------------------------------------------------------------------------

    /// A failed write changes nothing, in memory neither.
    fn write(&mut self) -> bool {
        self.writes += 1;
        let broken = self
            .scenario
            .store_broken_from
            .is_some_and(|from| self.writes >= from)
            || self.scenario.store_broken_at == Some(self.writes)
            || self
                .scenario
                .store_broken_for_two_at
                .is_some_and(|at| self.writes == at || self.writes == at + 1);
        if broken {
            self.memory = self.disk.clone();
            return false;
        }
        self.disk = self.memory.clone();
        // The runner removes what was received as soon as the record is past the download.
        if self
            .disk
            .record
            .as_ref()
            .is_none_or(|record| record.step.phase() != Phase::Download)
        {
            self.checkpoint = None;
        }
        if let Some(record) = &self.disk.record
            && (record.step.phase() == Phase::Committed)
        {
            self.commit_recorded = true;
        }
        true
    }

    fn adopt(&mut self, adoption: Adoption) {
        match adoption {
            Adoption::Keep => {}
            Adoption::Adopt => {
                self.memory.name = "new".into();
                self.memory.provides = Software::New;
                self.memory.doubt = None;
            }
            Adoption::AdoptInconsistent => {
                self.memory.name = "new_INCONSISTENT".into();
                self.memory.provides = Software::New;
                self.memory.doubt = None;
            }
            Adoption::NameInconsistent => {
                self.marked = true;
                self.memory.name = "new_INCONSISTENT".into();
            }
        }
    }

    fn save(&mut self, record: &Record, adoption: Adoption) -> bool {
        let mut record = record.clone();
        if self.mutation == Some(Mutation::ForgetVerdict) {
            record.verdict = None;
        }
        self.memory.record = Some(record);
        self.adopt(adoption);
        self.write()
    }

    // ---- effects -------------------------------------------------------------------------------

    /// Executes one effect; `None` for a silent one that succeeded.
    pub fn execute(&mut self, record: &Record, effect: &Effect) -> Result<Option<Event>, End> {
        let stop = self.stop_due() && stoppable(record, effect);
        self.moment()?;
        self.trace.push(format!("{effect:?}"));
        if stop {
            return Ok(Some(Event::Stopped));
        }
        if !effect.is_silent() {
            self.check_recorded(record, effect);
        }
        let event = match effect {
            Effect::Save if self.mutation == Some(Mutation::SaveAfterActing) => {
                self.late_save = Some(record.clone());
                None
            }
            Effect::Save => self.silent(|world| world.save(record, Adoption::Keep)),
            Effect::Settle(adoption) => self.silent(|world| world.save(record, *adoption)),
            Effect::DropToken => {
                self.contact = false;
                None
            }
            Effect::Report(status, insistence) => {
                let restarted = record.step == Step::ReportRestarted;
                Some(self.report(*status, *insistence, restarted))
            }
            Effect::Scripts(state, action) => {
                Some(outcome(!self.fails(What::Scripts(*state, *action))))
            }
            Effect::Hold(gate) => {
                if self.scenario.held {
                    self.holding.push(self.ticks);
                    self.moment()?;
                }
                // a restarted runner asks whether the deployment is still offered
                let ended = *gate == Gate::Install && !self.finals.is_empty() && self.reachable();
                if ended && self.mutation != Some(Mutation::TakeUpUnasked) {
                    return Ok(Some(Event::Aborted));
                }
                Some(outcome(!self.fails(What::Hold(*gate))))
            }
            Effect::Open => Some(self.open()),
            Effect::Stream => Some(self.stream()?),
            Effect::Call(call) => Some(outcome(self.call(*call)?)),
            Effect::AskReboot => Some(self.ask_reboot()),
            Effect::AskRollback => Some(self.ask_rollback()),
            Effect::CheckReadiness => Some(outcome(!self.fails(What::CheckReadiness))),
            Effect::RebootSystem => {
                if self.fails(What::System) {
                    Some(Event::Done)
                } else {
                    self.reboot()?
                }
            }
            Effect::Conclude(conclusion) => Some(self.conclude(conclusion)),
            Effect::Forget => {
                self.memory.record = None;
                Some(if self.write() {
                    Event::Done
                } else {
                    Event::SaveFailed("disk".into())
                })
            }
        };
        if !effect.is_silent()
            && let Some(late) = self.late_save.take()
        {
            self.moment()?;
            self.save(&late, Adoption::Keep);
        }
        self.moment()?;
        Ok(event)
    }

    fn silent(&mut self, save: impl FnOnce(&mut Self) -> bool) -> Option<Event> {
        (!save(self)).then(|| Event::SaveFailed("disk".into()))
    }

    /// The invariant of the crate: an acting effect runs only under a durable record of its phase.
    fn check_recorded(&mut self, record: &Record, effect: &Effect) {
        let acts = matches!(
            effect,
            Effect::Scripts(..)
                | Effect::Hold(_)
                | Effect::Open
                | Effect::Stream
                | Effect::Call(_)
                | Effect::RebootSystem
        );
        let looks_broken = !self.scenario.store_sound();
        if !acts || looks_broken || self.mutation.is_some() {
            return;
        }
        let durable = self.disk.record.as_ref().map(|r| r.step.phase());
        if durable != Some(record.step.phase()) {
            self.fault(format!(
                "{effect:?} in {:?} while the disk says {durable:?}",
                record.step.phase()
            ));
        }
    }

    fn reboot(&mut self) -> Result<Option<Event>, End> {
        self.moment()?;
        self.trace.push("-- reboot --".into());
        self.die(Crash::Power);
        Err(End::Rebooted)
    }

    fn report(&mut self, status: DeviceStatus, insistence: Insistence, restarted: bool) -> Event {
        if !self.reachable() {
            return Event::Failed("unreachable".into());
        }
        if status.is_final() {
            self.finals.push(status);
            return Event::Done;
        }
        // the runner asks first whether a deployment that it takes up is still offered
        if restarted && !self.finals.is_empty() && self.mutation != Some(Mutation::TakeUpUnasked) {
            return Event::Aborted;
        }
        let ordinal = self.reports.len();
        self.reports.push(status);
        if self.scenario.abort_at == Some(ordinal) {
            self.aborted = true;
        }
        if self.aborted {
            return Event::Aborted;
        }
        if insistence == Insistence::UntilAccepted {
            self.contact = true;
        }
        Event::Done
    }

    fn open(&mut self) -> Event {
        if !self.reachable() || self.fails(What::Open) {
            return Event::Failed("open".into());
        }
        let payload_type = (self.scenario.kind != Kind::Empty).then(|| "kind".to_string());
        if self.scenario.kind == Kind::Rootfs {
            self.memory.doubt = Some(Pair {
                original: slot_number(self.running),
                target: slot_number(1 - self.running),
                complete: false,
            });
            self.write();
        }
        Event::Opened(Facts {
            artifact_name: "new".into(),
            payload_type,
            ..Facts::default()
        })
    }

    fn stream(&mut self) -> Result<Event, End> {
        self.tree = true;
        self.moment()?;
        if self.scenario.kind == Kind::Rootfs {
            self.slots[1 - self.running] = Software::Mixed;
            self.moment()?;
        }
        if self.scenario.spooled {
            for part in self.checkpoint.unwrap_or(0)..PARTS {
                if !self.reachable() {
                    return Ok(Event::Failed("stream".into()));
                }
                self.checkpoint = Some(part);
                self.streaming.push(self.ticks);
                self.moment()?;
                self.received += 1;
                self.streaming.push(self.ticks);
                self.moment()?;
                self.checkpoint = Some(part + 1);
            }
            self.streaming.push(self.ticks);
            self.moment()?;
        } else {
            self.received += PARTS;
        }
        if !self.reachable() || self.fails(What::Stream) {
            return Ok(Event::Failed("stream".into()));
        }
        if self.scenario.kind == Kind::Rootfs {
            self.slots[1 - self.running] = Software::New;
            self.moment()?;
            if let Some(pair) = &mut self.memory.doubt {
                pair.complete = true;
                self.write();
            }
        }
        Ok(Event::Done)
    }

    fn ask_reboot(&mut self) -> Event {
        if self.fails(What::AskReboot) {
            return Event::Failed("protocol".into());
        }
        Event::RebootNeed(match self.scenario.kind {
            Kind::Rootfs => Reboot::Automatic,
            Kind::RebootingModule => Reboot::Custom,
            _ => Reboot::No,
        })
    }

    fn ask_rollback(&mut self) -> Event {
        if self.fails(What::AskRollback) {
            return Event::Failed("protocol".into());
        }
        Event::CanRollBack(self.scenario.kind != Kind::NoRollback)
    }

    fn conclude(&mut self, conclusion: &Conclusion) -> Event {
        self.memory.record = None;
        self.adopt(conclusion.adoption);
        if self.mutation == Some(Mutation::ReportWithoutQueue) {
            if self.reachable() {
                self.finals.push(conclusion.status);
            }
        } else {
            self.memory.queue.push(conclusion.status);
        }
        if self.write() {
            Event::Done
        } else {
            Event::SaveFailed("disk".into())
        }
    }

    /// Sends what is queued, as the daemon does before each poll.
    pub fn deliver(&mut self) -> Result<(), End> {
        while let Some(status) = self.memory.queue.first().copied() {
            if !self.reachable() {
                return Ok(());
            }
            self.moment()?;
            self.finals.push(status);
            let ticks = self.ticks;
            self.moment()
                .inspect_err(|_| self.repeated_delivery_possible |= ticks > 0)?;
            self.memory.queue.remove(0);
            if !self.write() {
                self.repeated_delivery_possible = true;
                return Ok(());
            }
        }
        Ok(())
    }

    /// Whether the server offers the deployment at a poll.
    pub fn offered(&self) -> bool {
        self.reachable()
            && self.finals.is_empty()
            && !(self.aborted && self.lives > 0 && self.reports.len() > 1)
    }

    fn call(&mut self, call: Call) -> Result<bool, End> {
        if call == Call::Rollback && self.commit_recorded {
            self.fault("rollback after a recorded commit");
        }
        if call == Call::Commit {
            if !self.contact {
                self.fault("commit without contact to the server");
            }
            if self.commits > 0 {
                self.fault("second commit");
            }
        }
        let fails = self.fails(What::Call(call));
        match self.scenario.kind {
            Kind::Rootfs => self.rootfs(call, fails),
            _ => self.module(call, fails),
        }
    }

    /// The built-in A/B handler, step by step (section 7.2).
    fn rootfs(&mut self, call: Call, fails: bool) -> Result<bool, End> {
        let other = 1 - self.running;
        let matches = self.running == self.env.part;
        Ok(match call {
            Call::Install => {
                self.orig_part = Some(self.running);
                self.moment()?;
                if fails {
                    return Ok(false);
                }
                self.env = Env {
                    part: other,
                    upgrade_available: true,
                    bootcount: 0,
                };
                true
            }
            Call::VerifyReboot => !fails && self.env.upgrade_available && matches,
            Call::Commit => {
                let ready = !fails && self.env.upgrade_available && matches;
                if ready {
                    self.env.upgrade_available = false;
                    self.commits += 1;
                }
                ready
            }
            Call::Rollback => {
                if fails {
                    return Ok(false);
                }
                if self.env.upgrade_available {
                    self.env = Env {
                        part: 1 - self.env.part,
                        upgrade_available: false,
                        bootcount: 0,
                    };
                } else if let Some(orig) = self.orig_part {
                    self.env = Env {
                        part: orig,
                        upgrade_available: false,
                        bootcount: 0,
                    };
                }
                true
            }
            Call::VerifyRollbackReboot => !fails && !self.env.upgrade_available && matches,
            Call::Reboot | Call::RollbackReboot | Call::Failure => !fails,
            Call::Cleanup => {
                self.orig_part = None;
                self.moment()?;
                self.tree = false;
                !fails
            }
        })
    }

    fn module(&mut self, call: Call, fails: bool) -> Result<bool, End> {
        Ok(match call {
            Call::Install => {
                self.backup = true;
                self.moment()?;
                self.app = Software::Mixed;
                self.app_rebooted = false;
                self.moment()?;
                if fails {
                    return Ok(false);
                }
                self.app = Software::New;
                true
            }
            Call::Reboot | Call::RollbackReboot => {
                if fails {
                    return Ok(false);
                }
                self.reboot()?;
                true
            }
            Call::VerifyReboot => !fails && self.app == Software::New && self.app_rebooted,
            Call::Commit => {
                if !fails {
                    self.commits += 1;
                }
                !fails
            }
            Call::Rollback => {
                if fails {
                    return Ok(false);
                }
                // Idempotent, as the protocol demands: nothing to do when the old software is back.
                if self.backup && self.app != Software::Old {
                    self.app = Software::Mixed;
                    self.app_rebooted = false;
                    self.moment()?;
                    self.app = Software::Old;
                }
                true
            }
            Call::VerifyRollbackReboot => !fails && self.app == Software::Old && self.app_rebooted,
            Call::Failure => !fails,
            Call::Cleanup => {
                self.backup = false;
                self.moment()?;
                self.tree = false;
                !fails
            }
        })
    }
}

fn slot_number(index: usize) -> u32 {
    if index == 0 { 2 } else { 3 }
}

fn outcome(done: bool) -> Event {
    if done {
        Event::Done
    } else {
        Event::Failed("told to fail".into())
    }
}

/// Where the runner can give an effect up in good order.
fn stoppable(record: &Record, effect: &Effect) -> bool {
    match effect {
        Effect::Hold(_)
        | Effect::Open
        | Effect::Stream
        | Effect::Report(_, Insistence::UntilAccepted) => true,
        Effect::Scripts(ScriptState::Download, _) => record.step.phase() == Phase::Download,
        _ => false,
    }
}

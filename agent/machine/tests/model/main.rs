//! The model test: a simulated device loses its life before and after every effect, and in the middle of those
//! with several parts, in every scenario, once and twice, and must end well each time.
//!
//! A failure prints the scenario and the crash plan; `run(&scenario, &plan, None)` reproduces it.

mod scenario;
mod world;

use ambidex_machine::{Effect, Event, Phase, Record, begin, recover, step};
use ambidex_wire::deployments::DeviceStatus;
use scenario::{Kind, Mutation, Scenario, Times};
use world::{Crash, DEPLOYMENT, End, Software, World};

/// Lives after which a device counts as wedged. The save limit of a deployment bounds them.
const LIVES_MAX: u32 = 80;
/// Effects of one life after which the machine counts as looping.
const EFFECTS_MAX: u32 = 400;

/// One life of the agent: from its start to the moment it has nothing to do, or dies.
fn live(world: &mut World<'_>) -> Result<(), End> {
    world.lives += 1;
    if let Some(record) = world.memory.record.clone() {
        let record = match world.mutation {
            Some(Mutation::RecoverBlindly) if record.step.phase() == Phase::Install => {
                let mut record = record;
                record.step = ambidex_machine::Step::Cleanup;
                record
            }
            _ => record,
        };
        let next = recover(record, &world.found());
        flow(world, next)?;
    }
    world.settle()?;
    world.deliver()?;
    // The daemon neither polls over an undelivered result nor over an unfinished deployment.
    if world.memory.record.is_none() && world.memory.queue.is_empty() && world.offered() {
        world.checkpoint = None;
        let next = begin(
            Record::new(DEPLOYMENT, "http://server/artifact"),
            &world.found(),
        );
        flow(world, next)?;
        world.settle()?;
        world.deliver()?;
    }
    Ok(())
}

fn flow(world: &mut World<'_>, mut next: (Record, Vec<Effect>)) -> Result<(), End> {
    for _ in 0..EFFECTS_MAX {
        let (record, effects) = next;
        let mut answer = None;
        for effect in effects {
            if world.mutation == Some(Mutation::CommitWithoutContact)
                && matches!(
                    effect,
                    Effect::Report(_, ambidex_machine::Insistence::UntilAccepted)
                )
            {
                answer = Some(Event::Done);
                break;
            }
            answer = world.execute(&record, &effect)?;
            if answer.is_some() {
                break;
            }
        }
        match answer {
            Some(event) => next = step(record, event),
            None if record.stopped => {
                world.trace.push("-- stopped --".into());
                world.die(Crash::Kill);
                return Err(End::Crashed);
            }
            None => return Ok(()),
        }
    }
    world
        .faults
        .push("the machine does not come to an end".into());
    Ok(())
}

/// Runs a scenario under a crash plan; returns the number of moments and what is wrong at the end.
fn run(
    scenario: &Scenario,
    plan: &[(usize, Crash)],
    mutation: Option<Mutation>,
) -> (usize, Vec<String>, Vec<String>) {
    run_and(scenario, plan, mutation, |_| {})
}

/// The same; `then` looks at the world in the end.
fn run_and(
    scenario: &Scenario,
    plan: &[(usize, Crash)],
    mutation: Option<Mutation>,
    then: impl FnOnce(&World<'_>),
) -> (usize, Vec<String>, Vec<String>) {
    let mut world = World::new(scenario, plan, mutation);
    while world.lives < LIVES_MAX && live(&mut world).is_err() && !world.bricked {}
    let moments = world.ticks;
    // Afterwards the server is reachable, the power fails once more and the agent starts again: nothing may change.
    world.plan = &[];
    let settled = Scenario {
        network: scenario::Network::Up,
        failures: Vec::new(),
        ..scenario.clone()
    };
    world.scenario = &settled;
    let mut faults = std::mem::take(&mut world.faults);
    if world.lives >= LIVES_MAX {
        faults.push("the device never came to rest".into());
    }
    // What is in doubt is decided by the next boot.
    let open = world.memory.doubt.is_some();
    let pending = world.trial_pending() && !open;
    let name_before = (!open).then(|| world.memory.name.clone());
    world.die(Crash::Power);
    for _ in 0..10 {
        if live(&mut world).is_err() && world.bricked {
            break;
        }
    }
    let software = world.software();
    let name_before = name_before.unwrap_or_else(|| world.memory.name.clone());
    judge(&world, software, pending, &name_before, &mut faults);
    then(&world);
    (moments, faults, std::mem::take(&mut world.trace))
}

fn judge(
    world: &World<'_>,
    software: Software,
    trial_pending: bool,
    name: &str,
    faults: &mut Vec<String>,
) {
    let scenario = world.scenario;
    let inconsistent = name.ends_with("_INCONSISTENT");
    let stored = scenario.store_sound();
    let mut wrong = |text: String| faults.push(text);
    if world.bricked {
        wrong("the device does not boot".into());
    }
    if stored {
        if world.memory.name != name {
            wrong(format!(
                "the name changed from {name} to {} after the end",
                world.memory.name
            ));
        }
        if world.disk.record.is_some() || !world.disk.queue.is_empty() {
            wrong("something is left on disk".into());
        }
        if world.finals.is_empty() {
            wrong("the server never learned the result".into());
        }
        if world.finals.len() > 1 && !world.repeated_delivery_possible {
            wrong(format!("more than one final report: {:?}", world.finals));
        }
    }
    if world.finals.iter().any(|status| *status != world.finals[0]) {
        wrong(format!("contradicting final reports: {:?}", world.finals));
    }
    if stored && scenario.kind == Kind::Rootfs {
        // the name of a commit without its last script stays marked, but nothing else
        if inconsistent && world.memory.provides == Software::Old {
            wrong("nobody has asked the running slot".into());
        }
        if world.memory.doubt.is_some() {
            wrong("which software runs is still open".into());
        }
        if world.memory.provides != software {
            wrong(format!(
                "{software:?} runs, the provides are those of {:?}",
                world.memory.provides
            ));
        }
    }
    if inconsistent && !world.inconsistency_allowed {
        wrong("inconsistent without a reason".into());
    }
    if inconsistent {
        return;
    }
    if trial_pending && stored {
        wrong("a trial boot is still pending".into());
    }
    match world.finals.first() {
        Some(DeviceStatus::Success) => {
            if software != Software::New || (stored && name != "new") {
                wrong(format!(
                    "success reported, but {software:?} runs and the name is {name}"
                ));
            }
            if scenario.kind != Kind::Empty && world.commits != 1 {
                wrong(format!("success reported after {} commits", world.commits));
            }
        }
        Some(DeviceStatus::Failure) => {
            // Without rollback and without a disk, the inconsistency can be told but not stored.
            let unstored = !stored && scenario.kind == Kind::NoRollback;
            let old = software == Software::Old && (!stored || name == "old");
            // a way back that failed, and the device says so
            let new = world.found_new && software == Software::New && name == "new";
            if !old && !new && !unstored {
                wrong(format!(
                    "failure reported, but {software:?} runs and the name is {name}"
                ));
            }
        }
        Some(other) => wrong(format!("{other} as final report")),
        None => {}
    }
    // a loop that was cut leaves its tree to the next deployment
    if stored && world.tree && !world.marked {
        wrong("the tree is left over".into());
    }
}

/// Findings that are printed.
const FINDINGS_MAX: usize = 5;

const KINDS: [Crash; 3] = [Crash::Kill, Crash::Power, Crash::Stop];

struct Explorer {
    paths: usize,
    findings: Vec<String>,
    mutation: Option<Mutation>,
}

impl Explorer {
    fn check(&mut self, scenario: &Scenario, plan: &[(usize, Crash)]) -> usize {
        self.paths += 1;
        let (moments, faults, trace) = run(scenario, plan, self.mutation);
        if !faults.is_empty() && self.findings.len() < FINDINGS_MAX {
            self.findings.push(format!(
                "{scenario:?}\n  plan {plan:?}\n  {faults:#?}\n  {}",
                trace.join("\n  ")
            ));
        }
        moments
    }

    /// Every plan of up to `crashes` crashes.
    fn explore(&mut self, scenario: &Scenario, crashes: usize) {
        let mut plan = Vec::new();
        let moments = self.check(scenario, &plan);
        self.deeper(scenario, &mut plan, 0, moments, crashes);
    }

    fn deeper(
        &mut self,
        scenario: &Scenario,
        plan: &mut Vec<(usize, Crash)>,
        from: usize,
        moments: usize,
        crashes: usize,
    ) {
        if crashes == 0 {
            return;
        }
        for tick in from..moments {
            for kind in KINDS {
                plan.push((tick, kind));
                let moments = self.check(scenario, plan);
                self.deeper(scenario, plan, tick + 1, moments, crashes - 1);
                plan.pop();
            }
        }
    }

    fn assert_sound(&self) {
        assert!(
            self.findings.is_empty(),
            "{} paths, first findings:\n{}",
            self.paths,
            self.findings.join("\n\n")
        );
    }
}

#[test]
fn every_single_crash_in_every_scenario_ends_well() {
    let mut explorer = Explorer {
        paths: 0,
        findings: Vec::new(),
        mutation: None,
    };
    let scenarios = scenario::all();
    for scenario in &scenarios {
        explorer.explore(scenario, 1);
    }
    explorer.assert_sound();
    println!(
        "{} scenarios, {} paths with at most one crash",
        scenarios.len(),
        explorer.paths
    );
    assert!(
        explorer.paths > 50_000,
        "the exploration shrank to {} paths",
        explorer.paths
    );
}

#[test]
fn every_pair_of_crashes_in_the_main_scenarios_ends_well() {
    let mut explorer = Explorer {
        paths: 0,
        findings: Vec::new(),
        mutation: None,
    };
    for kind in Kind::ALL {
        explorer.explore(&Scenario::plain(kind), 2);
        for (spooled, held) in [(true, false), (false, true)] {
            let other = Scenario {
                spooled,
                held,
                ..Scenario::plain(kind)
            };
            explorer.explore(&other, 2);
        }
        let down = Scenario {
            network: scenario::Network::DownOnNew,
            ..Scenario::plain(kind)
        };
        explorer.explore(&down, 2);
        for opener in scenario::OPENERS {
            let failing = Scenario {
                failures: vec![(opener, Times::Once)],
                ..Scenario::plain(kind)
            };
            explorer.explore(&failing, 2);
        }
    }
    explorer.explore(
        &Scenario {
            new_panics: true,
            ..Scenario::plain(Kind::Rootfs)
        },
        2,
    );
    explorer.assert_sound();
    println!("{} paths with at most two crashes", explorer.paths);
}

/// A checker that never complains proves nothing: each of these mistakes must be found.
#[test]
fn the_checker_finds_deliberate_mistakes() {
    for mutation in [
        Mutation::SaveAfterActing,
        Mutation::ForgetVerdict,
        Mutation::ReportWithoutQueue,
        Mutation::CommitWithoutContact,
        Mutation::RecoverBlindly,
        Mutation::NeverSettle,
        Mutation::TakeUpUnasked,
    ] {
        let mut explorer = Explorer {
            paths: 0,
            findings: Vec::new(),
            mutation: Some(mutation),
        };
        for kind in Kind::ALL {
            explorer.explore(&Scenario::plain(kind), 1);
            let down = Scenario {
                network: scenario::Network::DownOnNew,
                ..Scenario::plain(kind)
            };
            explorer.explore(&down, 1);
            for write in (1..6).filter(|_| mutation == Mutation::TakeUpUnasked) {
                let told = Scenario {
                    failures: vec![(scenario::What::Stream, Times::Once)],
                    spooled: true,
                    store_broken_for_two_at: Some(write),
                    ..Scenario::plain(kind)
                };
                explorer.explore(&told, 1);
            }
            if mutation == Mutation::NeverSettle {
                let failures = vec![
                    (scenario::OPENERS[2], Times::Once),
                    (
                        scenario::What::Call(ambidex_machine::Call::Rollback),
                        Times::Once,
                    ),
                ];
                let stuck = Scenario {
                    failures,
                    ..Scenario::plain(kind)
                };
                explorer.explore(&stuck, 1);
            }
        }
        assert!(
            !explorer.findings.is_empty(),
            "{mutation:?} was not found in {} paths",
            explorer.paths
        );
        println!("{mutation:?}: found among {} paths", explorer.paths);
    }
}

/// A device that dies at every single moment still comes to an end (R7).
#[test]
fn a_device_that_dies_for_ever_comes_to_an_end() {
    for what in scenario::everything() {
        let spooled = what.meets_the_download();
        let scenario = Scenario {
            failures: vec![(what, Times::Always)],
            spooled,
            ..Scenario::plain(Kind::Rootfs)
        };
        for every in 3..40 {
            let plan: Vec<_> = (0..40).map(|n| (n * every, Crash::Kill)).collect();
            let (_, faults, trace) = run(&scenario, &plan, None);
            let serious: Vec<_> = faults
                .iter()
                .filter(|f| !f.contains("inconsistent without"))
                .collect();
            assert!(
                serious.is_empty(),
                "{what:?} {spooled} every {every}: {serious:#?}\n{}",
                trace.join("\n")
            );
        }
    }
}

/// R6 with a spool: a device that dies in the download goes on with the same deployment and succeeds, and receives
/// again only what was not durable.
#[test]
fn a_download_that_is_interrupted_goes_on() {
    for kind in Kind::ALL.into_iter().filter(|kind| *kind != Kind::Empty) {
        let scenario = Scenario {
            spooled: true,
            ..Scenario::plain(kind)
        };
        let (mut streaming, mut paths) = (Vec::new(), 0);
        run_and(&scenario, &[], None, |world| {
            streaming.clone_from(&world.streaming);
        });
        for tick in streaming {
            for crash in KINDS {
                let mut again = Vec::new();
                let single = [(tick, crash)];
                let (_, faults, _) = run_and(&scenario, &single, None, |world| {
                    assert_gone_on(world, 1);
                    again.clone_from(&world.streaming);
                });
                assert!(faults.is_empty(), "{kind:?} {single:?}: {faults:#?}");
                for second in again.into_iter().filter(|second| *second > tick) {
                    let pair = [(tick, crash), (second, crash)];
                    let (_, faults, _) =
                        run_and(&scenario, &pair, None, |world| assert_gone_on(world, 2));
                    assert!(faults.is_empty(), "{kind:?} {pair:?}: {faults:#?}");
                    paths += 1;
                }
            }
        }
        assert!(paths > 50, "{kind:?}: {paths} paths");
    }
}

fn assert_gone_on(world: &World<'_>, deaths: u64) {
    let told = format!("{:?}: {:#?}", world.plan, world.trace);
    assert_eq!(world.finals, [DeviceStatus::Success], "{told}");
    assert!(
        world.received <= world::PARTS + deaths,
        "{} parts: {told}",
        world.received
    );
    assert_eq!(world.checkpoint, None, "{told}");
}

/// A hold survives the death of the agent at every gate. It survives a power cut, too, where the software that the
/// device then boots is not on trial: before the reboot the power cut is that reboot, before the commit the bootloader goes back.
#[test]
fn a_hold_survives() {
    for kind in Kind::ALL {
        let scenario = Scenario {
            held: true,
            ..Scenario::plain(kind)
        };
        let mut holding = Vec::new();
        run_and(&scenario, &[], None, |world| {
            holding.clone_from(&world.holding);
        });
        let expected = match kind {
            Kind::Empty => 0,
            Kind::Rootfs | Kind::RebootingModule => 3,
            Kind::PlainModule | Kind::NoRollback => 2,
        };
        assert_eq!(holding.len(), expected, "{kind:?}");
        for (gate, tick) in holding.iter().enumerate() {
            for crash in KINDS {
                let on_trial = kind == Kind::Rootfs && gate == 2 && crash == Crash::Power;
                let plan = [(*tick, crash)];
                let (_, faults, trace) = run_and(&scenario, &plan, None, |world| {
                    let end = if on_trial {
                        DeviceStatus::Failure
                    } else {
                        DeviceStatus::Success
                    };
                    assert_eq!(world.finals, [end], "{kind:?} {plan:?} {:#?}", world.trace);
                });
                assert!(faults.is_empty(), "{kind:?} {plan:?}: {faults:#?}");
                let streams = trace.iter().filter(|line| *line == "Stream").count();
                assert_eq!(streams, 1, "{kind:?} {plan:?}: downloaded again");
            }
        }
    }
}

//! The flows of the campaign on every emulated board, a test a board and group: one boot serves the whole group.
//! `cargo xtask hil` runs all flows on all boards, with as many cuts as wanted.
//!
//! `AMBIDEX_CUTS` sets the number of random power cuts, however long they take, `AMBIDEX_SEED` where they fall and what
//! they lose.

use std::time::Duration;

use ambidex_harness::board::Kind;
use ambidex_harness::{flow, skip};
use ambidex_test_boards::flows::{self, Flow, Plan};
use ambidex_test_boards::{Rig, Target, campaign};

/// Random cuts on each board.
const CUTS: u64 = 20;
/// A test run is not kept waiting by a slow machine: what it has not come to by then is skipped, and told.
const CUTS_LIMIT: Duration = Duration::from_secs(9 * 60);
/// The fastest board has the flows of the agent alone, too, and the cuts at chosen moments, which the random ones include;
/// `cargo xtask hil` runs all on all.
const EVERY_FLOW: Kind = Kind::Aarch64Uboot;
/// At the latest; one of the first catches it.
const CONTROL_CUTS: u64 = 14;

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

fn seed() -> u64 {
    number("AMBIDEX_SEED").unwrap_or(1)
}

/// Random cuts of a test run.
fn cuts() -> Plan {
    let wanted = number("AMBIDEX_CUTS");
    Plan {
        cuts: wanted.unwrap_or(CUTS),
        seed: seed(),
        at_most: wanted.is_none().then_some(CUTS_LIMIT),
    }
}

/// Runs flows, then random cuts, on one board.
fn group(kind: Kind, name: &str, flows: &[Flow], cuts: Option<Plan>) {
    flow(&kind.flow(name), async |scratch| {
        let target = Target::Emulated(kind, seed());
        let Some(mut rig) = Rig::start(&target, scratch.path()).await? else {
            return Ok(());
        };
        let wanted = |flow: &&Flow| kind == EVERY_FLOW || !flow.is_the_agents();
        flows::run_all(&mut rig, &target, flows.iter().filter(wanted)).await?;
        if let Some(plan) = cuts.filter(|plan| plan.cuts > 0) {
            let told = &mut |text: &str| eprintln!("{text}");
            let tally = flows::power_cuts(&mut rig, plan, told).await?;
            eprintln!("{tally}");
            if tally.cuts < plan.cuts {
                skip(&format!(
                    "{} of {} random power cuts, which take longer than {} minutes on this machine",
                    plan.cuts - tally.cuts,
                    plan.cuts,
                    CUTS_LIMIT.as_secs() / 60
                ));
            }
        }
        Ok(())
    });
}

/// The control: without it, cuts that pass might prove nothing.
#[test]
#[ignore = "waits for minutes when it leaves a board that does not start: cargo xtask hil --control"]
fn cuts_catch_an_agent_whose_flushes_do_nothing() {
    flow("cuts-control", async |scratch| {
        let target = Target::Emulated(Kind::Aarch64Uboot, 1);
        let Some(mut rig) = Rig::start(&target, scratch.path()).await? else {
            return Ok(());
        };
        let plan = Plan {
            cuts: CONTROL_CUTS,
            seed: 1,
            at_most: None,
        };
        let told = &mut |text: &str| eprintln!("{text}");
        let found = campaign::caught(&mut rig, plan, told).await?;
        eprintln!("{found}");
        Ok(())
    });
}

macro_rules! boards {
    ($($name:ident: $kind:ident),* $(,)?) => {$(
        mod $name {
            use super::*;

            #[test]
            fn updates_are_committed() {
                group(Kind::$kind, "updates", flows::UPDATES, None);
            }

            #[test]
            fn bad_updates_are_rolled_back_or_refused() {
                group(Kind::$kind, "rollbacks", flows::ROLLBACKS, None);
            }

            #[test]
            fn power_cuts_leave_a_good_slot_and_the_truth() {
                let kind = Kind::$kind;
                let moments = if kind == EVERY_FLOW { flows::MOMENTS } else { &[] };
                group(kind, "power-cuts", moments, Some(cuts()));
            }
        }
    )*};
}

boards! {
    x86_64_grub: X86_64Grub,
    aarch64_uboot: Aarch64Uboot,
    armv7_uboot: Armv7Uboot,
    raspberrypi_tryboot: RaspberryPi,
}

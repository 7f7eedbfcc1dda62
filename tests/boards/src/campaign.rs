//! The whole set of flows on every board: `cargo xtask hil`.

use std::path::Path;

use ambidex_harness::Scratch;
use ambidex_harness::board::Fault;
use anyhow::{Context, Result, bail};

use crate::flows::{self, Broken, Plan};
use crate::results::{self, Outcome, Record};
use crate::rig::{Rig, Target, Watch};

/// The name of the random cuts among the flows.
pub const POWER_CUTS: &str = "power-cuts";
/// The name of their control.
pub const CONTROL: &str = "control";

/// What to run on a board.
#[derive(Debug, Clone)]
pub struct Choice {
    /// One flow by name, or all.
    pub flow: Option<String>,
    pub cuts: Plan,
    /// Only the control: the campaign must catch an agent whose flushes do nothing.
    pub control: bool,
}

impl Choice {
    fn takes(&self, name: &str) -> bool {
        self.flow.as_deref().is_none_or(|wanted| wanted == name)
    }

    /// An error that names the flows when there is none of that name.
    pub fn check(&self) -> Result<()> {
        let names: Vec<&str> = flows::all()
            .map(|flow| flow.name)
            .chain([POWER_CUTS])
            .collect();
        match &self.flow {
            Some(flow) if !names.contains(&flow.as_str()) => {
                bail!("there is no flow {flow}; known are {}", names.join(", "))
            }
            _ => Ok(()),
        }
    }
}

/// Runs the choice on one board; tells of every result as it comes and puts it into the file of results. A failed flow does
/// not stop the others: they go on with a fresh board.
pub async fn run(target: &Target, choice: &Choice, file: &Path) -> Result<Vec<Record>> {
    let board = target.name();
    let mut records = Vec::new();
    let mut keep = |flow: &str, watch: Watch, outcome: Outcome| {
        let record = Record::new(board, flow, watch.seconds(), outcome);
        println!("[{board}] {record}");
        // a campaign that is broken off has not been in vain
        if let Err(error) = results::store(file, std::slice::from_ref(&record)) {
            eprintln!("[{board}] {error:#}");
        }
        records.push(record);
    };
    if choice.control {
        let watch = Watch::start();
        let outcome = control(target, choice.cuts).await;
        keep(CONTROL, watch, outcome.unwrap_or_else(Outcome::failed));
        return Ok(records);
    }

    let mut bench: Option<(Rig, Scratch)> = None;
    for flow in flows::all().filter(|flow| choice.takes(flow.name)) {
        if let Some(reason) = flow.need.missing(target)? {
            keep(flow.name, Watch::start(), Outcome::left_out(reason));
            continue;
        }
        let (mut rig, mut scratch) = match bench.take() {
            Some(bench) => bench,
            None => match start(target).await? {
                Some(bench) => bench,
                None => bail!("{board} cannot be had on this machine, see above"),
            },
        };
        let watch = Watch::start();
        println!("[{board}] {}: {}", flow.name, flow.about);
        match (flow.run)(&mut rig).await {
            Ok(()) => {
                keep(flow.name, watch, Outcome::passed(""));
                bench = Some((rig, scratch));
            }
            Err(error) => {
                keep(flow.name, watch, Outcome::failed(error));
                drop(rig);
                scratch.keep();
            }
        }
    }
    if choice.takes(POWER_CUTS) && choice.cuts.cuts > 0 {
        let Some((mut rig, mut scratch)) = (match bench.take() {
            Some(bench) => Some(bench),
            None => start(target).await?,
        }) else {
            bail!("{board} cannot be had on this machine, see above");
        };
        let watch = Watch::start();
        let told = &mut |text: &str| println!("[{board}] {text}");
        match flows::power_cuts(&mut rig, choice.cuts, told).await {
            Ok(tally) => keep(POWER_CUTS, watch, Outcome::passed(&tally.to_string())),
            Err(error) => {
                keep(POWER_CUTS, watch, Outcome::failed(error));
                drop(rig);
                scratch.keep();
            }
        }
    }
    Ok(records)
}

/// A board and the folder that it lives in; the folder goes last.
async fn start(target: &Target) -> Result<Option<(Rig, Scratch)>> {
    let scratch = Scratch::new("hil")?;
    println!(
        "[{}] starting server and board in {}",
        target.name(),
        scratch.path().display()
    );
    Ok(Rig::start(target, scratch.path())
        .await?
        .map(|rig| (rig, scratch)))
}

/// The campaign must find that the agent's flushes do nothing.
async fn control(target: &Target, plan: Plan) -> Result<Outcome> {
    let (mut rig, _scratch) = start(target).await?.context("the board cannot be had")?;
    let told = &mut |text: &str| println!("[{}] {text}", target.name());
    caught(&mut rig, plan, told)
        .await
        .map(|text| Outcome::passed(&text))
}

/// Cuts with releases whose agent flushes nothing; returns what gave it away, or an error if nothing did.
pub async fn caught(rig: &mut Rig, plan: Plan, told: &mut dyn FnMut(&str)) -> Result<String> {
    rig.good = Fault::NoFlush;
    match flows::power_cuts(rig, plan, told).await {
        Ok(tally) => bail!(
            "{} cuts have not noticed that the agent's flushes do nothing",
            tally.cuts
        ),
        Err(error) if error.downcast_ref::<Broken>().is_some() => Ok(format!("caught: {error:#}")),
        Err(error) => Err(error),
    }
}

/// Where results are kept.
pub fn results_file(target_dir: &Path) -> std::path::PathBuf {
    target_dir.join("hil/results.json")
}

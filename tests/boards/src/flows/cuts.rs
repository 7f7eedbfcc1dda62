//! Random power cuts, from the download to the commit and just after it, on a disk that loses what was not flushed. (On
//! hardware they fall at random times only, and the disk is what it is.)
//!
//! Stronger than killing QEMU at some moment (see `ambidex_harness::board::VolatileDisk`): the image, the agent's journal
//! and the boot environment each lose a random part of their unflushed sectors. After every cut the board must start
//! exactly one slot, whose content is exactly one release, with a readable environment; the server must end up with the
//! truth, and no file on the data partition may be lost.
//!
//! Every other update is cut twice: the power goes again in the start after the cut, while agent and file systems recover.
//! What it has come to is looked at after the second.

use std::time::{Duration, Instant};

use ambidex_harness::board::Loss;
use ambidex_harness::wait_for;
use anyhow::{Result, ensure};
use rand::rngs::StdRng;
use rand::seq::SliceRandom as _;
use rand::{Rng as _, SeedableRng as _};

use crate::rig::{Deployment, Rig, UPDATE_LIMIT, Watch};

/// A start after a cut writes less than this to the disk.
const WRITES_OF_A_START: u64 = 40;

/// How many cuts, and what decides where they fall.
#[derive(Debug, Clone, Copy)]
pub struct Plan {
    pub cuts: u64,
    pub seed: u64,
    /// After this time no further cut is begun.
    pub at_most: Option<Duration>,
}

/// What a campaign of cuts has seen.
#[derive(Debug, Clone, Copy, Default)]
pub struct Tally {
    pub cuts: u64,
    /// Cuts that found data which was not flushed.
    pub with_loss: u64,
    pub lost_sectors: usize,
    pub committed: u64,
    pub rolled_back: u64,
}

impl std::fmt::Display for Tally {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "{} cuts, of which {} lost {} sectors together; {} updates committed, {} rolled back; 0 unbootable, 0 lies, \
             0 lost files",
            self.cuts, self.with_loss, self.lost_sectors, self.committed, self.rolled_back
        )
    }
}

/// What a power cut may never do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Finding {
    /// The board did not start the slot that it selected, or none.
    Unbootable,
    /// Server, agent and slot do not say the same.
    Lie,
    /// A file on the data partition is gone or changed.
    LostFile,
}

/// A cut after which something was wrong; in the chain of causes.
#[derive(Debug)]
pub struct Broken {
    pub finding: Finding,
    pub cut: u64,
    moment: Moment,
    loss: Loss,
    again: Option<Again>,
}

/// The cut in the start after a cut.
#[derive(Debug, Clone, Copy)]
struct Again {
    /// So many writes to the disk after power on. `None`: the start was over before there were so many, or nobody counts.
    at_write: Option<u64>,
    loss: Loss,
}

impl std::fmt::Display for Again {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.at_write {
            Some(write) => write!(f, "again at write {write} of the start")?,
            None => f.write_str("again after the start")?,
        }
        write!(f, ", {}", lost(self.loss))
    }
}

fn lost(loss: Loss) -> String {
    format!(
        "{} of {} unflushed sectors lost",
        loss.lost_sectors, loss.unflushed_sectors
    )
}

impl std::fmt::Display for Broken {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let finding = match self.finding {
            Finding::Unbootable => "the board does not start well",
            Finding::Lie => "what is said is not what is",
            Finding::LostFile => "a file on the data partition is lost",
        };
        write!(
            f,
            "after cut {} ({:?}, {}",
            self.cut,
            self.moment,
            lost(self.loss)
        )?;
        if let Some(again) = self.again {
            write!(f, "; {again}")?;
        }
        write!(f, "): {finding}")
    }
}

/// When the power goes.
#[derive(Debug, Clone, Copy)]
enum Moment {
    /// At this write to the disk, counted from the deployment.
    Write(u64),
    /// So long after the deployment.
    After(Duration),
    /// At the first write to the boot partition: the switch to the new slot.
    Switch,
    /// The same after the reboot was announced: the boot loader counts the trial.
    Trial,
    /// The same after the new system is up: the commit.
    Commit,
    /// So long after the server has heard of the success.
    Success(Duration),
}

/// What one update without a cut has taken.
struct Span {
    writes: u64,
    time: Duration,
}

impl Moment {
    /// Every kind in turn, in an order of its own each time. Those of the disk are for boards whose disk we have.
    fn draw(queue: &mut Vec<Self>, random: &mut StdRng, span: &Span) -> Self {
        if queue.is_empty() {
            let millis = span.time.as_millis() as u64;
            *queue = vec![
                Self::After(Duration::from_millis(random.gen_range(0..=millis))),
                Self::Success(Duration::from_millis(random.gen_range(0..1500))),
            ];
            if span.writes > 0 {
                queue.extend([
                    Self::Write(random.gen_range(1..=span.writes)),
                    Self::Write(random.gen_range(1..=span.writes)),
                    Self::Switch,
                    Self::Trial,
                    Self::Commit,
                ]);
            }
            queue.shuffle(random);
        }
        queue.pop().unwrap_or(Self::After(Duration::ZERO))
    }
}

/// Cuts the power again and again. `told` hears of every cut.
pub async fn power_cuts(rig: &mut Rig, plan: Plan, told: &mut dyn FnMut(&str)) -> Result<Tally> {
    let mut random = StdRng::seed_from_u64(plan.seed);
    let span = one_uncut(rig).await?;
    told(&format!(
        "an update without a cut: {} disk writes in {:.1} s",
        span.writes,
        span.time.as_secs_f64()
    ));
    let (mut tally, mut queue) = (Tally::default(), Vec::new());
    let started = Instant::now();
    let mut twice = false;
    while tally.cuts < plan.cuts {
        if plan.at_most.is_some_and(|limit| started.elapsed() > limit) {
            break;
        }
        let moment = Moment::draw(&mut queue, &mut random, &span);
        let watch = Watch::start();
        rig.write_file(&format!("cut{}", tally.cuts + 1)).await?;
        let deployment = rig.deploy_fresh().await?;
        reach(rig, moment, &deployment).await?;
        let loss = cut(rig, &mut tally).await?;
        let broken = |finding, cut, again| Broken {
            finding,
            cut,
            moment,
            loss,
            again,
        };
        let again = if twice && tally.cuts < plan.cuts {
            let write = random.gen_range(1..=WRITES_OF_A_START);
            let first = tally.cuts;
            let reached = in_the_start(rig, write, &deployment)
                .await
                .map_err(|error| error.context(broken(Finding::Unbootable, first, None)))?;
            let loss = cut(rig, &mut tally).await?;
            let at_write = reached.then_some(write);
            Some(Again { at_write, loss })
        } else {
            None
        };
        twice = !twice;
        let number = tally.cuts;
        let broken = |finding| broken(finding, number, again);

        let before = rig.starts();
        starts_one_slot(rig, before)
            .await
            .map_err(|error| error.context(broken(Finding::Unbootable)))?;
        let outcome = rig
            .the_truth(&deployment)
            .await
            .map_err(|error| error.context(broken(Finding::Lie)))?;
        rig.files_are_there()
            .await
            .map_err(|error| error.context(broken(Finding::LostFile)))?;

        *(if outcome == "success" {
            &mut tally.committed
        } else {
            &mut tally.rolled_back
        }) += 1;
        let again = again.map_or_else(String::new, |again| format!("; {again}"));
        told(&format!(
            "cut {number} of {}: {moment:?}, {}{again}; then {outcome}, runs {} ({:.1} s)",
            plan.cuts,
            lost(loss),
            rig.running(),
            watch.seconds()
        ));
    }
    Ok(tally)
}

/// Cuts the power and counts it. What a disk on the desk has lost is not known.
async fn cut(rig: &mut Rig, tally: &mut Tally) -> Result<Loss> {
    let loss = rig.dut.power_cut().await?.unwrap_or_default();
    tally.cuts += 1;
    tally.with_loss += u64::from(loss.lost_sectors > 0);
    tally.lost_sectors += loss.lost_sectors;
    Ok(loss)
}

/// Switches on and returns at that write to the disk; when there are fewer, at the end of the start. Tells which it was.
async fn in_the_start(rig: &mut Rig, at_write: u64, deployment: &Deployment) -> Result<bool> {
    let booted = rig.seen("BOOTED ");
    rig.dut.power_on().await?;
    if let Some(board) = rig.dut.emulated() {
        board.cache()?.cut_after(at_write);
    }
    wait_for("the cut in the start", UPDATE_LIMIT, async || {
        if let Some(board) = rig.dut.emulated()
            && board.cache()?.is_cut()
        {
            return Ok(Some(true));
        }
        let status = rig.api.device_status(&deployment.id, &rig.device).await?;
        let ended = matches!(status.as_deref(), Some("success" | "failure"));
        Ok((ended && rig.seen("BOOTED ") > booted).then_some(false))
    })
    .await
}

/// Tells how many writes and how much time there are to choose from.
async fn one_uncut(rig: &mut Rig) -> Result<Span> {
    let writes = disk_writes(rig)?;
    let started = Instant::now();
    let deployment = rig.deploy_fresh().await?;
    rig.wait(&deployment, &["success"]).await?;
    let time = started.elapsed();
    rig.committed(&deployment);
    rig.boots_running().await?;
    rig.both_sides_agree().await?;
    let writes = disk_writes(rig)? - writes;
    Ok(Span { writes, time })
}

/// Writes to the disk so far, where we have it.
fn disk_writes(rig: &Rig) -> Result<u64> {
    let board = rig.dut.emulated();
    board.map_or(Ok(0), |board| Ok(board.cache()?.writes()))
}

/// Returns when the moment has come; the disk stands still then, where the moment is a write.
async fn reach(rig: &mut Rig, moment: Moment, deployment: &Deployment) -> Result<()> {
    match moment {
        Moment::Write(count) => rig.dut.inside()?.cache()?.cut_after(count),
        Moment::Switch => at_boot_partition(rig)?,
        Moment::Trial => {
            rig.wait(deployment, &["rebooting"]).await?;
            at_boot_partition(rig)?;
        }
        Moment::Commit => {
            rig.trial_boots(deployment).await?;
            at_boot_partition(rig)?;
        }
        Moment::Success(later) => {
            rig.wait(deployment, &["success"]).await?;
            tokio::time::sleep(later).await;
            return Ok(());
        }
        Moment::After(_) => {}
    }
    let began = Instant::now();
    wait_for(
        "the cut or the end of the update",
        UPDATE_LIMIT,
        async || {
            let status = rig.api.device_status(&deployment.id, &rig.device).await?;
            let ended = matches!(status.as_deref(), Some("success" | "failure"));
            let come = match moment {
                Moment::After(later) => began.elapsed() >= later,
                _ => rig.dut.inside()?.cache()?.is_cut(),
            };
            Ok((come || ended).then_some(()))
        },
    )
    .await
}

/// Stands still at the next write to the boot partition.
fn at_boot_partition(rig: &Rig) -> Result<()> {
    let board = rig.dut.inside()?;
    let (start, bytes) = board.disk().partition(1)?;
    board.cache()?.cut_with(start..start + bytes, 1);
    Ok(())
}

/// The environment can be read, and one attempt is enough.
async fn starts_one_slot(rig: &mut Rig, before: usize) -> Result<()> {
    if let (Some(board), true) = (rig.dut.emulated(), rig.kind.has_environment()) {
        board.disk().variables().await?;
    }
    rig.dut.boot().await?;
    let started = rig.starts() - before;
    ensure!(
        started == 1,
        "{started} boots were needed: a slot was made active before its image was durable"
    );
    Ok(())
}

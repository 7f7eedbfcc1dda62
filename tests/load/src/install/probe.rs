//! Measures one run: CPU of the whole process tree, its memory, and what reached the slot.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt, fs,
    process::Stdio,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::{Context, bail};
use nix::sys::resource::{UsageWho, getrusage};

use super::{contenders::Contender, stage::Stage};

/// Sectors in `/sys/block/*/stat` are always of 512 bytes.
const SECTOR_BYTES: u64 = 512;
const SAMPLE_EVERY: Duration = Duration::from_millis(20);

/// Figures of one run.
pub struct Sample {
    pub user_s: f64,
    pub system_s: f64,
    pub wall_s: f64,
    /// Peak of the sum of proportional set sizes over the process tree.
    pub peak_pss_mib: f64,
    pub processes: usize,
    pub written_mib: f64,
}

impl Sample {
    pub fn cpu_s(&self) -> f64 {
        self.user_s + self.system_s
    }
}

impl fmt::Display for Sample {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "cpu {:5.2} s (user {:.2}, system {:.2}), wall {:5.2} s, pss {:5.1} MiB, written {:5.0} MiB",
            self.cpu_s(),
            self.user_s,
            self.system_s,
            self.wall_s,
            self.peak_pss_mib,
            self.written_mib
        )
    }
}

/// Runs the contender in the stage and measures it. The time includes making it durable.
pub fn measure(stage: &Stage, contender: &Contender) -> anyhow::Result<Sample> {
    let usage_before = cpu_of_children()?;
    let sectors_before = sectors_written(&stage.slot_b)?;
    let started = Instant::now();
    let mut child = stage
        .command(&contender.script)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .spawn()
        .context("start the contender")?;
    let done = Arc::new(AtomicBool::new(false));
    let sampler = {
        let (done, root) = (Arc::clone(&done), child.id());
        std::thread::spawn(move || sample_memory(root, &done))
    };
    let status = child.wait()?;
    let wall_s = started.elapsed().as_secs_f64();
    done.store(true, Ordering::Relaxed);
    let usage_after = cpu_of_children()?;
    let (peak_pss_kib, processes) = sampler
        .join()
        .map_err(|_| anyhow::anyhow!("the memory sampler ended abnormally"))?;
    if !status.success() {
        bail!("ended with {status}");
    }
    drop(fs::File::open(&stage.slot_b)?.sync_all());
    let sectors = sectors_written(&stage.slot_b)? - sectors_before;
    Ok(Sample {
        user_s: usage_after.0 - usage_before.0,
        system_s: usage_after.1 - usage_before.1,
        wall_s,
        peak_pss_mib: peak_pss_kib as f64 / 1024.0,
        processes,
        written_mib: (sectors * SECTOR_BYTES) as f64 / f64::from(1 << 20),
    })
}

fn cpu_of_children() -> anyhow::Result<(f64, f64)> {
    let usage = getrusage(UsageWho::RUSAGE_CHILDREN)?;
    let seconds =
        |time: nix::sys::time::TimeVal| time.tv_sec() as f64 + time.tv_usec() as f64 / 1_000_000.0;
    Ok((seconds(usage.user_time()), seconds(usage.system_time())))
}

fn sectors_written(device: &str) -> anyhow::Result<u64> {
    let name = device.trim_start_matches("/dev/");
    let text = fs::read_to_string(format!("/sys/block/{name}/stat"))?;
    text.split_whitespace()
        .nth(6)
        .context("stat of the slot")?
        .parse()
        .context("stat of the slot")
}

/// Peak of the tree's PSS in KiB and the number of distinct processes seen, the shell left out.
fn sample_memory(root: u32, done: &AtomicBool) -> (u64, usize) {
    let (mut peak, mut seen) = (0, BTreeSet::new());
    while !done.load(Ordering::Relaxed) {
        let mut sum = 0;
        for process in descendants(root) {
            if process == root {
                continue;
            }
            if let Some(pss) = pss_kib(process) {
                seen.insert(process);
                sum += pss;
            }
        }
        // A script of one command is replaced by it: then the root is the contender.
        if sum == 0 {
            sum = pss_kib(root).unwrap_or(0);
        }
        peak = peak.max(sum);
        std::thread::sleep(SAMPLE_EVERY);
    }
    (peak, seen.len().max(1))
}

fn pss_kib(process: u32) -> Option<u64> {
    let text = fs::read_to_string(format!("/proc/{process}/smaps_rollup")).ok()?;
    let line = text.lines().find(|line| line.starts_with("Pss:"))?;
    line.split_whitespace().nth(1)?.parse().ok()
}

fn descendants(root: u32) -> Vec<u32> {
    let mut children: BTreeMap<u32, Vec<u32>> = BTreeMap::new();
    let Ok(entries) = fs::read_dir("/proc") else {
        return Vec::new();
    };
    for entry in entries.flatten() {
        let Some(process) = entry
            .file_name()
            .to_str()
            .and_then(|name| name.parse().ok())
        else {
            continue;
        };
        let Ok(stat) = fs::read_to_string(format!("/proc/{process}/stat")) else {
            continue;
        };
        let parent = stat
            .rsplit(')')
            .next()
            .and_then(|rest| rest.split_whitespace().nth(1)?.parse().ok());
        if let Some(parent) = parent {
            children.entry(parent).or_default().push(process);
        }
    }
    let mut found = vec![root];
    let mut index = 0;
    while index < found.len() {
        if let Some(more) = children.get(&found[index]) {
            found.extend(more);
        }
        index += 1;
    }
    found
}

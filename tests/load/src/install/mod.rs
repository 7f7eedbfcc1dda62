//! Installing 512 MiB into slot B while it holds the previous release: us, the peers and the
//! physical floor, interleaved in one run, so that only ratios matter and machine noise cancels.

mod contenders;
mod images;
mod probe;
mod stage;

use std::{collections::BTreeMap, path::PathBuf};

use anyhow::{Context, bail};

pub use images::Images;
use probe::Sample;

/// What the measurement needs to know.
pub struct Options {
    /// Where images, artifacts and mounts live; images are kept for the next run.
    pub work_dir: PathBuf,
    pub agent_bin: PathBuf,
    pub cli_bin: PathBuf,
    /// Rounds; each runs every contender once.
    pub rounds: usize,
    /// Run only contenders whose name contains this.
    pub only: Option<String>,
}

/// Runs every contender `rounds` times and returns the report.
///
/// # Errors
/// Fails when a stage cannot be prepared or a contender exits with an error: a benchmark whose
/// subject did not do the work has no figures.
pub fn run(options: &Options) -> anyhow::Result<serde_json::Value> {
    if !nix::unistd::geteuid().is_root() {
        bail!("the install benchmark mounts loop devices: run it as root");
    }
    let images = Images::prepare(&options.work_dir, &options.cli_bin)?;
    let stage = stage::Stage::build(&options.work_dir, &images, &options.agent_bin)?;
    let contenders: Vec<_> = contenders::all(&stage)
        .into_iter()
        .filter(|contender| {
            options.only.as_ref().is_none_or(|only| {
                contender.name.contains(only.as_str()) || contender.name == contenders::PIPE
            })
        })
        .collect();
    let mut samples: BTreeMap<&str, Vec<Sample>> = BTreeMap::new();
    for round in 0..options.rounds {
        for contender in &contenders {
            stage.restore_slot_b()?;
            stage.reset_environment()?;
            let sample = probe::measure(&stage, contender)
                .with_context(|| format!("contender '{}', round {round}", contender.name))?;
            if contender.writes_v2 {
                stage.verify_slot_b(&images)?;
            }
            if let Some(after) = &contender.after {
                stage
                    .run(after)
                    .with_context(|| format!("after '{}'", contender.name))?;
            }
            eprintln!("round {round}: {:<24} {sample}", contender.name);
            samples.entry(contender.name).or_default().push(sample);
        }
    }
    report(&contenders, &samples, &images)
}

fn report(
    contenders: &[contenders::Contender],
    samples: &BTreeMap<&str, Vec<Sample>>,
    images: &Images,
) -> anyhow::Result<serde_json::Value> {
    let pipe = samples
        .get(contenders::PIPE)
        .context("the pipe did not run")?;
    let copy = samples.get(contenders::COPY);
    let mut rows = Vec::new();
    for contender in contenders {
        let own = &samples[contender.name];
        let cpu_ratio = median(own.iter().zip(pipe).map(|(a, b)| a.cpu_s() / b.cpu_s()));
        let wall_ratio =
            copy.map(|copy| median(own.iter().zip(copy).map(|(a, b)| a.wall_s / b.wall_s)));
        rows.push(serde_json::json!({
            "contender": contender.name,
            "cpu_s": median(own.iter().map(Sample::cpu_s)),
            "cpu_x_zstd_pipe": cpu_ratio,
            "wall_s": median(own.iter().map(|sample| sample.wall_s)),
            "wall_x_copy_fsync": wall_ratio,
            "peak_pss_mib": median(own.iter().map(|sample| sample.peak_pss_mib)),
            "written_mib": median(own.iter().map(|sample| sample.written_mib)),
            "processes": own.iter().map(|sample| sample.processes).max(),
        }));
    }
    Ok(serde_json::json!({
        "measurement": "install",
        "image_mib": images.image_bytes() / (1 << 20),
        "differing_mib": images.differing_mib,
        "rounds": pipe.len(),
        "rows": rows,
    }))
}

fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    let value = if values.len() % 2 == 1 {
        values[middle]
    } else {
        f64::midpoint(values[middle - 1], values[middle])
    };
    (value * 100.0).round() / 100.0
}

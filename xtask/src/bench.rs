//! `cargo xtask bench`: the figures of the README, measured on this machine.
//!
//! Everything runs as what ships: the server with its release profile, the agent with its device
//! profile. Only ratios of one run mean something; the absolute figures are there to see the noise.

use std::path::PathBuf;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};
use serde_json::Value;

use crate::packages::{self, For};
use crate::workspace;

const USAGE: &str = "\
usage: cargo xtask bench [polls] [fleet] [install] [idle] [--devices N] [--rounds N] [--yes]

  polls     idle polls a second of a fleet against the embedded database
  fleet     every call of a device with 1,000,000 devices in the embedded database
  install   512 MiB into slot B beside dd, pipes, mender-client, rauc and swupdate (needs root)
  idle      memory and wakings of the agent between two polls, and how soon it asks after its start

Without a name, all of them. --devices (default 100000), --rounds of install (default 4).";

struct Options {
    names: Vec<String>,
    devices: String,
    rounds: String,
    yes: bool,
}

fn parse(arguments: Vec<String>) -> Result<Option<Options>> {
    let mut options = Options {
        names: Vec::new(),
        devices: "100000".into(),
        rounds: "4".into(),
        yes: false,
    };
    let mut rest = arguments.into_iter();
    while let Some(argument) = rest.next() {
        let mut value = || {
            rest.next()
                .with_context(|| format!("{argument} needs a number\n{USAGE}"))
        };
        match argument.as_str() {
            "--devices" => options.devices = value()?,
            "--rounds" => options.rounds = value()?,
            "--yes" => options.yes = true,
            "--help" | "-h" => {
                println!("{USAGE}");
                return Ok(None);
            }
            "polls" | "fleet" | "install" | "idle" => options.names.push(argument),
            other => bail!("unknown argument {other}\n{USAGE}"),
        }
    }
    if options.names.is_empty() {
        options.names = ["idle", "polls", "fleet", "install"]
            .map(str::to_owned)
            .to_vec();
    }
    Ok(Some(options))
}

pub fn run(arguments: Vec<String>) -> Result<()> {
    let Some(options) = parse(arguments)? else {
        return Ok(());
    };
    packages::ensure(For::Bench, options.yes)?;
    workspace::check(
        workspace::cargo()
            .args(["build", "--locked", "--release"])
            .args([
                "-p",
                "ambidex-server",
                "-p",
                "ambidex",
                "-p",
                "ambidex-load",
            ]),
    )?;
    let release = |name: &str| workspace::target_dir().join("release").join(name);
    let agent = device_agent()?;
    let load = release("ambidex-load");
    for name in &options.names {
        match name.as_str() {
            "polls" => {
                let server = release("ambidex-server");
                let report = measured(
                    Command::new(&load)
                        .args(["idle-polls", "--devices", &options.devices, "--server-bin"])
                        .arg(&server),
                )?;
                println!("\n{}", polls_table(&report));
            }
            "fleet" => {
                let report = measured(
                    Command::new(&load)
                        .args(["fleet", "--server-bin"])
                        .arg(release("ambidex-server")),
                )?;
                println!("\n{}", fleet_table(&report));
            }
            "idle" => {
                let report = measured(
                    Command::new(&load)
                        .args(["idle-agent", "--seconds", "60", "--agent-bin"])
                        .arg(&agent)
                        .arg("--server-bin")
                        .arg(release("ambidex-server")),
                )?;
                println!("\n{}", idle_table(&report));
            }
            _ => {
                let work = work_dir()?;
                let report = measured(
                    Command::new(&load)
                        .args(["install", "--rounds", &options.rounds, "--agent-bin"])
                        .arg(&agent)
                        .arg("--cli-bin")
                        .arg(release("ambidex"))
                        .arg("--work-dir")
                        .arg(&work),
                )?;
                println!("\n{}", install_table(&report));
            }
        }
    }
    Ok(())
}

/// The static agent that devices get.
fn device_agent() -> Result<PathBuf> {
    let output = Command::new(workspace::root().join("qemu/agent"))
        .env_remove("AMBIDEX_BOARD_AGENT_PROFILE")
        .stderr(Stdio::inherit())
        .output()
        .context("starting qemu/agent")?;
    if !output.status.success() {
        bail!("building the device agent failed, see above");
    }
    let path = String::from_utf8(output.stdout).context("what qemu/agent printed")?;
    Ok(PathBuf::from(path.trim()))
}

fn work_dir() -> Result<PathBuf> {
    let work = workspace::target_dir().join("bench");
    std::fs::create_dir_all(&work).with_context(|| format!("making {}", work.display()))?;
    Ok(work)
}

fn measured(command: &mut Command) -> Result<Value> {
    let output = command
        .stderr(Stdio::inherit())
        .output()
        .with_context(|| format!("starting {command:?}"))?;
    if !output.status.success() {
        bail!("{command:?} ended with {}", output.status);
    }
    serde_json::from_slice(&output.stdout).with_context(|| format!("what {command:?} printed"))
}

fn cell(value: &Value) -> String {
    value
        .as_str()
        .map_or_else(|| value.to_string(), str::to_owned)
}

fn table(report: &Value, columns: &[&str]) -> String {
    let line = |cells: Vec<String>| format!("| {} |\n", cells.join(" | "));
    line(columns.iter().map(|&name| name.to_owned()).collect())
        + &line(columns.iter().map(|_| "---".to_owned()).collect())
        + &line(columns.iter().map(|&name| cell(&report[name])).collect())
}

fn idle_table(report: &Value) -> String {
    table(
        report,
        &[
            "rss_mib",
            "pss_mib",
            "threads",
            "wakings_per_minute",
            "start_to_first_request_ms",
            "binary_bytes",
        ],
    )
}

fn polls_table(report: &Value) -> String {
    table(
        report,
        &[
            "devices",
            "connections",
            "polls_per_second",
            "p50_ms",
            "p99_ms",
            "server_cpu_us_per_poll",
            "server_rss_mib",
        ],
    )
}

fn fleet_table(report: &Value) -> String {
    let columns = [
        "calls",
        "per_second",
        "p50_ms",
        "p99_ms",
        "max_ms",
        "server_cpu_us",
    ];
    let mut text = table(
        report,
        &[
            "devices",
            "active",
            "start_ms",
            "rss_mib_after_polls",
            "rss_mib_at_the_end",
            "creation_s",
        ],
    );
    text.push_str(&format!(
        "\n| {} |\n|{}\n",
        columns.join(" | "),
        " --- |".repeat(columns.len())
    ));
    for row in report["rows"].as_array().into_iter().flatten() {
        let cells: Vec<String> = columns.iter().map(|name| cell(&row[*name])).collect();
        text.push_str(&format!("| {} |\n", cells.join(" | ")));
    }
    text
}

fn install_table(report: &Value) -> String {
    let columns = [
        "contender",
        "cpu_s",
        "cpu_x_zstd_pipe",
        "wall_s",
        "wall_x_copy_fsync",
        "peak_pss_mib",
        "written_mib",
        "processes",
    ];
    let mut text = format!(
        "{} MiB image, {} MiB differ in place, median of {} rounds\n\n| {} |\n|{}\n",
        cell(&report["image_mib"]),
        cell(&report["differing_mib"]),
        cell(&report["rounds"]),
        columns.join(" | "),
        " --- |".repeat(columns.len()),
    );
    for row in report["rows"].as_array().into_iter().flatten() {
        let cells: Vec<String> = columns
            .iter()
            .map(|name| cell(&row[*name]).replace('|', "\\|"))
            .collect();
        text.push_str(&format!("| {} |\n", cells.join(" | ")));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_becomes_a_table() {
        let report = serde_json::json!({ "rss_mib": 3.5, "threads": 1 });
        assert_eq!(
            table(&report, &["rss_mib", "threads"]),
            "| rss_mib | threads |\n| --- | --- |\n| 3.5 | 1 |\n"
        );
    }

    #[test]
    fn numbers_are_demanded() {
        assert!(parse(vec!["--devices".into()]).is_err());
        assert!(parse(vec!["everything".into()]).is_err());
        assert!(parse(Vec::new()).is_ok_and(|options| options.is_some_and(|o| o.names.len() == 4)));
    }
}

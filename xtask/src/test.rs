//! `cargo xtask test`: all tests, then one line that says how many passed, failed and were skipped.

use std::io::BufReader;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

use crate::packages::{self, For};
use crate::python_tools;
use crate::test_output::{Count, Runner, summary};
use crate::workspace;

pub fn run(arguments: Vec<String>) -> Result<()> {
    let mut yes = false;
    let mut filter = None;
    for argument in arguments {
        match argument.as_str() {
            "--yes" => yes = true,
            option if option.starts_with('-') => {
                bail!("unknown option {option}; usage: cargo xtask test [--yes] [FILTER]")
            }
            _ => filter = Some(argument),
        }
    }
    packages::ensure(For::Test, yes)?;
    python_tools::ensure();
    workspace::build(&["ambidex-server", "ambidex-agent", "ambidex"])?;

    let skip_log = workspace::target_dir().join("skipped-tests");
    if skip_log.exists() {
        std::fs::remove_file(&skip_log)
            .context("removing the list of skipped tests of the last run")?;
    }
    let nextest = workspace::cargo()
        .args(["nextest", "--version"])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|status| status.success());
    let mut steps: Vec<(Runner, Vec<&str>)> = if nextest {
        // nextest does not run documentation tests
        vec![
            (
                Runner::Nextest,
                vec![
                    "nextest",
                    "run",
                    "--locked",
                    "--workspace",
                    "--no-fail-fast",
                    "--no-tests",
                    "pass",
                ],
            ),
            (
                Runner::Cargo,
                vec![
                    "test",
                    "--quiet",
                    "--locked",
                    "--workspace",
                    "--doc",
                    "--no-fail-fast",
                ],
            ),
        ]
    } else {
        vec![(
            Runner::Cargo,
            vec!["test", "--locked", "--workspace", "--no-fail-fast"],
        )]
    };
    let mut total = Count::default();
    let mut broken = Vec::new();
    for (runner, step) in &mut steps {
        step.extend(filter.as_deref());
        let mut command = workspace::cargo();
        command.args(step.iter()).env("AMBIDEX_SKIP_LOG", &skip_log);
        workspace::use_built(&mut command);
        let (count, success) = counted(*runner, &mut command)?;
        total += count;
        if !success && count.failed == 0 {
            // it did not come to testing: a compile error, a crash of the runner
            broken.push(format!("cargo {}", step.join(" ")));
        }
    }
    let skips = std::fs::read_to_string(&skip_log).unwrap_or_default();
    for line in skips.lines() {
        eprintln!("skipped {line}");
    }
    // a filter by name leaves the rest out on purpose; that is no skip
    if filter.is_some() {
        total.skipped = 0;
    }
    let total = total.with_loud_skips(skips.lines().count() as u64);
    println!(
        "{} passed, {} failed, {} skipped",
        total.passed, total.failed, total.skipped
    );
    if !broken.is_empty() {
        bail!(
            "`{}` ended without a result, see above",
            broken.join("` and `")
        );
    }
    if total.failed > 0 {
        bail!("tests failed");
    }
    if total.passed == 0 {
        bail!("no test ran");
    }
    Ok(())
}

/// Runs cargo, hands its output on while it comes, and counts the summaries in it.
fn counted(runner: Runner, command: &mut Command) -> Result<(Count, bool)> {
    // cargo test reports on standard output, nextest on standard error
    let mut child = command
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .with_context(|| format!("starting {command:?}"))?;
    let stderr = child
        .stderr
        .take()
        .context("invariant: standard error is piped")?;
    let stdout = child
        .stdout
        .take()
        .context("invariant: standard output is piped")?;
    let errors =
        std::thread::spawn(move || relay(runner, BufReader::new(stderr), std::io::stderr()));
    let mut count = relay(runner, BufReader::new(stdout), std::io::stdout());
    count += errors
        .join()
        .map_err(|_| anyhow::anyhow!("reading cargo's messages failed"))?;
    let status = child.wait().context("waiting for cargo")?;
    Ok((count, status.success()))
}

fn relay(runner: Runner, mut from: impl std::io::BufRead, mut to: impl std::io::Write) -> Count {
    let mut count = Count::default();
    let mut line = Vec::new();
    while let Ok(1..) = from.read_until(b'\n', &mut line) {
        let _ = to.write_all(&line);
        let _ = to.flush();
        if let Some(found) = summary(runner, &String::from_utf8_lossy(&line)) {
            count += found;
        }
        line.clear();
    }
    count
}

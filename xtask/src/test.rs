//! `cargo xtask test`: all tests, then one line that says how many passed, failed and were skipped.

use std::io::BufReader;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

use crate::packages::{self, For};
use crate::python_tools;
use crate::second_engine::{self, Server};
use crate::test_output::{Count, Runner, summary};
use crate::workspace;

pub fn run(arguments: Vec<String>) -> Result<()> {
    let mut yes = false;
    let mut second_engine = true;
    let mut filter = None;
    for argument in arguments {
        match argument.as_str() {
            "--yes" => yes = true,
            "--sqlite-only" => second_engine = false,
            option if option.starts_with('-') => {
                bail!(
                    "unknown option {option}; usage: cargo xtask test [--yes] [--sqlite-only] [FILTER]"
                )
            }
            _ => filter = Some(argument),
        }
    }
    packages::ensure(For::Test, yes)?;
    python_tools::ensure();
    workspace::build_with_tests()?;

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
    // The suites of the services once more, on a PostgreSQL server of their own.
    let postgres = match second_engine {
        true => Server::start()?,
        false => None,
    };
    let mut total = Count::default();
    let mut broken = Vec::new();
    for step in steps(nextest)? {
        if step.second_engine && !second_engine {
            continue;
        }
        let server = match (&postgres, step.second_engine) {
            (server, true) if server.is_none() => {
                eprintln!(
                    "skipped the suites on PostgreSQL: the Debian package postgresql is missing"
                );
                total.skipped += 1;
                continue;
            }
            (server, wanted) => server.as_ref().filter(|_| wanted),
        };
        let mut command = workspace::cargo();
        command
            .args(&step.arguments)
            .args(&filter)
            .env("AMBIDEX_SKIP_LOG", &skip_log);
        workspace::use_built(&mut command);
        if let Some(server) = server {
            eprintln!("once more on PostgreSQL: the suites of the services");
            server.offer(&mut command);
        }
        let (mut count, success) = counted(step.runner, &mut command)?;
        if server.is_some() {
            // those left out by the choice of packages
            count.skipped = 0;
        }
        total += count;
        if !success && count.failed == 0 {
            // it did not come to testing: a compile error, a crash of the runner
            broken.push(format!("cargo {}", step.arguments.join(" ")));
        }
    }
    drop(postgres);
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

/// One run of cargo.
struct Step {
    runner: Runner,
    arguments: Vec<String>,
    /// On PostgreSQL, and the packages that know it only.
    second_engine: bool,
}

fn steps(nextest: bool) -> Result<Vec<Step>> {
    let step = |runner, arguments: &str, more: &[String], second_engine| Step {
        runner,
        arguments: arguments
            .split(' ')
            .map(str::to_owned)
            .chain(more.iter().cloned())
            .collect(),
        second_engine,
    };
    let packages = second_engine::packages()?;
    Ok(if nextest {
        // many tests wait for a watchdog, a poll or another machine: one more than there are cores
        let threads = std::thread::available_parallelism().map_or(2, usize::from) + 1;
        let run = &format!(
            "nextest run --locked --workspace --no-fail-fast --no-tests pass --test-threads {threads}"
        );
        let chosen = ["-E".to_owned(), second_engine::expression(&packages)];
        // nextest does not run documentation tests
        let doc = "test --quiet --locked --workspace --doc --no-fail-fast";
        vec![
            step(Runner::Nextest, run, &[], false),
            step(Runner::Nextest, run, &chosen, true),
            step(Runner::Cargo, doc, &[], false),
        ]
    } else {
        let run = "test --locked --no-fail-fast";
        let chosen: Vec<String> = packages
            .into_iter()
            .flat_map(|name| ["--package".to_owned(), name])
            .collect();
        vec![
            step(Runner::Cargo, run, &["--workspace".to_owned()], false),
            step(Runner::Cargo, run, &chosen, true),
        ]
    })
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

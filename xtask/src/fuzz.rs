//! `cargo xtask fuzz`: looks for inputs that break the properties of the agent's parsers (`tests/properties`).
//!
//! The targets lie in a workspace of their own, `tests/fuzz`: they need a nightly compiler and cargo-fuzz, which
//! nothing else does.

use std::io::{BufRead, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

use crate::workspace;

const USAGE: &str = "\
usage: cargo xtask fuzz [TARGET...] [--seconds N] [--input FILE]

  TARGET       artifact, config, journal, module, session, predecessor, bootloader, texts or delta;
               all of them without a name, one after the other
  --seconds N  how long each of them runs (default 600)
  --input FILE runs one target on this input and nothing else

What was found lies in tests/fuzz/artifacts/TARGET, what was learned in tests/fuzz/corpus/TARGET.
Needs a nightly compiler (rustup toolchain install nightly --profile minimal) and cargo-fuzz
(cargo install cargo-fuzz --locked).";

/// In the order of the folder's own list.
const TARGETS: [&str; 9] = [
    "artifact",
    "config",
    "journal",
    "module",
    "session",
    "predecessor",
    "bootloader",
    "texts",
    "delta",
];

/// Inputs are small: the largest seed has 14 KiB.
const INPUT_BYTES_MAX: u32 = 32 * 1024;
/// One input; the slowest parser takes a few milliseconds for one.
const SECONDS_OF_ONE_INPUT: u32 = 20;

struct Options {
    targets: Vec<String>,
    seconds: u32,
    input: Option<PathBuf>,
}

fn parse(arguments: Vec<String>) -> Result<Option<Options>> {
    let mut options = Options {
        targets: Vec::new(),
        seconds: 600,
        input: None,
    };
    let mut rest = arguments.into_iter();
    while let Some(argument) = rest.next() {
        let mut value = || {
            rest.next()
                .with_context(|| format!("{argument} needs a value\n{USAGE}"))
        };
        match argument.as_str() {
            "--seconds" => {
                options.seconds = value()?
                    .parse()
                    .ok()
                    .filter(|seconds| *seconds > 0)
                    .with_context(|| format!("--seconds needs a number above 0\n{USAGE}"))?;
            }
            "--input" => {
                let file = PathBuf::from(value()?);
                options.input = Some(std::path::absolute(file).context("the path of --input")?);
            }
            "--help" | "-h" => {
                println!("{USAGE}");
                return Ok(None);
            }
            name if TARGETS.contains(&name) => options.targets.push(argument),
            other => bail!("unknown argument {other}\n{USAGE}"),
        }
    }
    if options.input.is_some() && options.targets.len() != 1 {
        bail!("--input belongs to one target\n{USAGE}");
    }
    if options.targets.is_empty() {
        options.targets = TARGETS.map(str::to_owned).to_vec();
    }
    Ok(Some(options))
}

pub fn run(arguments: Vec<String>) -> Result<()> {
    let Some(options) = parse(arguments)? else {
        return Ok(());
    };
    ensure_tools()?;
    let folder = workspace::root().join("tests/fuzz");
    if let Some(input) = &options.input {
        return workspace::check(
            fuzz("run", &folder)
                .arg(&options.targets[0])
                .arg(input)
                .arg("--")
                .arg(format!("-timeout={SECONDS_OF_ONE_INPUT}")),
        );
    }
    workspace::build(&["ambidex-seeds"])?;
    let corpus = folder.join("corpus");
    workspace::check(Command::new(workspace::built("ambidex-seeds")).arg(&corpus))?;

    let mut lines = Vec::new();
    let mut broken = Vec::new();
    for target in &options.targets {
        eprintln!("{target}: {} seconds", options.seconds);
        let outcome = hunt(target, &folder, options.seconds)?;
        if outcome.found.is_some() {
            broken.push(target.as_str());
        }
        lines.push(outcome.line(target));
    }
    for line in lines {
        println!("{line}");
    }
    if !broken.is_empty() {
        bail!("broken: {}", broken.join(", "));
    }
    Ok(())
}

fn ensure_tools() -> Result<()> {
    for (arguments, remedy) in [
        (
            &["--version"][..],
            "rustup toolchain install nightly --profile minimal",
        ),
        (
            &["fuzz", "--version"],
            "cargo install cargo-fuzz --locked (with its folder on PATH)",
        ),
    ] {
        let found = nightly()
            .args(arguments)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status()
            .is_ok_and(|status| status.success());
        if !found {
            bail!(
                "`cargo +nightly {}` does not work; get it by: {remedy}",
                arguments.join(" ")
            );
        }
    }
    Ok(())
}

/// The nightly cargo by way of rustup: the one that runs us is of another toolchain.
fn nightly() -> Command {
    let mut command = Command::new("rustup");
    command.args(["run", "nightly", "cargo"]);
    command
}

/// Without a sanitizer: the parsers are safe Rust, where everything that one would find panics. Memory is counted by
/// the properties.
fn fuzz(verb: &str, folder: &Path) -> Command {
    let mut command = nightly();
    command
        .args(["fuzz", verb, "--sanitizer", "none", "--fuzz-dir"])
        .arg(folder)
        .current_dir(folder);
    command
}

/// What a run of one target told.
#[derive(Debug, Default, PartialEq, Eq)]
struct Outcome {
    executions: u64,
    /// Places of the code that were reached, with the seeds alone and at the end.
    covered: (u64, u64),
    /// The input that broke a property, if one did.
    found: Option<String>,
}

impl Outcome {
    /// Takes in a line of the fuzzer.
    fn hear(&mut self, line: &str) {
        let word_after = |name: &str| {
            let mut words = line.split_whitespace();
            words.find(|word| *word == name)?;
            words.next()?.parse::<u64>().ok()
        };
        if let Some(covered) = word_after("cov:") {
            if line.contains("INITED") {
                self.covered.0 = covered;
            }
            self.covered.1 = covered;
        }
        let counted = line
            .strip_prefix('#')
            .and_then(|rest| rest.split_whitespace().next())
            .or_else(|| line.strip_prefix("stat::number_of_executed_units:"))
            .and_then(|number| number.trim().parse().ok());
        if let Some(executions) = counted {
            self.executions = executions;
        }
        // a slow one is told and no finding: the machine may have been busy
        if let Some((_, file)) = line.split_once("Test unit written to ")
            && !file.contains("/slow-unit-")
        {
            self.found = Some(file.trim().to_owned());
        }
    }

    fn line(&self, target: &str) -> String {
        let found = match &self.found {
            None => "no finding".to_owned(),
            Some(file) => format!("FOUND {file}"),
        };
        format!(
            "{target}: {} executions, {} places covered ({} new), {found}",
            self.executions,
            self.covered.1,
            self.covered.1.saturating_sub(self.covered.0)
        )
    }
}

fn hunt(target: &str, folder: &Path, seconds: u32) -> Result<Outcome> {
    let mut command = fuzz("run", folder);
    command
        .args([target, "--"])
        .arg(format!("-max_total_time={seconds}"))
        .arg(format!("-max_len={INPUT_BYTES_MAX}"))
        .arg(format!("-timeout={SECONDS_OF_ONE_INPUT}"))
        .args(["-print_final_stats=1", "-len_control=0"])
        .stderr(Stdio::piped());
    let mut child = command
        .spawn()
        .with_context(|| format!("starting {command:?}"))?;
    let told = child
        .stderr
        .take()
        .context("invariant: standard error is piped")?;
    let mut outcome = Outcome::default();
    for line in BufReader::new(told).split(b'\n') {
        let line = line.context("reading what the fuzzer tells")?;
        let line = String::from_utf8_lossy(&line);
        outcome.hear(&line);
        writeln!(std::io::stderr(), "{line}").context("handing it on")?;
    }
    let status = child.wait().context("waiting for the fuzzer")?;
    if !status.success() && outcome.found.is_none() {
        bail!("{target}: the fuzzer ended with {status} and without a finding, see above");
    }
    Ok(outcome)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_are_checked() {
        let parsed = |arguments: &[&str]| parse(arguments.iter().map(|a| (*a).into()).collect());
        let all = parsed(&[]).ok().flatten().expect("nothing is needed");
        assert_eq!((all.targets.len(), all.seconds), (TARGETS.len(), 600));
        let one = parsed(&["config", "--seconds", "5"]).ok().flatten();
        assert!(one.is_some_and(|o| o.targets == ["config"] && o.seconds == 5));
        for wrong in [&["other"][..], &["--seconds", "0"], &["--input", "x"]] {
            assert!(parsed(wrong).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn what_the_fuzzer_tells_is_one_line() {
        let mut outcome = Outcome::default();
        for line in [
            "#184\tINITED cov: 900 ft: 2000 corp: 90/1Mb exec/s: 0 rss: 60Mb",
            "#2048\tREDUCE cov: 912 ft: 2100 corp: 99/1Mb lim: 32768 exec/s: 500 rss: 61Mb",
            "stat::number_of_executed_units: 3000",
        ] {
            outcome.hear(line);
        }
        assert_eq!(
            outcome.line("config"),
            "config: 3000 executions, 912 places covered (12 new), no finding"
        );
        outcome.hear("artifact_prefix='./'; Test unit written to ./slow-unit-1");
        assert_eq!(outcome.found, None);
        outcome.hear("artifact_prefix='./'; Test unit written to ./crash-1");
        assert!(outcome.line("config").ends_with("FOUND ./crash-1"));
    }
}

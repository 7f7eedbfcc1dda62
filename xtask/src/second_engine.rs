//! The suites that run a second time, on PostgreSQL.
//!
//! Which ones: those of every package that opens its test databases with `ambidex-testdb`. Nobody has to
//! remember to name a new service here.

use std::io::{BufRead as _, BufReader};
use std::process::{Child, ChildStdin, Command, Stdio};

use anyhow::{Context, Result, bail};
use serde_json::Value;

use crate::workspace;

/// Gives the tests their server.
const VARIABLE: &str = "AMBIDEX_TEST_POSTGRES";
const HELPER: &str = "ambidex-testdb";
/// How the helper says that there is no PostgreSQL on this machine.
const MISSING: i32 = 3;

/// A throw-away server. Dropping it ends it.
pub struct Server {
    process: Child,
    /// The helper runs until this is closed.
    hold: Option<ChildStdin>,
    url: String,
}

impl Server {
    /// `None` when there is no PostgreSQL on this machine.
    pub fn start() -> Result<Option<Server>> {
        let mut process = Command::new(workspace::built(HELPER))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .with_context(|| format!("starting {HELPER}"))?;
        let hold = process.stdin.take();
        let output = process
            .stdout
            .take()
            .context("invariant: standard output is piped")?;
        let mut url = String::new();
        BufReader::new(output)
            .read_line(&mut url)
            .with_context(|| format!("reading from {HELPER}"))?;
        let url = url.trim().to_owned();
        if url.is_empty() {
            let status = process
                .wait()
                .with_context(|| format!("waiting for {HELPER}"))?;
            if status.code() == Some(MISSING) {
                return Ok(None);
            }
            bail!("{HELPER} ended with {status}");
        }
        Ok(Some(Server { process, hold, url }))
    }

    /// Makes tests use this server.
    pub fn offer(&self, command: &mut Command) {
        command.env(VARIABLE, &self.url);
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.hold.take());
        if let Err(error) = self.process.wait() {
            eprintln!("warning: waiting for {HELPER}: {error}");
        }
    }
}

/// The packages whose tests know both engines.
pub fn packages() -> Result<Vec<String>> {
    let output = workspace::cargo()
        .args([
            "metadata",
            "--format-version",
            "1",
            "--no-deps",
            "--offline",
        ])
        .output()
        .context("starting cargo metadata")?;
    let metadata: Value =
        serde_json::from_slice(&output.stdout).context("reading cargo metadata")?;
    let uses = |package: &&Value| {
        let dependencies = package["dependencies"].as_array();
        dependencies.is_some_and(|list| {
            list.iter()
                .any(|one| one["kind"] == "dev" && one["name"] == HELPER)
        })
    };
    let names: Vec<String> = metadata["packages"]
        .as_array()
        .into_iter()
        .flatten()
        .filter(uses)
        .filter_map(|package| package["name"].as_str().map(str::to_owned))
        .collect();
    if names.is_empty() {
        bail!("no package has {HELPER} among its development dependencies");
    }
    Ok(names)
}

/// What narrows nextest down to these packages, in a build that is the same as for all.
pub fn expression(packages: &[String]) -> String {
    let packages: Vec<String> = packages
        .iter()
        .map(|name| format!("package(={name})"))
        .collect();
    packages.join(" + ")
}

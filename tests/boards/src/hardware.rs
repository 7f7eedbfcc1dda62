//! The update flow on real hardware: a device that is already accepted on a running server.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use ambidex_harness::{Api, wait_for};
use anyhow::{Context, Result, bail};

use crate::progress::Progress;

/// What to do and where.
#[derive(Debug)]
pub struct Plan {
    pub server: String,
    pub email: String,
    pub password_file: PathBuf,
    /// PEM file of a private certificate authority.
    pub root_certificate: Option<PathBuf>,
    pub device: String,
    /// An artifact that must install.
    pub good: PathBuf,
    /// An artifact that must be rolled back.
    pub bad: Option<PathBuf>,
    pub limit: Duration,
}

/// Deploys the good artifact and expects success; deploys the bad one and expects failure with a log and
/// the good release still running.
pub async fn run(plan: &Plan) -> Result<()> {
    let progress = Progress::start();
    let password = std::fs::read_to_string(&plan.password_file)
        .with_context(|| format!("reading the password from {}", plan.password_file.display()))?;
    let api = Api::login_trusting(
        &plan.server,
        &plan.email,
        password.trim_end(),
        plan.root_certificate.as_deref(),
    )
    .await?;
    let accepted = api.devices("accepted").await?;
    if !accepted
        .iter()
        .any(|device| device["id"] == plan.device.as_str())
    {
        bail!(
            "{} is no accepted device on {}: accept it first",
            plan.device,
            plan.server
        );
    }
    let flow = Flow {
        api,
        plan,
        progress,
    };
    let good = flow.deploy(&plan.good, "success").await?;
    flow.wait_running(&good).await?;
    if let Some(bad) = &plan.bad {
        flow.deploy(bad, "failure").await?;
        flow.wait_running(&good).await?;
    }
    flow.progress.phase("done");
    Ok(())
}

struct Flow<'a> {
    api: Api,
    plan: &'a Plan,
    progress: Progress,
}

impl Flow<'_> {
    async fn deploy(&self, artifact: &Path, expected: &str) -> Result<String> {
        let id = self.api.upload(artifact, "hardware in the loop").await?;
        let release = self.api.artifact_name(&id).await?;
        self.progress.phase(&format!("{release}: uploaded"));
        let deployment = self
            .api
            .deploy(&format!("hil {release}"), &release, &[&self.plan.device])
            .await?;
        let started = Instant::now();
        let mut last = String::new();
        loop {
            let status = self
                .api
                .device_status(&deployment, &self.plan.device)
                .await?
                .unwrap_or_default();
            if status != last {
                self.progress.phase(&format!("{release}: {status}"));
                last.clone_from(&status);
            }
            match status.as_str() {
                status if status == expected => break,
                "success" | "failure" | "aborted" | "noartifact" | "already-installed" => {
                    let log = self
                        .api
                        .deployment_log(&deployment, &self.plan.device)
                        .await?;
                    bail!(
                        "the deployment of {release} ended as {status} instead of {expected}; log: {log}"
                    );
                }
                _ if started.elapsed() > self.plan.limit => {
                    bail!(
                        "the deployment of {release} is still {status} after {} s",
                        self.plan.limit.as_secs()
                    );
                }
                _ => tokio::time::sleep(Duration::from_secs(1)).await,
            }
        }
        if expected == "failure" {
            let log = wait_for("the deployment log", self.plan.limit, async || {
                let log = self
                    .api
                    .deployment_log(&deployment, &self.plan.device)
                    .await?;
                Ok((!log.is_empty()).then_some(log))
            })
            .await?;
            self.progress.phase(&format!(
                "{release}: the device sent a log of {} lines",
                log.lines().count()
            ));
        }
        Ok(release)
    }

    async fn wait_running(&self, release: &str) -> Result<()> {
        wait_for(
            "the inventory to name the release",
            self.plan.limit,
            async || {
                let inventory = self.api.inventory(&self.plan.device).await?;
                Ok((inventory
                    .get("artifact_name")
                    .and_then(|name| name.as_str())
                    == Some(release))
                .then_some(()))
            },
        )
        .await?;
        self.progress
            .phase(&format!("{release}: shown in the device's inventory"));
        Ok(())
    }
}

//! The real agent, with remote access for whoever runs the tests.

use std::path::Path;
use std::time::Duration;

use ambidex_harness::{Api, Device, Server, wait_for};
use anyhow::{Context as _, Result};

const LIMIT: Duration = Duration::from_secs(60);
const CONNECT: &str = "/api/management/v1/deviceconnect/devices";

/// A running agent that is connected. It ends with this.
pub struct Agent {
    pub id: String,
    device: Box<Device>,
}

impl Agent {
    /// Starts an agent in `folder`, accepts it and waits for its connection.
    pub async fn start(folder: &Path, server: &Server, api: &Api, mac: &str) -> Result<Self> {
        Self::start_at(folder, &server.url(), api, mac).await
    }

    /// The same with another way to the server.
    pub async fn start_at(folder: &Path, url: &str, api: &Api, mac: &str) -> Result<Self> {
        let user = nix::unistd::User::from_uid(nix::unistd::geteuid())?;
        let user = user.context("who runs the tests has no name")?.name;
        let remote = format!("[remote]\nuser = {user:?}\n[remote.sessions]\nmax_per_user = 4");
        let mut device = Device::new(folder, mac, url, &remote)?;
        device.start()?;
        let id = api.accept_next(LIMIT).await?;
        let agent = Self {
            id,
            device: Box::new(device),
        };
        agent.connected(api).await?;
        Ok(agent)
    }

    /// Waits until the server shows it so.
    pub async fn connected(&self, api: &Api) -> Result<()> {
        let path = format!("{CONNECT}/{}", self.id);
        wait_for("the agent's connection", LIMIT, async || {
            // unknown until its first connection
            let found = api.get(&path).await.ok();
            Ok(found.filter(|found| found["status"] == "connected"))
        })
        .await
        .with_context(|| self.device.log())?;
        Ok(())
    }

    /// SIGKILL.
    pub async fn kill(&mut self) -> Result<()> {
        self.device.kill().await
    }

    /// Starts it again after [`Agent::kill`].
    pub fn start_again(&mut self) -> Result<()> {
        self.device.start()
    }

    /// What it has logged so far.
    pub fn log(&self) -> String {
        self.device.log()
    }

    /// What the shell of that user shows when it is ready.
    pub fn prompt() -> &'static str {
        if nix::unistd::geteuid().is_root() {
            "# "
        } else {
            "$ "
        }
    }
}

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
    _device: Box<Device>,
}

impl Agent {
    /// Starts an agent in `folder`, accepts it and waits for its connection.
    pub async fn start(folder: &Path, server: &Server, api: &Api, mac: &str) -> Result<Self> {
        let user = nix::unistd::User::from_uid(nix::unistd::geteuid())?;
        let user = user.context("who runs the tests has no name")?.name;
        let remote = format!("[remote]\nuser = {user:?}\n[remote.sessions]\nmax_per_user = 4");
        let mut device = Device::new(folder, mac, &server.url(), &remote)?;
        device.start()?;
        let id = api.accept_next(LIMIT).await?;
        let path = format!("{CONNECT}/{id}");
        wait_for("the agent's connection", LIMIT, async || {
            // unknown until its first connection
            let found = api.get(&path).await.ok();
            Ok(found.filter(|found| found["status"] == "connected"))
        })
        .await
        .with_context(|| device.log())?;
        Ok(Self {
            id,
            _device: Box::new(device),
        })
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

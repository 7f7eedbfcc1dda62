//! The real agent as a process on this machine, with folders of its own, for flows that need no boot loader.

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use tokio::process::{Child, Command};

use crate::cross::ForeignAgent;
use crate::{binaries, child};

/// The device type of devices made here.
pub const DEVICE_TYPE: &str = "test-host";

/// One device: configuration, scripts, modules and state below one folder. The daemon is killed on drop.
#[derive(Debug)]
pub struct Device {
    folder: PathBuf,
    environment: Vec<(&'static str, String)>,
    /// Instead of this machine's agent.
    foreign: Option<ForeignAgent>,
    daemon: Option<Child>,
}

/// The result of a verb.
#[derive(Debug, Clone)]
pub struct VerbOutput {
    pub code: Option<i32>,
    pub stdout: String,
    pub stderr: String,
}

impl Device {
    /// Makes a device that identifies itself as `identity` and uses the server at `server_url`, with intervals
    /// fit for tests; several servers, divided by commas, are tried in turn. `more_toml` holds further top-level keys (or tables) of its configuration.
    pub fn new(folder: &Path, identity: &str, server_url: &str, more_toml: &str) -> Result<Self> {
        let device = Self {
            folder: folder.to_owned(),
            environment: Vec::new(),
            foreign: None,
            daemon: None,
        };
        for name in [
            "conf",
            "data/identity",
            "data/inventory",
            "data/modules/v3",
            "state",
        ] {
            let path = folder.join(name);
            std::fs::create_dir_all(&path).with_context(|| format!("making {}", path.display()))?;
        }
        let servers: Vec<String> = server_url
            .split(',')
            .map(|url| format!("{url:?}"))
            .collect();
        let servers = match servers.as_slice() {
            [one] => format!("server_url = {one}"),
            several => format!("servers = [{}]", several.join(", ")),
        };
        let configuration = format!(
            "{servers}\n\
             update_poll_interval_seconds = 1\n\
             inventory_poll_interval_seconds = 5\n\
             retry_poll_first_seconds = 0.5\n\
             retry_poll_interval_seconds = 1\n\
             retry_poll_count = 10\n\
             retry_download_interval_seconds = 0.5\n\
             {more_toml}\n"
        );
        write(
            &device.folder.join("conf/agent.toml"),
            &configuration,
            0o600,
        )?;
        write(
            &device.folder.join("state/device_type"),
            &format!("device_type={DEVICE_TYPE}\n"),
            0o444,
        )?;
        let script = format!("#!/bin/sh\necho 'mac={identity}'\n");
        write(
            &device.folder.join("data/identity/mender-device-identity"),
            &script,
            0o755,
        )?;
        Ok(device)
    }

    /// Gives the agent one more variable of the environment, from its next start on.
    pub fn set_variable(&mut self, name: &'static str, value: &str) {
        self.environment.push((name, value.to_owned()));
    }

    /// Runs another architecture's agent from now on.
    pub fn emulate(&mut self, agent: &ForeignAgent) {
        self.foreign = Some(agent.clone());
    }

    /// Installs an update module: an executable called like the payload type.
    pub fn add_module(&self, payload_type: &str, script: &str) -> Result<()> {
        write(
            &self.folder.join("data/modules/v3").join(payload_type),
            script,
            0o755,
        )
    }

    /// Installs an inventory script `mender-inventory-NAME`.
    pub fn add_inventory_script(&self, name: &str, script: &str) -> Result<()> {
        write(
            &self
                .folder
                .join(format!("data/inventory/mender-inventory-{name}")),
            script,
            0o755,
        )
    }

    pub fn conf_dir(&self) -> PathBuf {
        self.folder.join("conf")
    }

    pub fn state_dir(&self) -> PathBuf {
        self.folder.join("state")
    }

    /// What the daemon has logged so far, over all starts.
    pub fn log(&self) -> String {
        String::from_utf8_lossy(&std::fs::read(self.log_file()).unwrap_or_default()).into_owned()
    }

    /// Starts the daemon.
    pub fn start(&mut self) -> Result<()> {
        if self.is_running()? {
            bail!("the daemon runs already");
        }
        self.daemon = Some(child::spawn_logged(
            self.command()?.arg("daemon"),
            &self.log_file(),
        )?);
        Ok(())
    }

    /// Whether the daemon is alive.
    pub fn is_running(&mut self) -> Result<bool> {
        let Some(daemon) = &mut self.daemon else {
            return Ok(false);
        };
        Ok(daemon
            .try_wait()
            .context("asking for the daemon's state")?
            .is_none())
    }

    /// The process id of the daemon.
    pub fn pid(&self) -> Option<u32> {
        self.daemon.as_ref().and_then(Child::id)
    }

    /// SIGKILL for the daemon.
    pub async fn kill(&mut self) -> Result<()> {
        if let Some(mut daemon) = self.daemon.take() {
            daemon.kill().await.context("killing the daemon")?;
        }
        Ok(())
    }

    /// Runs a verb of the agent to its end.
    pub async fn verb(&self, arguments: &[&str]) -> Result<VerbOutput> {
        let output = self
            .command()?
            .args(arguments)
            .output()
            .await
            .with_context(|| format!("running {arguments:?}"))?;
        Ok(VerbOutput {
            code: output.status.code(),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        })
    }

    fn command(&self) -> Result<Command> {
        let mut command = match &self.foreign {
            None => child::command(binaries::agent()?),
            Some(foreign) => {
                let mut command = child::command(&foreign.emulator);
                command.arg(&foreign.agent);
                command
            }
        };
        command
            .env("AMBIDEX_CONF_DIR", self.folder.join("conf"))
            .env("AMBIDEX_DATA_DIR", self.folder.join("data"))
            .env("AMBIDEX_STATE_DIR", self.folder.join("state"))
            .envs(self.environment.iter().map(|(name, value)| (*name, value)));
        Ok(command)
    }

    fn log_file(&self) -> PathBuf {
        self.folder.join("agent.log")
    }
}

fn write(path: &Path, content: &str, mode: u32) -> Result<()> {
    std::fs::write(path, content).with_context(|| format!("writing {}", path.display()))?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode))
        .with_context(|| format!("setting the mode of {}", path.display()))
}

//! The device: files for slots, a boot loader in a few lines, a supervisor that "reboots".

use std::{
    fs,
    net::SocketAddr,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::{Output, Stdio},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicI32, AtomicU32, Ordering},
    },
    time::Duration,
};

use ambidex_harness::{Api, binaries, board::environment_block, wait_for};
use anyhow::{Context, Result, bail};
use nix::{sys::signal, unistd::Pid};
use tokio::{process::Command, task::JoinHandle, time::timeout};

use crate::images::image;

/// Size of both slots.
pub const SLOT_BYTES: usize = 4 << 20;
pub(crate) const DEVICE_TYPE: &str = "scenario";
/// Everything on loopback with scaled-down intervals ends within seconds; a loaded machine gets more.
pub const LIMIT: Duration = Duration::from_secs(90);
const COMMAND_LIMIT: Duration = Duration::from_secs(60);

/// What a test wants to be different.
#[derive(Debug, Default)]
pub struct Options {
    /// Lines added to `agent.toml`, before its tables.
    pub settings: String,
    /// PEM files of keys that artifacts must be signed with.
    pub verify_keys: Vec<PathBuf>,
    /// Use this state directory instead of one inside the device's folder.
    pub state_dir: Option<PathBuf>,
}

/// A device in a folder.
#[derive(Debug)]
pub struct Device {
    root: PathBuf,
    state: PathBuf,
    shared: Arc<Shared>,
    supervisor: Option<JoinHandle<Result<()>>>,
}

#[derive(Debug, Default)]
struct Shared {
    stop: AtomicBool,
    pid: AtomicI32,
    boots: AtomicU32,
    /// The new system panics before it starts the agent.
    panics: AtomicBool,
}

impl Device {
    /// Makes a device that runs `release-1` from slot 2.
    pub async fn prepare(folder: &Path, server: SocketAddr, options: Options) -> Result<Self> {
        let root = folder.join("device");
        let state = options.state_dir.unwrap_or_else(|| root.join("state"));
        for part in [
            "conf",
            "data/identity",
            "data/inventory",
            "data/modules/v3",
            "env",
            "target",
        ] {
            fs::create_dir_all(root.join(part))?;
        }
        fs::create_dir_all(&state)?;
        fs::write(root.join("slot2"), image(1, SLOT_BYTES))?;
        fs::write(root.join("slot3"), image(0, SLOT_BYTES))?;
        fs::write(
            root.join("device_type"),
            format!("device_type={DEVICE_TYPE}\n"),
        )?;
        let script = |path: &str, text: &str| -> Result<()> {
            let path = root.join(path);
            fs::write(&path, format!("#!/bin/sh\n{text}\n"))?;
            fs::set_permissions(&path, fs::Permissions::from_mode(0o755))?;
            Ok(())
        };
        script(
            "data/identity/ambidex-device-identity",
            "echo mac=02:00:00:00:00:01",
        )?;
        fs::copy(
            root.join("data/identity/ambidex-device-identity"),
            root.join("data/identity/mender-device-identity"),
        )?;
        script("data/inventory/mender-inventory-test", "echo kernel=6.1")?;
        script("data/modules/v3/recorder", &recorder(&root.join("target")))?;
        // The power goes away for the agent at once, as it does at the end of a real shutdown.
        script("reboot", "kill -9 $PPID")?;
        let keys: Vec<String> = options
            .verify_keys
            .iter()
            .map(|key| format!("{:?}", key.display().to_string()))
            .collect();
        let text = format!(
            "server_url = \"http://{server}\"\n\
             update_poll_interval_seconds = 1\ninventory_poll_interval_seconds = 2\n\
             retry_poll_first_seconds = 0.2\nretry_poll_interval_seconds = 0.5\nretry_poll_count = 12\n\
             retry_download_interval_seconds = 0.2\nrequest_timeout_seconds = 5\nconnect_timeout_seconds = 5\n\
             download_idle_timeout_seconds = 5\n\
             device_type_file = {device_type:?}\nrootfs_part_a = {a:?}\nrootfs_part_b = {b:?}\n\
             reboot_command = [{reboot:?}]\nartifact_verify_keys = [{keys}]\n{settings}\n\n\
             [boot]\nkind = \"grub\"\nenv_dir = {env:?}\n",
            device_type = text(&root.join("device_type")),
            a = text(&root.join("slot2")),
            b = text(&root.join("slot3")),
            reboot = text(&root.join("reboot")),
            keys = keys.join(", "),
            settings = options.settings,
            env = text(&root.join("env")),
        );
        fs::write(root.join("conf/agent.toml"), text)?;
        let device = Self {
            root,
            state,
            shared: Arc::default(),
            supervisor: None,
        };
        device.write_environment(&Environment {
            part: 2,
            trial: 0,
            bootcount: 0,
        })?;
        device.write_bootstrap().await?;
        Ok(device)
    }

    async fn write_bootstrap(&self) -> Result<()> {
        let output = Command::new(binaries::cli()?)
            .args([
                "artifact",
                "write",
                "bootstrap-artifact",
                "--artifact-name",
                "release-1",
            ])
            .args(["--device-type", DEVICE_TYPE, "--output-path"])
            .arg(self.state.join("bootstrap.mender"))
            .output()
            .await
            .context("starting the operator CLI")?;
        if !output.status.success() {
            bail!(
                "writing the bootstrap artifact: {}",
                String::from_utf8_lossy(&output.stderr)
            );
        }
        Ok(())
    }

    /// Powers the device on: the agent runs as a daemon until [`Device::stop`], through every reboot.
    pub fn start(&mut self) -> Result<()> {
        let (root, shared) = (self.root.clone(), Arc::clone(&self.shared));
        let environment = EnvironmentFile {
            folder: root.join("env"),
        };
        let command = self.command(&["daemon"])?;
        self.supervisor = Some(tokio::spawn(supervise(root, command, environment, shared)));
        Ok(())
    }

    /// Logs in, is accepted and has sent its inventory; returns the device id.
    pub async fn enrol(&self, api: &Api) -> Result<String> {
        let id = api
            .accept_next(LIMIT)
            .await
            .with_context(|| self.describe())?;
        wait_for("the device's inventory", LIMIT, async || {
            Ok(api
                .inventory(&id)
                .await
                .ok()
                .filter(|found| found.contains_key("kernel")))
        })
        .await
        .with_context(|| self.describe())?;
        Ok(id)
    }

    /// Waits for a status; shows the agent's log when it does not come.
    pub async fn wait_status(
        &self,
        api: &Api,
        deployment: &str,
        id: &str,
        wanted: &str,
    ) -> Result<()> {
        api.wait_status(deployment, id, &[wanted], LIMIT)
            .await
            .with_context(|| self.describe())?;
        Ok(())
    }

    /// SIGKILL at this instant; the device starts again at once.
    pub fn power_cut(&self) -> Result<()> {
        let pid = self.shared.pid.load(Ordering::SeqCst);
        if pid > 0 {
            // The process may just be ending by itself.
            let _ = signal::kill(Pid::from_raw(pid), signal::Signal::SIGKILL);
        }
        Ok(())
    }

    /// The system of the next trial boot panics before it starts the agent.
    pub fn next_system_panics(&self) {
        self.shared.panics.store(true, Ordering::SeqCst);
    }

    /// Ends the daemon.
    pub async fn stop(&mut self) -> Result<()> {
        self.shared.stop.store(true, Ordering::SeqCst);
        self.power_cut()?;
        if let Some(supervisor) = self.supervisor.take() {
            supervisor
                .await
                .context("the supervisor ended abnormally")??;
        }
        self.shared.stop.store(false, Ordering::SeqCst);
        Ok(())
    }

    /// How often the device has started.
    #[must_use]
    pub fn boots(&self) -> u32 {
        self.shared.boots.load(Ordering::SeqCst)
    }

    /// Runs one verb of the agent to its end.
    pub async fn agent(&self, arguments: &[&str]) -> Result<Output> {
        let output = self.command(arguments)?.kill_on_drop(true).output();
        timeout(COMMAND_LIMIT, output)
            .await
            .context("the agent hangs")?
            .context("starting the agent")
    }

    fn command(&self, arguments: &[&str]) -> Result<Command> {
        let mut command = Command::new(binaries::agent()?);
        command
            .arg("--conf-dir")
            .arg(self.root.join("conf"))
            .arg("--data-dir")
            .arg(self.root.join("data"))
            .arg("--state-dir")
            .arg(&self.state)
            .args(arguments)
            .stdin(Stdio::null());
        Ok(command)
    }

    /// Content of slot 2 or 3.
    pub fn slot(&self, number: u32) -> Result<Vec<u8>> {
        fs::read(self.root.join(format!("slot{number}"))).context("reading a slot")
    }

    /// `(mender_boot_part, upgrade_available)`.
    pub fn environment(&self) -> Result<(u32, u32)> {
        let found = EnvironmentFile {
            folder: self.root.join("env"),
        }
        .read()?;
        Ok((found.part, found.trial))
    }

    fn write_environment(&self, environment: &Environment) -> Result<()> {
        EnvironmentFile {
            folder: self.root.join("env"),
        }
        .write(environment)
    }

    /// What the update module `recorder` was called with.
    #[must_use]
    pub fn module_calls(&self) -> Vec<String> {
        let text = fs::read_to_string(self.root.join("target/calls")).unwrap_or_default();
        text.lines().map(str::to_owned).collect()
    }

    /// A path inside the device's folder.
    #[must_use]
    pub fn path(&self, name: &str) -> PathBuf {
        self.root.join(name)
    }

    /// What the daemon logged.
    #[must_use]
    pub fn log(&self) -> String {
        fs::read_to_string(self.root.join("agent.log")).unwrap_or_default()
    }

    fn describe(&self) -> String {
        let log = self.log();
        let lines: Vec<&str> = log.lines().collect();
        let tail = lines[lines.len().saturating_sub(40)..].join("\n");
        format!(
            "device after {} boots, environment {:?}; end of its log:\n{tail}",
            self.boots(),
            self.environment().ok()
        )
    }
}

impl Drop for Device {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::SeqCst);
        drop(self.power_cut());
    }
}

fn text(path: &Path) -> String {
    path.display().to_string()
}

fn recorder(target: &Path) -> String {
    format!(
        "set -e\ntarget={target:?}\necho \"$1\" >> \"$target/calls\"\ncase \"$1\" in\n\
         NeedsArtifactReboot) echo No ;;\nSupportsRollback) echo Yes ;;\n\
         ArtifactInstall) [ ! -e \"$target/fail\" ] || {{ echo \"told to fail\" >&2; exit 1; }}\n\
         cp files/* \"$target/\" ;;\nesac\n"
    )
}

struct Environment {
    part: u32,
    trial: u32,
    bootcount: u32,
}

struct EnvironmentFile {
    folder: PathBuf,
}

impl EnvironmentFile {
    fn read(&self) -> Result<Environment> {
        let mut last = None;
        for copy in ["env1", "env2"] {
            let text = fs::read_to_string(self.folder.join(copy)).unwrap_or_default();
            let get = |name: &str| {
                text.lines()
                    .find_map(|line| line.strip_prefix(name)?.strip_prefix('=')?.parse().ok())
            };
            let found = (get("editing"), get("mender_boot_part"));
            if let (None | Some(0), Some(part)) = found {
                return Ok(Environment {
                    part,
                    trial: get("upgrade_available").unwrap_or(0),
                    bootcount: get("bootcount").unwrap_or(0),
                });
            }
            last = Some(text);
        }
        bail!("neither copy of the boot environment is good; the second is {last:?}")
    }

    fn write(&self, environment: &Environment) -> Result<()> {
        let (part, trial, bootcount) = (
            environment.part.to_string(),
            environment.trial.to_string(),
            environment.bootcount.to_string(),
        );
        let block = environment_block(&[
            ("editing", "0"),
            ("mender_boot_part", &part),
            ("mender_boot_part_hex", &format!("{:x}", environment.part)),
            ("upgrade_available", &trial),
            ("bootcount", &bootcount),
        ]);
        for copy in ["env1", "env2"] {
            fs::write(self.folder.join(copy), &block)?;
        }
        Ok(())
    }

    /// What the boot loader does at power-on: count a trial boot, or give the trial up.
    fn boot(&self) -> Result<Environment> {
        let mut environment = self.read()?;
        if environment.trial == 1 {
            if environment.bootcount == 0 {
                environment.bootcount = 1;
            } else {
                environment.part = 5 - environment.part;
                environment.trial = 0;
                environment.bootcount = 0;
            }
            self.write(&environment)?;
        }
        Ok(environment)
    }
}

/// Boots, runs the agent, and boots again when it ends, until told to stop.
async fn supervise(
    root: PathBuf,
    mut command: Command,
    environment: EnvironmentFile,
    shared: Arc<Shared>,
) -> Result<()> {
    while !shared.stop.load(Ordering::SeqCst) {
        let booted = environment.boot()?;
        shared.boots.fetch_add(1, Ordering::SeqCst);
        if booted.trial == 1 && shared.panics.swap(false, Ordering::SeqCst) {
            continue;
        }
        let log = fs::File::options()
            .create(true)
            .append(true)
            .open(root.join("agent.log"))?;
        let mut child = command
            .stdout(Stdio::null())
            .stderr(log)
            .kill_on_drop(true)
            .spawn()
            .context("starting the agent")?;
        if let Some(pid) = child.id() {
            shared
                .pid
                .store(i32::try_from(pid).context("process id")?, Ordering::SeqCst);
        }
        child.wait().await.context("waiting for the agent")?;
        shared.pid.store(0, Ordering::SeqCst);
        // A daemon that refuses to start must not turn the test into a fork bomb.
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    Ok(())
}

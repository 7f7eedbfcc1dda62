//! A server, a device and a user of the command line.

use std::fs;
use std::os::fd::OwnedFd;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};
use std::time::Duration;

use ambidex_harness::server::{EMAIL, PASSWORD};
use ambidex_harness::{Api, Proxy, Scratch, Server, binaries};
use ambidex_test_compat::{Agent, Manner, Pty, Simulated, in_terminal};
use anyhow::{Context as _, Result, ensure};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::io::AsyncWriteExt as _;
use tokio::process::{Child, Command};
use tokio::time::timeout;

pub const LIMIT: Duration = Duration::from_secs(60);
pub const MAC: &str = "02:00:00:00:0c:01";

/// A server, a device and a user of the command line who is logged in.
pub struct Desk<D = Simulated> {
    pub server: Server,
    pub api: Api,
    pub device: D,
    pub id: String,
    pub home: PathBuf,
}

impl Desk {
    pub async fn start(scratch: &Scratch, manner: Manner) -> Result<Self> {
        let server = Server::start(scratch.path()).await?;
        let api = server.login().await?;
        let device = Simulated::start(&server, &api, MAC, manner).await?;
        let id = device.id.clone();
        let url = server.url();
        Self::furnished(scratch, server, &url, api, device, id).await
    }
}

impl Desk<Agent> {
    /// With the real agent.
    pub async fn with_agent(scratch: &Scratch) -> Result<Self> {
        let server = Server::start(scratch.path()).await?;
        let api = server.login().await?;
        let device = Agent::start(&scratch.join("device"), &server, &api, MAC).await?;
        let id = device.id.clone();
        let url = server.url();
        Self::furnished(scratch, server, &url, api, device, id).await
    }

    /// With the real agent, and a network between the server and everybody else.
    pub async fn behind_proxy(scratch: &Scratch) -> Result<(Self, Proxy)> {
        let server = Server::start(scratch.path()).await?;
        let proxy = Proxy::start(server.address()).await?;
        let api = server.login().await?;
        let url = proxy.url();
        let device = Agent::start_at(&scratch.join("device"), &url, &api, MAC).await?;
        let id = device.id.clone();
        let desk = Self::furnished(scratch, server, &url, api, device, id).await?;
        Ok((desk, proxy))
    }
}

impl<D> Desk<D> {
    async fn furnished(
        scratch: &Scratch,
        server: Server,
        url: &str,
        api: Api,
        device: D,
        id: String,
    ) -> Result<Self> {
        let home = scratch.join("home");
        fs::create_dir_all(&home)?;
        let desk = Self {
            server,
            api,
            device,
            id,
            home,
        };
        fs::write(desk.home.join("password"), format!("{PASSWORD}\n"))?;
        let login = [
            "login",
            "--server",
            url,
            "--email",
            EMAIL,
            "--password-file",
            "password",
        ];
        desk.must(&login).await?;
        Ok(desk)
    }

    pub fn dress(&self, command: &mut Command) {
        command
            .current_dir(&self.home)
            .env("XDG_CONFIG_HOME", self.home.join("config"))
            .kill_on_drop(true);
        for name in [
            "AMBIDEX_SERVER",
            "AMBIDEX_TOKEN",
            "AMBIDEX_PROFILE",
            "AMBIDEX_SERVER_CERT",
        ] {
            command.env_remove(name);
        }
    }

    pub fn command(&self, arguments: &[&str]) -> Result<Command> {
        let mut command = Command::new(binaries::cli()?);
        command.args(arguments).stdin(Stdio::null());
        self.dress(&mut command);
        Ok(command)
    }

    pub async fn run(&self, arguments: &[&str]) -> Result<Output> {
        let output = self.command(arguments)?.output();
        timeout(LIMIT, output)
            .await
            .with_context(|| format!("{arguments:?} hangs"))?
            .context("starting the command line")
    }

    /// Runs and expects success; standard output.
    pub async fn must(&self, arguments: &[&str]) -> Result<String> {
        let output = self.run(arguments).await?;
        ensure!(output.status.success(), "{arguments:?}: {output:?}");
        Ok(String::from_utf8(output.stdout)?)
    }

    /// Runs and expects the exit code; standard error.
    pub async fn fails(&self, code: i32, arguments: &[&str]) -> Result<String> {
        let output = self.run(arguments).await?;
        ensure!(
            output.status.code() == Some(code),
            "{arguments:?} instead of {code}: {output:?}"
        );
        Ok(String::from_utf8(output.stderr)?)
    }

    /// Runs with something on standard input.
    pub async fn fed(&self, arguments: &[&str], input: &[u8]) -> Result<Output> {
        let mut child = self
            .command(arguments)?
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()?;
        let mut stdin = child.stdin.take().context("standard input")?;
        let all = input.to_vec();
        let feeding = tokio::spawn(async move {
            // It may end before it has read all.
            let _ = stdin.write_all(&all).await;
        });
        let output = timeout(LIMIT, child.wait_with_output()).await;
        feeding.await?;
        Ok(output.with_context(|| {
            let input = String::from_utf8_lossy(input.get(..40).unwrap_or(input)).into_owned();
            format!("{arguments:?} hangs when given {input:?}")
        })??)
    }

    /// Runs in a terminal. The second value keeps the terminal open when the program has ended.
    pub fn in_terminal(&self, arguments: &[&str]) -> Result<(Pty, OwnedFd, Child)> {
        let (pty, terminal) = Pty::open((100, 30))?;
        let mut command = in_terminal(binaries::cli()?, &terminal)?;
        command.args(arguments);
        self.dress(&mut command);
        let child = command.spawn()?;
        Ok((pty, terminal, child))
    }

    pub fn there(&self, path: &Path) -> String {
        format!("{}:{}", self.id, path.display())
    }
}

pub fn content(size: usize) -> Vec<u8> {
    (0..size).map(|n| (n * 7 % 251) as u8).collect()
}

pub fn mode(path: &Path) -> Result<u32> {
    Ok(fs::metadata(path)?.permissions().mode() & 0o7777)
}

pub fn entries(folder: &Path) -> Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in fs::read_dir(folder)? {
        names.push(entry?.file_name().to_string_lossy().into_owned());
    }
    names.sort();
    Ok(names)
}

pub fn signal(child: &Child, signal: Signal) -> Result<()> {
    let id = child.id().context("it has ended already")?;
    Ok(kill(Pid::from_raw(i32::try_from(id)?), signal)?)
}

/// Types, then waits.
pub trait AwaitSeen {
    async fn await_seen(self, pty: &mut Pty, wanted: &str) -> Result<()>;
}

impl AwaitSeen for Result<()> {
    async fn await_seen(self, pty: &mut Pty, wanted: &str) -> Result<()> {
        self?;
        pty.wait_to_see(wanted, LIMIT).await.map(drop)
    }
}

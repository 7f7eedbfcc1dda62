//! The measured server process.

use std::{
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context, bail};
use base64::{Engine, engine::general_purpose::STANDARD};
use tempfile::TempDir;

use crate::connection::Connection;

const EMAIL: &str = "load@example.com";
const PASSWORD: &str = "a-password-for-the-swarm";
const START_LIMIT: Duration = Duration::from_secs(30);
const STOP_LIMIT: Duration = Duration::from_secs(60);
/// How often the outstanding work is asked for.
const SETTLE_ROUND: Duration = Duration::from_millis(500);

/// A running server on a data directory of its own; both end with it.
pub struct Server {
    binary: PathBuf,
    child: Child,
    pub address: String,
    internal: String,
    pub user_token: String,
    data: TempDir,
}

impl Server {
    /// Starts `binary` on free ports, creates a user and logs in.
    pub async fn start(binary: &Path) -> anyhow::Result<Self> {
        let data = tempfile::tempdir().context("make a data directory")?;
        let child = launch(binary, data.path())?;
        let mut server = Self {
            binary: binary.to_owned(),
            child,
            address: String::new(),
            internal: String::new(),
            user_token: String::new(),
            data,
        };
        let directory = server.data.path().to_owned();
        server.listening().await?;
        let created = Command::new(binary)
            .args([
                "user",
                "create",
                "--email",
                EMAIL,
                "--password",
                PASSWORD,
                "--data-dir",
            ])
            .arg(&directory)
            .output()?;
        if !created.status.success() {
            bail!("user create: {}", String::from_utf8_lossy(&created.stderr));
        }
        let mut connection = Connection::open(&server.address).await?;
        let basic = STANDARD.encode(format!("{EMAIL}:{PASSWORD}"));
        let answer = connection
            .call(
                "POST",
                "/api/management/v1/useradm/auth/login",
                &format!("Authorization: Basic {basic}\r\n"),
                b"",
            )
            .await?;
        if answer.status != 200 {
            bail!("login answered {}", answer.status);
        }
        server.user_token = String::from_utf8(answer.body).context("token")?;
        Ok(server)
    }

    async fn listening(&mut self) -> anyhow::Result<()> {
        [self.address, self.internal] = wait_for_addresses(self.data.path()).await?;
        Ok(())
    }

    /// Waits until the work that requests leave behind is done, so that the next measurement does not pay for
    /// it: each new device has workflows of its own.
    pub async fn settle(&self) -> anyhow::Result<()> {
        let started = Instant::now();
        let mut connection = Connection::open(&self.internal).await?;
        loop {
            let answer = connection.call("GET", "/metrics", "", b"").await?;
            let text = String::from_utf8(answer.body).context("metrics")?;
            if answer.status != 200 || !text.contains("# TYPE ambidex_jobs gauge") {
                bail!("the metrics do not tell of jobs: status {}", answer.status);
            }
            let outstanding: f64 = text
                .lines()
                .filter(|line| {
                    line.starts_with("ambidex_jobs{") && line.contains("state=\"ready\"")
                })
                .filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok())
                .sum();
            if outstanding == 0.0 {
                eprintln!(
                    "the jobs were done {:.1} s later",
                    started.elapsed().as_secs_f64()
                );
                return Ok(());
            }
            tokio::time::sleep(SETTLE_ROUND).await;
        }
    }

    /// The file of the embedded database.
    pub fn database(&self) -> PathBuf {
        self.data.path().join("server.db")
    }

    /// Ends the process in order; the data stays.
    pub async fn stop(&mut self) -> anyhow::Result<()> {
        let pid = nix::unistd::Pid::from_raw(i32::try_from(self.child.id())?);
        nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM)?;
        let started = Instant::now();
        while started.elapsed() < STOP_LIMIT {
            if self.child.try_wait()?.is_some() {
                return Ok(());
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        bail!("the server has not stopped after {STOP_LIMIT:?}")
    }

    /// Starts the process on its data; returns how long it took until it answered a request.
    pub async fn start_again(&mut self) -> anyhow::Result<Duration> {
        let started = Instant::now();
        self.child = launch(&self.binary, self.data.path())?;
        self.listening().await?;
        let mut connection = Connection::open(&self.address).await?;
        let path = "/api/management/v2/devauth/devices/count";
        let headers = format!("Authorization: Bearer {}\r\n", self.user_token);
        let answer = connection.call("GET", path, &headers, b"").await?;
        if answer.status != 200 {
            bail!("the first request was answered {}", answer.status);
        }
        Ok(started.elapsed())
    }

    /// Resident memory of the server process in MiB.
    pub fn rss_mib(&self) -> anyhow::Result<u64> {
        Ok(self.rss_kib()? / 1024)
    }

    /// Resident memory of the server process in KiB.
    pub fn rss_kib(&self) -> anyhow::Result<u64> {
        let text = std::fs::read_to_string(format!("/proc/{}/status", self.child.id()))?;
        let line = text
            .lines()
            .find(|line| line.starts_with("VmRSS:"))
            .context("VmRSS")?;
        let kib: u64 = line
            .split_whitespace()
            .nth(1)
            .context("VmRSS value")?
            .parse()
            .context("VmRSS")?;
        Ok(kib)
    }

    /// CPU time the server process has used, user and system, in clock ticks of 10 ms.
    pub fn cpu_ticks(&self) -> anyhow::Result<u64> {
        let text = std::fs::read_to_string(format!("/proc/{}/stat", self.child.id()))?;
        let after_name = text.rsplit(')').next().context("stat")?;
        let fields: Vec<&str> = after_name.split_whitespace().collect();
        let user: u64 = fields.get(11).context("utime")?.parse()?;
        let system: u64 = fields.get(12).context("stime")?.parse()?;
        Ok(user + system)
    }
}

fn launch(binary: &Path, data_dir: &Path) -> anyhow::Result<Child> {
    let log = std::fs::File::create(data_dir.join("server.log"))?;
    Command::new(binary)
        .args([
            "serve",
            "--listen",
            "127.0.0.1:0",
            "--internal-listen",
            "127.0.0.1:0",
        ])
        .arg("--data-dir")
        .arg(data_dir)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(log)
        .spawn()
        .with_context(|| format!("start {}", binary.display()))
}

impl Drop for Server {
    fn drop(&mut self) {
        // The data directory goes next; a server that outlives it would only log errors.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// The addresses of the public and of the internal listener.
async fn wait_for_addresses(data_dir: &Path) -> anyhow::Result<[String; 2]> {
    let file = data_dir.join("listen.json");
    let started = Instant::now();
    while started.elapsed() < START_LIMIT {
        if let Ok(text) = std::fs::read_to_string(&file) {
            let value: serde_json::Value = serde_json::from_str(&text).context("listen.json")?;
            let address = |name: &str| Some(value.get(name)?.as_str()?.to_owned());
            if let (Some(public), Some(internal)) = (address("public"), address("internal")) {
                return Ok([public, internal]);
            }
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let log = std::fs::read_to_string(data_dir.join("server.log")).unwrap_or_default();
    bail!("the server was not listening after {START_LIMIT:?}; its log:\n{log}")
}

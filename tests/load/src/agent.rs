//! The agent between two polls: what it costs to have it, and how soon after its start it asks.

use std::{
    fs,
    net::TcpListener,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context, bail};
use serde_json::Value;

use crate::{connection::Connection, server::Server};

const LIMIT: Duration = Duration::from_secs(60);
/// After its inventory nothing is left to do; what wakes it from then on is what the idle agent costs.
const SETTLE: Duration = Duration::from_secs(5);
const STARTS: usize = 11;
/// A loop in this process, which only the measurement waits for.
const LOOK: Duration = Duration::from_millis(50);

pub struct Options {
    pub agent_bin: PathBuf,
    pub server_bin: PathBuf,
    /// Length of the idle time that is watched.
    pub seconds: u64,
}

/// The daemon is accepted, has sent its inventory and holds its websocket open for terminals; then memory, threads
/// and how often it wakes until the next poll, and the time from its start to the first request.
pub async fn idle(options: &Options) -> anyhow::Result<Value> {
    let server = Server::start(&options.server_bin).await?;
    let device = Device::new(&options.agent_bin)?;
    let mut process = device.start(&server.address)?;
    let pid = process.0.id();
    let measured = async {
        let id = accept(&server).await?;
        connected(&server, &id).await?;
        tokio::time::sleep(SETTLE).await;
        let before = wakings(pid)?;
        tokio::time::sleep(Duration::from_secs(options.seconds)).await;
        let woken = wakings(pid)? - before;
        let mut report = memory(pid, &options.agent_bin)?;
        report["wakings_per_minute"] = per_minute(woken, options.seconds).into();
        anyhow::Ok(report)
    };
    let outcome = measured.await;
    let ended = process.0.try_wait()?;
    drop(process);
    let mut report = outcome.with_context(|| format!("{ended:?}\n{}", device.log()))?;
    report["start_to_first_request_ms"] = first_request(&device)?;
    Ok(report)
}

/// The folders of one device.
struct Device {
    folder: tempfile::TempDir,
    agent: PathBuf,
}

/// The daemon; killed when dropped.
struct Daemon(Child);

impl Drop for Daemon {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

impl Device {
    fn new(agent: &Path) -> anyhow::Result<Self> {
        let folder = tempfile::tempdir()?;
        let root = folder.path();
        for part in ["conf", "data/identity", "state"] {
            fs::create_dir_all(root.join(part))?;
        }
        let identity = root.join("data/identity/mender-device-identity");
        fs::write(&identity, "#!/bin/sh\necho mac=02:00:00:00:00:01\n")?;
        fs::set_permissions(&identity, fs::Permissions::from_mode(0o755))?;
        fs::write(root.join("device_type"), "device_type=testdev\n")?;
        Ok(Self {
            agent: agent.to_owned(),
            folder,
        })
    }

    fn start(&self, address: &str) -> anyhow::Result<Daemon> {
        let root = self.folder.path();
        let device_type = root.join("device_type").display().to_string();
        fs::write(
            root.join("conf/agent.toml"),
            format!(
                "server_url = \"http://{address}\"\ndevice_type_file = {device_type:?}\n[remote]\nuser = \"root\"\n"
            ),
        )?;
        let log = fs::File::create(root.join("log"))?;
        let child = Command::new(&self.agent)
            .arg("--conf-dir")
            .arg(root.join("conf"))
            .arg("--data-dir")
            .arg(root.join("data"))
            .arg("--state-dir")
            .arg(root.join("state"))
            .arg("daemon")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .with_context(|| format!("start {}", self.agent.display()))?;
        Ok(Daemon(child))
    }

    fn log(&self) -> String {
        fs::read_to_string(self.folder.path().join("log")).unwrap_or_default()
    }
}

/// Accepts the only device there is, as soon as it asks.
async fn accept(server: &Server) -> anyhow::Result<String> {
    let user = format!(
        "Authorization: Bearer {}\r\nContent-Type: application/json\r\n",
        server.user_token
    );
    let devices = "/api/management/v2/devauth/devices";
    let mut connection = Connection::open(&server.address).await?;
    let started = Instant::now();
    while started.elapsed() < LIMIT {
        let answer = connection
            .call("GET", &format!("{devices}?status=pending"), &user, b"")
            .await?;
        let pending: Value = serde_json::from_slice(&answer.body).context("pending devices")?;
        let text = |value: &Value| value.as_str().map(str::to_owned);
        if let (Some(id), Some(set)) = (
            text(&pending[0]["id"]),
            text(&pending[0]["auth_sets"][0]["id"]),
        ) {
            let path = format!("{devices}/{id}/auth/{set}/status");
            let answer = connection
                .call("PUT", &path, &user, br#"{"status":"accepted"}"#)
                .await?;
            if answer.status != 204 {
                bail!("accepting the device answered {}", answer.status);
            }
            return Ok(id);
        }
        tokio::time::sleep(LOOK).await;
    }
    bail!("no device asked within {LIMIT:?}")
}

async fn connected(server: &Server, id: &str) -> anyhow::Result<()> {
    let user = format!("Authorization: Bearer {}\r\n", server.user_token);
    let path = format!("/api/management/v1/deviceconnect/devices/{id}");
    let mut connection = Connection::open(&server.address).await?;
    // the agent asks again a minute after it was told to wait
    let limit = 3 * LIMIT;
    let started = Instant::now();
    while started.elapsed() < limit {
        let answer = connection.call("GET", &path, &user, b"").await?;
        let state: Value = serde_json::from_slice(&answer.body).unwrap_or_default();
        if state["status"] == "connected" {
            return Ok(());
        }
        tokio::time::sleep(LOOK).await;
    }
    bail!("the device was not connected within {limit:?}")
}

/// Milliseconds from the start of the process to the first byte of a request, the median of some starts. The key
/// is there already, as at every start but the first.
fn first_request(device: &Device) -> anyhow::Result<Value> {
    let mut times = Vec::new();
    for _ in 0..STARTS {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let address = listener.local_addr()?.to_string();
        let started = Instant::now();
        let daemon = device.start(&address)?;
        let (stream, _) = listener.accept()?;
        let mut byte = [0];
        std::io::Read::read_exact(&mut &stream, &mut byte).context("the first request")?;
        times.push(started.elapsed());
        drop(daemon);
    }
    times.sort();
    let median = times.get(STARTS / 2).context("no start")?;
    Ok(((median.as_secs_f64() * 10_000.0).round() / 10.0).into())
}

/// How often the process has waited for something so far: all of its threads' voluntary context switches.
fn wakings(process: u32) -> anyhow::Result<u64> {
    let mut sum = 0;
    for thread in fs::read_dir(format!("/proc/{process}/task"))? {
        sum += field(&thread?.path().join("status"), "voluntary_ctxt_switches:")?;
    }
    Ok(sum)
}

fn per_minute(count: u64, seconds: u64) -> f64 {
    (count as f64 * 600.0 / seconds as f64).round() / 10.0
}

fn memory(process: u32, agent: &Path) -> anyhow::Result<Value> {
    let root = PathBuf::from(format!("/proc/{process}"));
    let mib = |kib: u64| (kib as f64 / 102.4).round() / 10.0;
    Ok(serde_json::json!({
        "measurement": "idle-agent",
        "rss_mib": mib(field(&root.join("status"), "VmRSS:")?),
        "pss_mib": mib(field(&root.join("smaps_rollup"), "Pss:")?),
        "threads": field(&root.join("status"), "Threads:")?,
        "binary_bytes": fs::metadata(agent)?.len(),
    }))
}

/// The number behind `name` in a file of `/proc`.
fn field(file: &Path, name: &str) -> anyhow::Result<u64> {
    let text = fs::read_to_string(file)?;
    let line = text
        .lines()
        .find(|line| line.starts_with(name))
        .with_context(|| format!("{name} in {}", file.display()))?;
    line.split_whitespace()
        .nth(1)
        .context("value")?
        .parse()
        .context("number")
}

//! The agent between two polls: what it costs to have it.

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::Path,
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context, bail};

/// The daemon has tried to log in and waits when it has been silent for this long.
const SETTLE: Duration = Duration::from_secs(3);
const LIMIT: Duration = Duration::from_secs(30);

/// Memory of the daemon after its first attempt, in MiB, as the baselines measure the peers: against a
/// server that refuses the connection.
pub async fn idle(agent: &Path) -> anyhow::Result<serde_json::Value> {
    let folder = tempfile::tempdir()?;
    let root = folder.path();
    for part in ["conf", "data/identity", "state"] {
        fs::create_dir_all(root.join(part))?;
    }
    let identity = root.join("data/identity/mender-device-identity");
    fs::write(&identity, "#!/bin/sh\necho mac=02:00:00:00:00:01\n")?;
    fs::set_permissions(&identity, fs::Permissions::from_mode(0o755))?;
    fs::write(root.join("device_type"), "device_type=testdev\n")?;
    fs::write(
        root.join("conf/agent.toml"),
        format!(
            "server_url = \"https://127.0.0.1:9\"\ndevice_type_file = {:?}\n",
            root.join("device_type").display().to_string()
        ),
    )?;
    let log = root.join("log");
    let mut child = Command::new(agent)
        .arg("--conf-dir")
        .arg(root.join("conf"))
        .arg("--data-dir")
        .arg(root.join("data"))
        .arg("--state-dir")
        .arg(root.join("state"))
        .arg("daemon")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(fs::File::create(&log)?)
        .spawn()
        .with_context(|| format!("start {}", agent.display()))?;
    let outcome = settled(&log)
        .await
        .and_then(|()| figures(child.id(), agent));
    child.kill()?;
    child.wait()?;
    outcome
}

async fn settled(log: &Path) -> anyhow::Result<()> {
    let started = Instant::now();
    let (mut length, mut since) = (0, Instant::now());
    while started.elapsed() < LIMIT {
        let now = fs::metadata(log)?.len();
        if now != length {
            (length, since) = (now, Instant::now());
        } else if length > 0 && since.elapsed() > SETTLE {
            return Ok(());
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    bail!(
        "the daemon did not come to rest:\n{}",
        fs::read_to_string(log)?
    )
}

fn figures(process: u32, agent: &Path) -> anyhow::Result<serde_json::Value> {
    let field = |file: &str, name: &str| -> anyhow::Result<u64> {
        let text = fs::read_to_string(format!("/proc/{process}/{file}"))?;
        let line = text
            .lines()
            .find(|line| line.starts_with(name))
            .with_context(|| name.to_owned())?;
        line.split_whitespace()
            .nth(1)
            .context("value")?
            .parse()
            .context("number")
    };
    let mib = |kib: u64| (kib as f64 / 102.4).round() / 10.0;
    Ok(serde_json::json!({
        "measurement": "idle-agent",
        "rss_mib": mib(field("status", "VmRSS:")?),
        "pss_mib": mib(field("smaps_rollup", "Pss:")?),
        "threads": field("status", "Threads:")?,
        "binary_mib": mib(fs::metadata(agent)?.len() / 1024),
    }))
}

//! The measured loops.

use std::time::{Duration, Instant};

use anyhow::bail;

use crate::{connection::Connection, server::Server};

/// What the command line asks for.
pub struct Options {
    pub server_bin: std::path::PathBuf,
    pub devices: usize,
    pub connections: usize,
    pub seconds: u64,
    /// Polls per second to offer; 0 is as many as the server takes.
    pub rate: u64,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            server_bin: std::path::PathBuf::new(),
            devices: 100_000,
            connections: 64,
            seconds: 20,
            rate: 0,
        }
    }
}

/// What a loop measured; latencies are of single calls, in milliseconds.
pub struct Figures {
    pub per_second: f64,
    pub p50_ms: f64,
    pub p99_ms: f64,
    pub max_ms: f64,
    pub server_cpu_us_per_poll: f64,
}

/// Polls with nothing to install: every answer must be 204.
pub async fn idle_polls(
    server: &Server,
    tokens: Vec<String>,
    options: &Options,
) -> anyhow::Result<Figures> {
    let mut shares: Vec<Vec<String>> = vec![Vec::new(); options.connections];
    for (index, token) in tokens.into_iter().enumerate() {
        shares[index % options.connections].push(token);
    }
    let ticks_before = server.cpu_ticks()?;
    let started = Instant::now();
    let deadline = started + Duration::from_secs(options.seconds);
    // With a rate, every connection keeps its own timetable; latency counts from the due time,
    // so that a stalled server cannot hide behind a generator that waits with it.
    let gap = (options.rate > 0)
        .then(|| Duration::from_secs_f64(options.connections as f64 / options.rate as f64));
    let mut tasks = Vec::new();
    for share in shares.into_iter().filter(|share| !share.is_empty()) {
        let address = server.address.clone();
        tasks.push(tokio::spawn(poll_loop(address, share, deadline, gap)));
    }
    let mut latencies_us: Vec<u32> = Vec::new();
    for task in tasks {
        latencies_us.extend(task.await??);
    }
    let elapsed = started.elapsed().as_secs_f64();
    let ticks = server.cpu_ticks()? - ticks_before;
    latencies_us.sort_unstable();
    let at = |share: f64| {
        let index = ((latencies_us.len() as f64 - 1.0) * share) as usize;
        f64::from(latencies_us[index]) / 1000.0
    };
    if latencies_us.is_empty() {
        bail!("no poll was answered");
    }
    Ok(Figures {
        per_second: latencies_us.len() as f64 / elapsed,
        p50_ms: at(0.5),
        p99_ms: at(0.99),
        max_ms: at(1.0),
        server_cpu_us_per_poll: (ticks as f64 * 10_000.0 / latencies_us.len() as f64).round(),
    })
}

async fn poll_loop(
    address: String,
    tokens: Vec<String>,
    deadline: Instant,
    gap: Option<Duration>,
) -> anyhow::Result<Vec<u32>> {
    const PATH: &str = "/api/devices/v2/deployments/device/deployments/next";
    const BODY: &[u8] =
        br#"{"device_provides":{"artifact_name":"release-1","device_type":"qemux86-64"}}"#;
    let mut connection = Connection::open(&address).await?;
    let mut latencies = Vec::new();
    let mut due = Instant::now();
    for token in tokens.iter().cycle() {
        if Instant::now() >= deadline {
            break;
        }
        if let Some(gap) = gap {
            due += gap;
            tokio::time::sleep_until(due.into()).await;
        } else {
            due = Instant::now();
        }
        let headers =
            format!("Authorization: Bearer {token}\r\nContent-Type: application/json\r\n");
        let answer = connection.call("POST", PATH, &headers, BODY).await?;
        if answer.status != 204 {
            bail!("an idle poll answered {} instead of 204", answer.status);
        }
        latencies.push(due.elapsed().as_micros().min(u128::from(u32::MAX)) as u32);
    }
    Ok(latencies)
}

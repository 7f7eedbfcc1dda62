//! `GET /metrics` of the internal listener: what every part of the process has to tell.
//!
//! Counters live where the work is done; numbers that the database knows are asked for when somebody
//! looks. A part that cannot answer is left out and said so in the log: the others still count.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use ambidex_db::Db;
use ambidex_deployments::Deployments;
use ambidex_devauth::Devauth;
use ambidex_deviceconnect::Deviceconnect;
use ambidex_jobs::Jobs;
use ambidex_kit::metrics::{self, Exposition};
use ambidex_workflows::Workflows;
use axum::Router;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use http::header::CONTENT_TYPE;

/// Ticks of the processor time in `/proc`, a second; the same on every Linux.
const TICKS: f64 = 100.0;

/// What is asked.
#[derive(Clone)]
pub(crate) struct Sources {
    pub(crate) db: Db,
    pub(crate) devauth: Devauth,
    pub(crate) deployments: Deployments,
    pub(crate) deviceconnect: Deviceconnect,
    pub(crate) jobs: Jobs,
    pub(crate) workflows: Workflows,
    /// When the process started.
    pub(crate) started: SystemTime,
}

pub(crate) fn routes(sources: Sources) -> Router {
    Router::new()
        .route("/metrics", get(show))
        .with_state(sources)
}

async fn show(State(sources): State<Sources>) -> Response {
    let mut text = Exposition::new();
    text.family("ambidex_build_info", "gauge", "The running version.");
    let version = [("version", env!("CARGO_PKG_VERSION"))];
    text.sample("ambidex_build_info", &version, 1.0);
    process(&mut text, sources.started);
    metrics::http(&mut text);
    database(&mut text, &sources.db);
    jobs(&mut text, &sources.jobs).await;
    workflows(&mut text, &sources.workflows).await;
    connections(&mut text, &sources.deviceconnect);
    services(&mut text, &sources).await;
    ([(CONTENT_TYPE, Exposition::CONTENT_TYPE)], text.finish()).into_response()
}

fn connections(text: &mut Exposition, deviceconnect: &Deviceconnect) {
    let (devices, users) = deviceconnect.connections();
    text.family(
        "ambidex_remote_connections",
        "gauge",
        "Websockets of devices and users in this instance.",
    );
    for (peer, count) in [("device", devices), ("user", users)] {
        text.sample(
            "ambidex_remote_connections",
            &[("peer", peer)],
            count as f64,
        );
    }
}

fn database(text: &mut Exposition, db: &Db) {
    let stats = db.stats();
    text.histogram(
        "ambidex_db_commit_duration_seconds",
        "Time that a commit took, mostly the disk's.",
        &stats.commit_us,
        1e-6,
    );
    text.histogram(
        "ambidex_db_commit_jobs",
        "Jobs written under one commit.",
        &stats.jobs_per_commit,
        1.0,
    );
    text.counter(
        "ambidex_db_commits_failed_total",
        "Commits that the disk refused.",
        stats.groups_failed as f64,
    );
    text.family(
        "ambidex_db_waiting",
        "gauge",
        "Jobs in the queue of the database.",
    );
    for (kind, waiting) in [
        ("write", stats.writes_waiting),
        ("read", stats.reads_waiting),
    ] {
        text.sample("ambidex_db_waiting", &[("kind", kind)], waiting as f64);
    }
}

async fn jobs(text: &mut Exposition, jobs: &Jobs) {
    match jobs.counts().await {
        Ok(counts) => {
            text.family(
                "ambidex_jobs",
                "gauge",
                "Durable jobs that wait or run (ready) and that were given up (failed).",
            );
            for count in counts {
                let labels = [("kind", &*count.kind), ("state", &*count.state)];
                text.sample("ambidex_jobs", &labels, count.jobs as f64);
            }
        }
        Err(error) => tracing::warn!(%error, "metrics without the number of jobs"),
    }
    let kinds = jobs.tally().kinds();
    text.family("ambidex_jobs_running", "gauge", "Jobs that run here.");
    for (kind, tally) in &kinds {
        text.sample(
            "ambidex_jobs_running",
            &[("kind", kind)],
            tally.running as f64,
        );
    }
    text.family(
        "ambidex_jobs_ended_total",
        "counter",
        "Executions of jobs that ended here, by how.",
    );
    for (kind, tally) in &kinds {
        for (end, count) in [
            ("done", tally.done),
            ("retried", tally.retried),
            ("failed", tally.failed),
            ("lease_lost", tally.leases_lost),
        ] {
            let labels = [("kind", *kind), ("end", end)];
            text.sample("ambidex_jobs_ended_total", &labels, count as f64);
        }
    }
}

async fn workflows(text: &mut Exposition, workflows: &Workflows) {
    match workflows.recorded().await {
        Ok(counts) => {
            text.family(
                "ambidex_workflow_jobs",
                "gauge",
                "Jobs of workflows on record, by status.",
            );
            for (status, jobs) in counts {
                text.sample(
                    "ambidex_workflow_jobs",
                    &[("status", &*status)],
                    jobs as f64,
                );
            }
        }
        Err(error) => tracing::warn!(%error, "metrics without the jobs of workflows"),
    }
    text.family(
        "ambidex_workflow_jobs_ended_total",
        "counter",
        "Jobs of workflows that ended here, by how.",
    );
    for (workflow, status, jobs) in workflows.ended() {
        let labels = [("workflow", &*workflow), ("status", status)];
        text.sample("ambidex_workflow_jobs_ended_total", &labels, jobs as f64);
    }
}

async fn services(text: &mut Exposition, sources: &Sources) {
    by_status(
        text,
        "ambidex_devices",
        "Devices of all tenants.",
        sources.devauth.devices_by_status().await,
    );
    by_status(
        text,
        "ambidex_deployments_active",
        "Unfinished deployments of all tenants.",
        sources.deployments.active_by_status().await,
    );
    match sources.deployments.stored_bytes().await {
        Ok(bytes) => text.gauge(
            "ambidex_artifacts_bytes",
            "Size of all artifacts.",
            bytes as f64,
        ),
        Err(error) => tracing::warn!(%error, "metrics without the size of artifacts"),
    }
}

fn by_status<E: std::fmt::Display>(
    text: &mut Exposition,
    name: &str,
    help: &str,
    counts: Result<Vec<(String, u64)>, E>,
) {
    match counts {
        Ok(counts) => {
            text.family(name, "gauge", help);
            for (status, count) in counts {
                text.sample(name, &[("status", &status)], count as f64);
            }
        }
        Err(error) => tracing::warn!(%error, "metrics without {name}"),
    }
}

/// Figures of the process under the names that dashboards know.
fn process(text: &mut Exposition, started: SystemTime) {
    let since = started.duration_since(UNIX_EPOCH).unwrap_or_default();
    text.gauge(
        "process_start_time_seconds",
        "When the process started, in seconds since 1970.",
        since.as_secs_f64(),
    );
    let uptime = started.elapsed().unwrap_or(Duration::ZERO);
    text.gauge(
        "ambidex_uptime_seconds",
        "For how long the process has been running.",
        uptime.as_secs_f64(),
    );
    if let Ok(status) = std::fs::read_to_string("/proc/self/status") {
        let field = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name))?;
            line.split_whitespace().next()?.parse::<f64>().ok()
        };
        if let Some(kib) = field("VmRSS:") {
            text.gauge(
                "process_resident_memory_bytes",
                "Memory that the process holds.",
                kib * 1024.0,
            );
        }
        if let Some(threads) = field("Threads:") {
            text.gauge("process_threads", "Threads of the process.", threads);
        }
    }
    if let Ok(open) = std::fs::read_dir("/proc/self/fd") {
        text.gauge(
            "process_open_fds",
            "Open file descriptors.",
            open.count() as f64,
        );
    }
    if let Some(seconds) = processor_seconds() {
        text.counter(
            "process_cpu_seconds_total",
            "Processor time that the process used.",
            seconds,
        );
    }
}

fn processor_seconds() -> Option<f64> {
    let stat = std::fs::read_to_string("/proc/self/stat").ok()?;
    // The name in parentheses may hold anything; what follows is numbers. User and system time are
    // fields 14 and 15 of the line.
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace().skip(11);
    let user: f64 = fields.next()?.parse().ok()?;
    let system: f64 = fields.next()?.parse().ok()?;
    Some((user + system) / TICKS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_process_knows_itself() {
        let mut text = Exposition::new();
        process(&mut text, SystemTime::now());
        let text = text.finish();
        for name in [
            "process_start_time_seconds ",
            "process_resident_memory_bytes ",
            "process_open_fds ",
            "process_cpu_seconds_total ",
        ] {
            assert!(text.contains(name), "{name} is missing in {text}");
        }
    }
}

//! kill -9 of either instance while both write.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use ambidex_harness::{Api, Server, wait_for};
use ambidex_test_cluster::{Device, Installation};
use anyhow::{Context, Result, ensure};
use reqwest::{Method, StatusCode};

const LIMIT: Duration = Duration::from_secs(120);
const ROUNDS: usize = 6;
const WRITERS: usize = 4;
/// Writes of all writers before the kill.
const WRITES: usize = 60;
const DEVICES: &str = "/api/management/v2/devauth/devices";

/// What was acknowledged to the writers of one instance.
#[derive(Default)]
struct Load {
    stop: AtomicBool,
    next: AtomicUsize,
}

/// Admits devices at one server until stopped or refused. Returns the numbers that were acknowledged,
/// and whether the server went away.
async fn write(
    http: reqwest::Client,
    api: Arc<Api>,
    load: Arc<Load>,
    acknowledged: Arc<AtomicUsize>,
) -> (Vec<usize>, bool) {
    let mut written = Vec::new();
    while !load.stop.load(Ordering::Relaxed) {
        let number = load.next.fetch_add(1, Ordering::Relaxed);
        let Ok(body) = Device::new(&http, number).preauthorisation() else {
            return (written, true);
        };
        match api.request(Method::POST, DEVICES, Some(&body)).await {
            Ok((StatusCode::CREATED, _, _)) => {
                written.push(number);
                acknowledged.fetch_add(1, Ordering::Relaxed);
            }
            _ => return (written, true),
        }
    }
    (written, false)
}

async fn known(api: &Api) -> Result<BTreeSet<usize>> {
    let mut numbers = BTreeSet::new();
    for page in 1.. {
        let path = format!("{DEVICES}?status=preauthorized&per_page=100&page={page}");
        let found = api.get(&path).await?;
        let found = found.as_array().context("a list of devices")?;
        for device in found {
            let mac = device["identity_data"]["mac"].as_str().context("a mac")?;
            let digits = mac.rsplit(':').next().context("digits")?;
            numbers.insert(usize::from_str_radix(digits, 16)?);
        }
        if found.is_empty() {
            break;
        }
    }
    Ok(numbers)
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_acknowledged_is_lost_and_the_other_goes_on() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let Some(mut cluster) = Installation::start(folder.path()).await? else {
        return Ok(());
    };
    let load = Arc::new(Load::default());
    let mut expected = BTreeSet::new();
    for round in 0..ROUNDS {
        load.stop.store(false, Ordering::Relaxed);
        let acknowledged = Arc::new(AtomicUsize::new(0));
        let mut writers: BTreeMap<bool, Vec<_>> = BTreeMap::new();
        let victim_is_one = round % 2 == 0;
        for (server, is_one) in [(&cluster.one, true), (&cluster.two, false)] {
            let api = Arc::new(server.login().await?);
            for _ in 0..WRITERS {
                let work = write(
                    cluster.http.clone(),
                    Arc::clone(&api),
                    Arc::clone(&load),
                    Arc::clone(&acknowledged),
                );
                let tasks = writers.entry(is_one == victim_is_one).or_default();
                tasks.push(tokio::spawn(work));
            }
        }
        let reached = |count: usize| {
            let acknowledged = Arc::clone(&acknowledged);
            async move {
                wait_for("writes", LIMIT, async || {
                    Ok((acknowledged.load(Ordering::Relaxed) >= count).then_some(()))
                })
                .await
            }
        };
        reached(WRITES).await?;
        let victim: &mut Server = match victim_is_one {
            true => &mut cluster.one,
            false => &mut cluster.two,
        };
        victim.kill().await?;
        reached(acknowledged.load(Ordering::Relaxed) + WRITES).await?;
        load.stop.store(true, Ordering::Relaxed);
        for (of_the_victim, tasks) in writers {
            for task in tasks {
                let (written, failed) = task.await?;
                ensure!(
                    failed == of_the_victim,
                    "round {round}: the survivor refused a write"
                );
                expected.extend(written);
            }
        }
        let survivor = match victim_is_one {
            true => &cluster.two,
            false => &cluster.one,
        };
        let found = known(&survivor.login().await?).await?;
        let lost: Vec<_> = expected.difference(&found).collect();
        ensure!(lost.is_empty(), "round {round}: lost {lost:?}");
        match victim_is_one {
            true => cluster.one.restart().await?,
            false => cluster.two.restart().await?,
        }
    }
    Ok(())
}

/// Each change is owed to the audit log by a job. The jobs of a dead instance are done by the other.
#[tokio::test(flavor = "multi_thread")]
async fn jobs_of_a_dead_instance_are_taken_over() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let Some(mut cluster) = Installation::start(folder.path()).await? else {
        return Ok(());
    };
    let api = Arc::new(cluster.one.login().await?);
    let load = Arc::new(Load::default());
    let acknowledged = Arc::new(AtomicUsize::new(0));
    let writers: Vec<_> = (0..WRITERS)
        .map(|_| {
            let work = write(
                cluster.http.clone(),
                Arc::clone(&api),
                Arc::clone(&load),
                Arc::clone(&acknowledged),
            );
            tokio::spawn(work)
        })
        .collect();
    wait_for("writes", LIMIT, async || {
        Ok((acknowledged.load(Ordering::Relaxed) >= WRITES).then_some(()))
    })
    .await?;
    cluster.one.kill().await?;
    let mut written = 0;
    for writer in writers {
        written += writer.await?.0.len();
    }
    let api = cluster.two.login().await?;
    wait_for("the audit log of every change", LIMIT, async || {
        let mut count = 0;
        for page in 1.. {
            let path = format!(
                "/api/management/v1/auditlogs/logs?object_type=device&per_page=100&page={page}"
            );
            let found = api.get(&path).await?.as_array().map_or(0, Vec::len);
            count += found;
            if found == 0 {
                break;
            }
        }
        Ok((count >= written).then_some(()))
    })
    .await
}

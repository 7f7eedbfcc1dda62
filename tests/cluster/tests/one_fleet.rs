//! Whatever is done at one instance holds at the other.

use std::path::{Path, PathBuf};
use std::time::Duration;

use ambidex_harness::server::{EMAIL, PASSWORD};
use ambidex_harness::{Api, wait_for};
use ambidex_test_cluster::{Device, Installation};
use anyhow::{Context, Result, ensure};
use reqwest::{Method, StatusCode};
use serde_json::json;

const LIMIT: Duration = Duration::from_secs(120);

/// Several parts of an upload to the artifact store.
const IMAGE_BYTES: usize = 20 << 20;

async fn artifact(folder: &Path, name: &str, bytes: usize) -> Result<PathBuf> {
    let image = folder.join(format!("{name}.img"));
    let content: Vec<u8> = (0..bytes).map(|n| (n * 31 % 251) as u8).collect();
    std::fs::write(&image, content)?;
    let file = folder.join(format!("{name}.mender"));
    ambidex_harness::artifact::write_rootfs_image(name, "test-host", &image, None, &file).await?;
    Ok(file)
}

async fn logins(cluster: &Installation) -> Result<(Api, Api)> {
    Ok((cluster.one.login().await?, cluster.two.login().await?))
}

async fn preauthorise(api: &Api, device: &Device) -> Result<()> {
    let path = "/api/management/v2/devauth/devices";
    let body = device.preauthorisation()?;
    let (status, _, answer) = api.request(Method::POST, path, Some(&body)).await?;
    ensure!(
        status == StatusCode::CREATED,
        "{status}: {}",
        String::from_utf8_lossy(&answer)
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_device_moves_between_instances() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let Some(cluster) = Installation::start(folder.path()).await? else {
        return Ok(());
    };
    let (one, two) = (cluster.one.url(), cluster.two.url());
    let (api_one, api_two) = logins(&cluster).await?;

    let mut device = Device::new(&cluster.http, 1);
    ensure!(!device.authenticate(&two).await?, "nobody has accepted it");
    let id = api_one.accept_next(LIMIT).await?;
    ensure!(
        device.authenticate(&one).await?,
        "accepted by the other instance"
    );
    device.send_inventory(&two, "kernel", "6.1").await?;
    let seen = api_one.inventory(&id).await?;
    ensure!(seen["kernel"] == "6.1", "{seen:?}");

    let file = artifact(folder.path(), "release-2", IMAGE_BYTES).await?;
    api_one.upload(&file, "").await?;
    ensure!(
        cluster.engines.s3.unfinished() == 0,
        "parts are left in the store"
    );
    let deployment = api_two.deploy("all", "release-2", &[&id]).await?;
    let instructions = device.poll(&one, "release-1").await?.context("an update")?;
    ensure!(instructions["id"] == deployment.as_str(), "{instructions}");
    let uri = instructions["artifact"]["source"]["uri"]
        .as_str()
        .unwrap_or_default();
    ensure!(
        uri.starts_with(&cluster.engines.s3.endpoint()),
        "straight from the store: {uri}"
    );
    ensure!(
        device.download(&instructions).await? == std::fs::read(&file)?,
        "the artifact differs"
    );
    for (server, status) in [
        (&two, "downloading"),
        (&one, "installing"),
        (&two, "success"),
    ] {
        device.report(server, &deployment, status).await?;
    }
    let status = api_one.device_status(&deployment, &id).await?;
    ensure!(status.as_deref() == Some("success"), "{status:?}");
    ensure!(api_two.deployment(&deployment).await?["status"] == "finished");
    ensure!(device.poll(&two, "release-2").await?.is_none());
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn sessions_and_revocations_hold_everywhere() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let Some(cluster) = Installation::start(folder.path()).await? else {
        return Ok(());
    };
    let api = Api::login(&cluster.one.url(), EMAIL, PASSWORD).await?;
    let http = &cluster.http;
    let me = |server: &str| {
        http.get(format!("{server}/api/management/v1/useradm/users/me"))
            .bearer_auth(api.token())
            .send()
    };
    ensure!(me(&cluster.two.url()).await?.status() == StatusCode::OK);
    let logout = "/api/management/v1/useradm/auth/logout";
    let (status, _, _) = api.request(Method::POST, logout, None).await?;
    ensure!(status == StatusCode::ACCEPTED, "{status}");
    ensure!(me(&cluster.two.url()).await?.status() == StatusCode::UNAUTHORIZED);

    let api = cluster.two.login().await?;
    let mut device = Device::new(&cluster.http, 1);
    preauthorise(&api, &device).await?;
    ensure!(device.authenticate(&cluster.one.url()).await?);
    let id = api.devices("accepted").await?[0]["id"]
        .as_str()
        .unwrap_or_default()
        .to_owned();
    let path = format!("/api/management/v2/devauth/devices/{id}");
    let (status, _, _) = api.request(Method::DELETE, &path, None).await?;
    ensure!(status == StatusCode::NO_CONTENT, "{status}");
    let gone = device.poll(&cluster.one.url(), "release-1").await;
    ensure!(gone.is_err(), "a removed device got {gone:?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_phase_is_never_overfilled() -> Result<()> {
    const DEVICES: usize = 40;
    let folder = tempfile::tempdir()?;
    let Some(cluster) = Installation::start(folder.path()).await? else {
        return Ok(());
    };
    let servers = [cluster.one.url(), cluster.two.url()];
    let (api, _) = logins(&cluster).await?;
    let mut devices = Vec::new();
    for number in 0..DEVICES {
        let mut device = Device::new(&cluster.http, number);
        preauthorise(&api, &device).await?;
        ensure!(device.authenticate(&servers[number % 2]).await?);
        devices.push(device);
    }
    let file = artifact(folder.path(), "release-2", 1000).await?;
    api.upload(&file, "").await?;
    let ids: Vec<_> = api
        .devices("accepted")
        .await?
        .iter()
        .map(|d| d["id"].clone())
        .collect();
    ensure!(ids.len() == DEVICES);
    let path = "/api/management/v1/deployments/deployments";
    let body = json!({
        "name": "phased", "artifact_name": "release-2", "devices": ids,
        "phases": [
            { "batch_size": 25 },
            { "start_ts": "2100-01-01T00:00:00Z", "batch_size": 75 },
        ],
    });
    let (status, _, answer) = api.request(Method::POST, path, Some(&body)).await?;
    ensure!(
        status == StatusCode::CREATED,
        "{status}: {}",
        String::from_utf8_lossy(&answer)
    );

    // Every device asks both instances at the same moment, again and again.
    let polls = devices.iter().enumerate().map(|(number, device)| {
        let servers = &servers;
        async move {
            let mut got = false;
            for round in 0..4 {
                let (here, there) = tokio::join!(
                    device.poll(&servers[(number + round) % 2], "release-1"),
                    device.poll(&servers[(number + round + 1) % 2], "release-1"),
                );
                got |= here?.is_some() | there?.is_some();
            }
            anyhow::Ok(got)
        }
    });
    let mut served = 0;
    for got in futures_util::future::join_all(polls).await {
        served += usize::from(got?);
    }
    ensure!(
        served == DEVICES / 4,
        "{served} devices of a phase of {}",
        DEVICES / 4
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_real_agent_goes_on_with_the_instance_that_is_left() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let Some(mut cluster) = Installation::start(folder.path()).await? else {
        return Ok(());
    };
    let (api_one, api_two) = logins(&cluster).await?;
    let servers = format!("{},{}", cluster.one.url(), cluster.two.url());
    let mut device = ambidex_harness::Device::new(
        &folder.path().join("device"),
        "02:00:00:00:00:01",
        &servers,
        "",
    )?;
    device.add_module(
        "noop",
        "#!/bin/sh\n[ \"$1\" != SupportsRollback ] || echo No\n",
    )?;
    device.start()?;
    let id = api_two.accept_next(LIMIT).await?;
    for (name, kill) in [("update-1", false), ("update-2", true)] {
        let file = folder.path().join(format!("{name}.mender"));
        ambidex_harness::artifact::write_module_image(name, "test-host", "noop", &file).await?;
        api_one_or_two(&api_one, &api_two, kill)
            .upload(&file, "")
            .await?;
        let deployment = api_two.deploy(name, name, &[&id]).await?;
        let outcome = api_two
            .wait_status(&deployment, &id, &["success"], LIMIT)
            .await;
        outcome.with_context(|| device.log())?;
        if !kill {
            cluster.one.kill().await?;
        }
    }
    Ok(())
}

fn api_one_or_two<'a>(one: &'a Api, two: &'a Api, second: bool) -> &'a Api {
    if second { two } else { one }
}

#[tokio::test(flavor = "multi_thread")]
async fn health_tells_which_engine_is_away_and_service_goes_on() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let Some(mut cluster) = Installation::start(folder.path()).await? else {
        return Ok(());
    };
    let (api, _) = logins(&cluster).await?;
    let mut device = Device::new(&cluster.http, 1);
    preauthorise(&api, &device).await?;
    let server = cluster.one.url();
    ensure!(device.authenticate(&server).await?);
    let http = cluster.http.clone();
    let storage = format!(
        "{}/api/internal/v1/deployments/health",
        cluster.one.internal_url()
    );
    let bus = format!("{}/health", cluster.one.internal_url());
    for url in [&storage, &bus] {
        healthy(&http, url, true, "").await?;
    }
    cluster.engines.s3.kill().await?;
    healthy(&http, &storage, false, "error reaching the artifact store").await?;
    ensure!(
        device.poll(&server, "release-1").await?.is_none(),
        "polls need no store"
    );
    cluster.engines.nats.kill().await?;
    healthy(&http, &bus, false, "error reaching the message bus").await?;
    device.send_inventory(&server, "kernel", "6.2").await?;
    cluster.engines.s3.restart().await?;
    cluster.engines.nats.restart().await?;
    for url in [&storage, &bus] {
        healthy(&http, url, true, "").await?;
    }
    Ok(())
}

async fn healthy(http: &reqwest::Client, url: &str, wanted: bool, cause: &str) -> Result<()> {
    wait_for(&format!("{url} to be well: {wanted}"), LIMIT, async || {
        let answer = http.get(url).send().await?;
        let status = answer.status();
        let text = answer.text().await?;
        let as_wanted = match wanted {
            true => status == StatusCode::NO_CONTENT,
            false => status.is_server_error() && text.contains(cause),
        };
        Ok(as_wanted.then_some(()))
    })
    .await
}

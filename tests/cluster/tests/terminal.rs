//! A device that is connected to one instance, and a user at the other.

use std::time::{Duration, Instant};

use ambidex_harness::wait_for;
use ambidex_test_cluster::{Device, Installation, Socket};
use ambidex_wire::session::{Message, shell};
use anyhow::{Context, Result, ensure};
use reqwest::{Method, StatusCode};

const LIMIT: Duration = Duration::from_secs(120);
const DEVICE: &str = "/api/devices/v1/deviceconnect/connect";
const ECHOES: usize = 200;

/// A user's terminal at an instance, once the device is reachable: its own upgrade is answered before that.
async fn user_of(instance: &str, device: &str, token: &str) -> Result<Socket> {
    let path = format!("/api/management/v1/deviceconnect/devices/{device}/connect");
    wait_for("the device to be reachable", LIMIT, async || {
        Ok(Socket::connect(instance, &path, token).await.ok())
    })
    .await
}

/// Opens a shell from the user to the device; returns the session's id on the device's side.
async fn open_shell(user: &mut Socket, device: &mut Socket) -> Result<String> {
    let new = Message::new(1, shell::NEW, "")
        .prop(shell::WIDTH, 100)
        .prop(shell::HEIGHT, 30);
    user.send(new).await?;
    Ok(device.expect(shell::NEW).await?.sid)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_terminal_is_opened_through_the_other_instance() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let Some(mut cluster) = Installation::start(folder.path()).await? else {
        return Ok(());
    };
    let (one, two) = (cluster.one.url(), cluster.two.url());
    let api = cluster.two.login().await?;
    let mut device = Device::new(&cluster.http, 1);
    let path = "/api/management/v2/devauth/devices";
    let body = device.preauthorisation()?;
    let (status, _, _) = api.request(Method::POST, path, Some(&body)).await?;
    ensure!(status == StatusCode::CREATED, "{status}");
    ensure!(device.authenticate(&one).await?);
    let id = api.devices("accepted").await?[0]["id"]
        .as_str()
        .context("an id")?
        .to_owned();

    let mut on_device = Socket::connect(&one, DEVICE, device.token()).await?;
    let mut user = user_of(&two, &id, api.token()).await?;
    let sid = open_shell(&mut user, &mut on_device).await?;

    // Each keystroke comes back as its echo, over two servers and NATS.
    let mut times = Vec::new();
    for number in 0..ECHOES {
        let started = Instant::now();
        let key = number.to_string();
        user.send(shell::message(shell::SHELL, "", 0, key.as_bytes()))
            .await?;
        let typed = on_device.expect(shell::SHELL).await?;
        ensure!(typed.body == key.as_bytes(), "{typed:?}");
        on_device
            .send(shell::message(shell::SHELL, &sid, 1, &typed.body))
            .await?;
        let echo = user.expect(shell::SHELL).await?;
        ensure!(echo.body == key.as_bytes(), "{echo:?}");
        times.push(started.elapsed());
    }
    times.sort_unstable();
    println!(
        "echo through two instances: p50 {:?}, p99 {:?}",
        times[ECHOES / 2],
        times[ECHOES * 99 / 100]
    );

    // The user's instance dies: the device is told that the session is over, and serves the next one.
    cluster.two.kill().await?;
    on_device
        .expect(shell::STOP)
        .await
        .context("the device is told")?;
    let api = cluster.one.login().await?;
    let mut user = user_of(&one, &id, api.token()).await?;
    open_shell(&mut user, &mut on_device).await?;
    drop(user);

    // The device's instance dies: the user of the other is told, and the device comes back there.
    cluster.two.restart().await?;
    let api = cluster.two.login().await?;
    let mut user = user_of(&two, &id, api.token()).await?;
    open_shell(&mut user, &mut on_device).await?;
    cluster.one.kill().await?;
    ensure!(on_device.expect("none").await.is_err());
    let ended = tokio::time::timeout(LIMIT, async { while user.next().await.is_ok() {} }).await;
    ensure!(ended.is_ok(), "the user was not told");
    let mut on_device = Socket::connect(&two, DEVICE, device.token()).await?;
    let mut user = user_of(&two, &id, api.token()).await?;
    open_shell(&mut user, &mut on_device).await?;
    Ok(())
}

//! Several instances on one database and bus, and instances that die.

use std::time::Duration;

use ambidex_deviceconnect::Settings;
use ambidex_wire::session::shell;

use crate::rig::{CONNECT, Client, Rig, bearer, hasty, new_device};

#[tokio::test]
async fn a_user_of_one_instance_reaches_a_device_of_another() {
    let rig = Rig::new();
    let here = rig.start(Settings::default()).await;
    let there = rig.start(Settings::default()).await;
    let id = new_device();
    let mut device = rig.device(&there, &id).await;
    assert_eq!(rig.status(&here, &id).await, "connected");
    let mut user = rig.user(&here, &id).await;
    user.start_shell().await;
    let sid = device.expect(shell::NEW).await.sid;
    device
        .send(shell::message(shell::SHELL, &sid, 1, b"$ "))
        .await;
    assert_eq!(user.expect(shell::SHELL).await.body, b"$ ");
    // The device moves: the newest connection wins over instances.
    let token = bearer(&rig.device_token(&id, None));
    let mut moved = Client::connect(&here, CONNECT, &token).await.unwrap();
    assert_eq!(device.closed().await.0, 1008);
    assert_eq!(user.closed().await.0, 1001);
    let mut user = rig.user(&there, &id).await;
    user.start_shell().await;
    moved.expect(shell::NEW).await;
    assert_eq!(rig.status(&there, &id).await, "connected");
}

#[tokio::test]
async fn connections_of_a_dead_instance_do_not_count() {
    let rig = Rig::new();
    // Nothing gives signs of life here but the start.
    let dead = rig.start(hasty()).await;
    let id = new_device();
    let mut device = rig.device(&dead, &id).await;
    let mut user = rig.user(&dead, &id).await;
    user.start_shell().await;
    device.expect(shell::NEW).await;
    let answering = tokio::spawn(async move { device.closed().await });
    rig.clock.advance(31_000);
    assert_eq!(rig.status(&dead, &id).await, "disconnected");

    // Another instance cleans up: the record and the session that was left open.
    let alive = rig.start(hasty()).await;
    {
        let run = alive.service.run();
        tokio::pin!(run);
        let closed = rig.wait_audit("close_terminal");
        tokio::select! {
            () = &mut run => {}
            event = closed => assert!(event["meta"]["session_id"][0].is_string()),
        }
    }
    assert_eq!(rig.status(&alive, &id).await, "disconnected");

    // It was not dead after all: its connections count again.
    dead.service.join(false).await.unwrap();
    rig.wait_status(&alive, &id, "connected").await;
    assert!(!answering.is_finished());
    answering.abort();
}

#[tokio::test]
async fn a_lone_instance_cleans_up_at_once() {
    let rig = Rig::new();
    let before = rig.start(Settings::default()).await;
    let id = new_device();
    let _device = rig.device(&before, &id).await;
    let after = rig.start(Settings::default()).await;
    after.service.join(true).await.unwrap();
    assert_eq!(rig.status(&after, &id).await, "disconnected");
}

#[tokio::test]
async fn a_session_whose_other_side_is_silent_ends() {
    let rig = Rig::new();
    let quick = hasty();
    let slow = Settings {
        // Never gives a sign of life to the other side.
        keepalive: Duration::from_secs(3600),
        ..hasty()
    };
    let there = rig.start(quick).await;
    let here = rig.start(slow).await;
    let id = new_device();
    let mut device = rig.device(&there, &id).await;
    let mut user = rig.user(&here, &id).await;
    user.start_shell().await;
    device.expect(shell::NEW).await;
    let reading = tokio::spawn(async move { user.closed().await });
    assert_eq!(device.expect(shell::STOP).await.body, b"user disconnected");
    reading.abort();
}

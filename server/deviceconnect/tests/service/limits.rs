//! Limits of sessions: bytes, time, number, slowness.

use std::time::Duration;

use ambidex_deviceconnect::Settings;
use ambidex_wire::session::shell;

use crate::rig::{Rig, hasty, new_device};

#[tokio::test]
async fn output_is_limited() {
    let rig = Rig::new();
    let settings = Settings {
        output_bytes_max: 1000,
        ..Settings::default()
    };
    let on = rig.start(settings).await;
    let id = new_device();
    let mut device = rig.device(&on, &id).await;
    let mut user = rig.user(&on, &id).await;
    user.start_shell().await;
    let sid = device.expect(shell::NEW).await.sid;
    for _ in 0..5 {
        device
            .send(shell::message(shell::SHELL, &sid, 1, &[b'y'; 250]))
            .await;
    }
    assert_eq!(
        user.closed().await,
        (1008, "session byte limit exhausted".to_owned())
    );
    let stop = device.expect(shell::STOP).await;
    assert_eq!(stop.body, b"session byte limit exceeded");
}

#[tokio::test]
async fn sessions_are_limited_in_time_and_number() {
    let rig = Rig::new();
    let settings = Settings {
        session_max: Duration::from_millis(300),
        sessions_per_device: 2,
        ..Settings::default()
    };
    let on = rig.start(settings).await;
    let id = new_device();
    let mut device = rig.device(&on, &id).await;
    let mut first = rig.user(&on, &id).await;
    first.start_shell().await;
    device.expect(shell::NEW).await;
    let _second = rig.user(&on, &id).await;
    let refusal = rig.try_user(&on, &id).await.err().unwrap();
    assert_eq!(refusal.0, 429, "{}", refusal.1);
    assert_eq!(
        first.closed().await,
        (1008, "session time limit exceeded".to_owned())
    );
    assert_eq!(
        device.expect(shell::STOP).await.body,
        b"session time limit exceeded"
    );
}

#[tokio::test]
async fn a_login_that_ends_takes_its_sessions_along() {
    let rig = Rig::new();
    let on = rig.start(hasty()).await;
    let id = new_device();
    let _device = rig.device(&on, &id).await;
    let mut user = rig.user(&on, &id).await;
    rig.world.set(|says| says.user_revoked = true);
    assert_eq!(
        user.closed().await,
        (1008, "the login has ended".to_owned())
    );
}

#[tokio::test]
async fn a_user_who_does_not_read_is_closed_and_holds_up_nobody() {
    let rig = Rig::new();
    let settings = Settings {
        write_stall: Duration::from_millis(300),
        output_bytes_max: u64::MAX,
        ..Settings::default()
    };
    let on = rig.start(settings).await;
    let id = new_device();
    let mut device = rig.device(&on, &id).await;
    let mut stuck = rig.user(&on, &id).await;
    stuck.start_shell().await;
    let stuck_sid = device.expect(shell::NEW).await.sid;
    let mut other = rig.user(&on, &id).await;
    other.start_shell().await;
    let other_sid = device.expect(shell::NEW).await.sid;
    // Far more than sockets and queues hold, until the server gives up.
    let flood = shell::message(shell::SHELL, &stuck_sid, 1, &[b'y'; 64 << 10]);
    for _ in 0..400 {
        device.send(flood.clone()).await;
    }
    device
        .send(shell::message(shell::SHELL, &other_sid, 1, b"still here"))
        .await;
    assert_eq!(other.expect(shell::SHELL).await.body, b"still here");
    let stop = device.expect(shell::STOP).await;
    assert_eq!(stop.sid, stuck_sid);
    stuck.closed().await;
}

#[tokio::test]
async fn a_fast_device_and_a_reading_user_lose_nothing() {
    let rig = Rig::new();
    let on = rig.start(Settings::default()).await;
    let id = new_device();
    let mut device = rig.device(&on, &id).await;
    let mut user = rig.user(&on, &id).await;
    user.start_shell().await;
    let sid = device.expect(shell::NEW).await.sid;
    let sending = async {
        for n in 0..20_000_u32 {
            let body = [n.to_be_bytes().as_slice(), &[b'x'; 251]].concat();
            device
                .send(shell::message(shell::SHELL, &sid, 1, &body))
                .await;
        }
        device
    };
    let reading = async {
        for n in 0..20_000_u32 {
            let message = user.expect(shell::SHELL).await;
            assert_eq!(message.body[..4], n.to_be_bytes());
        }
    };
    tokio::join!(sending, reading);
}

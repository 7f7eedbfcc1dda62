//! Sessions between a user and a device.

use ambidex_access::Grants;
use ambidex_deviceconnect::Settings;
use ambidex_wire::session::{Message, control, forward, shell};
use serde_json::json;
use tokio_tungstenite::tungstenite::Message as WsMessage;

use crate::rig::{Rig, USER, hasty, new_device};

#[tokio::test]
async fn devices_that_cannot_be_reached_are_404_before_the_upgrade() {
    let rig = Rig::new();
    let on = rig.start(Settings::default()).await;
    let id = new_device();
    let refusal = rig.try_user(&on, &id).await.err().unwrap();
    assert_eq!(refusal.0, 404);
    assert!(refusal.1.contains("device not found"), "{}", refusal.1);
    let provision = json!({ "device_id": id }).to_string();
    on.internal("POST", "/tenants/default/devices", &provision)
        .await;
    assert_eq!(rig.status(&on, &id).await, "unknown");
    let refusal = rig.try_user(&on, &id).await.err().unwrap();
    assert_eq!(refusal.0, 404);
    assert!(refusal.1.contains("device not connected"), "{}", refusal.1);
    // also for what is no websocket at all
    let (status, ..) = rig.get(&on, &format!("/devices/{id}/connect")).await;
    assert_eq!(status, 404);
    for (strange, expected) in [("..", 404), ("a%20b", 404), ("%00", 400), ("x.y.*", 404)] {
        let (status, ..) = rig.get(&on, &format!("/devices/{strange}/connect")).await;
        assert_eq!(status, expected, "{strange}");
    }
}

#[tokio::test]
async fn roles_and_addons_are_asked() {
    let rig = Rig::new();
    let on = rig.start(hasty()).await;
    let id = new_device();
    let _device = rig.device(&on, &id).await;
    rig.world.set(|says| {
        says.group = Some("lab".to_owned());
        says.grants = Grants {
            terminal_groups: Some(vec!["field".to_owned()]),
            ..Grants::default()
        };
    });
    let refusal = rig.try_user(&on, &id).await.err().unwrap();
    assert_eq!(refusal.0, 403);
    assert!(refusal.1.contains("Access denied (RBAC)."), "{}", refusal.1);
    for path in ["/check-update", "/send-inventory"] {
        let path = format!("/devices/{id}{path}");
        let (status, ..) = rig
            .call(&on, "POST", &path, axum::body::Body::empty(), None)
            .await;
        assert_eq!(status, 403);
    }
    rig.world.set(|says| says.group = Some("field".to_owned()));
    let mut user = rig.user(&on, &id).await;
    // and again while the session lasts
    rig.world.set(|says| says.group = None);
    assert_eq!(
        user.closed().await,
        (1008, "Access denied (RBAC).".to_owned())
    );
    rig.world.set(|says| says.no_addon = true);
    let refusal = rig.try_user(&on, &id).await.err().unwrap();
    assert_eq!(refusal.0, 403);
    assert!(refusal.1.contains("troubleshoot"), "{}", refusal.1);
}

#[tokio::test]
async fn ids_are_the_servers_in_both_directions() {
    let rig = Rig::new();
    let on = rig.start(Settings::default()).await;
    let id = new_device();
    let mut device = rig.device(&on, &id).await;
    let mut user = rig.user(&on, &id).await;
    let forged = Message::new(1, shell::NEW, "mine")
        .prop(shell::USER_ID, "somebody else")
        .prop(shell::WIDTH, 80)
        .prop(shell::HEIGHT, 24);
    user.send(forged).await;
    let seen = device.expect(shell::NEW).await;
    assert_eq!(seen.props.text(shell::USER_ID), Some(USER));
    assert_eq!(shell::size(&seen.props), Some((80, 24)));
    let sid = seen.sid;
    assert!(uuid::Uuid::parse_str(&sid).is_ok(), "{sid}");
    device
        .send(shell::message(shell::NEW, &sid, 1, b"Shell started"))
        .await;
    assert_eq!(user.expect(shell::NEW).await.sid, sid);
    // a second user has a session of his own and sees nothing of this one
    let mut other = rig.user(&on, &id).await;
    other.start_shell().await;
    let other_sid = device.expect(shell::NEW).await.sid;
    assert_ne!(other_sid, sid);
    device
        .send(shell::message(shell::SHELL, &sid, 1, b"for the first"))
        .await;
    device
        .send(shell::message(
            shell::SHELL,
            &other_sid,
            1,
            b"for the second",
        ))
        .await;
    assert_eq!(other.expect(shell::SHELL).await.body, b"for the second");
    assert_eq!(user.expect(shell::SHELL).await.body, b"for the first");
}

#[tokio::test]
async fn keystrokes_go_through_in_order_and_long_pastes_in_pieces() {
    let rig = Rig::new();
    let on = rig.start(Settings::default()).await;
    let id = new_device();
    let mut device = rig.device(&on, &id).await;
    let mut user = rig.user(&on, &id).await;
    assert_eq!(user.headers["x-ambidex-message-bytes"], "8192");
    let paste: Vec<u8> = (0..300_000_u32).map(|n| (n % 251) as u8).collect();
    user.send(Message::new(1, shell::SHELL, "").body("ls\r"))
        .await;
    user.send(Message::new(1, shell::SHELL, "").body(paste.clone()))
        .await;
    user.send(Message::new(1, shell::SHELL, "").body("end"))
        .await;
    assert_eq!(device.expect(shell::SHELL).await.body, b"ls\r");
    let mut got = Vec::new();
    while got.len() < paste.len() {
        let piece = device.expect(shell::SHELL).await;
        assert!(piece.encode().len() <= 8192, "{}", piece.encode().len());
        got.extend(piece.body);
    }
    assert!(got == paste);
    assert_eq!(device.expect(shell::SHELL).await.body, b"end");
}

#[tokio::test]
async fn a_message_that_cannot_be_split_must_fit() {
    let rig = Rig::new();
    let on = rig.start(Settings::default()).await;
    let id = new_device();
    let mut device = rig.device(&on, &id).await;
    let mut user = rig.user(&on, &id).await;
    let data = |bytes: usize| forward::message(forward::FORWARD, "", "c").body(vec![7; bytes]);
    user.send(data(7000)).await;
    device.expect(forward::FORWARD).await;
    user.send(data(9000)).await;
    assert_eq!(user.closed().await.0, 1009);
    // what it had opened is closed on the device
    device.expect(control::CLOSE).await;

    // unless the device says that it reads more
    let mut headers = crate::rig::bearer(&rig.device_token(&id, None));
    headers.push(("x-ambidex-message-bytes", "65536".to_owned()));
    let mut device = crate::rig::Client::connect(&on, crate::rig::CONNECT, &headers)
        .await
        .unwrap();
    crate::rig::wait("a device that reads more", async || {
        let Ok(mut user) = rig.try_user(&on, &id).await else {
            return false;
        };
        if user.headers["x-ambidex-message-bytes"] != "65536" {
            return false;
        }
        user.send(data(60_000)).await;
        device.expect(forward::FORWARD).await.body.len() == 60_000
    })
    .await;
}

#[tokio::test]
async fn a_user_who_leaves_stops_what_runs() {
    let rig = Rig::new();
    let on = rig.start(Settings::default()).await;
    let id = new_device();
    let mut device = rig.device(&on, &id).await;
    let mut user = rig.user(&on, &id).await;
    user.start_shell().await;
    let sid = device.expect(shell::NEW).await.sid;
    drop(user);
    let stop = device.expect(shell::STOP).await;
    assert_eq!(
        (stop.sid.as_str(), stop.body.as_slice()),
        (sid.as_str(), b"user disconnected".as_slice())
    );
    assert_eq!(stop.props.int(shell::STATUS), Some(2));

    // a shell that has ended already needs no stop, other protocols get a close
    let mut user = rig.user(&on, &id).await;
    user.start_shell().await;
    let sid = device.expect(shell::NEW).await.sid;
    device
        .send(shell::message(shell::STOP, &sid, 2, b"exited"))
        .await;
    user.expect(shell::STOP).await;
    user.send(control::Open::default().message("")).await;
    device.expect(control::OPEN).await;
    user.raw(WsMessage::Close(None)).await;
    assert_eq!(device.expect(control::CLOSE).await.sid, sid);
}

#[tokio::test]
async fn a_device_that_leaves_ends_the_session_with_a_message() {
    let rig = Rig::new();
    let on = rig.start(Settings::default()).await;
    let id = new_device();
    let mut device = rig.device(&on, &id).await;
    let mut user = rig.user(&on, &id).await;
    user.start_shell().await;
    device.expect(shell::NEW).await;
    drop(device);
    let stop = user.expect(shell::STOP).await;
    assert_eq!(stop.body, b"device disconnected");
    let error = user.expect(control::ERROR).await;
    let error = control::Failure::decode(&error.body).unwrap();
    assert_eq!(error, control::Failure::closing("device disconnected"));
    assert_eq!(
        user.closed().await,
        (1001, "device disconnected".to_owned())
    );
}

#[tokio::test]
async fn frames_of_the_web_interface_do_no_harm() {
    let rig = Rig::new();
    let on = rig.start(Settings::default()).await;
    let id = new_device();
    let mut device = rig.device(&on, &id).await;
    let mut user = rig.user(&on, &id).await;
    user.start_shell().await;
    device.expect(shell::NEW).await;
    // a body as text
    let keys = "82a368647283a570726f746f01a3747970a57368656c6ca3736964a27331a4626f6479a36c730d";
    user.raw(WsMessage::Binary(hex::decode(keys).unwrap().into()))
        .await;
    assert_eq!(device.expect(shell::SHELL).await.body, b"ls\r");
    // a body that is an empty map
    let stop = "82a368647282a570726f746f01a3747970a473746f70a4626f647980";
    user.raw(WsMessage::Binary(hex::decode(stop).unwrap().into()))
        .await;
    assert!(device.expect(shell::STOP).await.body.is_empty());
}

#[tokio::test]
async fn commands_are_passed_on_once() {
    let rig = Rig::new();
    let on = rig.start(Settings::default()).await;
    let id = new_device();
    let call = async |command: &str| {
        let path = format!("/devices/{id}/{command}");
        let none = axum::body::Body::empty();
        let (status, _, body) = rig.call(&on, "POST", &path, none, None).await;
        (status, String::from_utf8(body).unwrap())
    };
    assert_eq!(call("check-update").await.0, 404);
    on.service
        .provision_device(&ambidex_access::TenantId::new(""), &id)
        .await
        .unwrap();
    assert_eq!(call("check-update").await.0, 409);
    let mut device = rig.device(&on, &id).await;
    for command in ["check-update", "send-inventory"] {
        assert_eq!(call(command).await, (202, "null".to_owned()));
        let seen = device.expect(command).await;
        assert_eq!(seen.proto, 4);
        assert_eq!(seen.props.text(shell::USER_ID), Some(USER));
        // the answer goes nowhere, and harms nobody
        device
            .send(Message::new(4, command, &seen.sid).prop(shell::STATUS, 1))
            .await;
        let path = format!("/tenants/default/devices/{id}/{command}");
        assert_eq!(on.internal("POST", &path, "").await.0, 202);
        device.expect(command).await;
    }
    assert_eq!(rig.status(&on, &id).await, "connected");
}

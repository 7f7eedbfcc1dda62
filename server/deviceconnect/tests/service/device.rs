//! The device's socket.

use ambidex_deviceconnect::Settings;
use ambidex_wire::session::{Message, shell};
use tokio_tungstenite::tungstenite::Message as WsMessage;

use crate::rig::{CONNECT, Client, MANAGEMENT, Rig, bearer, hasty, new_device};

#[tokio::test]
async fn token_or_cookie_lets_a_device_in() {
    let rig = Rig::new();
    let on = rig.start(Settings::default()).await;
    let id = new_device();
    assert_eq!(rig.status(&on, &id).await, "404");
    let token = rig.device_token(&id, None);
    let cookie = vec![("cookie", format!("JWT={token}"))];
    for headers in [bearer(&token), cookie] {
        let mut device = Client::connect(&on, CONNECT, &headers).await.unwrap();
        assert!(!device.headers.contains_key("sec-websocket-protocol"));
        rig.wait_status(&on, &id, "connected").await;
        device.raw(WsMessage::Close(None)).await;
        device.closed().await;
        rig.wait_status(&on, &id, "disconnected").await;
    }
}

#[tokio::test]
async fn who_is_no_device_is_refused_before_the_upgrade() {
    let rig = Rig::new();
    let on = rig.start(Settings::default()).await;
    let token = rig.device_token(&new_device(), None);
    let foreign_page = vec![
        ("cookie", format!("JWT={token}")),
        ("origin", "http://evil.example".to_owned()),
    ];
    for headers in [
        vec![],
        bearer(&rig.user_token(None)),
        bearer("x"),
        foreign_page,
    ] {
        let refusal = Client::connect(&on, CONNECT, &headers).await.err().unwrap();
        assert_eq!(refusal.0, 401, "{headers:?}: {}", refusal.1);
        assert!(refusal.1.contains("\"request_id\""), "{}", refusal.1);
    }
    rig.world.set(|says| says.no_addon = true);
    let refusal = Client::connect(&on, CONNECT, &bearer(&token))
        .await
        .err()
        .unwrap();
    assert_eq!(refusal.0, 403);
    assert!(refusal.1.contains("operation requires addon: troubleshoot"));
}

#[tokio::test]
async fn the_subprotocol_is_echoed_when_asked_for() {
    let rig = Rig::new();
    let on = rig.start(Settings::default()).await;
    let mut headers = bearer(&rig.device_token(&new_device(), None));
    headers.push(("sec-websocket-protocol", "protomsg/msgpack".to_owned()));
    let device = Client::connect(&on, CONNECT, &headers).await.unwrap();
    assert_eq!(device.headers["sec-websocket-protocol"], "protomsg/msgpack");
}

#[tokio::test]
async fn a_request_that_is_no_websocket_is_400() {
    let rig = Rig::new();
    let on = rig.start(Settings::default()).await;
    let id = new_device();
    let _device = rig.device(&on, &id).await;
    let (status, _, body) = rig.get(&on, &format!("/devices/{id}/connect")).await;
    assert_eq!(status, 400, "{}", String::from_utf8_lossy(&body));
}

#[tokio::test]
async fn the_newest_connection_wins() {
    let rig = Rig::new();
    let on = rig.start(Settings::default()).await;
    let id = new_device();
    let mut older = rig.device(&on, &id).await;
    let mut newer = rig.device(&on, &id).await;
    let (code, reason) = older.closed().await;
    assert_eq!(code, 1008);
    assert!(reason.contains("newer connection"), "{reason}");
    drop(older);
    // What the older one leaves behind changes nothing, and the newer one is the one that is reached.
    let mut user = rig.user(&on, &id).await;
    assert_eq!(rig.status(&on, &id).await, "connected");
    user.start_shell().await;
    newer.expect(shell::NEW).await;
}

#[tokio::test]
async fn bytes_that_are_no_message_end_only_their_connection() {
    let rig = Rig::new();
    let on = rig.start(Settings::default()).await;
    let (good, bad) = (new_device(), new_device());
    let mut healthy = rig.device(&on, &good).await;
    for (frame, code) in [
        (WsMessage::Binary(vec![0xc1].into()), 1007),
        (WsMessage::Text("hello".into()), 1003),
        (WsMessage::Binary(vec![0; 513 << 10].into()), 1009),
    ] {
        let mut device = rig.device(&on, &bad).await;
        device.raw(frame).await;
        assert_eq!(device.closed().await.0, code);
        rig.wait_status(&on, &bad, "disconnected").await;
    }
    assert_eq!(rig.status(&on, &good).await, "connected");
    let mut user = rig.user(&on, &good).await;
    user.start_shell().await;
    healthy.expect(shell::NEW).await;
}

#[tokio::test]
async fn messages_of_no_session_are_dropped() {
    let rig = Rig::new();
    let on = rig.start(Settings::default()).await;
    let id = new_device();
    let mut device = rig.device(&on, &id).await;
    for sid in ["", "nonsense", "11111111-2222-3333-4444-555555555555"] {
        device
            .send(Message::new(1, shell::SHELL, sid).body("x"))
            .await;
    }
    let mut user = rig.user(&on, &id).await;
    user.start_shell().await;
    device.expect(shell::NEW).await;
}

#[tokio::test]
async fn pings_keep_a_device_and_silence_ends_it() {
    let rig = Rig::new();
    let on = rig.start(hasty()).await;
    let id = new_device();
    let mut device = rig.device(&on, &id).await;
    // Answering is the library's: as long as we read, we are there.
    for _ in 0..12 {
        assert!(matches!(device.frame().await, WsMessage::Ping(payload) if &payload[..] == b"60"));
    }
    assert_eq!(rig.status(&on, &id).await, "connected");
    // Not reading is silence.
    rig.wait_status(&on, &id, "disconnected").await;
    let (code, reason) = device.closed().await;
    assert_eq!((code, reason.as_str()), (1008, "no sign of life"));
}

#[tokio::test]
async fn a_revoked_token_and_a_removal_end_the_connection() {
    let rig = Rig::new();
    let on = rig.start(hasty()).await;
    let id = new_device();
    let mut device = rig.device(&on, &id).await;
    rig.world.set(|says| says.device_revoked = true);
    assert_eq!(device.closed().await.1, "the device's token was revoked");
    rig.world.set(|says| says.device_revoked = false);

    let mut device = rig.device(&on, &id).await;
    let (status, _) = on
        .internal("DELETE", &format!("/tenants/default/devices/{id}"), "")
        .await;
    assert_eq!(status, 202);
    assert_eq!(device.closed().await.1, "the device was removed");
    assert_eq!(rig.status(&on, &id).await, "404");
}

#[tokio::test]
async fn a_revocation_is_felt_at_once_and_by_nobody_else() {
    let rig = Rig::new();
    // The connection's own check is a minute away.
    let on = rig.start(Settings::default()).await;
    let id = new_device();
    let mut device = rig.device(&on, &id).await;
    let tenant = ambidex_access::TenantId::default();
    let revoked = || ambidex_deviceconnect::tokens_revoked(&rig.bus, &tenant, &id);
    revoked().await;
    let mut user = rig.user(&on, &id).await;
    user.start_shell().await;
    device.expect(shell::NEW).await;
    rig.world.set(|says| says.device_revoked = true);
    revoked().await;
    assert_eq!(device.closed().await.1, "the device's token was revoked");
    rig.wait_status(&on, &id, "disconnected").await;
    revoked().await;
}

#[tokio::test]
async fn a_stop_of_the_server_says_goodbye() {
    let rig = Rig::new();
    let on = rig.start(Settings::default()).await;
    let id = new_device();
    let mut device = rig.device(&on, &id).await;
    let mut user = rig.user(&on, &id).await;
    user.start_shell().await;
    device.expect(shell::NEW).await;
    let both = async { (device.closed().await, user.closed().await) };
    let (((device_code, _), (user_code, _)), cut) = tokio::join!(both, on.stop());
    assert_eq!((device_code, user_code, cut), (1001, 1001, 0));
    let again = rig.start(Settings::default()).await;
    assert_eq!(rig.status(&again, &id).await, "disconnected");
    rig.wait_audit("close_terminal").await;
}

#[tokio::test]
async fn tenants_do_not_see_each_other() {
    let rig = Rig::new();
    let on = rig.start(Settings::default()).await;
    let id = new_device();
    let token = bearer(&rig.device_token(&id, Some("t1")));
    let _device = Client::connect(&on, CONNECT, &token).await.unwrap();
    let path = format!("{MANAGEMENT}/devices/{id}/connect");
    let own = bearer(&rig.user_token(Some("t1")));
    crate::rig::wait("the device of t1", async || {
        Client::connect(&on, &path, &own).await.is_ok()
    })
    .await;
    for tenant in [None, Some("t2")] {
        let foreign = bearer(&rig.user_token(tenant));
        let refusal = Client::connect(&on, &path, &foreign).await.err().unwrap();
        assert_eq!(refusal.0, 404, "{}", refusal.1);
    }
}

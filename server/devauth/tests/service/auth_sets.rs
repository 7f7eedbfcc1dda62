use http::Method;
use serde_json::json;

use crate::rig::{DEVICES, Device, Rig};

#[tokio::test]
async fn d15_rejecting_takes_the_token() {
    let rig = Rig::new();
    let device = Device::new("d15");
    let (id, set, token) = rig.accepted(&device).await;
    rig.set_status(&id, &set, "rejected").await.ok(204);
    assert_eq!(rig.verify(&token).await, 401);
    assert_eq!(rig.device(&id).await["status"], "rejected");
    assert_eq!(rig.neighbours.status(&id), Some("rejected"));
    assert_eq!(
        rig.authenticate(&device).await.error(401),
        "dev auth: unauthorized"
    );
    rig.set_status(&id, &set, "accepted").await.ok(204);
    assert_eq!(
        rig.verify(&token).await,
        401,
        "an old token does not come back"
    );
    rig.authenticate(&device).await.ok(200);
}

#[tokio::test]
async fn d16_d17_wrong_changes_are_refused() {
    let rig = Rig::new();
    let (id, set) = rig.pending(&Device::new("d16")).await;
    let (other, other_set) = rig.pending(&Device::new("other")).await;
    for status in ["foo", "preauthorized", "noauth", ""] {
        assert_eq!(
            rig.set_status(&id, &set, status).await.error(400),
            "incorrect device status"
        );
    }
    let path = format!("{DEVICES}/{id}/auth/{set}/status");
    for body in [json!({}), json!([]), json!({"status": 5}), json!(null)] {
        let error = rig.user(Method::PUT, &path, Some(body)).await.error(400);
        assert!(error.starts_with("failed to decode status data"), "{error}");
    }
    assert_eq!(
        rig.set_status(&id, "00000000-0000-4000-8000-000000000000", "accepted")
            .await
            .error(404),
        "authorization set not found"
    );
    assert_eq!(
        rig.set_status(&id, &other_set, "accepted").await.error(400),
        "dev auth: dev ID and auth ID mismatch"
    );
    assert_eq!(
        rig.set_status("nope", &set, "accepted").await.error(404),
        "device not found"
    );
    assert_eq!(rig.device(&other).await["status"], "pending");
}

#[tokio::test]
async fn a_repeated_change_does_nothing() {
    let rig = Rig::new();
    let (id, set, token) = rig.accepted(&Device::new("again")).await;
    let before = rig.device(&id).await;
    rig.clock.advance(1000);
    rig.set_status(&id, &set, "accepted").await.ok(204);
    assert_eq!(rig.device(&id).await, before);
    assert_eq!(rig.verify(&token).await, 200);
}

#[tokio::test]
async fn sets_can_be_reset_to_pending() {
    let rig = Rig::new();
    let (id, set, token) = rig.accepted(&Device::new("reset")).await;
    rig.set_status(&id, &set, "pending").await.ok(204);
    assert_eq!(rig.device(&id).await["status"], "pending");
    assert_eq!(rig.verify(&token).await, 401);
}

#[tokio::test]
async fn preauthorised_sets_change_by_the_device_only() {
    let rig = Rig::new();
    let device = Device::new("pre");
    rig.user(
        Method::POST,
        DEVICES,
        Some(json!({"identity_data": device.identity(), "pubkey": device.pem()})),
    )
    .await
    .ok(201);
    let (id, set) = rig.find(&device).await;
    for status in ["accepted", "rejected", "pending"] {
        assert_eq!(
            rig.set_status(&id, &set, status).await.error(400),
            "dev auth: bad request"
        );
    }
}

#[tokio::test]
async fn d24_removing_the_only_preauthorised_set_removes_the_device() {
    let rig = Rig::new();
    let device = Device::new("d24");
    rig.user(
        Method::POST,
        DEVICES,
        Some(json!({"identity_data": device.identity(), "pubkey": device.pem()})),
    )
    .await
    .ok(201);
    let (id, set) = rig.find(&device).await;
    assert_eq!(rig.neighbours.status(&id), Some("preauthorized"));
    rig.user(Method::DELETE, &format!("{DEVICES}/{id}/auth/{set}"), None)
        .await
        .ok(204);
    rig.get(&format!("{DEVICES}/{id}")).await.ok(404);
    assert_eq!(rig.neighbours.status(&id), None);
    assert_eq!(rig.neighbours.removed.lock().unwrap().as_slice(), [id]);
}

#[tokio::test]
async fn d25_removing_the_only_accepted_set_leaves_a_device_without() {
    let rig = Rig::new();
    let device = Device::new("d25");
    let (id, set, token) = rig.accepted(&device).await;
    rig.user(Method::DELETE, &format!("{DEVICES}/{id}/auth/{set}"), None)
        .await
        .ok(204);
    let shown = rig.device(&id).await;
    assert_eq!(
        (shown["status"].as_str(), &shown["auth_sets"]),
        (Some("noauth"), &json!([]))
    );
    assert_eq!(rig.verify(&token).await, 401);
    assert_eq!(rig.neighbours.status(&id), Some("noauth"));
    rig.user(Method::DELETE, &format!("{DEVICES}/{id}/auth/{set}"), None)
        .await
        .ok(404);
    let (again, _) = rig.pending(&device).await;
    assert_eq!(again, id, "the device is the same");
    assert_eq!(rig.device(&id).await["status"], "pending");
}

#[tokio::test]
async fn sets_are_removed_from_their_own_device_only() {
    let rig = Rig::new();
    let (_, set) = rig.pending(&Device::new("a")).await;
    let (other, _) = rig.pending(&Device::new("b")).await;
    rig.user(
        Method::DELETE,
        &format!("{DEVICES}/{other}/auth/{set}"),
        None,
    )
    .await
    .ok(404);
    rig.user(Method::DELETE, &format!("{DEVICES}/nope/auth/{set}"), None)
        .await
        .ok(404);
    assert_eq!(rig.devices().await.len(), 2);
}

#[tokio::test]
async fn d33_the_status_of_a_set() {
    let rig = Rig::new();
    let (id, set) = rig.pending(&Device::new("d33")).await;
    let (other, _) = rig.pending(&Device::new("b")).await;
    let path = |id: &str, set: &str| format!("{DEVICES}/{id}/auth/{set}/status");
    assert_eq!(
        rig.get(&path(&id, &set)).await.ok(200).json(),
        json!({"status": "pending"})
    );
    assert_eq!(
        rig.get(&path(&id, "nope")).await.error(404),
        "authorization set not found"
    );
    rig.get(&path(&other, &set)).await.ok(404);
}

//! Update control maps: stored, handed out to devices that understand them, changed.

use serde_json::{Value, json};

use crate::world::{Device, World};

fn map() -> Value {
    json!({"priority": 1, "states": {"ArtifactReboot_Enter": {"action": "pause",
        "on_map_expire": "force_continue", "on_action_executed": "continue"}}})
}

async fn world() -> (World, Device, String) {
    let world = World::new();
    world.artifact("release-2", &["qemu"]).await;
    let device = world.device(1);
    let body = json!({"name": "n", "artifact_name": "release-2", "devices": [device.id],
        "update_control_map": map()});
    let id = world.post("/deployments", body).await.expect(201).created();
    (world, device, id)
}

fn path(id: &str) -> String {
    format!("/api/devices/v2/deployments/device/deployments/{id}/update_control_map")
}

#[tokio::test]
async fn devices_that_understand_maps_get_them() {
    let (world, device, id) = world().await;
    let shown = world.show(&id).await["update_control_map"].clone();
    assert_eq!(shown["id"], json!(id));
    assert_eq!(shown["states"], map()["states"]);
    let plain = world.poll_v2(&device, false).await.unwrap();
    assert_eq!(plain.get("update_control_map"), None);
    let with = world.poll_v2(&device, true).await.unwrap();
    assert_eq!(with["update_control_map"], shown);
    assert_eq!(with["id"], json!(id));
    assert!(with["artifact"]["source"]["uri"].is_string());
    let v1 = world.poll_raw(&device).await.expect(200).json();
    assert_eq!(v1.get("update_control_map"), None);
}

#[tokio::test]
async fn version_2_polls_are_checked() {
    let (world, device, _) = world().await;
    let next = "/api/devices/v2/deployments/device/deployments/next";
    for body in [
        json!({}),
        json!({"device_provides": []}),
        json!({"device_provides": {}}),
        json!({"device_provides": {"device_type": "qemu"}}),
        json!({"device_provides": {"device_type": "qemu", "artifact_name": "a"},
            "update_control_map": "yes"}),
    ] {
        let reply = world.call("POST", next, &device.token, Some(body)).await;
        assert_eq!(reply.status, 400);
    }
    world
        .call("POST", next, &world.user, Some(json!({})))
        .await
        .expect(401);
}

#[tokio::test]
async fn a_map_can_be_changed_and_is_asked_for_again() {
    let (world, device, id) = world().await;
    world
        .call("GET", &path(&id), &device.token, None)
        .await
        .expect(404);
    world.poll_v2(&device, true).await.unwrap();
    let reply = world.call("GET", &path(&id), &device.token, None).await;
    let body = reply.expect(200).json();
    assert_eq!(body["id"], json!(id));
    assert_eq!(body["states"], map()["states"]);
    assert_eq!(body["update_control_map"]["priority"], 1);

    let patch = |body: Value| {
        let (world, id) = (&world, &id);
        async move {
            let path = format!("{}/deployments/{id}", crate::world::MANAGEMENT);
            world.call("PATCH", &path, &world.user, Some(body)).await
        }
    };
    let other = json!({"states": {"ArtifactCommit_Enter": {"action": "fail"}}});
    patch(json!({"update_control_map": other}))
        .await
        .expect(204);
    let reply = world.call("GET", &path(&id), &device.token, None).await;
    assert_eq!(reply.expect(200).json()["states"], other["states"]);
    patch(json!({"update_control_map": {"states": {"x": {}}}}))
        .await
        .expect(400);
    patch(json!([])).await.expect(400);
    patch(json!({"update_control_map": {}})).await.expect(204);
    world
        .call("GET", &path(&id), &device.token, None)
        .await
        .expect(204);
    assert_eq!(world.show(&id).await.get("update_control_map"), None);

    let stranger = world.device(2);
    world
        .call("GET", &path(&id), &stranger.token, None)
        .await
        .expect(404);
    world.report(&device, &id, "success").await.expect(204);
    patch(json!({"update_control_map": other}))
        .await
        .expect(422);
    let unknown = uuid::Uuid::new_v4();
    let path = |id: &str| format!("{}/deployments/{id}", crate::world::MANAGEMENT);
    for (id, status) in [(unknown.to_string(), 404), ("x".to_owned(), 400)] {
        let reply = world
            .call("PATCH", &path(&id), &world.user, Some(json!({})))
            .await;
        assert_eq!(reply.status, status);
    }
}

#[tokio::test]
async fn maps_need_the_enterprise_plan_and_a_right_form() {
    let (world, device, _) = world().await;
    let body = |map: Value| {
        json!({"name": "n", "artifact_name": "release-2", "devices": [device.id],
        "update_control_map": map})
    };
    world
        .post("/deployments", body(json!({"states": 1})))
        .await
        .expect(400);
    let tenant = world.tenant("t1", "professional");
    let post = |map: Value| tenant.call("POST", "/deployments", Some(body(map)));
    post(map()).await.expect(403);
    // An empty map is none: web interfaces send it with every deployment.
    post(json!({"states": {}})).await.expect(422);
    tenant
        .call(
            "PATCH",
            &format!("/deployments/{}", uuid::Uuid::new_v4()),
            Some(json!({})),
        )
        .await
        .expect(403);
}

#[tokio::test]
async fn pauses_are_reported_and_shown() {
    let (world, device, id) = world().await;
    world.poll_v2(&device, true).await.unwrap();
    for status in [
        "downloading",
        "pause_before_installing",
        "installing",
        "pause_before_rebooting",
        "rebooting",
        "pause_before_committing",
    ] {
        world.report(&device, &id, status).await.expect(204);
        assert_eq!(world.counts(&id).await, json!({status: 1}));
        assert_eq!(world.show(&id).await["status"], "inprogress");
        let wanted = if status.starts_with("pause") { 1 } else { 0 };
        let list = format!("/deployments/{id}/devices/list?status=pause");
        let rows = world.get(&list).await.expect(200).json();
        assert_eq!(rows.as_array().unwrap().len(), wanted, "{status}");
    }
    world.report(&device, &id, "success").await.expect(204);
    assert_eq!(world.show(&id).await["status"], "finished");
}

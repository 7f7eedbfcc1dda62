//! What a device has been through.

use serde_json::{Value, json};
use uuid::Uuid;

use crate::world::{Device, World};

async fn world() -> (World, Vec<Device>) {
    let world = World::new();
    world.artifact("release-2", &["qemu"]).await;
    let devices = world.devices(1..3);
    (world, devices)
}

async fn history(world: &World, device: &Device, query: &str) -> Vec<Value> {
    let reply = world
        .get(&format!("/deployments/devices/{}{query}", device.id))
        .await
        .expect(200);
    reply.json().as_array().unwrap().clone()
}

#[tokio::test]
async fn a_history_tells_of_what_was_asked_for_newest_first() {
    let (world, devices) = world().await;
    let device = &devices[0];
    assert_eq!(history(&world, device, "").await, Vec::<Value>::new());
    let first = world.deployment("release-2", &devices).await;
    let second = world.deployment("release-2", &devices).await;
    assert!(history(&world, device, "").await.is_empty());
    world.poll(device).await.unwrap();
    world.report(device, &first, "failure").await.expect(204);
    world.poll(device).await.unwrap();
    world
        .report(device, &second, "installing")
        .await
        .expect(204);
    let entries = history(&world, device, "").await;
    assert_eq!(entries.len(), 2);
    assert_eq!(entries[0]["deployment"]["id"], json!(second));
    assert_eq!(entries[0]["device"]["status"], "installing");
    assert_eq!(entries[0]["device"]["id"], json!(device.id));
    assert_eq!(entries[1]["device"]["status"], "failure");
    for (word, count) in [
        ("finished", 1),
        ("active", 1),
        ("pause", 0),
        ("failure", 1),
        ("success", 0),
    ] {
        let entries = history(&world, device, &format!("?status={word}")).await;
        assert_eq!(entries.len(), count, "{word}");
    }
    let page = world
        .get(&format!(
            "/deployments/devices/{}?page=2&per_page=1",
            device.id
        ))
        .await
        .expect(200);
    assert_eq!(page.header("x-total-count"), "2");
    assert_eq!(page.json()[0]["deployment"]["id"], json!(first));
    for query in ["?status=x", "?per_page=21", "?page=0"] {
        world
            .get(&format!("/deployments/devices/{}{query}", device.id))
            .await
            .expect(400);
    }
    let internal = |path: String| {
        let world = &world;
        async move { world.internal("GET", &path, None).await.expect(200).json() }
    };
    let same = internal(format!(
        "/tenants/default/deployments/devices/{}",
        device.id
    ));
    assert_eq!(same.await, json!(entries));
    let id = entries[1]["id"].as_str().unwrap();
    let one = internal(format!(
        "/tenants/default/deployments/devices?id={id}&id=x&id=a.b"
    ));
    assert_eq!(one.await, json!([entries[1]]));
    let other = internal(format!("/tenants/t1/deployments/devices?id={id}"));
    assert_eq!(other.await, json!([]));
}

#[tokio::test]
async fn after_a_reset_a_device_is_eligible_again() {
    let (world, devices) = world().await;
    let device = &devices[0];
    let old = world.deployment("release-2", &devices[..1]).await;
    let running = world.deployment("release-2", &devices).await;
    for id in [&old, &running] {
        world.poll(device).await.unwrap();
        world.report(device, id, "success").await.expect(204);
    }
    assert_eq!(world.poll(device).await, None);
    let log = json!({"messages": [{"timestamp": "2023-11-14T22:13:20Z", "level": "info",
        "message": "m"}]});
    let path = format!("{}/{running}/log", crate::world::DEVICES);
    world
        .call("PUT", &path, &device.token, Some(log))
        .await
        .expect(204);
    let reset = format!("/deployments/devices/{}/history", device.id);
    world.delete(&reset).await.expect(204);
    world.delete(&reset).await.expect(204);
    assert!(history(&world, device, "").await.is_empty());
    // The finished one still tells of the device, and when it was forgotten.
    let rows = world.device_rows(&old).await;
    assert_eq!(rows[0]["status"], "success");
    assert!(rows[0]["deleted"].is_string());
    assert_eq!(world.counts(&old).await, json!({"success": 1}));
    assert_eq!(world.counts(&running).await, json!({"pending": 2}));
    assert_eq!(world.show(&running).await["device_count"], 0);
    assert_eq!(world.poll(device).await.unwrap().id, running);
    assert_eq!(world.device_rows(&running).await[0]["log"], false);
    let audited = world.audited().await;
    let resets = audited.iter().filter(|(_, kind, _)| kind == "device");
    assert_eq!(resets.count(), 1);
    world
        .delete("/deployments/devices/unknown/history")
        .await
        .expect(204);
}

#[tokio::test]
async fn after_a_reset_a_device_joins_by_filter_again() {
    let (world, devices) = world().await;
    let filter = world.fleet.save_filter("kind", "pump");
    world.fleet.equip("", &devices[0], "kind", "pump");
    let body = json!({"name": "n", "artifact_name": "release-2", "filter_id": filter});
    let id = world
        .v2("POST", "/deployments", Some(body))
        .await
        .expect(201)
        .created();
    world.poll(&devices[0]).await.unwrap();
    world.report(&devices[0], &id, "success").await.expect(204);
    let reset = format!("/deployments/devices/{}/history", devices[0].id);
    world.delete(&reset).await.expect(204);
    assert_eq!(world.counts(&id).await, json!({}));
    assert_eq!(world.poll(&devices[0]).await.unwrap().id, id);
    assert_eq!(world.counts(&id).await, json!({"pending": 1}));
}

#[tokio::test]
async fn the_last_finished_deployment_of_devices() {
    let (world, devices) = world().await;
    let first = world.deployment("release-2", &devices).await;
    let second = world.deployment("release-2", &devices).await;
    for (id, status) in [(&first, "success"), (&second, "failure")] {
        world.poll(&devices[0]).await.unwrap();
        world.report(&devices[0], id, status).await.expect(204);
    }
    world.poll(&devices[1]).await.unwrap();
    let path = "/tenants/default/devices/deployments/last";
    let ids: Vec<&str> = devices.iter().map(|device| device.id.as_str()).collect();
    let reply = world
        .internal("POST", path, Some(json!({"device_ids": ids})))
        .await
        .expect(200);
    let found = reply.json()["device_deployment_last_statuses"].clone();
    assert_eq!(found.as_array().unwrap().len(), 1);
    assert_eq!(found[0]["deployment_id"], json!(second));
    assert_eq!(found[0]["device_id"], json!(devices[0].id));
    assert_eq!(found[0]["device_deployment_status"], "failure");
    let many: Vec<String> = (0..1025).map(|n| n.to_string()).collect();
    for body in [json!({}), json!({"device_ids": many}), json!([])] {
        world.internal("POST", path, Some(body)).await.expect(400);
    }
}

#[tokio::test]
async fn deployments_are_found_by_ids_names_and_devices() {
    let (world, devices) = world().await;
    let one = world.deployment("release-2", &devices[..1]).await;
    let two = world.deployment("release-2", &devices).await;
    let list = |query: String| {
        let world = &world;
        async move {
            let path = format!("/deployments?{query}");
            let reply = world.v2("GET", &path, None).await.expect(200);
            (
                crate::world::ids(&reply.json()),
                reply.header("x-total-count").to_owned(),
            )
        }
    };
    let (ids, total) = list(format!("id={one}&id={two}&sort=asc")).await;
    assert_eq!((ids, total.as_str()), (vec![one.clone(), two.clone()], "2"));
    assert_eq!(list(format!("id={one}")).await.0, [one.as_str()]);
    assert_eq!(list("name=production&name=x".into()).await.0.len(), 2);
    assert_eq!(list("name=x".into()).await.0.len(), 0);
    world.fleet.equip("", &devices[1], "name", "door");
    assert_eq!(
        list("name=door&id_attribute=name".into()).await.0,
        [two.as_str()]
    );
    assert!(
        list("name=gate&id_attribute=name".into())
            .await
            .0
            .is_empty()
    );
    for query in [
        "id_attribute=a&id_scope=tags",
        "status=x",
        "sort=up",
        "page=0",
    ] {
        let path = format!("/deployments?name=x&{query}");
        world.v2("GET", &path, None).await.expect(400);
    }
    let nothing = list(format!("id={}", Uuid::new_v4())).await;
    assert_eq!(nothing.1, "0");
}

#[tokio::test]
async fn the_configuration_of_the_service_is_told() {
    let (world, _) = world().await;
    let config = world.get("/config").await.expect(200).json();
    assert_eq!(config["delta"]["enabled"], false);
    assert_eq!(world.get("/deployments/config").await.json(), config);
    let path = "/tenants/default/storage/settings";
    assert_eq!(world.internal("GET", path, None).await.json(), json!({}));
    for (body, status) in [
        (json!({}), 204),
        (json!(null), 204),
        (json!({"bucket": "b"}), 400),
        (json!([]), 400),
    ] {
        let reply = world.internal("PUT", path, Some(body)).await;
        assert_eq!(reply.status, status);
    }
}

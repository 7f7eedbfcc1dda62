//! Deployments for whatever devices meet a filter (B099 to B104).

use serde_json::{Value, json};

use crate::world::{Device, World};

async fn create(world: &World, extra: Value) -> String {
    let filter = world.fleet.save_filter("kind", "pump");
    let mut body = json!({"name": "n", "artifact_name": "release-2", "filter_id": filter});
    let (Value::Object(body_map), Value::Object(extra)) = (&mut body, extra) else {
        unreachable!("both are objects")
    };
    body_map.extend(extra);
    let reply = world
        .v2("POST", "/deployments", Some(body))
        .await
        .expect(201);
    let location = reply.header("location");
    assert!(location.starts_with("/api/management/v2/deployments/deployments/"));
    reply.created()
}

/// A server with an artifact and pumps.
async fn world(pumps: u128) -> (World, Vec<Device>) {
    let world = World::new();
    world.artifact("release-2", &["qemu"]).await;
    let devices = world.devices(1..pumps + 1);
    for device in &devices {
        world.fleet.equip("", device, "kind", "pump");
    }
    (world, devices)
}

#[tokio::test]
async fn b099_the_filter_is_embedded_and_its_devices_are_counted() {
    let (world, devices) = world(3).await;
    let id = create(&world, json!({})).await;
    let shown = world.show(&id).await;
    assert_eq!(shown["initial_device_count"], 3);
    assert_eq!(shown["dynamic"], true);
    assert_eq!(shown["filter"]["terms"][0]["attribute"], "kind");
    assert_eq!(shown["filter"]["name"], "kind pump");
    assert_eq!(shown["status"], "pending");
    assert_eq!(shown.get("max_devices"), None);
    assert_eq!(world.counts(&id).await, json!({}));
    let list = world
        .get(&format!("/deployments/{id}/device_list"))
        .await
        .expect(200);
    assert_eq!(list.json(), json!([]));
    // What becomes of the filter does not matter.
    world.fleet.filters.lock().unwrap().clear();
    assert_eq!(world.poll(&devices[0]).await.unwrap().id, id);
    assert_eq!(world.counts(&id).await, json!({"pending": 1}));
    assert_eq!(world.show(&id).await["device_count"], 1);
}

#[tokio::test]
async fn b100_devices_that_match_later_join_and_others_do_not() {
    let (world, _) = world(1).await;
    let id = create(&world, json!({})).await;
    let late = world.device(7);
    assert_eq!(world.poll(&late).await, None);
    world.fleet.equip("", &late, "kind", "valve");
    assert_eq!(world.poll(&late).await, None);
    world.fleet.equip("", &late, "kind", "pump");
    assert_eq!(world.poll(&late).await.unwrap().id, id);
    // Once it has begun it goes on, whatever it becomes.
    world.fleet.equip("", &late, "kind", "valve");
    assert_eq!(world.poll(&late).await.unwrap().id, id);
    assert_eq!(world.show(&id).await["device_count"], 1);
}

#[tokio::test]
async fn b101_with_a_maximum_it_finishes() {
    let (world, devices) = world(3).await;
    let id = create(&world, json!({"max_devices": 2})).await;
    assert_eq!(world.show(&id).await["max_devices"], 2);
    for device in &devices[..2] {
        assert_eq!(world.poll(device).await.unwrap().id, id);
    }
    assert_eq!(world.poll(&devices[2]).await, None);
    world.report(&devices[0], &id, "success").await.expect(204);
    assert_eq!(world.show(&id).await["status"], "inprogress");
    world.report(&devices[1], &id, "failure").await.expect(204);
    let shown = world.show(&id).await;
    assert_eq!(shown["status"], "finished");
    assert!(shown["finished"].is_string());
    assert_eq!(world.poll(&devices[2]).await, None);
}

#[tokio::test]
async fn b102_without_a_maximum_only_an_abort_ends_it() {
    let (world, devices) = world(1).await;
    let id = create(&world, json!({})).await;
    world.poll(&devices[0]).await.unwrap();
    world.report(&devices[0], &id, "success").await.expect(204);
    assert_eq!(world.show(&id).await["status"], "inprogress");
    assert_eq!(world.poll(&devices[0]).await, None, "not a second time");
    let late = world.device(9);
    world.fleet.equip("", &late, "kind", "pump");
    world.poll(&late).await.unwrap();
    world
        .put(
            &format!("/deployments/{id}/status"),
            json!({"status": "aborted"}),
        )
        .await
        .expect(204);
    assert_eq!(world.counts(&id).await, json!({"success": 1, "aborted": 1}));
    world.report(&late, &id, "success").await.expect(409);
}

#[tokio::test]
async fn b103_phases_need_devices() {
    let (world, _) = world(0).await;
    let filter = world.fleet.save_filter("kind", "pump");
    let phases = json!([{"batch_size": 50}, {"start_ts": "2099-01-01T00:00:00Z"}]);
    for max in [json!(null), json!(5)] {
        let body = json!({"name": "n", "artifact_name": "release-2", "filter_id": filter,
            "phases": phases, "max_devices": max});
        world
            .v2("POST", "/deployments", Some(body))
            .await
            .expect(400);
    }
}

#[tokio::test]
async fn phases_are_sized_once_and_the_last_is_open() {
    let (world, devices) = world(4).await;
    let id = create(
        &world,
        json!({"phases": [{"batch_size": 50}, {"start_ts": "2023-11-14T23:13:20Z"}]}),
    )
    .await;
    for device in &devices[..2] {
        world.poll(device).await.unwrap();
    }
    assert_eq!(world.poll(&devices[2]).await, None);
    world.clock.advance(60 * 60 * 1000);
    for n in 3..9 {
        let device = world.device(n);
        world.fleet.equip("", &device, "kind", "pump");
        world.poll(&device).await.unwrap();
    }
    let shown = world.show(&id).await;
    assert_eq!(shown["phases"][0]["device_count"], 2);
    assert_eq!(shown["phases"][1]["device_count"], 6);
}

#[tokio::test]
async fn b104_wrong_bodies() {
    let (world, _) = world(1).await;
    let filter = world.fleet.save_filter("kind", "pump");
    for (body, status) in [
        (json!({"name": "n", "artifact_name": "release-2"}), 400),
        (
            json!({"name": "n", "artifact_name": "release-2", "filter_id": "nope"}),
            400,
        ),
        (
            json!({"artifact_name": "release-2", "filter_id": filter}),
            400,
        ),
        (json!({"name": "n", "filter_id": filter}), 400),
        (
            json!({"name": "n", "artifact_name": "none", "filter_id": filter}),
            422,
        ),
        (json!([]), 400),
    ] {
        let reply = world.v2("POST", "/deployments", Some(body.clone())).await;
        assert_eq!(reply.status, status, "{body}");
    }
}

#[tokio::test]
async fn plans_below_enterprise_have_none() {
    let world = World::new();
    let filter = world.fleet.save_filter("kind", "pump");
    let body = json!({"name": "n", "artifact_name": "r", "filter_id": filter});
    for (plan, status) in [("os", 403), ("professional", 403), ("enterprise", 422)] {
        let tenant = world.tenant("t1", plan);
        let path = "/api/management/v2/deployments/deployments";
        let reply = world
            .call("POST", path, &tenant.user, Some(body.clone()))
            .await;
        assert_eq!(reply.status, status, "{plan}");
    }
}

#[tokio::test]
async fn b021_an_older_deployment_is_not_joined_after_a_newer_one() {
    let (world, _) = world(1).await;
    create(&world, json!({})).await;
    world.clock.advance(1_000);
    let valve = world.device(9);
    let newer = world
        .deployment("release-2", std::slice::from_ref(&valve))
        .await;
    assert_eq!(world.poll(&valve).await.unwrap().id, newer);
    world.report(&valve, &newer, "success").await.expect(204);
    world.fleet.equip("", &valve, "kind", "pump");
    assert_eq!(world.poll(&valve).await, None, "matches now, but too late");
    let newest = create(&world, json!({})).await;
    assert_eq!(world.poll(&valve).await.unwrap().id, newest);
}

#[tokio::test]
async fn static_and_dynamic_deployments_are_served_in_their_order() {
    let (world, devices) = world(1).await;
    let device = &devices[0];
    let first = create(&world, json!({})).await;
    let second = world.deployment("release-2", &devices).await;
    let third = create(&world, json!({})).await;
    for expected in [&first, &second, &third] {
        assert_eq!(&world.poll(device).await.unwrap().id, expected);
        world.report(device, expected, "success").await.expect(204);
    }
    assert_eq!(world.poll(device).await, None);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn parallel_polls_never_exceed_the_maximum() {
    let (world, devices) = world(40).await;
    let id = create(&world, json!({"max_devices": 5})).await;
    let world = std::sync::Arc::new(world);
    let mut polls = Vec::new();
    for device in devices {
        // Each device asks twice at once: it is counted once.
        for _ in 0..2 {
            let (world, device) = (std::sync::Arc::clone(&world), device.clone());
            polls.push(tokio::spawn(async move {
                world.poll(&device).await.map(|_| device.id)
            }));
        }
    }
    let mut served = std::collections::HashSet::new();
    for poll in polls {
        served.extend(poll.await.unwrap());
    }
    assert_eq!(served.len(), 5);
    assert_eq!(world.show(&id).await["device_count"], 5);
    assert_eq!(world.counts(&id).await, json!({"pending": 5}));
}

#[tokio::test]
async fn another_tenant_never_joins() {
    let (world, _) = world(1).await;
    create(&world, json!({})).await;
    let tenant = world.tenant("t1", "enterprise");
    let other = tenant.device(1);
    world.fleet.equip("t1", &other, "kind", "pump");
    assert_eq!(world.poll(&other).await, None);
}

#[tokio::test]
async fn a_decommissioned_device_leaves() {
    let (world, devices) = world(1).await;
    let id = create(&world, json!({"max_devices": 1})).await;
    world.poll(&devices[0]).await.unwrap();
    world
        .delete(&format!("/deployments/devices/{}", devices[0].id))
        .await
        .expect(204);
    assert_eq!(world.show(&id).await["status"], "finished");
}

//! Phased deployments (table B090 to B097).

use ambidex_kit::rfc3339;
use serde_json::{Value, json};

use crate::world::{Device, START_MS, World};

const MINUTE_MS: i64 = 60_000;

fn at(minutes: i64) -> String {
    rfc3339(START_MS + minutes * MINUTE_MS)
}

async fn phased(world: &World, devices: &[Device], phases: Value) -> String {
    let ids: Vec<&str> = devices.iter().map(|device| device.id.as_str()).collect();
    let body = json!({"name": "n", "artifact_name": "release-2", "devices": ids, "phases": phases});
    world.post("/deployments", body).await.expect(201).created()
}

async fn served(world: &World, devices: &[Device]) -> usize {
    let mut served = 0;
    for device in devices {
        served += usize::from(world.poll(device).await.is_some());
    }
    served
}

async fn world() -> World {
    let world = World::new();
    world.artifact("release-2", &["qemu"]).await;
    world
}

#[tokio::test]
async fn b090_b091_each_phase_opens_its_share() {
    let world = world().await;
    let devices = world.devices(1..11);
    let id = phased(
        &world,
        &devices,
        json!([{"batch_size": 10}, {"start_ts": at(1)}]),
    )
    .await;
    assert_eq!(served(&world, &devices).await, 1);
    assert_eq!(served(&world, &devices).await, 1, "the same one again");
    let shown = world.show(&id).await;
    assert_eq!(shown["device_count"], 1);
    assert_eq!(world.counts(&id).await, json!({"pending": 10}));
    world.clock.advance(MINUTE_MS);
    assert_eq!(served(&world, &devices).await, 10);
    let counts: Vec<&Value> = shown["phases"]
        .as_array()
        .unwrap()
        .iter()
        .map(|phase| &phase["device_count"])
        .collect();
    assert_eq!(counts, [&json!(1), &json!(0)]);
    assert_eq!(world.show(&id).await["phases"][1]["device_count"], 9);
}

#[tokio::test]
async fn b092_sizes_are_rounded_down_and_the_last_takes_the_rest() {
    let world = world().await;
    let devices = world.devices(1..24);
    let phases = json!([
        {"batch_size": 13}, {"batch_size": 17, "start_ts": at(1)},
        {"batch_size": 29, "start_ts": at(2)}, {"start_ts": at(3)},
    ]);
    phased(&world, &devices, phases).await;
    // 23 devices: 2.99, 3.91, 6.67 and the rest.
    for total in [2, 5, 11, 23] {
        assert_eq!(served(&world, &devices).await, total);
        world.clock.advance(MINUTE_MS);
    }
}

#[tokio::test]
async fn b093_b094_wrong_phases_are_refused() {
    let world = world().await;
    let ids: Vec<String> = world
        .devices(1..11)
        .into_iter()
        .map(|device| device.id)
        .collect();
    for (phases, text) in [
        (
            json!([{"batch_size": 50}, {"batch_size": 40, "start_ts": at(1)}, {"batch_size": 5, "start_ts": at(2)}, {"start_ts": at(3)}]),
            "Batch: (3) will be empty",
        ),
        (
            json!([{"batch_size": 0}, {"start_ts": at(1)}]),
            "Attempt to create a batch with zero devices not allowed",
        ),
        (json!([{"batch_size": 10}, {}]), "start_ts"),
        (json!([{}, {"start_ts": at(1)}]), "batch_size"),
        (
            json!([{"batch_size": 60}, {"batch_size": 60, "start_ts": at(1)}]),
            "more than 100",
        ),
        (
            json!([{"batch_size": 10, "start_ts": at(2)}, {"start_ts": at(1)}]),
            "must not be before",
        ),
        (json!([{"batch_size": -1}]), "Validating request body"),
        (json!({"batch_size": 1}), "Validating request body"),
    ] {
        let body =
            json!({"name": "n", "artifact_name": "release-2", "devices": ids, "phases": phases});
        let reply = world.post("/deployments", body).await.expect(400);
        assert!(
            reply.error().contains(text),
            "{} lacks {text}",
            reply.error()
        );
    }
    assert_eq!(world.get("/deployments").await.json(), json!([]));
}

#[tokio::test]
async fn b096_before_its_start_a_deployment_is_scheduled() {
    let world = world().await;
    let devices = world.devices(1..3);
    let id = phased(&world, &devices, json!([{"start_ts": at(1)}])).await;
    assert_eq!(world.show(&id).await["status"], "scheduled");
    assert_eq!(served(&world, &devices).await, 0);
    assert_eq!(world.show(&id).await["device_count"], 0);
    for (status, count) in [("scheduled", 1), ("pending", 0)] {
        let list = world
            .get(&format!("/deployments?status={status}"))
            .await
            .json();
        assert_eq!(list.as_array().unwrap().len(), count, "{status}");
    }
    world.clock.advance(MINUTE_MS);
    assert_eq!(world.show(&id).await["status"], "pending");
    assert_eq!(served(&world, &devices).await, 2);
}

#[tokio::test]
async fn b097_the_last_size_is_filled_in() {
    let world = world().await;
    let devices = world.devices(1..11);
    let phases = json!([
        {"batch_size": 10, "unknown": true}, {"batch_size": 20, "start_ts": "2023-11-14T23:14:20.123456+01:00"},
        {"start_ts": at(9)},
    ]);
    let id = phased(&world, &devices, phases).await;
    let shown = world.show(&id).await["phases"].clone();
    assert_eq!(shown[2]["batch_size"], 70);
    assert_eq!(shown[0]["start_ts"], "2023-11-14T22:13:20Z");
    assert_eq!(shown[1]["start_ts"], "2023-11-14T22:14:20.123Z");
    assert!(shown[0]["id"].as_str().is_some_and(|id| !id.is_empty()));
    let ordinary = phased(&world, &devices, json!([{}])).await;
    assert_eq!(world.show(&ordinary).await["phases"][0]["batch_size"], 100);
}

#[tokio::test]
async fn devices_that_need_nothing_use_up_capacity() {
    let world = world().await;
    let mut devices = world.devices(1..5);
    devices[0].artifact_name = "release-2".to_owned();
    let id = phased(
        &world,
        &devices,
        json!([{"batch_size": 50}, {"start_ts": at(1)}]),
    )
    .await;
    assert_eq!(served(&world, &devices).await, 1);
    assert_eq!(
        world.counts(&id).await,
        json!({"already-installed": 1, "pending": 3})
    );
}

#[tokio::test]
async fn plans_below_have_no_phases_and_no_retries() {
    let world = World::new();
    let tenant = world.tenant("t1", "os");
    tenant
        .upload(&crate::world::Form::new().file(&crate::world::artifact("release-2", &["qemu"])))
        .await
        .expect(201);
    let body = |extra: Value| {
        let mut body = json!({"name": "n", "artifact_name": "release-2", "devices": ["d"]});
        body.as_object_mut()
            .unwrap()
            .extend(extra.as_object().unwrap().clone());
        Some(body)
    };
    let two = json!({"phases": [{"batch_size": 50}, {"start_ts": at(1)}]});
    tenant
        .call("POST", "/deployments", body(two))
        .await
        .expect(403);
    tenant
        .call("POST", "/deployments", body(json!({"retries": 1})))
        .await
        .expect(403);
    tenant
        .call(
            "POST",
            "/deployments",
            body(json!({"retries": 0, "phases": [{}]})),
        )
        .await
        .expect(201);
    let professional = world.tenant("t1", "professional");
    professional
        .call("POST", "/deployments", body(json!({"retries": 1})))
        .await
        .expect(201);
}

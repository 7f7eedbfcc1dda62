//! Retries (table B098).

use serde_json::{Value, json};

use crate::world::{Device, World};

async fn with_retries(retries: u32) -> (World, Device, String) {
    let world = World::new();
    world.artifact("release-2", &["qemu"]).await;
    let device = world.device(1);
    let body = json!({
        "name": "n", "artifact_name": "release-2", "devices": [device.id], "retries": retries,
    });
    let id = world.post("/deployments", body).await.expect(201).created();
    (world, device, id)
}

async fn row(world: &World, id: &str) -> Value {
    world.device_rows(id).await[0].clone()
}

#[tokio::test]
async fn b098_a_failure_is_followed_by_another_attempt() {
    let (world, device, id) = with_retries(1).await;
    assert_eq!(world.show(&id).await["retries"], 1);
    world.poll(&device).await.unwrap();
    world.report(&device, &id, "downloading").await.expect(204);
    world.report(&device, &id, "failure").await.expect(204);
    assert_eq!(world.counts(&id).await, json!({"pending": 1}));
    assert_eq!(row(&world, &id).await["attempts"], 1);

    assert_eq!(world.poll(&device).await.unwrap().id, id);
    world.report(&device, &id, "installing").await.expect(204);
    world.report(&device, &id, "failure").await.expect(204);
    assert_eq!(world.counts(&id).await, json!({"failure": 1}));
    assert_eq!(world.show(&id).await["status"], "finished");
    let row = row(&world, &id).await;
    assert_eq!((&row["attempts"], &row["retries"]), (&json!(2), &json!(1)));
    assert_eq!(world.poll(&device).await, None);
}

#[tokio::test]
async fn a_failure_reported_twice_costs_one_attempt() {
    let (world, device, id) = with_retries(1).await;
    world.poll(&device).await.unwrap();
    world.report(&device, &id, "downloading").await.expect(204);
    for _ in 0..3 {
        world.report(&device, &id, "failure").await.expect(204);
        assert_eq!(world.counts(&id).await, json!({"pending": 1}));
    }
    world.poll(&device).await.unwrap();
    world.report(&device, &id, "failure").await.expect(204);
    assert_eq!(world.counts(&id).await, json!({"failure": 1}));
}

#[tokio::test]
async fn too_many_retries_are_refused() {
    let (world, device, _) = with_retries(100).await;
    for retries in [json!(101), json!(-1), json!("1")] {
        let body = json!({
            "name": "n", "artifact_name": "release-2", "devices": [device.id], "retries": retries,
        });
        world.post("/deployments", body).await.expect(400);
    }
}

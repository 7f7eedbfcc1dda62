//! Status reports (table B030 to B041).

use serde_json::json;

use crate::world::{DEVICES, Device, World, request};

async fn polled() -> (World, Device, String) {
    let world = World::new();
    world.artifact("release-2", &["qemu"]).await;
    let device = world.device(1);
    let id = world.deployment("release-2", &world.devices(1..3)).await;
    world.poll(&device).await.unwrap();
    (world, device, id)
}

#[tokio::test]
async fn b030_a_report_puts_the_deployment_in_progress() {
    let (world, device, id) = polled().await;
    assert_eq!(
        world.show(&id).await["status"],
        "pending",
        "handing out alone is no progress"
    );
    let reply = world.report(&device, &id, "downloading").await.expect(204);
    assert!(reply.body.is_empty());
    assert_eq!(world.show(&id).await["status"], "inprogress");
    assert_eq!(
        world.counts(&id).await,
        json!({"downloading": 1, "pending": 1})
    );
}

#[tokio::test]
async fn b031_success_may_follow_pending() {
    let (world, device, id) = polled().await;
    world.report(&device, &id, "success").await.expect(204);
    assert_eq!(world.counts(&id).await, json!({"success": 1, "pending": 1}));
}

#[tokio::test]
async fn b032_repeating_changes_nothing() {
    let (world, device, id) = polled().await;
    for _ in 0..2 {
        world.report(&device, &id, "installing").await.expect(204);
        assert_eq!(
            world.counts(&id).await,
            json!({"installing": 1, "pending": 1})
        );
    }
}

#[tokio::test]
async fn b033_the_last_word_counts() {
    let (world, device, id) = polled().await;
    for (status, counts) in [
        ("success", json!({"success": 1, "pending": 1})),
        ("failure", json!({"failure": 1, "pending": 1})),
        ("rebooting", json!({"rebooting": 1, "pending": 1})),
        ("success", json!({"success": 1, "pending": 1})),
    ] {
        world.report(&device, &id, status).await.expect(204);
        assert_eq!(world.counts(&id).await, counts);
    }
}

#[tokio::test]
async fn b034_words_that_devices_cannot_say_are_refused() {
    let (world, device, id) = polled().await;
    for word in [
        "pending",
        "aborted",
        "noartifact",
        "decommissioned",
        "x",
        "",
    ] {
        world.report(&device, &id, word).await.expect(400);
    }
    for body in [json!({}), json!([]), json!({"status": 1}), json!(null)] {
        world.report_body(&device, &id, body).await.expect(400);
    }
    for word in [
        "pause_before_installing",
        "pause_before_rebooting",
        "pause_before_committing",
    ] {
        world.report(&device, &id, word).await.expect(204);
        assert_eq!(world.counts(&id).await, json!({word: 1, "pending": 1}));
    }
}

#[tokio::test]
async fn b035_b040_substates_have_a_length_and_stay() {
    let (world, device, id) = polled().await;
    let body = |length: usize| json!({"status": "installing", "substate": "s".repeat(length)});
    let reply = world.report_body(&device, &id, body(201)).await.expect(400);
    assert_eq!(
        reply.error(),
        "substate: the length must be no more than 200."
    );
    world.report_body(&device, &id, body(200)).await.expect(204);
    world.report(&device, &id, "rebooting").await.expect(204);
    assert_eq!(world.device_rows(&id).await[0]["substate"], "s".repeat(200));
}

#[tokio::test]
async fn b036_b037_who_is_no_part_gets_404() {
    let (world, device, id) = polled().await;
    let unknown = uuid::Uuid::from_u128(99).to_string();
    for id in [unknown.as_str(), "garbage"] {
        let reply = world.report(&device, id, "success").await.expect(404);
        assert_eq!(reply.error(), "Resource not found");
    }
    world
        .report(&world.device(7), &id, "success")
        .await
        .expect(404);
    world
        .report(&world.device(2), &id, "success")
        .await
        .expect(404);
    assert_eq!(
        world.counts(&id).await,
        json!({"pending": 2}),
        "a target that never asked is no part"
    );
}

#[tokio::test]
async fn b038_after_an_abort_409() {
    let (world, device, id) = polled().await;
    world.report(&device, &id, "downloading").await.expect(204);
    world
        .put(
            &format!("/deployments/{id}/status"),
            json!({"status": "aborted"}),
        )
        .await
        .expect(204);
    let reply = world.report(&device, &id, "success").await.expect(409);
    assert_eq!(reply.error(), "Deployment aborted");
    assert_eq!(world.counts(&id).await, json!({"aborted": 1}));
}

#[tokio::test]
async fn b039_after_decommissioning_409() {
    let (world, device, id) = polled().await;
    world
        .delete(&format!("/deployments/devices/{}", device.id))
        .await
        .expect(204);
    let reply = world.report(&device, &id, "success").await.expect(409);
    assert_eq!(reply.error(), "Device decommissioned");
}

#[tokio::test]
async fn b041_times_are_noted() {
    let (world, device, id) = polled().await;
    world.clock.advance(1_000);
    world.report(&device, &id, "downloading").await.expect(204);
    world.clock.advance(1_500);
    world.report(&device, &id, "success").await.expect(204);
    let row = &world.device_rows(&id).await[0];
    assert_eq!(row["created"], "2023-11-14T22:13:20Z");
    assert_eq!(row["started"], "2023-11-14T22:13:21Z");
    assert_eq!(row["finished"], "2023-11-14T22:13:22.5Z");
    assert_eq!(
        row["image"]["size"],
        world.get("/artifacts").await.json()[0]["size"]
    );
}

#[tokio::test]
async fn tokens_are_needed() {
    let (world, _, id) = polled().await;
    let path = format!("{DEVICES}/{id}/status");
    let body = json!({"status": "success"});
    world
        .send(request("PUT", &path, None, Some(body.clone())))
        .await
        .expect(401);
    world
        .call("PUT", &path, &world.user, Some(body))
        .await
        .expect(401);
}

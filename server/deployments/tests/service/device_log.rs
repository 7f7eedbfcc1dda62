//! Logs of devices (table B042 to B047, B087).

use axum::body::Body;
use serde_json::{Value, json};

use crate::world::{DEVICES, Device, Reply, World, request};

async fn polled() -> (World, Device, String) {
    let world = World::new();
    world.artifact("release-2", &["qemu"]).await;
    let device = world.device(1);
    let id = world.deployment("release-2", &world.devices(1..3)).await;
    world.poll(&device).await.unwrap();
    (world, device, id)
}

async fn put(world: &World, device: &Device, id: &str, body: Value) -> Reply {
    world
        .call(
            "PUT",
            &format!("{DEVICES}/{id}/log"),
            &device.token,
            Some(body),
        )
        .await
}

fn message(text: &str) -> Value {
    json!({"timestamp": "2016-03-11T13:03:17.063493443Z", "level": "INFO", "message": text})
}

#[tokio::test]
async fn b042_b046_a_log_is_kept_shown_and_replaced() {
    let (world, device, id) = polled().await;
    let log = format!("/deployments/{id}/devices/{}/log", device.id);
    world.get(&log).await.expect(404);
    assert_eq!(world.device_rows(&id).await[0]["log"], false);
    let body = json!({"messages": [message("OK"), message("zwei\nlines")]});
    put(&world, &device, &id, body).await.expect(204);
    assert_eq!(world.device_rows(&id).await[0]["log"], true);
    let reply = world.get(&log).await.expect(200);
    assert_eq!(reply.header("content-type"), "text/plain");
    assert_eq!(
        reply.text(),
        "2016-03-11 13:03:17.063 +0000 UTC INFO: OK\n\
         2016-03-11 13:03:17.063 +0000 UTC INFO: zwei\nlines\n"
    );
    put(&world, &device, &id, json!({"messages": [message("new")]}))
        .await
        .expect(204);
    assert!(world.get(&log).await.text().ends_with("INFO: new\n"));
}

#[tokio::test]
async fn b043_malformed_logs_are_refused() {
    let (world, device, id) = polled().await;
    for body in [
        json!({"messages": []}),
        json!({}),
        json!([]),
        json!({"messages": [{"timestamp": "2016-03-11T13:03:17Z", "message": "no level"}]}),
        json!({"messages": [{"timestamp": "2016-03-11T13:03:17Z", "level": "", "message": "m"}]}),
        json!({"messages": [{"timestamp": "2016-03-11T13:03:17Z", "level": "INFO"}]}),
        json!({"messages": [{"timestamp": "yesterday", "level": "INFO", "message": "m"}]}),
        json!({"messages": [message("good"), {"timestamp": 1, "level": "INFO", "message": "m"}]}),
    ] {
        put(&world, &device, &id, body).await.expect(400);
    }
    assert_eq!(world.device_rows(&id).await[0]["log"], false);
}

#[tokio::test]
async fn b045_who_is_no_part_gets_404() {
    let (world, device, id) = polled().await;
    let body = json!({"messages": [message("m")]});
    for (device, id) in [
        (&world.device(9), id.as_str()),
        (&world.device(2), &id),
        (&device, "garbage"),
    ] {
        let reply = put(&world, device, id, body.clone()).await.expect(404);
        assert_eq!(reply.error(), "Deployment not found");
    }
}

#[tokio::test]
async fn b047_a_mebibyte_is_the_limit() {
    let (world, device, id) = polled().await;
    let path = format!("{DEVICES}/{id}/log");
    let envelope = json!({"messages": [message("")]}).to_string().len();
    for (length, status) in [((1 << 20) - envelope, 204), ((1 << 20) - envelope + 1, 413)] {
        let body = json!({"messages": [message(&"x".repeat(length))]}).to_string();
        let mut request = request("PUT", &path, Some(&device.token), None);
        *request.body_mut() = Body::from(body);
        world.send(request).await.expect(status);
    }
}

#[tokio::test]
async fn a_log_is_taken_after_an_abort() {
    let (world, device, id) = polled().await;
    world
        .put(
            &format!("/deployments/{id}/status"),
            json!({"status": "aborted"}),
        )
        .await
        .expect(204);
    put(&world, &device, &id, json!({"messages": [message("why")]}))
        .await
        .expect(204);
}

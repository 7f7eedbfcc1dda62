//! Files that go straight into the store.

use serde_json::{Value, json};
use uuid::Uuid;

use crate::world::{World, artifact};

async fn intent(world: &World) -> Value {
    world
        .post("/artifacts/directupload", json!({}))
        .await
        .expect(200)
        .json()
}

async fn complete(world: &World, id: &str, body: Value) -> u16 {
    let path = format!("/artifacts/directupload/{id}/complete");
    world.post(&path, body).await.status
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_becomes_an_artifact() {
    let world = World::new();
    let link = intent(&world).await;
    let (id, uri) = (link["id"].as_str().unwrap(), link["uri"].as_str().unwrap());
    assert_eq!(link["method"], "PUT");
    assert_eq!(link["expire"], "2023-11-14T23:13:20Z");
    assert_eq!(complete(&world, id, json!({})).await, 404, "no file yet");
    let file = artifact("release-2", &["qemu"]);
    world.follow("PUT", uri, b"half".to_vec()).await.expect(200);
    world.follow("PUT", uri, file.clone()).await.expect(200);
    assert_eq!(complete(&world, id, json!({"size": 1})).await, 202);
    assert_eq!(complete(&world, id, json!({})).await, 404, "not twice");
    world.follow("PUT", uri, file.clone()).await.expect(409);
    world.get(&format!("/artifacts/{id}")).await.expect(404);
    world.jobs.run_due().await.unwrap();
    let shown = world
        .get(&format!("/artifacts/{id}"))
        .await
        .expect(200)
        .json();
    assert_eq!(shown["name"], "release-2");
    assert_eq!(shown["size"], file.len());
    assert_eq!(world.files(), 1);
    let audited = world.audited().await;
    assert_eq!(audited, [("upload".into(), "artifact".into(), id.into())]);
    // The link opens nothing for reading.
    world.follow("GET", uri, Vec::new()).await.expect(403);
    world.clock.advance(3 * 60 * 60 * 1000);
    world.jobs.run_due().await.unwrap();
    assert_eq!(world.rows("SELECT COUNT(*) FROM artifact_uploads").await, 0);
    world.get(&format!("/artifacts/{id}")).await.expect(200);
    world.follow("PUT", uri, file).await.expect(403);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_artifact_goes_away() {
    let world = World::new();
    let link = intent(&world).await;
    let (id, uri) = (link["id"].as_str().unwrap(), link["uri"].as_str().unwrap());
    world
        .follow("PUT", uri, b"garbage".to_vec())
        .await
        .expect(200);
    assert_eq!(complete(&world, id, json!({})).await, 202);
    world.jobs.run_due().await.unwrap();
    world.get(&format!("/artifacts/{id}")).await.expect(404);
    assert_eq!(complete(&world, id, json!({})).await, 404);
    world.clock.advance(3 * 60 * 60 * 1000);
    world.jobs.run_due().await.unwrap();
    assert_eq!(world.files(), 0);
    assert_eq!(world.rows("SELECT COUNT(*) FROM artifact_uploads").await, 0);
}

#[tokio::test]
async fn unused_links_are_swept() {
    let world = World::new();
    let link = intent(&world).await;
    let uri = link["uri"].as_str().unwrap();
    world.follow("PUT", uri, b"x".to_vec()).await.expect(200);
    assert_eq!(world.files(), 1);
    world.jobs.run_due().await.unwrap();
    assert_eq!(world.files(), 1);
    world.clock.advance(3 * 60 * 60 * 1000);
    world.jobs.run_due().await.unwrap();
    assert_eq!(world.files(), 0);
}

#[tokio::test]
async fn wrong_calls_are_refused() {
    let world = World::new();
    assert_eq!(complete(&world, "x", json!({})).await, 400);
    let unknown = Uuid::new_v4().to_string();
    assert_eq!(complete(&world, &unknown, json!({})).await, 404);
    let link = intent(&world).await;
    let (id, uri) = (link["id"].as_str().unwrap(), link["uri"].as_str().unwrap());
    let tenant = world.tenant("t1", "os");
    tenant
        .call(
            "POST",
            &format!("/artifacts/directupload/{id}/complete"),
            Some(json!({})),
        )
        .await
        .expect(404);
    world
        .follow(
            "PUT",
            &uri.replace("x-men-expire=2023", "x-men-expire=2033"),
            Vec::new(),
        )
        .await
        .expect(403);
    world
        .internal(
            "PUT",
            "/tenants/default/limits/storage",
            Some(json!({"limit": 2})),
        )
        .await
        .expect(204);
    world.follow("PUT", uri, b"xyz".to_vec()).await.expect(413);
    assert_eq!(world.files(), 0);
}

//! Artifacts in the store (table B119 to B123).

use serde_json::json;

use crate::world::{HOST, World, artifact, ids};

#[tokio::test]
async fn b119_descriptions_change_until_a_deployment_uses_the_artifact() {
    let world = World::new();
    let id = world.artifact("release-2", &["qemu"]).await;
    let path = format!("/artifacts/{id}");
    world.clock.advance(60_000);
    let reply = world
        .put(&path, json!({"description": "new"}))
        .await
        .expect(204);
    assert!(reply.body.is_empty());
    let shown = world.get(&path).await.json();
    assert_eq!(
        (&shown["description"], &shown["modified"]),
        (&json!("new"), &json!("2023-11-14T22:14:20Z"))
    );
    world
        .put(&path, json!({"description": "x".repeat(4097)}))
        .await
        .expect(400);
    world
        .put(&path, json!({"description": 1}))
        .await
        .expect(400);
    world
        .put(
            &format!("/artifacts/{}", uuid::Uuid::from_u128(1)),
            json!({"description": "d"}),
        )
        .await
        .expect(404);
    world
        .put("/artifacts/x", json!({"description": "d"}))
        .await
        .expect(400);

    let deployment = world.deployment("release-2", &[world.device(1)]).await;
    let reply = world
        .put(&path, json!({"description": "late"}))
        .await
        .expect(422);
    assert_eq!(reply.error(), "Image has already been used in deployment");
    world
        .put(
            &format!("/deployments/{deployment}/status"),
            json!({"status": "aborted"}),
        )
        .await
        .expect(204);
    world
        .put(&path, json!({"description": "late"}))
        .await
        .expect(422);
}

#[tokio::test]
async fn b120_artifacts_in_use_stay() {
    let world = World::new();
    let id = world.artifact("release-2", &["qemu"]).await;
    let path = format!("/artifacts/{id}");
    let deployment = world.deployment("release-2", &[world.device(1)]).await;
    let reply = world.delete(&path).await.expect(409);
    assert_eq!(reply.error(), "Artifact is used in active deployment");
    world
        .put(
            &format!("/deployments/{deployment}/status"),
            json!({"status": "aborted"}),
        )
        .await
        .expect(204);
    world.delete(&path).await.expect(204);
    world.get(&path).await.expect(404);
    world.delete(&path).await.expect(404);
    world.delete("/artifacts/x").await.expect(400);
    assert_eq!(world.files(), 0);
    assert_eq!(world.get("/deployments/releases").await.json(), json!([]));
    assert_eq!(world.get("/limits/storage").await.json()["usage"], 0);
    assert_eq!(
        world.show(&deployment).await["artifacts"],
        json!([id]),
        "history keeps the id"
    );
    world.artifact("release-2", &["qemu"]).await;
}

#[tokio::test]
async fn b121_a_link_lives_a_quarter_of_an_hour() {
    let world = World::new();
    let id = world.artifact("release-2", &["qemu"]).await;
    let link = world
        .get(&format!("/artifacts/{id}/download"))
        .await
        .expect(200)
        .json();
    assert_eq!(link["expire"], "2023-11-14T22:28:20Z");
    assert!(
        link["uri"]
            .as_str()
            .unwrap()
            .starts_with(&format!("http://{HOST}/"))
    );
    world
        .get(&format!("/artifacts/{}/download", uuid::Uuid::from_u128(1)))
        .await
        .expect(404);
    world.get("/artifacts/x/download").await.expect(400);
}

#[tokio::test]
async fn b123_use_is_the_sum_of_sizes() {
    let world = World::new();
    let mut sum = 0;
    for name in ["a", "b", "c"] {
        let file = artifact(name, &["qemu"]);
        sum += file.len();
        world.upload(&file).await.expect(201);
    }
    let reply = world.get("/limits/storage").await.expect(200);
    assert_eq!(reply.json(), json!({"limit": 0, "usage": sum}));
    let reply = world.get("/limits/devices").await.expect(400);
    assert_eq!(reply.error(), "unsupported limit devices");
}

#[tokio::test]
async fn lists_are_sorted_filtered_and_paged() {
    let world = World::new();
    assert_eq!(world.get("/artifacts").await.expect(200).json(), json!([]));
    let c = world.artifact("c", &["qemu"]).await;
    let a = world.artifact("a", &["qemu", "arm"]).await;
    let b = world.artifact("b", &["arm"]).await;
    for (query, expected) in [
        ("artifacts", vec![&a, &b, &c]),
        ("artifacts?name=b", vec![&b]),
        ("artifacts?device_type=arm", vec![&a, &b]),
        ("artifacts?name=zzz", vec![]),
        ("artifacts/list?per_page=2", vec![&a, &b]),
        ("artifacts/list?per_page=2&page=2", vec![&c]),
    ] {
        let reply = world.get(&format!("/{query}")).await.expect(200);
        let expected: Vec<String> = expected.into_iter().cloned().collect();
        assert_eq!(ids(&reply.json()), expected, "{query}");
    }
    assert_eq!(
        world.get("/artifacts/list").await.header("x-total-count"),
        "3"
    );
    world.get("/artifacts/list?page=0").await.expect(400);
    world.get("/artifacts/x").await.expect(400);
    world
        .get(&format!("/artifacts/{}", uuid::Uuid::from_u128(1)))
        .await
        .expect(404);
}

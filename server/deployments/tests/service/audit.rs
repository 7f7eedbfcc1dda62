//! Every change by a user is on its way to the audit log.

use serde_json::json;

use crate::world::World;

#[tokio::test]
async fn changes_are_told_and_failures_are_not() {
    let world = World::new();
    let artifact = world.artifact("release-2", &["qemu"]).await;
    world.upload(b"garbage").await.expect(400);
    let path = format!("/artifacts/{artifact}");
    world
        .put(&path, json!({"description": "d"}))
        .await
        .expect(204);
    let devices = world.devices(1..3);
    let deployment = world.deployment("release-2", &devices).await;
    world
        .put(&path, json!({"description": "e"}))
        .await
        .expect(422);
    world.delete(&path).await.expect(409);
    let status = format!("/deployments/{deployment}/status");
    let abort = json!({"status": "aborted"});
    world.put(&status, abort.clone()).await.expect(204);
    world.put(&status, abort).await.expect(422);
    world
        .v2(
            "PUT",
            "/deployments/releases/release-2/tags",
            Some(json!(["x"])),
        )
        .await
        .expect(204);
    world
        .v2(
            "PATCH",
            "/deployments/releases/release-2",
            Some(json!({"notes": "n"})),
        )
        .await
        .expect(204);
    world.delete(&path).await.expect(204);
    let expected = [
        ("upload", "artifact", artifact.as_str()),
        ("update", "artifact", &artifact),
        ("create", "deployment", &deployment),
        ("abort", "deployment", &deployment),
        ("update", "release", "release-2"),
        ("update", "release", "release-2"),
        ("delete", "artifact", &artifact),
    ];
    let told = world.audited().await;
    let told: Vec<(&str, &str, &str)> = told
        .iter()
        .map(|(action, kind, id)| (action.as_str(), kind.as_str(), id.as_str()))
        .collect();
    assert_eq!(told, expected);
}

#[tokio::test]
async fn a_large_deployment_is_told_once() {
    let world = World::new();
    world.artifact("release-2", &["qemu"]).await;
    let ids = world.devices(1..600).into_iter().map(|device| device.id);
    let ids: Vec<String> = ids.collect();
    let body = json!({"name": "n", "artifact_name": "release-2", "devices": ids});
    let id = world.post("/deployments", body).await.expect(201).created();
    let told = world.audited().await;
    let created = told.iter().filter(|(_, _, object)| *object == id);
    assert_eq!(created.count(), 1);
}

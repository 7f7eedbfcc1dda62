//! The internal API (table B127 to B130).

use serde_json::json;

use crate::world::{Form, INTERNAL, World, artifact, request, send};

#[tokio::test]
async fn b127_tenants() {
    let world = World::new();
    for _ in 0..2 {
        world
            .internal("POST", "/tenants", Some(json!({"tenant_id": "t1"})))
            .await
            .expect(201);
    }
    for body in [json!({}), json!({"tenant_id": ""})] {
        let reply = world
            .internal("POST", "/tenants", Some(body))
            .await
            .expect(400);
        assert_eq!(reply.error(), "tenant_id must be provided");
    }
    world
        .internal("POST", "/tenants", Some(json!([])))
        .await
        .expect(400);
}

#[tokio::test]
async fn b128_artifacts_for_a_tenant() {
    let world = World::new();
    let id = uuid::Uuid::from_u128(3).to_string();
    let form = Form::new()
        .text("artifact_id", &id)
        .text("description", "d")
        .file(&artifact("release-2", &["qemu"]));
    let path = |tenant: &str| format!("{INTERNAL}/tenants/{tenant}/artifacts");
    let reply = send(&world.internal, form.request(&path("default"), None))
        .await
        .expect(201);
    assert_eq!(reply.created(), id);
    assert_eq!(
        world
            .get(&format!("/artifacts/{id}"))
            .await
            .expect(200)
            .json()["description"],
        "d"
    );
    send(&world.internal, form.request(&path("default"), None))
        .await
        .expect(409);
    send(&world.internal, form.request(&path("t1"), None))
        .await
        .expect(201);
    send(
        &world.internal,
        form.request(&path("not%20a%20tenant"), None),
    )
    .await
    .expect(400);
    send(&world.internal, Form::new().request(&path("t1"), None))
        .await
        .expect(400);
}

#[tokio::test]
async fn b129_storage_limits() {
    let world = World::new();
    let file = artifact("release-2", &["qemu"]);
    let limit = "/tenants/default/limits/storage";
    let usage = world
        .internal("GET", "/tenants/unknown/limits/storage", None)
        .await
        .expect(200);
    assert_eq!(usage.json(), json!({"limit": 0, "usage": 0}));
    world
        .internal("PUT", limit, Some(json!({"limit": 100})))
        .await
        .expect(204);
    assert_eq!(
        world.get("/limits/storage").await.json(),
        json!({"limit": 100, "usage": 0})
    );
    let reply = world.upload(&file).await.expect(413);
    assert!(reply.error().contains("storage limit"), "{}", reply.error());
    assert_eq!(world.files(), 0);
    world
        .internal("PUT", limit, Some(json!({"limit": file.len()})))
        .await
        .expect(204);
    world.upload(&file).await.expect(201);
    world
        .upload(&artifact("release-3", &["qemu"]))
        .await
        .expect(413);
    world
        .internal("PUT", limit, Some(json!({"limit": 0})))
        .await
        .expect(204);
    world
        .upload(&artifact("release-3", &["qemu"]))
        .await
        .expect(201);
    for body in [
        json!({}),
        json!({"limit": -1}),
        json!({"limit": "x"}),
        json!({"limit": u64::MAX}),
    ] {
        world.internal("PUT", limit, Some(body)).await.expect(400);
    }
}

#[tokio::test]
async fn b130_health() {
    let world = World::new();
    world.internal("GET", "/alive", None).await.expect(204);
    world.internal("GET", "/health", None).await.expect(204);
    world.service.health().await.unwrap();
    world.db.close().await.unwrap();
    let reply = world.internal("GET", "/health", None).await.expect(503);
    assert!(
        reply.error().starts_with("error reaching the database"),
        "{}",
        reply.error()
    );
    world.internal("GET", "/alive", None).await.expect(204);
}

#[tokio::test]
async fn health_tells_that_artifacts_cannot_be_written() {
    let world = World::new();
    std::fs::remove_dir_all(world.dir.path().join("blobs")).unwrap();
    let reply = world.internal("GET", "/health", None).await.expect(503);
    assert!(
        reply
            .error()
            .starts_with("error reaching the artifact store"),
        "{}",
        reply.error()
    );
}

#[tokio::test]
async fn deployments_of_a_tenant() {
    let world = World::new();
    let reply = world
        .internal("GET", "/tenants/unknown/deployments", None)
        .await
        .expect(200);
    assert_eq!(
        (reply.json(), reply.header("x-total-count")),
        (json!([]), "0")
    );
    world.artifact("release-2", &["qemu"]).await;
    let id = world.deployment("release-2", &[world.device(1)]).await;
    let list = "/tenants/default/deployments?status=pending";
    assert_eq!(
        world.internal("GET", list, None).await.expect(200).json()[0]["id"],
        id.as_str()
    );
    world
        .internal("GET", "/tenants/default/deployments?status=scheduled", None)
        .await
        .expect(400);
}

#[tokio::test]
async fn devices_are_decommissioned_for_a_tenant() {
    let world = World::new();
    world.artifact("release-2", &["qemu"]).await;
    let device = world.device(1);
    let id = world
        .deployment("release-2", std::slice::from_ref(&device))
        .await;
    let path = format!("/tenants/default/deployments/devices/{}", device.id);
    world.internal("DELETE", &path, None).await.expect(204);
    assert_eq!(world.show(&id).await["status"], "finished");
}

#[tokio::test]
async fn internal_paths_are_not_public() {
    let world = World::new();
    for path in [
        "/alive",
        "/health",
        "/tenants/default/deployments",
        "/tenants/default/limits/storage",
    ] {
        let path = format!("{INTERNAL}{path}");
        send(
            &world.public,
            request("GET", &path, Some(&world.user), None),
        )
        .await
        .expect(404);
    }
}

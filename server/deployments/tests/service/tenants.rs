//! Nothing of one tenant is seen or touched by another (table B131).

use serde_json::json;

use crate::world::{DEVICES, Form, World, artifact, ids};

#[tokio::test]
async fn b131_tenants_share_nothing() {
    let world = World::new();
    let (one, two) = (
        world.tenant("tenant1", "enterprise"),
        world.tenant("tenant2", "enterprise"),
    );
    let artifact_id = uuid::Uuid::from_u128(42).to_string();
    let form = Form::new()
        .text("artifact_id", &artifact_id)
        .file(&artifact("release-2", &["qemu"]));
    let body = |name: &str| {
        let device = uuid::Uuid::from_u128(1).to_string();
        Some(json!({"name": name, "artifact_name": "release-2", "devices": [device]}))
    };
    one.upload(&form).await.expect(201);
    two.call("POST", "/deployments", body("n"))
        .await
        .expect(422);
    assert_eq!(two.call("GET", "/artifacts", None).await.json(), json!([]));
    two.call("GET", &format!("/artifacts/{artifact_id}"), None)
        .await
        .expect(404);
    two.call("DELETE", &format!("/artifacts/{artifact_id}"), None)
        .await
        .expect(404);
    two.call("GET", &format!("/artifacts/{artifact_id}/download"), None)
        .await
        .expect(404);
    assert_eq!(
        two.call("GET", "/limits/storage", None).await.json()["usage"],
        0
    );
    two.upload(&form).await.expect(201);

    let first = one
        .call("POST", "/deployments", body("n"))
        .await
        .expect(201)
        .created();
    let device = two.device(1);
    assert_eq!(
        world.poll(&device).await,
        None,
        "same device id, other tenant"
    );
    for path in ["", "/statistics", "/devices", "/device_list"] {
        two.call("GET", &format!("/deployments/{first}{path}"), None)
            .await
            .expect(404);
    }
    let abort = Some(json!({"status": "aborted"}));
    two.call("PUT", &format!("/deployments/{first}/status"), abort)
        .await
        .expect(404);
    world.report(&device, &first, "success").await.expect(404);
    let log =
        json!({"messages": [{"timestamp": "2020-01-01T00:00:00Z", "level": "i", "message": "m"}]});
    world
        .call(
            "PUT",
            &format!("{DEVICES}/{first}/log"),
            &device.token,
            Some(log),
        )
        .await
        .expect(404);
    two.call(
        "DELETE",
        &format!("/deployments/devices/{}", device.id),
        None,
    )
    .await
    .expect(204);

    let second = two
        .call("POST", "/deployments", body("n"))
        .await
        .expect(201)
        .created();
    assert_eq!(
        ids(&two.call("GET", "/deployments", None).await.json()),
        std::slice::from_ref(&second)
    );
    assert_eq!(
        ids(&one.call("GET", "/deployments", None).await.json()),
        std::slice::from_ref(&first)
    );
    assert_eq!(world.poll(&device).await.unwrap().id, second);
    assert_eq!(world.poll(&one.device(1)).await.unwrap().id, first);
    world.report(&device, &second, "success").await.expect(204);
    let shown = one
        .call("GET", &format!("/deployments/{first}"), None)
        .await
        .json();
    assert_eq!(shown["status"], "pending");
    assert_eq!(
        world.poll(&world.device(1)).await,
        None,
        "the server's own tenant is another one"
    );
}

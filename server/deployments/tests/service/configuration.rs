//! Deployments of configurations, as the workflows order them.

use std::io::Cursor;

use ambidex_artifact::{ReadOptions, Reader, Verification};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::world::{Device, World};

async fn order(world: &World, tenant: &str, id: &str, device: &Device, body: Value) -> u16 {
    let path = format!(
        "/tenants/{tenant}/configuration/deployments/{id}/devices/{}",
        device.id
    );
    world.internal("POST", &path, Some(body)).await.status
}

fn body() -> Value {
    json!({"name": "configuration-1", "configuration": "{\"timezone\":\"UTC\",\"a\":\"1\"}"})
}

#[tokio::test]
async fn a_device_gets_its_configuration_as_an_artifact() {
    let world = World::new();
    let device = Device {
        device_type: "rasp-4".to_owned(),
        ..world.device(1)
    };
    let id = Uuid::new_v4().to_string();
    assert_eq!(order(&world, "default", &id, &device, body()).await, 201);
    assert_eq!(order(&world, "default", &id, &device, body()).await, 409);
    let shown = world.show(&id).await;
    assert_eq!(shown["type"], "configuration");
    assert_eq!(shown["max_devices"], 1);
    let masked: Value = serde_json::from_str(shown["configuration"].as_str().unwrap()).unwrap();
    assert_eq!(masked, json!({"timezone": "UTC", "a": "1"}));

    let offer = world.poll(&device).await.unwrap();
    assert_eq!(offer.id, id);
    assert_eq!(offer.artifact.artifact_name, "configuration-1");
    assert_eq!(offer.artifact.device_types_compatible, ["rasp-4"]);
    let uri = offer.artifact.source.uri;
    let reply = world.follow("GET", &uri, Vec::new()).await.expect(200);
    assert_eq!(
        reply.header("content-type"),
        "application/vnd.mender-artifact"
    );
    assert_eq!(
        reply.header("content-disposition"),
        "attachment; filename=\"artifact.mender\""
    );
    let options = ReadOptions::inspect(Verification::Ignore);
    let mut reader = Reader::open(Cursor::new(&reply.body), &options).unwrap();
    let header = reader.header().clone();
    assert!(reader.next_file().unwrap().is_none());
    reader.finish().unwrap();
    assert_eq!(header.name, "configuration-1");
    assert_eq!(header.device_types, ["rasp-4"]);
    assert_eq!(header.payload.type_name(), Some("mender-configure"));
    assert_eq!(header.meta_data, Some(json!({"timezone": "UTC", "a": "1"})));
    assert_eq!(
        header.provides()["data-partition.mender-configure.version"],
        "configuration-1"
    );
    assert_eq!(
        header.clears_provides.as_deref(),
        Some(&["data-partition.mender-configure.*".to_owned()][..])
    );

    world.report(&device, &id, "success").await.expect(204);
    assert_eq!(world.show(&id).await["status"], "finished");
    let list = world.get("/deployments?type=configuration").await.json();
    assert_eq!(list.as_array().unwrap().len(), 1);
    let list = world.get("/deployments?type=software").await.json();
    assert_eq!(list, json!([]));
}

#[tokio::test]
async fn links_expire_and_cannot_be_changed() {
    let world = World::new();
    let (device, other) = (world.device(1), world.device(2));
    let id = Uuid::new_v4().to_string();
    order(&world, "default", &id, &device, body()).await;
    let uri = world.poll(&device).await.unwrap().artifact.source.uri;
    let get = |uri: String| {
        let world = &world;
        async move { world.follow("GET", &uri, Vec::new()).await }
    };
    for uri in [
        uri.replace(&device.id, &other.id),
        uri.replace("qemu", "arm"),
        format!("{uri}&tenant_id=t1"),
    ] {
        get(uri).await.expect(403);
    }
    get(uri.split_once('?').unwrap().0.to_owned())
        .await
        .expect(400);
    // A download goes on where it was cut.
    let whole = get(uri.clone()).await.expect(200).body;
    let path = uri
        .strip_prefix("http://ota.example:8080")
        .unwrap()
        .to_owned();
    let request = http::Request::get(path)
        .header("range", "bytes=10-")
        .body(axum::body::Body::empty())
        .unwrap();
    let part = world.send(request).await.expect(206);
    assert_eq!(part.body, whole[10..]);
    world.clock.advance(24 * 60 * 60 * 1000);
    let reply = get(uri).await.expect(403);
    assert_eq!(reply.error(), "URL expired");
}

#[tokio::test]
async fn wrong_orders_are_refused() {
    let world = World::new();
    let device = world.device(1);
    let id = Uuid::new_v4().to_string();
    let order = |id: &str, body: Value| {
        let (world, device, id) = (&world, &device, id.to_owned());
        async move { order(world, "default", &id, device, body).await }
    };
    assert_eq!(order("x", body()).await, 400);
    for body in [
        json!({}),
        json!({"name": "n"}),
        json!({"configuration": {"a": "b"}}),
        json!({"name": "n", "configuration": "text"}),
        json!({"name": "n", "configuration": []}),
        json!({"name": "n", "configuration": {}, "retries": 101}),
        json!([]),
    ] {
        assert_eq!(order(&id, body.clone()).await, 400, "{body}");
    }
    let body = json!({"name": "n", "configuration": {"a": "b"}, "retries": 1});
    assert_eq!(order(&id, body).await, 201);
}

#[tokio::test]
async fn retries_and_tenants_are_kept_apart() {
    let world = World::new();
    let tenant = world.tenant("t1", "enterprise");
    let device = tenant.device(1);
    let id = Uuid::new_v4().to_string();
    let mut body = body();
    body["retries"] = json!(1);
    assert_eq!(order(&world, "t1", &id, &device, body).await, 201);
    assert_eq!(world.poll(&world.device(1)).await, None);
    world.get(&format!("/deployments/{id}")).await.expect(404);
    let offer = world.poll(&device).await.unwrap();
    let link = &offer.artifact.source.uri;
    assert!(link.contains("tenant_id=t1"), "{link}");
    world.follow("GET", link, Vec::new()).await.expect(200);
    world.report(&device, &id, "failure").await.expect(204);
    assert_eq!(world.poll(&device).await.unwrap().id, id);
    world.report(&device, &id, "failure").await.expect(204);
    assert_eq!(world.poll(&device).await, None);
}

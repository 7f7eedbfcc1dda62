//! What users see and do whose roles are limited.

use ambidex_access::Grants;
use serde_json::{Value, json};

use crate::world::{Form, World, artifact, ids};

fn limit(world: &World, groups: Option<&[&str]>, tags: Option<&[&str]>) {
    let list = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
    *world.grants.lock().unwrap() = Grants {
        deployment_groups: groups.map(list),
        release_tags: tags.map(list),
        ..Grants::everything()
    };
}

#[tokio::test]
async fn deployments_stay_within_the_groups() {
    let world = World::new();
    world.artifact("release-2", &["qemu"]).await;
    let devices = world.devices(1..5);
    world.fleet.put_in_group("", "a", &devices[..2]);
    world.fleet.put_in_group("", "b", &devices[2..3]);
    let all = devices.iter().map(|device| device.id.clone()).collect();
    world
        .fleet
        .accepted
        .lock()
        .unwrap()
        .insert(String::new(), all);
    let everywhere = world.deployment("release-2", &devices).await;
    limit(&world, Some(&["a"]), None);
    let post = |path: &'static str, extra: Value| {
        let world = &world;
        async move {
            let mut body = json!({"name": "n", "artifact_name": "release-2"});
            if let (Some(body), Some(extra)) = (body.as_object_mut(), extra.as_object()) {
                body.extend(extra.clone());
            }
            world.post(path, body).await
        }
    };
    let mine = post("/deployments", json!({"devices": [devices[0].id]}))
        .await
        .expect(201)
        .created();
    post(
        "/deployments",
        json!({"devices": [devices[0].id, devices[1].id]}),
    )
    .await
    .expect(201);
    for ids in [
        json!([devices[2].id]),
        json!([devices[3].id]),
        json!([devices[0].id, devices[2].id]),
    ] {
        let reply = post("/deployments", json!({"devices": ids})).await;
        assert_eq!(reply.expect(403).error(), "Access denied (RBAC).");
    }
    post("/deployments", json!({"all_devices": true}))
        .await
        .expect(403);
    post("/deployments/group/b", json!({})).await.expect(403);
    let group = post("/deployments/group/a", json!({}))
        .await
        .expect(201)
        .created();
    assert_eq!(world.show(&group).await["groups"], json!(["a"]));
    assert_eq!(world.show(&mine).await["groups"], json!(["a"]));

    // What he may not reach is not there for him.
    let list = world.get("/deployments").await;
    assert_eq!(list.header("x-total-count"), "3");
    assert!(!ids(&list.json()).contains(&everywhere));
    for path in [
        "",
        "/statistics",
        "/devices",
        "/devices/list",
        "/device_list",
    ] {
        let path = format!("/deployments/{everywhere}{path}");
        world.get(&path).await.expect(404);
    }
    let abort = |id: &str| {
        let (world, path) = (&world, format!("/deployments/{id}/status"));
        async move { world.put(&path, json!({"status": "aborted"})).await }
    };
    abort(&everywhere).await.expect(404);
    abort(&mine).await.expect(204);
    let body = json!({"deployment_ids": [everywhere, group]});
    let statistics = world
        .post("/deployments/statistics/list", body)
        .await
        .expect(200)
        .json();
    assert_eq!(ids(&statistics), [group.as_str()]);
    world
        .get(&format!("/deployments/devices/{}", devices[2].id))
        .await
        .expect(403);
    world
        .get(&format!("/deployments/devices/{}", devices[0].id))
        .await
        .expect(200);
    world
        .delete(&format!("/deployments/devices/{}/history", devices[2].id))
        .await
        .expect(403);

    let filter = world.fleet.save_filter("kind", "pump");
    let body = json!({"name": "n", "artifact_name": "release-2", "filter_id": filter});
    world
        .v2("POST", "/deployments", Some(body))
        .await
        .expect(403);
    limit(&world, Some(&[]), None);
    assert_eq!(world.get("/deployments").await.json(), json!([]));
    limit(&world, None, None);
    assert_eq!(ids(&world.get("/deployments").await.json()).len(), 4);
}

#[tokio::test]
async fn single_devices_are_granted_too() {
    let world = World::new();
    world.artifact("release-2", &["qemu"]).await;
    let devices = world.devices(1..3);
    let both = world.deployment("release-2", &devices).await;
    let one = world.deployment("release-2", &devices[..1]).await;
    *world.grants.lock().unwrap() = Grants {
        deployment_groups: Some(Vec::new()),
        deployment_devices: vec![devices[0].id.clone()],
        ..Grants::everything()
    };
    assert_eq!(ids(&world.get("/deployments").await.json()), [one.as_str()]);
    world.get(&format!("/deployments/{both}")).await.expect(404);
    let mine = world.deployment("release-2", &devices[..1]).await;
    world.get(&format!("/deployments/{mine}")).await.expect(200);
}

#[tokio::test(flavor = "multi_thread")]
async fn releases_are_seen_by_their_tags() {
    let world = World::new();
    let open = world.artifact("open", &["qemu"]).await;
    let closed = world.artifact("closed", &["qemu"]).await;
    world
        .v2("PUT", "/deployments/releases/open/tags", Some(json!(["x"])))
        .await
        .expect(204);
    limit(&world, None, Some(&["x"]));
    for path in ["/artifacts", "/artifacts/list"] {
        assert_eq!(
            ids(&world.get(path).await.json()),
            [open.as_str()],
            "{path}"
        );
    }
    for path in ["/deployments/releases", "/deployments/releases/list"] {
        let list = world.get(path).await.json();
        assert_eq!(list.as_array().unwrap().len(), 1, "{path}");
        assert_eq!(list[0]["name"], "open");
    }
    world.get(&format!("/artifacts/{open}")).await.expect(200);
    for path in ["", "/download"] {
        let path = format!("/artifacts/{closed}{path}");
        world.get(&path).await.expect(404);
    }
    let path = format!("/artifacts/{closed}");
    world
        .put(&path, json!({"description": "d"}))
        .await
        .expect(404);
    world.delete(&path).await.expect(404);
    world
        .v2("GET", "/deployments/releases/closed", None)
        .await
        .expect(404);
    world
        .v2("DELETE", "/deployments/releases?name=closed", None)
        .await
        .expect(403);
    let device = world.device(1);
    let deploy = |name: &str| {
        let body = json!({"name": "n", "artifact_name": name, "devices": [device.id]});
        world.post("/deployments", body)
    };
    deploy("closed").await.expect(403);
    deploy("open").await.expect(201);
    world.upload(&artifact("new", &["qemu"])).await.expect(403);
    world.upload(&artifact("open", &["arm"])).await.expect(201);
    assert_eq!(world.files(), 3);
    let form = Form::new()
        .text("name", "other")
        .text("device_types_compatible", "qemu")
        .text("type", "single_file")
        .text("args", r#"{"filename":"a","dest_dir":"/x"}"#)
        .raw("file", b"x");
    let path = format!("{}/artifacts/generate", crate::world::MANAGEMENT);
    world
        .send(form.request(&path, Some(&world.user)))
        .await
        .expect(403);
    world
        .post("/artifacts/directupload", json!({}))
        .await
        .expect(403);
}

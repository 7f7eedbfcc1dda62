//! Deployments as operators see them (table B050 to B089).

use serde_json::{Value, json};

use crate::world::{MANAGEMENT, World, ids};

async fn world() -> World {
    let world = World::new();
    world.artifact("release-2", &["qemu"]).await;
    world
}

fn body(extra: Value) -> Value {
    let mut body = json!({"name": "production", "artifact_name": "release-2"});
    body.as_object_mut()
        .unwrap()
        .extend(extra.as_object().unwrap().clone());
    body
}

fn accept(world: &World, devices: std::ops::Range<u128>) {
    let ids = world
        .devices(devices)
        .into_iter()
        .map(|device| device.id)
        .collect();
    world
        .fleet
        .accepted
        .lock()
        .unwrap()
        .insert(String::new(), ids);
}

#[tokio::test]
async fn b050_creation_names_the_place() {
    let world = world().await;
    let reply = world
        .post("/deployments", body(json!({"devices": ["any-string"]})))
        .await
        .expect(201);
    assert!(reply.body.is_empty());
    let location = reply.header("location");
    let id = location
        .strip_prefix(&format!("{MANAGEMENT}/deployments/"))
        .unwrap();
    assert!(uuid::Uuid::parse_str(id).is_ok());
}

#[tokio::test]
async fn b051_b053_b062_malformed_bodies_are_refused() {
    let world = world().await;
    accept(&world, 1..2);
    for (body, text) in [
        (
            json!({"artifact_name": "a", "devices": ["d"]}),
            "name: cannot be blank.",
        ),
        (
            json!({"name": "n", "devices": ["d"]}),
            "artifact_name: cannot be blank.",
        ),
        (
            body(json!({"devices": [""]})),
            "devices: 0: cannot be blank.",
        ),
        (body(json!({"devices": ["d".repeat(257)]})), "devices: 0"),
        (
            body(json!({})),
            "provide list of devices or set all_devices flag",
        ),
        (
            body(json!({"devices": null, "all_devices": false})),
            "provide list of devices",
        ),
        (
            body(json!({"devices": ["d"], "all_devices": true})),
            "togheter with all_devices flag",
        ),
        (
            body(json!({"name": "x".repeat(257), "devices": ["d"]})),
            "name: the length must be",
        ),
        (
            body(json!({"artifact_name": "x".repeat(4097), "devices": ["d"]})),
            "artifact_name: the length",
        ),
        (body(json!({"devices": "d"})), "Validating request body"),
        (json!([]), "Validating request body"),
    ] {
        let reply = world.post("/deployments", body).await.expect(400);
        assert!(
            reply.error().starts_with("Validating request body: "),
            "{}",
            reply.error()
        );
        assert!(
            reply.error().contains(text),
            "{} lacks {text}",
            reply.error()
        );
    }
    assert_eq!(world.rows("SELECT COUNT(*) FROM deployments").await, 0);
}

#[tokio::test]
async fn b056_an_unknown_artifact_is_422() {
    let world = world().await;
    let body = body(json!({"artifact_name": "release-9", "devices": ["d"]}));
    let reply = world.post("/deployments", body).await.expect(422);
    assert_eq!(reply.error(), "No artifact for the deployment");
    assert_eq!(world.rows("SELECT COUNT(*) FROM deployments").await, 0);
    assert_eq!(
        world.rows("SELECT COUNT(*) FROM deployment_devices").await,
        0
    );
}

#[tokio::test]
async fn b057_b058_all_devices_are_those_accepted_at_that_moment() {
    let world = world().await;
    let all = || body(json!({"all_devices": true}));
    let reply = world.post("/deployments", all()).await.expect(400);
    assert_eq!(reply.error(), "No devices for the deployment");
    accept(&world, 1..4);
    let id = world
        .post("/deployments", all())
        .await
        .expect(201)
        .created();
    accept(&world, 1..5);
    assert_eq!(world.show(&id).await["max_devices"], 3);
    assert!(world.poll(&world.device(3)).await.is_some());
    assert_eq!(world.poll(&world.device(4)).await, None);
}

#[tokio::test]
async fn b059_b061_unknown_devices_and_keys_are_fine() {
    let world = world().await;
    let body = body(json!({"devices": ["dummyuuid0"], "unknown": {"x": 1}, "phases": null}));
    world.post("/deployments", body).await.expect(201);
}

#[tokio::test]
async fn b063_b064_groups() {
    let world = world().await;
    let members = world
        .devices(1..3)
        .into_iter()
        .map(|device| device.id)
        .collect();
    let group = (String::new(), "test group/ä".to_owned());
    world.fleet.groups.lock().unwrap().insert(group, members);
    let path = "/deployments/group/test%20group%2F%C3%A4";
    let id = world
        .post(path, body(json!({})))
        .await
        .expect(201)
        .created();
    let list = world
        .get(&format!("/deployments/{id}/device_list"))
        .await
        .expect(200)
        .json();
    assert_eq!(list.as_array().unwrap().len(), 2);
    assert_eq!(world.show(&id).await["groups"], json!(["test group/ä"]));
    let reply = world
        .post(path, body(json!({"devices": ["d"]})))
        .await
        .expect(400);
    assert!(
        reply
            .error()
            .contains("neither list of devices nor all_devices flag")
    );
    world
        .post(path, body(json!({"all_devices": true})))
        .await
        .expect(400);
    let reply = world
        .post("/deployments/group/empty", body(json!({})))
        .await
        .expect(400);
    assert_eq!(reply.error(), "No devices for the deployment");
    for path in ["/deployments/group/", "/deployments/group"] {
        let reply = world.post(path, body(json!({}))).await.expect(400);
        assert_eq!(reply.error(), "Missing group name");
    }
    let body = body(json!({"artifact_name": "release-9"}));
    world.post(path, body).await.expect(422);
}

#[tokio::test]
async fn b066_b067_b074_lists_come_in_pages_newest_first() {
    let world = world().await;
    let empty = world.get("/deployments").await.expect(200);
    assert_eq!(
        (empty.json(), empty.header("x-total-count")),
        (json!([]), "0")
    );
    let mut created = Vec::new();
    for _ in 0..25 {
        created.push(world.deployment("release-2", &[world.device(1)]).await);
        world.clock.advance(7);
    }
    created.reverse();
    let links = |reply: &crate::world::Reply| -> Vec<String> {
        reply
            .headers
            .get_all("link")
            .iter()
            .map(|link| link.to_str().unwrap().to_owned())
            .collect()
    };
    let first = world.get("/deployments").await.expect(200);
    assert_eq!(ids(&first.json()), created[..20]);
    assert_eq!(first.header("x-total-count"), "25");
    let path = format!("<{MANAGEMENT}/deployments");
    assert_eq!(
        links(&first),
        [
            format!("{path}?page=1&per_page=20>; rel=\"first\""),
            format!("{path}?page=2&per_page=20>; rel=\"next\""),
        ]
    );
    let second = world
        .get("/deployments?page=2&per_page=20")
        .await
        .expect(200);
    assert_eq!(ids(&second.json()), created[20..]);
    assert_eq!(
        links(&second),
        [
            format!("{path}?page=1&per_page=20>; rel=\"first\""),
            format!("{path}?page=1&per_page=20>; rel=\"prev\""),
        ]
    );
    let ascending = world
        .get("/deployments?sort=asc&per_page=500")
        .await
        .expect(200)
        .json();
    created.reverse();
    assert_eq!(ids(&ascending), created);
}

#[tokio::test]
async fn b068_b073_malformed_filters_are_refused() {
    let world = world().await;
    for query in [
        "page=0",
        "page=x",
        "per_page=0",
        "per_page=501",
        "per_page=-1",
        "status=zzz",
        "created_after=abc",
        "created_before=1.5",
        "sort=up",
    ] {
        world
            .get(&format!("/deployments?{query}"))
            .await
            .expect(400);
    }
    let reply = world.get("/deployments?created_after=abc").await;
    assert_eq!(
        reply.error(),
        "timestamp parsing failed for created_after parameter: invalid timestamp: abc"
    );
    assert_eq!(
        world.get("/deployments?status=zzz").await.error(),
        "unknown status zzz"
    );
}

#[tokio::test]
async fn b069_b071_b072_filters() {
    let world = world().await;
    world.artifact("Firmware_100%", &["qemu"]).await;
    let devices = world.devices(1..4);
    let mut made = Vec::new();
    for (name, artifact) in [
        ("alpha", "release-2"),
        ("Ünder", "release-2"),
        ("gamma", "Firmware_100%"),
    ] {
        let body =
            json!({"name": name, "artifact_name": artifact, "devices": [devices[made.len()].id]});
        made.push(world.post("/deployments", body).await.expect(201).created());
        world.clock.advance(1_500);
    }
    world.poll(&devices[0]).await.unwrap();
    world
        .report(&devices[0], &made[0], "downloading")
        .await
        .expect(204);
    world.poll(&devices[1]).await.unwrap();
    world
        .report(&devices[1], &made[1], "success")
        .await
        .expect(204);
    let [alpha, under, gamma] = [&made[0], &made[1], &made[2]];
    // Created at .0, 1.5 and 3.0 seconds.
    let start_s = 1_700_000_000;
    for (query, expected) in [
        ("status=inprogress".to_owned(), vec![alpha]),
        ("status=finished".to_owned(), vec![under]),
        ("status=aborted".to_owned(), vec![under]),
        ("status=pending".to_owned(), vec![gamma]),
        ("status=scheduled".to_owned(), vec![]),
        ("search=FIRMWARE".to_owned(), vec![gamma]),
        ("search=%C3%BCND".to_owned(), vec![under]),
        ("search=_".to_owned(), vec![gamma]),
        ("search=0%25".to_owned(), vec![gamma]),
        ("search=%25a".to_owned(), vec![]),
        ("search=elease".to_owned(), vec![under, alpha]),
        (format!("created_before={start_s}"), vec![alpha]),
        (
            format!("created_before={}", start_s + 1),
            vec![under, alpha],
        ),
        (format!("created_after={}", start_s + 1), vec![gamma, under]),
        (
            format!("created_after={}&status=finished", start_s + 1),
            vec![under],
        ),
        (format!("id={alpha}&id={gamma}"), vec![gamma, alpha]),
        ("name=alpha&name=gamma".to_owned(), vec![gamma, alpha]),
        ("type=software".to_owned(), vec![gamma, under, alpha]),
        ("type=configuration".to_owned(), vec![]),
    ] {
        let reply = world
            .get(&format!("/deployments?{query}"))
            .await
            .expect(200);
        let expected: Vec<String> = expected.into_iter().cloned().collect();
        assert_eq!(ids(&reply.json()), expected, "{query}");
        assert_eq!(
            reply.header("x-total-count"),
            expected.len().to_string(),
            "{query}"
        );
    }
}

#[tokio::test]
async fn b075_b076_one_deployment() {
    let world = world().await;
    let id = world.deployment("release-2", &world.devices(1..4)).await;
    let artifact = world.get("/artifacts").await.json()[0]["id"].clone();
    let mut shown = world.show(&id).await;
    let statistics = shown.as_object_mut().unwrap().remove("statistics").unwrap();
    assert_eq!(statistics["status"]["pending"], 3);
    assert_eq!(
        shown,
        json!({
            "id": id, "name": "production", "artifact_name": "release-2", "type": "software",
            "created": "2023-11-14T22:13:20Z", "status": "pending", "device_count": 0,
            "max_devices": 3, "artifacts": [artifact], "retries": 0,
        })
    );
    world
        .get(&format!("/deployments/{}", uuid::Uuid::from_u128(5)))
        .await
        .expect(404);
    let reply = world.get("/deployments/not-an-id").await.expect(400);
    assert_eq!(reply.error(), "ID is not a valid UUID");
}

#[tokio::test]
async fn b077_a_deployment_finishes_with_its_last_device() {
    let world = world().await;
    let devices = world.devices(1..4);
    let id = world.deployment("release-2", &devices).await;
    for (device, status) in devices
        .iter()
        .zip(["success", "failure", "already-installed"])
    {
        assert!(world.show(&id).await.get("finished").is_none());
        world.poll(device).await.unwrap();
        world.clock.advance(1_000);
        world.report(device, &id, status).await.expect(204);
    }
    let shown = world.show(&id).await;
    assert_eq!(
        (&shown["status"], &shown["finished"]),
        (&json!("finished"), &json!("2023-11-14T22:13:23Z"))
    );
    world.clock.advance(1_000);
    world.report(&devices[0], &id, "failure").await.expect(204);
    assert_eq!(
        world.show(&id).await["finished"],
        "2023-11-14T22:13:23Z",
        "set once"
    );
    assert_eq!(
        world.counts(&id).await,
        json!({"failure": 2, "already-installed": 1})
    );
}

#[tokio::test]
async fn b078_b079_b080_abort() {
    let world = world().await;
    let devices = world.devices(1..5);
    let id = world.deployment("release-2", &devices).await;
    for (device, status) in devices.iter().zip(["success", "installing", "failure"]) {
        world.poll(device).await.unwrap();
        if status != "failure" {
            world.report(device, &id, status).await.expect(204);
        }
    }
    let path = format!("/deployments/{id}/status");
    for status in ["success", "pending", "finished", "x"] {
        world
            .put(&path, json!({"status": status}))
            .await
            .expect(400);
    }
    world.put(&path, json!({})).await.expect(400);
    assert_eq!(world.show(&id).await["status"], "inprogress");
    world
        .put(&path, json!({"status": "aborted"}))
        .await
        .expect(204);
    let shown = world.show(&id).await;
    assert_eq!(shown["status"], "finished");
    assert!(shown["finished"].is_string());
    assert_eq!(world.counts(&id).await, json!({"success": 1, "aborted": 2}));
    let statuses: Vec<Value> = world
        .device_rows(&id)
        .await
        .iter()
        .map(|row| row["status"].clone())
        .collect();
    assert_eq!(statuses, ["success", "aborted", "aborted"]);
    for device in &devices {
        assert_eq!(world.poll(device).await, None);
    }
    let reply = world
        .put(&path, json!({"status": "aborted"}))
        .await
        .expect(422);
    assert_eq!(reply.error(), "Deployment already finished");
    let unknown = format!("/deployments/{}/status", uuid::Uuid::from_u128(1));
    world
        .put(&unknown, json!({"status": "aborted"}))
        .await
        .expect(404);
    world
        .put("/deployments/x/status", json!({"status": "aborted"}))
        .await
        .expect(400);
    let next = world.deployment("release-2", &devices).await;
    assert_eq!(world.poll(&devices[1]).await.unwrap().id, next);
    assert_eq!(world.poll(&devices[3]).await.unwrap().id, next);
    // What was success before the abort may still be corrected.
    world.report(&devices[0], &id, "failure").await.expect(204);
    assert_eq!(world.counts(&id).await, json!({"failure": 1, "aborted": 2}));
}

#[tokio::test]
async fn b083_statistics_have_every_key() {
    let world = world().await;
    let id = world.deployment("release-2", &world.devices(1..3)).await;
    let mut keys: Vec<String> = world.statistics(&id).await.into_keys().collect();
    keys.sort_unstable();
    assert_eq!(
        keys,
        [
            "aborted",
            "already-installed",
            "decommissioned",
            "downloading",
            "failure",
            "installing",
            "noartifact",
            "pause_before_committing",
            "pause_before_installing",
            "pause_before_rebooting",
            "pending",
            "rebooting",
            "success",
        ]
    );
    let unknown = uuid::Uuid::from_u128(1).to_string();
    world
        .get(&format!("/deployments/{unknown}/statistics"))
        .await
        .expect(404);
    let query = json!({"deployment_ids": [unknown, id]});
    let list = world
        .post("/deployments/statistics/list", query)
        .await
        .expect(200)
        .json();
    assert_eq!(ids(&list), [id]);
    assert_eq!(list[0]["stats"]["pending"], 2);
    for ids in [json!([]), json!(vec![unknown; 101]), json!(["x"])] {
        world
            .post(
                "/deployments/statistics/list",
                json!({"deployment_ids": ids}),
            )
            .await
            .expect(400);
    }
}

#[tokio::test]
async fn b085_only_devices_that_asked_are_listed() {
    let world = world().await;
    let devices = world.devices(1..4);
    let id = world.deployment("release-2", &devices).await;
    assert_eq!(world.device_rows(&id).await, Vec::<Value>::new());
    world.poll(&devices[1]).await.unwrap();
    let rows = world.device_rows(&id).await;
    assert_eq!(rows.len(), 1);
    assert_eq!(rows[0]["id"], devices[1].id.as_str());
    assert_eq!(rows[0]["status"], "pending");
    assert_eq!(rows[0]["device_type"], "qemu");
    assert_eq!(rows[0]["log"], false);
    assert!(rows[0].get("finished").is_none() && rows[0].get("started").is_none());
    let unknown = uuid::Uuid::from_u128(9);
    let reply = world
        .get(&format!("/deployments/{unknown}/devices"))
        .await
        .expect(404);
    assert_eq!(reply.error(), "Deployment not found");
}

#[tokio::test]
async fn devices_come_in_pages_by_status() {
    let world = world().await;
    let devices = world.devices(1..6);
    let id = world.deployment("release-2", &devices).await;
    for (device, status) in
        devices
            .iter()
            .zip(["success", "failure", "installing", "pause_before_rebooting"])
    {
        world.poll(device).await.unwrap();
        world.report(device, &id, status).await.expect(204);
    }
    for (query, count, total) in [
        ("", 4, "4"),
        ("?per_page=3", 3, "4"),
        ("?page=2&per_page=3", 1, "4"),
        ("?status=success", 1, "1"),
        ("?status=pause", 1, "1"),
        ("?status=active", 2, "2"),
        ("?status=finished", 2, "2"),
    ] {
        let reply = world
            .get(&format!("/deployments/{id}/devices/list{query}"))
            .await
            .expect(200);
        assert_eq!(reply.json().as_array().unwrap().len(), count, "{query}");
        assert_eq!(reply.header("x-total-count"), total, "{query}");
    }
    world
        .get(&format!("/deployments/{id}/devices/list?status=zzz"))
        .await
        .expect(400);
}

#[tokio::test]
async fn b086_all_targets_are_listed() {
    let world = world().await;
    let devices = world.devices(1..4);
    let id = world.deployment("release-2", &devices).await;
    let list = world
        .get(&format!("/deployments/{id}/device_list"))
        .await
        .expect(200)
        .json();
    let expected: Vec<&str> = devices.iter().map(|device| device.id.as_str()).collect();
    assert_eq!(list, json!(expected));
    let unknown = uuid::Uuid::from_u128(9);
    world
        .get(&format!("/deployments/{unknown}/device_list"))
        .await
        .expect(404);
    world.get("/deployments/x/device_list").await.expect(400);
}

#[tokio::test]
async fn b088_b089_a_device_that_is_gone_lets_deployments_finish() {
    let world = world().await;
    let device = world.device(1);
    let only = std::slice::from_ref(&device);
    let first = world.deployment("release-2", only).await;
    let second = world.deployment("release-2", only).await;
    world.poll(&device).await.unwrap();
    world
        .report(&device, &first, "downloading")
        .await
        .expect(204);
    let path = format!("/deployments/devices/{}", device.id);
    for _ in 0..2 {
        world.delete(&path).await.expect(204);
        for id in [&first, &second] {
            let shown = world.show(id).await;
            assert_eq!(
                (&shown["status"], &shown["device_count"]),
                (&json!("finished"), &json!(1))
            );
            assert_eq!(world.counts(id).await, json!({"decommissioned": 1}));
        }
    }
    assert_eq!(
        world.device_rows(&second).await[0]["status"],
        "decommissioned"
    );
    world
        .delete("/deployments/devices/unknown")
        .await
        .expect(204);
    let other = world.deployment("release-2", &world.devices(1..3)).await;
    world.delete(&path).await.expect(204);
    assert_eq!(
        world.show(&other).await["status"],
        "pending",
        "decommissioning alone is no progress"
    );
}

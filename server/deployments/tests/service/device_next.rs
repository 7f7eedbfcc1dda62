//! Polls of devices (table B001 to B023).

use serde_json::json;

use crate::world::{
    DEVICES, Device, HOST, START_MS, World, artifact, artifact_depending, artifact_with, noise,
    request,
};

async fn world_with_deployment() -> (World, Device, String) {
    let world = World::new();
    world.artifact("release-2", &["qemu", "arm"]).await;
    let device = world.device(1);
    let id = world
        .deployment("release-2", std::slice::from_ref(&device))
        .await;
    (world, device, id)
}

fn with(device: &Device, device_type: &str, artifact_name: &str) -> Device {
    Device {
        device_type: device_type.to_owned(),
        artifact_name: artifact_name.to_owned(),
        ..device.clone()
    }
}

#[tokio::test]
async fn b001_no_token_and_b002_user_token_are_refused() {
    let world = World::new();
    let path = format!("{DEVICES}/next?artifact_name=a&device_type=b");
    for (method, body) in [("GET", None), ("POST", Some(json!({})))] {
        let reply = world.send(request(method, &path, None, body.clone())).await;
        assert_eq!(reply.status, 401);
        let reply = world.call(method, &path, &world.user, body).await;
        assert_eq!(reply.status, 401);
    }
}

#[tokio::test]
async fn b003_missing_keys_are_named() {
    let world = World::new();
    let device = world.device(1);
    let both = "artifact_name: cannot be blank; device_type: cannot be blank.";
    for (query, text) in [
        ("", both),
        ("?device_type=qemu", "artifact_name: cannot be blank."),
        (
            "?artifact_name=a&device_type=",
            "device_type: cannot be blank.",
        ),
    ] {
        let reply = world
            .call(
                "GET",
                &format!("{DEVICES}/next{query}"),
                &device.token,
                None,
            )
            .await;
        assert_eq!((reply.status, reply.error().as_str()), (400, text));
    }
    let next = format!("{DEVICES}/next");
    for (body, text) in [
        (json!({}), both),
        (
            json!({"device_type": "qemu"}),
            "artifact_name: cannot be blank.",
        ),
        (
            json!({"device_type": 1, "artifact_name": "a"}),
            "invalid schema",
        ),
        (json!([]), "invalid schema"),
    ] {
        let reply = world
            .call("POST", &next, &device.token, Some(body))
            .await
            .expect(400);
        assert!(reply.error().contains(text), "{}", reply.error());
    }
}

#[tokio::test]
async fn b005_nothing_deployed_is_204() {
    let world = World::new();
    assert_eq!(world.poll(&world.device(1)).await, None);
}

#[tokio::test]
async fn b006_instructions_name_deployment_artifact_and_link() {
    let (world, device, id) = world_with_deployment().await;
    let found = world.poll(&device).await.unwrap();
    assert_eq!(found.id, id);
    assert_eq!(found.artifact.artifact_name, "release-2");
    assert_eq!(found.artifact.device_types_compatible, ["qemu", "arm"]);
    assert!(
        found
            .artifact
            .source
            .uri
            .starts_with(&format!("http://{HOST}/api/devices/v1/"))
    );
    assert_eq!(found.artifact.source.method.as_deref(), Some("GET"));
}

#[tokio::test]
async fn b007_a_second_poll_gives_the_same_with_a_fresh_link() {
    let (world, device, id) = world_with_deployment().await;
    let first = world.poll(&device).await.unwrap();
    world.clock.advance(60_000);
    let second = world.poll(&device).await.unwrap();
    assert_eq!(first.artifact.id, second.artifact.id);
    assert_ne!(first.artifact.source.uri, second.artifact.source.uri);
    let shown = world.show(&id).await;
    assert_eq!(shown["device_count"], 1);
    assert_eq!(shown["statistics"]["status"]["pending"], 1);
    let size = artifact("release-2", &["qemu", "arm"]).len();
    assert_eq!(shown["statistics"]["total_size"], size);
}

#[tokio::test]
async fn b008_the_flat_body_works_as_the_query_does() {
    let (world, device, id) = world_with_deployment().await;
    let next = format!("{DEVICES}/next");
    let body =
        json!({"device_type": "qemu", "artifact_name": "old", "rootfs-image.checksum": "00"});
    let reply = world
        .call("POST", &next, &device.token, Some(body))
        .await
        .expect(200);
    assert_eq!(reply.json()["id"], id.as_str());
    let nested = json!({"device_type": "qemu", "artifact_name": "old", "artifact_provides": {"a": "b"}, "x": 1});
    world
        .call("POST", &next, &device.token, Some(nested))
        .await
        .expect(200);
    let mut bad = request("POST", &next, Some(&device.token), None);
    *bad.body_mut() = axum::body::Body::from("{");
    let reply = world.send(bad).await.expect(400);
    assert!(
        reply.error().starts_with("invalid schema: "),
        "{}",
        reply.error()
    );
}

#[tokio::test]
async fn b011_version_two_answers_properly() {
    let (world, device, id) = world_with_deployment().await;
    let next = "/api/devices/v2/deployments/device/deployments/next";
    let body = json!({
        "device_provides": {"device_type": "qemu", "artifact_name": "old"},
        "update_control_map": true,
    });
    let reply = world
        .call("POST", next, &device.token, Some(body.clone()))
        .await
        .expect(200);
    assert_eq!(reply.json()["id"], id.as_str());
    let other = world.device(2);
    world
        .call("POST", next, &other.token, Some(body))
        .await
        .expect(204);
    world
        .call("POST", next, &device.token, Some(json!({})))
        .await
        .expect(400);
    world
        .send(request("POST", next, None, Some(json!({}))))
        .await
        .expect(401);
}

#[tokio::test]
async fn b012_a_device_of_another_type_gets_noartifact() {
    let (world, device, id) = world_with_deployment().await;
    assert_eq!(world.poll(&with(&device, "mips", "old")).await, None);
    assert_eq!(world.counts(&id).await, json!({"noartifact": 1}));
    assert_eq!(world.show(&id).await["status"], "finished");
    assert_eq!(world.device_rows(&id).await[0]["status"], "noartifact");
}

#[tokio::test]
async fn b013_what_is_installed_is_not_installed_again() {
    let (world, device, id) = world_with_deployment().await;
    assert_eq!(world.poll(&with(&device, "qemu", "release-2")).await, None);
    assert_eq!(world.counts(&id).await, json!({"already-installed": 1}));
    assert_eq!(
        world.poll(&device).await,
        None,
        "the deployment is over for the device"
    );
}

#[tokio::test]
async fn b014_unless_forced() {
    let world = World::new();
    world.artifact("release-2", &["qemu"]).await;
    let device = world.device(1);
    let body = json!({
        "name": "n", "artifact_name": "release-2", "devices": [device.id], "force_installation": true,
    });
    let id = world.post("/deployments", body).await.expect(201).created();
    assert!(
        world
            .poll(&with(&device, "qemu", "release-2"))
            .await
            .is_some()
    );
    assert_eq!(world.show(&id).await["force_installation"], true);
}

#[tokio::test]
async fn b015_an_update_in_progress_is_not_already_installed() {
    let (world, device, id) = world_with_deployment().await;
    world.poll(&device).await.unwrap();
    world.report(&device, &id, "installing").await.expect(204);
    let found = world
        .poll(&with(&device, "qemu", "release-2"))
        .await
        .unwrap();
    assert_eq!(found.id, id);
    assert_eq!(world.counts(&id).await, json!({"installing": 1}));
}

#[tokio::test]
async fn a_pending_update_that_turns_out_installed_ends() {
    let (world, device, id) = world_with_deployment().await;
    world.poll(&device).await.unwrap();
    assert_eq!(world.poll(&with(&device, "qemu", "release-2")).await, None);
    assert_eq!(world.counts(&id).await, json!({"already-installed": 1}));
    assert_eq!(world.show(&id).await["status"], "finished");
}

#[tokio::test]
async fn b016_b017_depends_are_matched_with_what_the_device_provides() {
    let world = World::new();
    let mut uploaded = Vec::new();
    for value in ["1", "2"] {
        let file = artifact_depending("release-2", &["qemu"], "hardware", value);
        uploaded.push(world.upload(&file).await.expect(201).created());
    }
    let devices = world.devices(1..5);
    world.deployment("release-2", &devices).await;
    let next = format!("{DEVICES}/next");
    for (device, value) in devices.iter().zip(["1", "2"]) {
        let body = json!({"device_type": "qemu", "artifact_name": "old", "hardware": value});
        let reply = world
            .call("POST", &next, &device.token, Some(body))
            .await
            .expect(200);
        let wanted = &uploaded[value.parse::<usize>().unwrap() - 1];
        assert_eq!(reply.json()["artifact"]["id"], wanted.as_str());
    }
    let body = json!({"device_type": "qemu", "artifact_name": "old", "hardware": "3"});
    world
        .call("POST", &next, &devices[2].token, Some(body))
        .await
        .expect(204);
    assert_eq!(
        world.poll(&devices[3]).await,
        None,
        "GET tells nothing of the hardware"
    );
}

#[tokio::test]
async fn b018_the_smallest_of_several_is_chosen() {
    let world = World::new();
    let big = artifact_with("release-2", &["qemu"], &noise(100_000), |_| ());
    let small = artifact_depending("release-2", &["qemu"], "k", "v");
    world.upload(&big).await.expect(201);
    let small = world.upload(&small).await.expect(201).created();
    let device = world.device(1);
    world
        .deployment("release-2", std::slice::from_ref(&device))
        .await;
    let body = json!({"device_type": "qemu", "artifact_name": "old", "k": "v"});
    let reply = world
        .call(
            "POST",
            &format!("{DEVICES}/next"),
            &device.token,
            Some(body),
        )
        .await;
    assert_eq!(reply.expect(200).json()["artifact"]["id"], small.as_str());
}

#[tokio::test]
async fn b019_the_name_counts_before_the_depends() {
    let world = World::new();
    world
        .upload(&artifact_depending("release-2", &["qemu"], "k", "v"))
        .await
        .expect(201);
    let device = world.device(1);
    let id = world
        .deployment("release-2", std::slice::from_ref(&device))
        .await;
    assert_eq!(world.poll(&with(&device, "qemu", "release-2")).await, None);
    assert_eq!(world.counts(&id).await, json!({"already-installed": 1}));
}

#[tokio::test]
async fn b020_b022_deployments_come_in_the_order_of_creation() {
    let world = World::new();
    world.artifact("release-2", &["qemu"]).await;
    world.artifact("release-3", &["qemu"]).await;
    let device = world.device(1);
    let only = std::slice::from_ref(&device);
    let first = world.deployment("release-2", only).await;
    let second = world.deployment("release-3", only).await;
    assert_eq!(world.poll(&device).await.unwrap().id, first);
    world
        .report(&device, &first, "downloading")
        .await
        .expect(204);
    assert_eq!(
        world.poll(&device).await.unwrap().id,
        first,
        "the one in progress goes on"
    );
    world.report(&device, &first, "success").await.expect(204);
    assert_eq!(world.poll(&device).await.unwrap().id, second);
    world.report(&device, &second, "failure").await.expect(204);
    assert_eq!(world.poll(&device).await, None);
}

#[tokio::test]
async fn b021_what_was_skipped_stays_skipped() {
    let world = World::new();
    world.artifact("release-2", &["qemu"]).await;
    let device = world.device(1);
    let only = std::slice::from_ref(&device);
    // Takes its place at its start, in a minute.
    let soon = "2023-11-14T22:14:20Z";
    let body = json!({
        "name": "later", "artifact_name": "release-2", "devices": [device.id],
        "phases": [{"start_ts": soon}],
    });
    let later = world.post("/deployments", body).await.expect(201).created();
    let now = world.deployment("release-2", only).await;
    assert_eq!(
        world.poll(&device).await.unwrap().id,
        now,
        "one that waits holds up no other"
    );
    world.clock.advance(120_000);
    let newest = world.deployment("release-2", only).await;
    world.report(&device, &now, "success").await.expect(204);
    assert_eq!(world.poll(&device).await.unwrap().id, later);
    world.report(&device, &later, "success").await.expect(204);
    assert_eq!(world.poll(&device).await.unwrap().id, newest);
}

#[tokio::test]
async fn b023_links_live_a_day() {
    let (world, device, _) = world_with_deployment().await;
    let expire = world
        .poll(&device)
        .await
        .unwrap()
        .artifact
        .source
        .expire
        .unwrap();
    assert_eq!(expire, "2023-11-15T22:13:20Z");
    assert_eq!(START_MS, 1_700_000_000_000);
}

#[tokio::test]
async fn a_changed_device_type_gets_another_artifact() {
    let world = World::new();
    world.artifact("release-2", &["qemu"]).await;
    let arm = world.artifact("release-2", &["arm"]).await;
    let device = world.device(1);
    let id = world
        .deployment("release-2", std::slice::from_ref(&device))
        .await;
    world.poll(&device).await.unwrap();
    let found = world.poll(&with(&device, "arm", "old")).await.unwrap();
    assert_eq!(found.artifact.id.as_deref(), Some(arm.as_str()));
    assert_eq!(world.device_rows(&id).await[0]["device_type"], "arm");
}

#[tokio::test]
async fn an_artifact_uploaded_later_joins_unfinished_deployments() {
    let world = World::new();
    world.artifact("release-2", &["qemu"]).await;
    let device = with(&world.device(1), "arm", "old");
    let id = world
        .deployment("release-2", std::slice::from_ref(&device))
        .await;
    let arm = world.artifact("release-2", &["arm"]).await;
    assert!(
        world.show(&id).await["artifacts"]
            .as_array()
            .unwrap()
            .contains(&json!(arm))
    );
    let found = world.poll(&device).await.unwrap();
    assert_eq!(found.artifact.id.as_deref(), Some(arm.as_str()));
}

#[tokio::test]
async fn head_works_like_get() {
    let (world, device, _) = world_with_deployment().await;
    let path = format!("{DEVICES}/next?artifact_name=old&device_type=qemu");
    let reply = world
        .call("HEAD", &path, &device.token, None)
        .await
        .expect(200);
    assert!(reply.body.is_empty());
}

#[tokio::test]
async fn a_link_names_the_configured_or_the_visible_host() {
    let (world, device, _) = world_with_deployment().await;
    let path = format!("{DEVICES}/next?artifact_name=old&device_type=qemu");
    let mut request = request("GET", &path, Some(&device.token), None);
    request
        .headers_mut()
        .insert("x-forwarded-proto", "https".parse().unwrap());
    let uri = world.send(request).await.expect(200).json()["artifact"]["source"]["uri"].to_string();
    assert!(uri.contains(&format!("https://{HOST}/")), "{uri}");

    let settings = ambidex_deployments::Settings {
        public_url: Some("https://ota.example/".to_owned()),
        ..Default::default()
    };
    let world = World::with(settings);
    world.artifact("release-2", &["qemu"]).await;
    world
        .deployment("release-2", std::slice::from_ref(&device))
        .await;
    let uri = world.poll(&device).await.unwrap().artifact.source.uri;
    assert!(
        uri.starts_with("https://ota.example/api/devices/v1/deployments/download/"),
        "{uri}"
    );
}

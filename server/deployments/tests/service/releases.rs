//! Releases (table B122).

use serde_json::{Value, json};

use crate::world::World;

#[tokio::test]
async fn b122_releases_group_artifacts_by_name() {
    let world = World::new();
    assert_eq!(
        world.get("/deployments/releases").await.expect(200).json(),
        json!([])
    );
    world.artifact("v2", &["qemu"]).await;
    world.artifact("v2", &["arm"]).await;
    world.artifact("v1", &["qemu"]).await;
    let all = world.get("/deployments/releases").await.expect(200).json();
    let names: Vec<&str> = all
        .as_array()
        .unwrap()
        .iter()
        .map(|release| release["name"].as_str().unwrap())
        .collect();
    assert_eq!(names, ["v1", "v2"]);
    assert_eq!(all[1]["artifacts"].as_array().unwrap().len(), 2);
    assert_eq!(all[1]["Name"], all[1]["name"]);
    assert_eq!(all[1]["Artifacts"], all[1]["artifacts"]);
    let one = world
        .get("/deployments/releases?name=v2")
        .await
        .expect(200)
        .json();
    assert_eq!(one, json!([all[1]]));
    assert_eq!(
        world.get("/deployments/releases?name=v").await.json(),
        json!([])
    );
    let page = world
        .get("/deployments/releases?per_page=1&page=2")
        .await
        .expect(200);
    assert_eq!(
        (page.json(), page.header("x-total-count")),
        (json!([all[1]]), "2")
    );
}

fn names(list: &Value) -> Vec<&str> {
    list.as_array()
        .unwrap()
        .iter()
        .map(|item| item["name"].as_str().unwrap())
        .collect()
}

/// Three releases: `a` with two artifacts, `b` and `c` with one.
async fn world() -> World {
    let world = World::new();
    for (name, device_type) in [("c", "qemu"), ("a", "qemu"), ("a", "arm"), ("b", "arm")] {
        world.artifact(name, &[device_type]).await;
        world.clock.advance(1000);
    }
    world
}

#[tokio::test]
async fn version_2_lists_filter_sort_and_page() {
    let world = world().await;
    for (name, tags) in [("a", json!(["New", "x"])), ("c", json!(["x"]))] {
        let path = format!("/deployments/releases/{name}/tags");
        world.v2("PUT", &path, Some(tags)).await.expect(204);
    }
    for (query, expected) in [
        ("", vec!["a", "b", "c"]),
        ("?sort=name:desc", vec!["c", "b", "a"]),
        ("?sort=artifacts_count:desc", vec!["a", "c", "b"]),
        ("?sort=tags:desc", vec!["c", "a", "b"]),
        ("?name=B", vec!["b"]),
        ("?tag=X", vec!["a", "c"]),
        ("?tag=new&tag=none", vec!["a"]),
        ("?tag=none", vec![]),
        ("?update_type=test-module", vec!["a", "b", "c"]),
        ("?update_type=rootfs-image", vec![]),
        ("?per_page=2&page=2", vec!["c"]),
    ] {
        let path = format!("/deployments/releases{query}");
        let reply = world.v2("GET", &path, None).await.expect(200);
        assert_eq!(names(&reply.json()), expected, "{query}");
        assert!(!reply.header("x-total-count").is_empty());
        assert!(reply.headers.contains_key("link"));
    }
    for query in ["?sort=size", "?sort=name:up", "?page=0", "?per_page=501"] {
        let path = format!("/deployments/releases{query}");
        world.v2("GET", &path, None).await.expect(400);
    }
    let list = world
        .get("/deployments/releases/list?sort=modified:desc&device_type=arm")
        .await
        .expect(200)
        .json();
    assert_eq!(list.as_array().unwrap().len(), 2);
    assert_eq!(list[0]["ArtifactsCount"], json!(2));
    world
        .get("/deployments/releases/list?sort=x")
        .await
        .expect(400);
}

#[tokio::test]
async fn notes_and_tags_are_kept_until_the_last_artifact_goes() {
    let world = world().await;
    let path = "/deployments/releases/b";
    let show = || async { world.v2("GET", path, None).await };
    let release = show().await.expect(200).json();
    assert_eq!(release["tags"], json!([]));
    assert_eq!(release["notes"], "");
    assert_eq!(release.get("Name"), None);
    let put = |tags: Value| world.v2("PUT", "/deployments/releases/b/tags", Some(tags));
    let patch = |body: Value| world.v2("PATCH", "/deployments/releases/b", Some(body));
    put(json!(["B", "a", "b"])).await.expect(204);
    patch(json!({"notes": "Grüße\nzwei"})).await.expect(204);
    patch(json!({})).await.expect(204);
    let release = show().await.json();
    assert_eq!(release["tags"], json!(["a", "b"]));
    assert_eq!(release["notes"], "Grüße\nzwei");
    let v1 = world.get("/deployments/releases?name=b").await.json();
    assert_eq!(v1[0]["tags"], json!(["a", "b"]));

    for wrong in [json!(["a b"]), json!([""]), json!({}), json!("a")] {
        put(wrong).await.expect(400);
    }
    let many: Vec<String> = (0..21).map(|n| format!("t{n}")).collect();
    put(json!(many)).await.expect(400);
    patch(json!({"notes": "x".repeat(1025)})).await.expect(400);
    patch(json!({"notes": "a\u{7}"})).await.expect(400);
    patch(json!([])).await.expect(400);
    for (method, path, body) in [
        ("GET", "/deployments/releases/none", None),
        ("PATCH", "/deployments/releases/none", Some(json!({}))),
        (
            "PATCH",
            "/deployments/releases/none",
            Some(json!({"notes": "n"})),
        ),
        ("PUT", "/deployments/releases/none/tags", Some(json!([]))),
    ] {
        world.v2(method, path, body).await.expect(404);
    }
    let reply = world
        .v2("DELETE", "/deployments/releases?name=b", None)
        .await;
    reply.expect(204);
    show().await.expect(404);
    world.artifact("b", &["arm"]).await;
    assert_eq!(show().await.json()["tags"], json!([]));
}

#[tokio::test]
async fn a_tenant_has_at_most_100_different_tags() {
    let world = World::new();
    for n in 0..6 {
        world.artifact(&format!("r{n}"), &["qemu"]).await;
    }
    let put = |release: usize, tags: std::ops::Range<usize>| {
        let tags: Vec<String> = tags.map(|n| format!("t{n}")).collect();
        let path = format!("/deployments/releases/r{release}/tags");
        let world = &world;
        async move { world.v2("PUT", &path, Some(json!(tags))).await }
    };
    for n in 0..5 {
        put(n, n * 20..(n + 1) * 20).await.expect(204);
    }
    put(5, 0..20).await.expect(204);
    put(5, 99..101).await.expect(409);
    let all = world.v2("GET", "/releases/all/tags", None).await;
    assert_eq!(all.expect(200).json().as_array().unwrap().len(), 100);
}

#[tokio::test]
async fn types_and_software_are_listed() {
    let world = world().await;
    let types = world.v2("GET", "/releases/all/types", None).await;
    assert_eq!(types.expect(200).json(), json!(["test-module"]));
    world
        .v2("PUT", "/deployments/releases/a/tags", Some(json!(["x"])))
        .await
        .expect(204);
    let software = |query: &'static str| {
        let path = format!("/api/management/v1alpha1/deployments/software{query}");
        let world = &world;
        async move { world.call("GET", &path, &world.user, None).await }
    };
    let all = software("").await.expect(200);
    assert_eq!(names(&all.json()), ["a", "b", "c"]);
    assert_eq!(all.json()[0]["kind"], "release");
    assert_eq!(all.json()[0]["compatible_types"], json!(["arm", "qemu"]));
    assert_eq!(all.header("x-total-count"), "3");
    for (query, expected) in [
        ("?name=a&name=c", vec!["a", "c"]),
        ("?name_prefix=b", vec!["b"]),
        ("?kind=release&tag=x", vec!["a"]),
        ("?kind=manifest", vec![]),
        ("?sort=modified:desc&per_page=1", vec!["a"]),
    ] {
        let reply = software(query).await.expect(200);
        assert_eq!(names(&reply.json()), expected, "{query}");
    }
    for query in ["?kind=x", "?name=a&name_prefix=b", "?sort=artifacts_count"] {
        software(query).await.expect(400);
    }
    assert_eq!(software("/tags").await.json(), json!(["x"]));
    assert_eq!(software("/tags?kind=manifest").await.json(), json!([]));
    software("/tags?kind=x").await.expect(400);
}

#[tokio::test]
async fn a_release_in_use_is_not_deleted() {
    let world = world().await;
    let id = world.deployment("a", &world.devices(1..2)).await;
    let delete = |query: &'static str| {
        let path = format!("/deployments/releases{query}");
        let world = &world;
        async move { world.v2("DELETE", &path, None).await }
    };
    let reply = delete("?name=a&name=b").await.expect(409);
    assert_eq!(reply.json()["active_deployments"], json!([id]));
    assert!(!reply.error().is_empty());
    assert!(reply.json()["request_id"].is_string());
    assert_eq!(
        world
            .get("/artifacts")
            .await
            .json()
            .as_array()
            .unwrap()
            .len(),
        4
    );
    delete("").await.expect(400);
    delete("?name=b&name=unknown").await.expect(204);
    let path = format!("/deployments/{id}/status");
    world
        .put(&path, json!({"status": "aborted"}))
        .await
        .expect(204);
    delete("?name=a").await.expect(204);
    let left = world.get("/artifacts").await.json();
    assert_eq!(names(&left), ["c"]);
    assert_eq!(world.files(), 1);
}

#[tokio::test]
async fn artifacts_are_listed_by_page_and_filter() {
    let world = world().await;
    let list = |path: &'static str| {
        let world = &world;
        async move { world.get(path).await }
    };
    for (path, expected) in [
        ("/artifacts/list", vec!["a", "a", "b", "c"]),
        ("/artifacts/list?sort=name:desc", vec!["c", "b", "a", "a"]),
        (
            "/artifacts/list?sort=modified:desc",
            vec!["b", "a", "a", "c"],
        ),
        ("/artifacts/list?device_type=arm", vec!["a", "b"]),
        ("/artifacts/list?name=a&per_page=1", vec!["a"]),
        ("/artifacts/list?description=x", vec![]),
    ] {
        let reply = list(path).await.expect(200);
        assert_eq!(names(&reply.json()), expected, "{path}");
        assert!(reply.headers.contains_key("x-total-count"));
    }
    for path in [
        "/artifacts/list?sort=tags",
        "/artifacts/list?sort=x",
        "/artifacts/list?page=x",
    ] {
        list(path).await.expect(400);
    }
    for (query, expected) in [
        ("", vec!["a", "a", "b", "c"]),
        ("?name=a&name=c", vec!["a", "a", "c"]),
        ("?name=a*", vec!["a", "a"]),
        ("?device_type=q*&name=c", vec!["c"]),
        ("?per_page=3&page=2", vec!["c"]),
    ] {
        let path = format!("/artifacts{query}");
        let reply = world.v2("GET", &path, None).await.expect(200);
        assert_eq!(names(&reply.json()), expected, "{query}");
    }
    world
        .v2("GET", "/artifacts?name=a*&name=b", None)
        .await
        .expect(400);
}

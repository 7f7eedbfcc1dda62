//! Tenants and their users as neighbours see them.

use ambidex_tenantadm::Plan;
use serde_json::json;

use crate::rig::World;

#[tokio::test]
async fn a_tenant_token_opens_its_active_tenant() {
    let world = World::new();
    let acme = world.tenantadm.create("Acme", Plan::Os).await.unwrap();
    let other = world
        .tenantadm
        .create("Other", Plan::Enterprise)
        .await
        .unwrap();
    assert_eq!(
        world.told(),
        [
            format!("limit {} 50", acme.id),
            format!("limit {} 0", other.id)
        ]
    );
    assert_ne!(acme.token, other.token);
    let (status, json) = world.verify(&acme.token).await;
    assert_eq!(status, 200);
    assert_eq!(
        json,
        json!({
            "id": acme.id, "name": "Acme", "tenant_token": acme.token, "status": "active", "plan": "os",
            "trial": false, "trial_expiration": null, "created_at": "2021-02-01T10:00:00Z",
            "addons": [
                {"name": "configure", "enabled": false},
                {"name": "troubleshoot", "enabled": false},
                {"name": "monitor", "enabled": false},
            ],
            "api_limits": {
                "management": {"bursts": [], "quota": {"max_calls": 0, "interval_sec": 0}},
                "devices": {"bursts": [], "quota": {"max_calls": 0, "interval_sec": 0}},
            },
        })
    );
    let altered = format!("{}x", acme.token);
    for bad in ["nonsense", altered.as_str()] {
        let (status, json) = world.verify(bad).await;
        assert_eq!(
            (status, json["error"].as_str()),
            (401, Some("tenant_token is invalid"))
        );
    }
    assert_eq!(world.call("POST", "/tenants/verify", "").await.0, 400);

    let path = format!("/tenants/{}/status", acme.id);
    assert_eq!(
        world
            .call("PUT", &path, json!({"status": "suspended"}))
            .await
            .0,
        200
    );
    assert_eq!(world.told(), [format!("revoke {}", acme.id)]);
    let (status, json) = world.verify(&acme.token).await;
    assert_eq!(
        (status, json["error"].as_str()),
        (401, Some("Account suspended"))
    );
    assert_eq!(
        world
            .call("PUT", &path, json!({"status": "active"}))
            .await
            .0,
        200
    );
    assert_eq!(world.verify(&acme.token).await.0, 200, "data was kept");
    for (path, body, status) in [
        (path.as_str(), json!({"status": "inactive"}), 400),
        (path.as_str(), json!({}), 400),
        ("/tenants/nobody/status", json!({"status": "active"}), 404),
    ] {
        assert_eq!(world.call("PUT", path, body).await.0, status);
    }
}

#[tokio::test]
async fn tenants_are_listed_and_searched() {
    let world = World::new();
    let mut ids = Vec::new();
    for name in ["Acme", "Foo 100%", "Foo Inc."] {
        ids.push(
            world
                .tenantadm
                .create(name, Plan::Enterprise)
                .await
                .unwrap()
                .id,
        );
        world.clock.advance(1);
    }
    world
        .tenantadm
        .user_saved(&ids[0], "u1", "root@acme.example")
        .await
        .unwrap();
    let names = async |query: &str| -> String {
        let (status, _, json) = world.call("GET", &format!("/tenants?{query}"), "").await;
        assert_eq!(status, 200, "{query}");
        let list = json.as_array().unwrap().clone();
        list.iter()
            .map(|t| t["name"].as_str().unwrap().to_owned())
            .collect::<Vec<_>>()
            .join(",")
    };
    assert_eq!(names("").await, "Acme,Foo 100%,Foo Inc.");
    assert_eq!(names("per_page=2&page=2").await, "Foo Inc.");
    assert_eq!(names("q=foo").await, "Foo 100%,Foo Inc.");
    assert_eq!(
        names("q=0%25").await,
        "Foo 100%",
        "a percent sign is a percent sign"
    );
    assert_eq!(names(&format!("q={}", ids[1])).await, "Foo 100%");
    assert_eq!(names("q=acme.example").await, "Acme", "by user");
    assert_eq!(names("username=ROOT@acme.example").await, "Acme");
    assert_eq!(names("username=nobody@acme.example").await, "");
    let (_, headers, _) = world.call("GET", "/tenants?per_page=2", "").await;
    let links: Vec<_> = headers
        .get_all("link")
        .iter()
        .map(|l| l.to_str().unwrap())
        .collect();
    assert_eq!(links.len(), 2);
    assert!(
        links[1].ends_with("page=2&per_page=2>; rel=\"next\""),
        "{links:?}"
    );
    assert_eq!(world.call("GET", "/tenants?per_page=501", "").await.0, 400);
    assert_eq!(
        world
            .call("GET", &format!("/tenants/{}", ids[0]), "")
            .await
            .0,
        200
    );
    assert_eq!(world.call("GET", "/tenants/nobody", "").await.0, 404);
}

#[tokio::test]
async fn tenants_are_changed_in_part() {
    let world = World::new();
    let id = world.tenantadm.create("Acme", Plan::Os).await.unwrap().id;
    world.told();
    let path = format!("/tenants/{id}");
    let limits = json!({"quota": {"max_calls": 100, "interval_sec": 60}, "bursts": [
        {"action": "PATCH", "uri": "/api/devices/v1/inventory/device/attributes", "min_interval_sec": 10}]});
    let change = json!({"plan": "professional", "trial": true, "trial_expiration": "2021-03-01T00:00:00Z",
        "api_limits": {"devices": limits}});
    assert_eq!(world.call("PUT", &path, change).await.0, 204);
    assert_eq!(
        world.told(),
        [format!("limit {id} 250"), format!("revoke {id}")]
    );
    assert_eq!(
        world
            .call("PUT", &path, json!({"name": "Acme Inc."}))
            .await
            .0,
        204
    );
    assert_eq!(
        world.told(),
        Vec::<String>::new(),
        "tokens do not carry the name"
    );
    let (_, _, tenant) = world.call("GET", &path, "").await;
    assert_eq!(tenant["name"], "Acme Inc.");
    assert_eq!(
        (&tenant["plan"], &tenant["trial"]),
        (&json!("professional"), &json!(true))
    );
    assert_eq!(tenant["trial_expiration"], "2021-03-01T00:00:00Z");
    assert_eq!(tenant["api_limits"]["devices"], limits);
    for bad in [
        json!({"plan": "golden"}),
        json!({"trial_expiration": "soon"}),
        json!({"name": ""}),
        json!({"addons": [{"name": "x"}]}),
        json!(7),
    ] {
        assert_eq!(world.call("PUT", &path, &bad).await.0, 400, "{bad}");
    }
    assert_eq!(
        world
            .call("PUT", "/tenants/nobody", json!({"name": "x"}))
            .await
            .0,
        404
    );
}

#[tokio::test]
async fn users_belong_to_tenants() {
    let world = World::new();
    let id = world.tenantadm.create("Acme", Plan::Os).await.unwrap().id;
    let new = json!({"id": "u1", "name": "Bob@acme.example", "tenant_id": id, "login": {"github": "1234"}});
    let (status, headers, _) = world.call("POST", "/users", &new).await;
    assert_eq!(
        (status, headers["location"].to_str().unwrap()),
        (201, "users/u1")
    );
    for (body, status) in [
        (new.clone(), 422),
        (json!({"name": "bob@acme.example", "tenant_id": id}), 422),
        (json!({"name": "x@y.z", "tenant_id": "nobody"}), 404),
        (json!({"tenant_id": id}), 400),
        (json!([]), 400),
    ] {
        assert_eq!(
            world.call("POST", "/users", &body).await.0,
            status,
            "{body}"
        );
    }
    let bob = json!([{"id": "u1", "name": "bob@acme.example", "tenant_id": id, "plan": "os", "login": {"github": "1234"}}]);
    for (query, found) in [
        (String::new(), true),
        ("?name=BOB@acme.example".to_owned(), true),
        (format!("?tenant_id={id}&id=u1"), true),
        ("?login=github:1234".to_owned(), true),
        ("?login=google:1&login=github:1234".to_owned(), true),
        ("?login=github:12345".to_owned(), false),
        ("?id=u2".to_owned(), false),
        ("?page=2".to_owned(), false),
    ] {
        let (status, _, list) = world.call("GET", &format!("/users{query}"), "").await;
        assert_eq!(
            (status, list),
            (200, if found { bob.clone() } else { json!([]) }),
            "{query}"
        );
    }
    assert_eq!(world.call("GET", "/users?login=github", "").await.0, 400);
    let path = format!("/tenants/{id}/users/u1");
    assert_eq!(
        world
            .call("PUT", &path, json!({"name": "robert@acme.example"}))
            .await
            .0,
        204
    );
    assert_eq!(world.call("PUT", &path, json!({})).await.0, 400);
    assert_eq!(
        world
            .call("PUT", "/tenants/other/users/u1", json!({"name": "x@y.z"}))
            .await
            .0,
        404
    );
    world
        .tenantadm
        .user_saved(&id, "u2", "eve@acme.example")
        .await
        .unwrap();
    assert_eq!(
        world
            .call("PUT", &path, json!({"name": "eve@acme.example"}))
            .await
            .0,
        422
    );
    for _ in 0..2 {
        assert_eq!(world.call("DELETE", &path, "").await.0, 204);
    }
    assert_eq!(world.call("GET", "/users?id=u1", "").await.2, json!([]));
    for path in ["/alive", "/health"] {
        assert_eq!(world.call("GET", path, "").await.0, 204);
    }
}

//! Roles: written and read in both versions of the API.

use super::*;

const V2: &str = "/api/management/v2/useradm";

fn http(method: &str, value: &str) -> Value {
    json!({"action": "http", "object": {"type": method, "value": value}})
}

#[tokio::test]
async fn roles_are_written_and_read() {
    let world = World::new();
    let admin = world.with_roles("t1", "admin@b.c", &[]).await;
    let role = json!({"name": "RBAC_ROLE_NAME", "description": "Some role",
        "permissions": [http("GET", "/api/v1/endpoint"), http("POST", "/api/v1/endpoint")]});
    let post = async |body: &Value| world.call("POST", "/roles", &admin, body).await;
    let created = post(&role).await;
    assert_eq!((created.status, created.text.as_str()), (201, ""));
    assert_eq!(created.headers["location"], "roles/RBAC_ROLE_NAME");
    let again = post(&role).await;
    assert_eq!(
        (again.status, again.error().as_str()),
        (422, "role with a given name already exists")
    );
    for (bad, status) in [
        (json!({"permissions": []}), 400),
        (
            json!({"name": "x", "permissions": [http("FETCH", ".*")]}),
            400,
        ),
        (json!({"name": "x", "permissions": [http("GET", "(")]}), 400),
        (
            json!({"name": "x", "permissions": [{"action": "http"}]}),
            400,
        ),
        (json!({"name": "RBAC_ROLE_CI"}), 422),
        (json!([1]), 400),
        (json!({"name": 1}), 400),
    ] {
        assert_eq!(post(&bad).await.status, status, "{bad}");
    }
    let path = "/roles/RBAC_ROLE_NAME";
    assert_eq!(world.call("GET", path, &admin, "").await.json(), role);
    assert_eq!(
        world.call("GET", "/roles/nowhere", &admin, "").await.status,
        404
    );
    let list = world.call("GET", "/roles", &admin, "").await.json();
    let names: Vec<_> = list
        .as_array()
        .unwrap()
        .iter()
        .map(|r| r["name"].as_str().unwrap())
        .collect();
    assert_eq!(
        names,
        [
            "RBAC_ROLE_PERMIT_ALL",
            "RBAC_ROLE_OBSERVER",
            "RBAC_ROLE_CI",
            "RBAC_ROLE_DEPLOYMENTS_MANAGER",
            "RBAC_ROLE_REMOTE_TERMINAL",
            "RBAC_ROLE_NAME"
        ]
    );
    assert_eq!(
        list[0]["permissions"],
        json!([{"action": "any", "object": {"type": "any", "value": "any"}}])
    );

    let changed =
        json!({"name": "RBAC_ROLE_NAME", "description": "New", "permissions": [http("any", ".*")]});
    let put = async |path: &str, body: &Value| world.call("PUT", path, &admin, body).await.status;
    assert_eq!(put(path, &changed).await, 202);
    assert_eq!(world.call("GET", path, &admin, "").await.json(), changed);
    assert_eq!(
        put(path, &json!({"description": "no name", "permissions": []})).await,
        202
    );
    assert_eq!(put(path, &json!({"name": "other"})).await, 400);
    assert_eq!(
        put(path, &json!({"permissions": [http("GET", "")]})).await,
        400
    );
    assert_eq!(
        put("/roles/nowhere", &json!({"name": "nowhere"})).await,
        404
    );
    assert_eq!(
        put("/roles/RBAC_ROLE_CI", &json!({"name": "RBAC_ROLE_CI"})).await,
        400,
        "built in"
    );
    assert_eq!(
        world
            .call("DELETE", "/roles/RBAC_ROLE_CI", &admin, "")
            .await
            .status,
        403
    );
    for who in ["it", "gone"] {
        assert_eq!(
            world.call("DELETE", path, &admin, "").await.status,
            204,
            "{who}"
        );
    }
    assert_eq!(world.call("GET", path, &admin, "").await.status, 404);
    let events = world.events().await;
    let actions: Vec<_> = events.iter().map(|e| e["action"].clone()).collect();
    assert_eq!(actions, ["create", "update", "update", "delete"]);
    let change = events[1]["change"].as_str().unwrap();
    assert!(
        change.contains("Diff:\n--- Original\n+++ Current\n@@ "),
        "{change}"
    );
    assert!(
        change.contains("Some role") && change.contains("New"),
        "{change}"
    );
}

#[tokio::test]
async fn roles_are_made_of_sets_in_version_2() {
    let world = World::new();
    let admin = world.with_roles("t1", "admin@b.c", &[]).await;
    let roles = format!("{V2}/roles");
    let role = json!({"name": "test", "description": "", "permission_sets_with_scope": [
        {"name": "ReadDevices", "scope": {"type": "DeviceGroups", "value": ["test"]}},
        {"name": "ReadReleases"}]});
    let post = async |body: &Value| world.call("POST", &roles, &admin, body).await.status;
    assert_eq!(post(&role).await, 201);
    assert_eq!(post(&role).await, 422);
    for sets in [
        json!([]),
        json!([{"name": "Nonsense"}]),
        json!([{"name": "ReadUsers", "scope": {"type": "DeviceGroups", "value": ["x"]}}]),
        json!([{"name": "ReadDevices", "scope": {"type": "ReleaseTags", "value": ["x"]}}]),
        json!([{"name": "ReadDevices", "scope": {"type": "DeviceGroups", "value": []}}]),
    ] {
        let bad = json!({"name": "bad", "permission_sets_with_scope": sets});
        assert_eq!(post(&bad).await, 400, "{bad}");
    }
    let path = format!("{roles}/test");
    assert_eq!(world.call("GET", &path, &admin, "").await.json(), role);
    let plain = world.call("GET", "/roles/test", &admin, "").await.json();
    let group =
        json!({"action": "VIEW_DEVICE", "object": {"type": "DEVICE_GROUP", "value": "test"}});
    assert!(
        plain["permissions"].as_array().unwrap().contains(&group),
        "{plain}"
    );
    let put = json!({"description": "d", "permission_sets_with_scope": [{"name": "ReadUsers"}]});
    assert_eq!(world.call("PUT", &path, &admin, &put).await.status, 202);
    assert_eq!(
        world.call("GET", &path, &admin, "").await.json()["description"],
        "d"
    );

    let page = world
        .call("GET", &format!("{roles}?per_page=2&page=3"), &admin, "")
        .await;
    assert_eq!(page.headers["x-total-count"], "6");
    assert_eq!(page.json().as_array().unwrap().len(), 2);
    let sets = world
        .call(
            "GET",
            &format!("{V2}/permission_sets?per_page=500"),
            &admin,
            "",
        )
        .await
        .json();
    let names: Vec<_> = sets
        .as_array()
        .unwrap()
        .iter()
        .map(|s| s["name"].as_str().unwrap())
        .collect();
    let mut wanted = [
        "Basic",
        "ReadDevices",
        "ManageDevices",
        "DeployToDevices",
        "ConfigureDevices",
        "ConnectToDevices",
        "ReadReleases",
        "ManageReleases",
        "UploadArtifacts",
        "ReadUsers",
        "ManageUsers",
        "ManageTokens",
        "ReadAuditLogs",
        "SuperUser",
    ];
    wanted.sort_unstable();
    let mut sorted = names.clone();
    sorted.sort_unstable();
    assert_eq!(sorted, wanted);
    assert_eq!(world.call("DELETE", &path, &admin, "").await.status, 204);
    assert_eq!(world.call("GET", &path, &admin, "").await.status, 404);
}

#[tokio::test]
async fn roles_stay_in_their_tenant_and_plan() {
    let world = World::new();
    let one = world.with_roles("t1", "one@b.c", &[]).await;
    let single = world.with_roles("", "single@b.c", &[]).await;
    let role = json!({"name": "mine"});
    assert_eq!(world.call("POST", "/roles", &one, &role).await.status, 201);
    assert_eq!(
        world.call("GET", "/roles/mine", &single, "").await.status,
        404
    );
    let list = world.call("GET", "/roles", &single, "").await.text;
    assert!(!list.contains("mine"));
    assert_eq!(
        world
            .call("PUT", "/roles/mine", &single, &role)
            .await
            .status,
        404
    );
    assert_eq!(
        world
            .call("DELETE", "/roles/mine", &single, "")
            .await
            .status,
        204
    );
    assert_eq!(
        world.call("GET", "/roles/mine", &one, "").await.status,
        200,
        "still there"
    );
    let other = json!({"email": "x@b.c", "password": PASSWORD, "roles": ["mine"]});
    assert_eq!(
        world.call("POST", "/users", &single, &other).await.status,
        422
    );
    assert_eq!(world.call("POST", "/users", &one, &other).await.status, 201);

    for (tenant, email) in [("t2", "os@b.c"), ("t3", "professional@b.c")] {
        let token = world.with_roles(tenant, email, &[]).await;
        for (method, path) in [
            ("GET", "/roles"),
            ("POST", "/roles"),
            ("GET", "/roles/x"),
            ("PUT", "/roles/x"),
            ("DELETE", "/roles/x"),
            ("GET", "/api/management/v2/useradm/roles"),
            ("GET", "/api/management/v2/useradm/permission_sets"),
        ] {
            let answer = world.call(method, path, &token, "{}").await;
            assert_eq!(
                (answer.status, answer.error().as_str()),
                (403, "Feature not available in your Plan."),
                "{email} {method} {path}"
            );
        }
    }
}

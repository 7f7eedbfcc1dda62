//! What roles open, as services and the gateway are told.

use super::*;

const DEVICES: &str = "/api/management/v1/inventory/devices";
const DENIED: &str = "forbidden by role-based access control";

#[tokio::test]
async fn roles_open_requests() {
    let world = World::new();
    let observer = world
        .with_roles("t1", "observer@b.c", &["RBAC_ROLE_OBSERVER"])
        .await;
    let ci = world.with_roles("t1", "ci@b.c", &["RBAC_ROLE_CI"]).await;
    for (token, method, path, status) in [
        (&observer, "GET", "/users", 200),
        (&observer, "POST", "/users", 403),
        (&observer, "DELETE", "/users/x", 403),
        (&observer, "GET", "/users/me", 200),
        (&ci, "GET", "/users", 403),
        (&ci, "GET", "/users/me", 200),
        (&ci, "GET", "/settings/me", 200),
        (&ci, "GET", "/settings/tokens", 403),
        (&ci, "GET", "/settings", 200),
    ] {
        let answer = world.call(method, path, token, "{}").await;
        assert_eq!(answer.status, status, "{method} {path}: {}", answer.text);
        if status == 403 {
            assert_eq!(answer.error(), DENIED);
        }
    }
    for (token, method, uri, status) in [
        (&observer, "GET", DEVICES, 200),
        (&observer, "DELETE", DEVICES, 403),
        (&ci, "GET", DEVICES, 403),
        (
            &ci,
            "GET",
            "/api/management/v1/deployments/artifacts?page=2",
            200,
        ),
        (
            &ci,
            "GET",
            "/api/management/v1/useradm/users?x=/deployments/artifacts",
            403,
        ),
    ] {
        let answer = world.verify(token, method, uri).await;
        assert_eq!(answer.status, status, "{method} {uri}");
        assert!(!answer.headers.contains_key("x-men-rbac-inventory-groups"));
    }
    assert_eq!(
        world.call("POST", "/auth/logout", &ci, "").await.status,
        202,
        "always"
    );
}

#[tokio::test]
async fn the_gateway_is_told_what_is_left() {
    let world = World::new();
    let admin = world.with_roles("t1", "admin@b.c", &[]).await;
    let role = json!({"name": "test", "permissions": [
        {"action": "VIEW_DEVICE", "object": {"type": "DEVICE_GROUP", "value": "test"}},
        {"action": "VIEW_DEVICE", "object": {"type": "DEVICE_GROUP", "value": "staging"}},
        {"action": "CREATE_DEPLOYMENT", "object": {"type": "DEVICE_GROUP", "value": "test"}},
        {"action": "REMOTE_TERMINAL", "object": {"type": "DEVICE_GROUP", "value": "lab"}},
        {"action": "http", "object": {"type": "any", "value": "^/api/management/v1/(inventory|deployments)/"}}]});
    assert_eq!(
        world.call("POST", "/roles", &admin, &role).await.status,
        201
    );
    let token = world.with_roles("t1", "user@b.c", &["test"]).await;
    let answer = world.verify(&token, "GET", DEVICES).await;
    assert_eq!(answer.status, 200);
    for (name, wanted) in [
        ("x-men-rbac-inventory-groups", Some("staging,test")),
        ("x-men-rbac-deployments-groups", Some("test")),
        ("x-men-rbac-remote-terminal-groups", Some("lab")),
        ("x-men-rbac-releases-tags", None),
    ] {
        let value = answer
            .headers
            .get(name)
            .map(|value| value.to_str().unwrap());
        assert_eq!(value, wanted, "{name}");
    }
    assert_eq!(
        world
            .verify(&token, "GET", "/api/management/v1/auditlogs/logs")
            .await
            .status,
        403
    );

    // Another role of the user, at once.
    let change = json!({"name": "test", "permissions": []});
    assert_eq!(
        world
            .call("PUT", "/roles/test", &admin, &change)
            .await
            .status,
        202
    );
    assert_eq!(world.verify(&token, "GET", DEVICES).await.status, 403);
    // Without any role nothing is left but the own account: full access does not come back.
    assert_eq!(
        world.call("DELETE", "/roles/test", &admin, "").await.status,
        204
    );
    assert_eq!(world.verify(&token, "GET", DEVICES).await.status, 403);
    let me = world.call("GET", "/users/me", &token, "").await.json();
    assert_eq!(me["roles"], json!([]));
}

#[tokio::test]
async fn nobody_makes_himself_more_than_he_is() {
    let world = World::new();
    let observer = world
        .with_roles("t1", "observer@b.c", &["RBAC_ROLE_OBSERVER"])
        .await;
    let put = async |body: Value| world.call("PUT", "/users/me", &observer, body).await;
    let answer = put(json!({"roles": ["RBAC_ROLE_PERMIT_ALL"]})).await;
    assert_eq!((answer.status, answer.error().as_str()), (403, DENIED));
    let same = json!({"roles": ["RBAC_ROLE_OBSERVER"], "email": "other@b.c"});
    assert_eq!(put(same).await.status, 204, "the same roles change nothing");
    let me = world.call("GET", "/users/me", &observer, "").await.json();
    assert_eq!(me["roles"], json!(["RBAC_ROLE_OBSERVER"]));
    let id = me["id"].as_str().unwrap();
    let answer = world
        .call("PUT", &format!("/users/{id}"), &observer, "{}")
        .await;
    assert_eq!(answer.status, 403);
}

#[tokio::test]
async fn those_who_see_a_device_are_listed() {
    let world = World::new();
    let admin = world.with_roles("t1", "admin@b.c", &[]).await;
    for group in ["test", "production"] {
        let role = json!({"name": group, "permission_sets_with_scope": [
            {"name": "ReadDevices", "scope": {"type": "DeviceGroups", "value": [group]}}]});
        let path = "/api/management/v2/useradm/roles";
        assert_eq!(world.call("POST", path, &admin, &role).await.status, 201);
        world
            .with_roles("t1", &format!("{group}@b.c"), &[group])
            .await;
    }
    world.with_roles("t1", "ci@b.c", &["RBAC_ROLE_CI"]).await;
    world.with_roles("", "foreign@b.c", &[]).await;
    for (tenant, device, wanted) in [
        ("t1", "d-test", &["admin@b.c", "test@b.c"][..]),
        ("t1", "d-production", &["admin@b.c", "production@b.c"]),
        ("t1", "ungrouped", &["admin@b.c"]),
        ("", "d-test", &["foreign@b.c"]),
        ("nowhere", "d-test", &[]),
    ] {
        let path = format!("/tenants/{tenant}/devices/{device}/users");
        let answer = world.inner("GET", &path, &[], "").await.json();
        // users of the same instant come in any order
        let mut emails: Vec<&str> = answer["emails"]
            .as_array()
            .unwrap()
            .iter()
            .map(|email| email.as_str().unwrap())
            .collect();
        emails.sort_unstable();
        assert_eq!(emails, wanted, "{path}");
    }
}

#[tokio::test]
async fn neighbours_remove_users() {
    let world = World::new();
    for tenant in ["t1", ""] {
        let email = format!("user{tenant}@b.c");
        let id = world.user(tenant, &email).await;
        let token = world.login(&email).await;
        let path = format!("/tenants/{tenant}/users/{id}");
        for _ in 0..2 {
            assert_eq!(world.inner("DELETE", &path, &[], "").await.status, 204);
        }
        assert_eq!(world.call("GET", "/users/me", &token, "").await.status, 401);
    }
    assert!(world.events().await.is_empty());
}

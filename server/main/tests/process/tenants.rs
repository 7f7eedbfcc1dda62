//! Tenants on the command line and over HTTP.

use crate::instance::{Instance, PASSWORD, http, verb, verb_ok};

#[test]
fn tenants_are_apart() {
    let dir = tempfile::tempdir().unwrap();
    let server = Instance::start(dir.path(), &["--multi-tenant"]);
    let create = |name: &str, email: &str| {
        verb_ok(
            &server.data_dir,
            &[
                "tenant",
                "create",
                "--name",
                name,
                "--email",
                email,
                "--password",
                PASSWORD,
                "--plan",
                "professional",
            ],
        )
    };
    let (one, two) = (
        create("One", "a@one.example"),
        create("Two", "a@two.example"),
    );
    let again = [
        "tenant",
        "create",
        "--name",
        "Three",
        "--email",
        "a@one.example",
        "--password",
        PASSWORD,
    ];
    assert!(!verb(&server.data_dir, &again).status.success());
    let list = verb_ok(&server.data_dir, &["tenant", "list"]);
    assert_eq!(
        list.lines().count(),
        2,
        "the tenant of a refused user is gone: {list}"
    );

    let shown: serde_json::Value =
        serde_json::from_str(&verb_ok(&server.data_dir, &["tenant", "show", &one])).unwrap();
    assert_eq!(
        (&shown["name"], &shown["plan"], &shown["status"]),
        (&"One".into(), &"professional".into(), &"active".into())
    );
    let tenant_token = shown["tenant_token"].as_str().unwrap();
    let verify = |token: &str| {
        let path = "/api/internal/v1/tenantadm/tenants/verify";
        http(
            server.internal,
            "POST",
            path,
            &format!("Bearer {token}"),
            "",
        )
        .unwrap()
    };
    assert_eq!(verify(tenant_token).json()["id"], one.as_str());

    let token = server.login("a@one.example", PASSWORD).body;
    let own = server.call(
        "GET",
        "/api/management/v1/tenantadm/user/tenant",
        &token,
        "",
    );
    assert_eq!(
        (
            own.status,
            own.json()["tenant_token"].as_str().unwrap().to_owned()
        ),
        (200, tenant_token.to_owned())
    );
    let users = server
        .call("GET", "/api/management/v1/useradm/users", &token, "")
        .json();
    assert_eq!(users.as_array().unwrap().len(), 1, "{users}");
    let limit = server.call(
        "GET",
        "/api/management/v2/devauth/limits/max_devices",
        &token,
        "",
    );
    assert_eq!(limit.json()["limit"], 250);

    // Suspension ends everything at once, and only for this tenant.
    let other = server.login("a@two.example", PASSWORD).body;
    let status = |id: &str, status: &str| {
        let body = format!(r#"{{"status":"{status}"}}"#);
        let path = format!("/api/internal/v1/tenantadm/tenants/{id}/status");
        assert_eq!(
            http(server.internal, "PUT", &path, "", &body)
                .unwrap()
                .status,
            200
        );
    };
    status(&one, "suspended");
    let me = "/api/management/v1/useradm/users/me";
    assert_eq!(server.call("GET", me, &token, "").status, 401);
    assert_eq!(server.call("GET", me, &other, "").status, 200);
    assert_eq!(server.login("a@one.example", PASSWORD).status, 401);
    assert_eq!(verify(tenant_token).status, 401);
    status(&one, "active");
    assert_eq!(server.login("a@one.example", PASSWORD).status, 200);
    assert_eq!(verify(tenant_token).status, 200);
    assert_eq!(
        server.call("GET", me, &token, "").status,
        401,
        "ended sessions stay ended"
    );
    assert_ne!(one, two);
}

#[test]
fn a_server_of_one_tenant_has_none_to_show() {
    let dir = tempfile::tempdir().unwrap();
    let server = Instance::start_with_user(dir.path());
    let answer = server.call(
        "GET",
        "/api/management/v1/tenantadm/user/tenant",
        &server.token(),
        "",
    );
    assert_eq!(answer.status, 404);
}

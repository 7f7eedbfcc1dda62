//! Roles across the services (U19, U20): given on the command line, enforced by the whole server.

use serde_json::{Value, json};

use crate::instance::{Instance, PASSWORD, http, verb, verb_ok};

const DEVICES: &str = "/api/management/v1/inventory/devices";
const ROLES: &str = "/api/management/v1/useradm/roles";

fn user(server: &Instance, email: &str, roles: &[&str]) -> String {
    let mut arguments = vec!["user", "create", "--email", email, "--password", PASSWORD];
    for role in roles {
        arguments.extend(["--role", role]);
    }
    verb_ok(&server.data_dir, &arguments);
    let answer = server.login(email, PASSWORD);
    assert_eq!(answer.status, 200, "{}", answer.body);
    answer.body
}

/// Devices `1` and `2` in the groups `test` and `production`.
fn fleet(server: &Instance, admin: &str) {
    for (id, group) in [("1", "test"), ("2", "production")] {
        let path = "/api/internal/v1/inventory/tenants//devices";
        let body =
            json!({"id": id, "attributes": [{"name": "n", "value": id, "scope": "inventory"}]});
        let answer = http(server.internal, "POST", path, "", &body.to_string());
        assert_eq!(answer.unwrap().status, 201);
        let group = json!({"group": group}).to_string();
        let put = server.call("PUT", &format!("{DEVICES}/{id}/group"), admin, &group);
        assert_eq!(put.status, 204, "{}", put.body);
    }
}

#[test]
fn roles_are_enforced_by_every_service() {
    let dir = tempfile::tempdir().unwrap();
    let server = Instance::start(dir.path(), &[]);
    let admin = user(&server, "admin@example.com", &[]);
    fleet(&server, &admin);
    let refused = [
        "user",
        "create",
        "--email",
        "x@example.com",
        "--password",
        PASSWORD,
        "--role",
        "X",
    ];
    let output = verb(&server.data_dir, &refused);
    assert!(!output.status.success());
    assert!(String::from_utf8_lossy(&output.stderr).contains("role X does not exist"));

    let observer = user(&server, "observer@example.com", &["RBAC_ROLE_OBSERVER"]);
    let list = verb_ok(&server.data_dir, &["user", "list"]);
    assert!(list.contains("\tRBAC_ROLE_OBSERVER"), "{list}");
    let devauth = |id: &str| format!("/api/management/v2/devauth/devices/{id}");
    for (method, path, status) in [
        ("GET", DEVICES.to_owned(), 200),
        ("DELETE", format!("{DEVICES}/1"), 403),
        ("DELETE", devauth("1"), 403),
        (
            "POST",
            "/api/management/v1/deployments/deployments".to_owned(),
            403,
        ),
        ("GET", "/api/management/v1/auditlogs/logs".to_owned(), 403),
        ("GET", "/api/management/v1/useradm/users/me".to_owned(), 200),
    ] {
        let answer = server.call(method, &path, &observer, "");
        assert_eq!(answer.status, status, "{method} {path}: {}", answer.body);
        if status == 403 {
            assert!(
                answer
                    .body
                    .contains("forbidden by role-based access control")
            );
        }
    }

    let group = json!({"name": "test only", "permissions": [
        {"action": "http", "object": {"type": "any", "value": "^/api/management/"}},
        {"action": "VIEW_DEVICE", "object": {"type": "DEVICE_GROUP", "value": "test"}}]});
    assert_eq!(
        server
            .call("POST", ROLES, &admin, &group.to_string())
            .status,
        201
    );
    let limited = user(&server, "limited@example.com", &["test only"]);
    let ids = |token: &str| -> Value {
        let search = "/api/management/v2/inventory/filters/search";
        let found = server.call("POST", search, token, "{}");
        assert!(found.head.contains("x-total-count"));
        found
            .json()
            .as_array()
            .unwrap()
            .iter()
            .map(|device| device["id"].clone())
            .collect()
    };
    assert_eq!(ids(&admin), json!(["1", "2"]));
    assert_eq!(ids(&limited), json!(["1"]));
    for (path, status) in [
        (format!("{DEVICES}/1"), 200),
        (format!("{DEVICES}/2"), 404),
        // Unknown there, but it may be asked for.
        (devauth("1"), 404),
        (devauth("2"), 403),
        (devauth("3"), 403),
    ] {
        assert_eq!(
            server.call("GET", &path, &limited, "").status,
            status,
            "{path}"
        );
    }
    // A change of the role holds at once.
    let change = json!({"name": "test only", "permissions": []}).to_string();
    let put = server.call("PUT", &format!("{ROLES}/test%20only"), &admin, &change);
    assert_eq!(put.status, 202, "{}", put.body);
    assert_eq!(server.call("GET", DEVICES, &limited, "").status, 403);
}

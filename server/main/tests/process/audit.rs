//! From an operation to the audit log.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::instance::{EMAIL, Instance};

const DEVICES: &str = "/api/management/v2/devauth/devices";
const LOGS: &str = "/api/management/v1/auditlogs/logs";
const KEY: &str = "-----BEGIN PUBLIC KEY-----\nMCowBQYDK2VwAyEAGb9ECWmEzf6FQbrBZ9w7lshQhqowtrbLDFw4rXAxZuE=\n-----END PUBLIC KEY-----\n";

/// The events of a query, once there are so many.
fn events(server: &Instance, token: &str, query: &str, count: usize) -> Vec<Value> {
    let started = Instant::now();
    loop {
        let answer = server.call("GET", &format!("{LOGS}?{query}"), token, "");
        assert_eq!(answer.status, 200, "{}", answer.body);
        let list = answer.json().as_array().unwrap().clone();
        if list.len() == count {
            return list;
        }
        assert!(
            started.elapsed() < Duration::from_secs(30),
            "wanted {count} events of {query}: {list:?}"
        );
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn changes_are_on_record_with_who_made_them() {
    let dir = tempfile::tempdir().unwrap();
    let server = Instance::start_with_user(dir.path());
    let token = server.token();
    let body = json!({"identity_data": {"mac": "1"}, "pubkey": KEY}).to_string();
    let created = server.call("POST", DEVICES, &token, &body);
    assert_eq!(created.status, 201);
    let id = created
        .head
        .lines()
        .find_map(|line| line.strip_prefix("location: devices/"))
        .unwrap()
        .to_owned();
    // Neither a refusal nor a reading nor the login is on record.
    assert_eq!(server.call("POST", DEVICES, &token, &body).status, 409);
    assert_eq!(server.call("GET", DEVICES, &token, "").status, 200);
    let device = format!("{DEVICES}/{id}");
    assert_eq!(server.call("DELETE", &device, &token, "").status, 204);

    let found = events(&server, &token, "object_type=device", 2);
    for (event, action) in found.iter().zip(["decommission", "preauthorize"]) {
        assert_eq!(event["action"], action);
        assert_eq!(event["actor"]["type"], "user");
        assert_eq!(event["actor"]["email"], EMAIL);
        assert_eq!(event["object"]["id"], id.as_str());
        // Known although the device is gone.
        assert_eq!(event["object"]["device"]["identity_data"], r#"{"mac":"1"}"#);
    }
    assert_eq!(events(&server, &token, "", 2), found);
    // What was on its way when the server was killed arrives after the next start.
    assert_eq!(server.call("POST", DEVICES, &token, &body).status, 201);
    server.kill();
    let server = Instance::start(dir.path(), &[]);
    assert_eq!(events(&server, &token, "", 3)[0]["action"], "preauthorize");
    let export = server.call("GET", &format!("{LOGS}/export?ignore=time"), &token, "");
    // As it came, in chunks.
    assert_eq!(export.body.matches(EMAIL).count(), 3);
}

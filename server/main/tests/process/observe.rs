//! What operators can see of a running server: metrics, health, logs.

use serde_json::Value;

use crate::instance::{EMAIL, Instance, PASSWORD, http, verb_ok};

const DEVICES: &str = "/api/management/v2/devauth/devices";

fn metrics(server: &Instance) -> String {
    let answer = http(server.internal, "GET", "/metrics", "", "").unwrap();
    assert_eq!(answer.status, 200);
    assert!(
        answer
            .head
            .contains("content-type: text/plain; version=0.0.4"),
        "{}",
        answer.head
    );
    answer.body
}

/// The value of the sample that starts with this name and these labels.
fn sample(text: &str, start: &str) -> f64 {
    let line = text
        .lines()
        .find(|line| line.starts_with(start))
        .unwrap_or_else(|| panic!("{start} is missing in {text}"));
    line.rsplit(' ').next().unwrap().parse().unwrap()
}

#[test]
fn metrics_count_what_happens() {
    let dir = tempfile::tempdir().unwrap();
    let server = Instance::start_with_user(dir.path());
    let token = server.token();
    let body = r#"{"identity_data":{"mac":"1"},"pubkey":"-----BEGIN PUBLIC KEY-----\nMCowBQYDK2VwAyEAGb9ECWmEzf6FQbrBZ9w7lshQhqowtrbLDFw4rXAxZuE=\n-----END PUBLIC KEY-----\n"}"#;
    assert_eq!(server.call("POST", DEVICES, &token, body).status, 201);
    assert_eq!(
        server
            .call("GET", &format!("{DEVICES}/one"), &token, "")
            .status,
        404
    );
    assert_eq!(
        server
            .call("GET", &format!("{DEVICES}/two"), &token, "")
            .status,
        404
    );
    assert_eq!(
        http(server.public, "GET", "/nowhere", "", "")
            .unwrap()
            .status,
        404
    );
    assert_eq!(
        http(server.public, "GET", "/metrics", "", "")
            .unwrap()
            .status,
        404
    );

    let text = metrics(&server);
    let requests = |method: &str, route: &str, status: u16| {
        let labels = format!("{{method=\"{method}\",route=\"{route}\",status=\"{status}\"}} ");
        sample(&text, &format!("ambidex_http_requests_total{labels}"))
    };
    // Ids in paths do not make routes of their own.
    let one_device = "/api/management/v2/devauth/devices/{id}";
    assert_eq!(requests("GET", one_device, 404), 2.0);
    assert_eq!(requests("POST", DEVICES, 201), 1.0);
    assert_eq!(requests("GET", "unmatched", 404), 2.0);
    let seconds = "ambidex_http_request_duration_seconds";
    let counted = format!("{seconds}_count{{method=\"GET\",route=\"{one_device}\"}} ");
    assert_eq!(sample(&text, &counted), 2.0);
    assert_eq!(
        sample(&text, "ambidex_devices{status=\"preauthorized\"} "),
        1.0
    );
    assert!(sample(&text, "ambidex_http_requests_in_flight ") >= 1.0);
    assert!(sample(&text, "ambidex_http_connections ") >= 1.0);
    assert!(sample(&text, "ambidex_db_commit_duration_seconds_count ") >= 1.0);
    assert!(sample(&text, "process_resident_memory_bytes ") > 1e6);
    assert!(sample(&text, "process_open_fds ") > 5.0);
    // Every sample belongs to a family that was announced, and no family comes twice.
    let mut families = Vec::new();
    for line in text.lines() {
        if let Some(rest) = line.strip_prefix("# TYPE ") {
            families.push(rest.split(' ').next().unwrap());
        } else if !line.starts_with('#') {
            assert!(line.starts_with(families.last().unwrap()), "{line}");
        }
    }
    let announced = families.len();
    families.sort_unstable();
    families.dedup();
    assert_eq!(families.len(), announced, "a family came twice");
}

#[test]
fn json_lines_tell_of_requests_without_secrets() {
    let dir = tempfile::tempdir().unwrap();
    let options = ["--log-format", "json", "--access-log", "--multi-tenant"];
    let server = Instance::start(dir.path(), &options);
    let create = [
        "tenant",
        "create",
        "--name",
        "Acme",
        "--email",
        EMAIL,
        "--password",
        PASSWORD,
    ];
    let tenant = verb_ok(&server.data_dir, &create);
    let token = server.token();
    let path = format!("{DEVICES}?status=accepted");
    let answer = server.call("GET", &path, &token, "");
    assert_eq!(answer.status, 200);
    let id = answer
        .head
        .lines()
        .find_map(|line| line.strip_prefix("x-men-requestid: "))
        .unwrap()
        .to_owned();
    let log = server.log();
    let lines: Vec<Value> = log
        .lines()
        .map(|line| serde_json::from_str(line).unwrap_or_else(|e| panic!("{e}: {line}")))
        .collect();
    let line = lines
        .iter()
        .find(|line| line["request_id"] == id.as_str())
        .unwrap_or_else(|| panic!("no line of request {id} in {log}"));
    assert_eq!(line["tenant"], tenant.as_str());
    assert_eq!(line["status"], 200);
    assert_eq!(line["level"], "INFO");
    assert_eq!(line["message"], format!("GET {DEVICES}"));
    assert!(line["micros"].is_u64());
    for secret in [PASSWORD, &token, "status=accepted"] {
        assert!(!log.contains(secret), "a secret in the log");
    }
}

#[test]
fn the_level_decides_what_is_logged() {
    let dir = tempfile::tempdir().unwrap();
    let server = Instance::start(dir.path(), &["--log-level", "error"]);
    assert_eq!(
        http(server.public, "GET", "/nowhere", "", "")
            .unwrap()
            .status,
        404
    );
    assert_eq!(server.log(), "");
    drop(server);
    let server = Instance::start(dir.path(), &["--log-level", "debug"]);
    assert_eq!(
        http(server.public, "GET", "/nowhere", "", "")
            .unwrap()
            .status,
        404
    );
    assert!(server.log().contains("GET /nowhere"), "{}", server.log());
}

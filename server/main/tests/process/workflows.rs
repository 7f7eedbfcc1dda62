//! Workflows through the whole server: into every service, and across a kill.

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};

use serde_json::{Value, json};

use crate::instance::{Instance, http, wait_for};

/// The example of RFC 8410.
const KEY: &str = "-----BEGIN PUBLIC KEY-----\nMCowBQYDK2VwAyEAGb9ECWmEzf6FQbrBZ9w7lshQhqowtrbLDFw4rXAxZuE=\n-----END PUBLIC KEY-----\n";

fn internal(server: &Instance, method: &str, path: &str, body: &Value) -> (u16, String) {
    let text = if body.is_null() {
        String::new()
    } else {
        body.to_string()
    };
    let answer = http(server.internal, method, path, "", &text).unwrap();
    (answer.status, answer.body)
}

fn start(server: &Instance, workflow: &str, input: &Value) -> String {
    let path = format!("/api/v1/workflow/{workflow}");
    let (status, body) = internal(server, "POST", &path, input);
    assert_eq!(status, 201, "{body}");
    let started: Value = serde_json::from_str(&body).unwrap();
    let id = started["id"].as_str().unwrap();
    format!("{path}/{id}")
}

fn ended(server: &Instance, job: &str) -> Value {
    let document = || {
        let (status, body) = internal(server, "GET", job, &Value::Null);
        assert_eq!(status, 200, "{body}");
        let document: Value = serde_json::from_str(&body).unwrap();
        let status = document["status"].as_str().unwrap();
        ["done", "failed"].contains(&status).then_some(document)
    };
    wait_for(document).unwrap()
}

#[test]
fn a_device_is_gone_from_every_service_when_it_is_decommissioned() {
    let dir = tempfile::tempdir().unwrap();
    let server = Instance::start_with_user(dir.path());
    let token = server.token();
    let devices = "/api/management/v2/devauth/devices";
    let body = json!({"identity_data": {"mac": "00:01"}, "pubkey": KEY}).to_string();
    assert_eq!(server.call("POST", devices, &token, &body).status, 201);
    let list = server.call("GET", devices, &token, "").json();
    let id = list[0]["id"].as_str().unwrap().to_owned();

    let input = json!({"request_id": "r1", "tenant_id": "", "device_id": id});
    let job = start(&server, "provision_device", &input);
    let done = ended(&server, &job);
    assert_eq!(done["status"], "done", "{done}");
    let configuration = format!("/api/management/v1/deviceconfig/configurations/device/{id}");
    let inventory = format!("/api/management/v1/inventory/devices/{id}");
    let connection = format!("/api/management/v1/deviceconnect/devices/{id}");
    for path in [&configuration, &inventory, &connection] {
        assert_eq!(server.call("GET", path, &token, "").status, 200, "{path}");
    }
    let wanted = r#"{"mode":"quiet"}"#;
    let set = server.call("PUT", &configuration, &token, wanted);
    assert_eq!(set.status, 204, "{}", set.body);
    let deploy = format!("{configuration}/deploy");
    let deployed = server.call("POST", &deploy, &token, r#"{"retries":1}"#);
    assert_eq!(deployed.status, 200, "{}", deployed.body);
    let deployment = deployed.json()["deployment_id"]
        .as_str()
        .unwrap()
        .to_owned();
    let path = format!("/api/management/v1/deployments/deployments/{deployment}");
    let shown = server.call("GET", &path, &token, "");
    assert_eq!(shown.status, 200, "{}", shown.body);
    assert_eq!(shown.json()["name"], format!("configuration-{deployment}"));
    let metrics = internal(&server, "GET", "/metrics", &Value::Null).1;
    for line in [
        "ambidex_workflow_jobs{status=\"done\"} 1\n",
        "ambidex_workflow_jobs_ended_total{workflow=\"deploy_device_configuration\",status=\"done\"} 1\n",
    ] {
        assert!(metrics.contains(line), "{line} is missing in {metrics}");
    }

    let device = format!("{devices}/{id}");
    assert_eq!(server.call("DELETE", &device, &token, "").status, 204);
    for path in [&device, &inventory, &configuration, &connection] {
        assert_eq!(server.call("GET", path, &token, "").status, 404, "{path}");
    }
    // It may be asked for again, and a late provisioning brings nothing back.
    for workflow in ["decommission_device", "provision_device"] {
        let done = ended(&server, &start(&server, workflow, &input));
        assert_eq!(done["status"], "done", "{done}");
    }
    for path in [&inventory, &configuration, &connection] {
        assert_eq!(server.call("GET", path, &token, "").status, 404, "{path}");
    }
}

fn request(listener: &TcpListener) -> TcpStream {
    let (mut stream, _) = listener.accept().unwrap();
    let mut seen = Vec::new();
    let mut part = [0; 1024];
    while !seen.ends_with(b"\r\n\r\n") {
        let read = stream.read(&mut part).unwrap();
        assert!(read > 0, "{}", String::from_utf8_lossy(&seen));
        seen.extend_from_slice(&part[..read]);
    }
    stream
}

fn answer(mut stream: TcpStream) {
    let text = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\nconnection: close\r\n\r\n{}";
    stream.write_all(text.as_bytes()).unwrap();
}

#[test]
fn a_killed_server_goes_on_with_the_step_it_was_at() {
    let dir = tempfile::tempdir().unwrap();
    let other = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = other.local_addr().unwrap().port();
    let server = Instance::start(dir.path(), &[]);
    let step = |name: &str| {
        json!({"name": name, "type": "http", "http": {
            "uri": format!("http://127.0.0.1:{port}/{name}"), "method": "GET", "readTimeOut": 60}})
    };
    let steps = json!({"name": "two", "version": 1, "tasks": [step("one"), step("two")]});
    let metadata = "/api/v1/metadata/workflows";
    assert_eq!(internal(&server, "POST", metadata, &steps).0, 201);
    let job = start(&server, "two", &json!({}));
    answer(request(&other));
    let unanswered = request(&other);
    let (_, document) = internal(&server, "GET", &job, &Value::Null);
    assert!(document.contains("\"processing\""), "{document}");
    server.kill();
    drop(unanswered);

    let server = Instance::start(dir.path(), &[]);
    // Not the first step again, and not after the lease of the dead process only.
    answer(request(&other));
    let done = ended(&server, &job);
    assert_eq!(done["status"], "done", "{done}");
    assert_eq!(done["results"][0]["name"], "one");
    assert_eq!(done["results"][1]["name"], "two");
    assert_eq!(done["results"].as_array().unwrap().len(), 2);
}

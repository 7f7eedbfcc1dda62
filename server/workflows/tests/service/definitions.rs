//! B145: registering and listing.

use axum::body::Body;
use http::Request;
use serde_json::{Value, json};

use crate::rig::Rig;

const METADATA: &str = "/api/v1/metadata/workflows";

fn workflow(version: i64) -> Value {
    json!({
        "name": "greet", "description": "d", "version": version, "schemaversion": 1,
        "tasks": [{"name": "t", "type": "http", "retries": 1, "retryDelaySeconds": 2,
            "http": {"uri": "http://mender-inventory:8080/x", "method": "GET", "headers": null}}],
        "inputParameters": ["who"],
    })
}

async fn shown(rig: &Rig, name: &str) -> Option<Value> {
    let list = rig.get(METADATA).await.ok(200).json();
    let list = list.as_array().unwrap().clone();
    list.into_iter().find(|found| found["name"] == name)
}

#[tokio::test]
async fn only_a_higher_version_replaces_a_workflow() {
    let rig = Rig::new();
    assert_eq!(rig.post(METADATA, &workflow(2)).await.ok(201).text, "");
    for lower in [2, 1] {
        let error = rig.post(METADATA, &workflow(lower)).await.error(409);
        assert_eq!(error, "Workflow already exists");
    }
    rig.post(METADATA, &workflow(3)).await.ok(201);
    let found = shown(&rig, "greet").await.unwrap();
    assert_eq!(found["version"], 3);
    assert_eq!(found["schemaversion"], 1);
    assert_eq!(found["tasks"][0]["retryDelaySeconds"], 2);
    assert_eq!(found["inputParameters"], json!(["who"]));
}

#[tokio::test]
async fn stock_workflows_are_there_and_can_be_replaced() {
    let rig = Rig::new();
    let stock = shown(&rig, "decommission_device").await.unwrap();
    let version = stock["version"].as_i64().unwrap();
    for name in [
        "provision_device",
        "update_device_status",
        "update_device_inventory",
        "deploy_device_configuration",
        "generate_artifact",
        "emit_auditlog",
        "send_mail",
    ] {
        assert!(shown(&rig, name).await.is_some(), "{name}");
    }
    let mut own = stock.clone();
    rig.post(METADATA, &own).await.error(409);
    own["version"] = json!(version + 1);
    own["description"] = json!("ours");
    rig.post(METADATA, &own).await.ok(201);
    let found = shown(&rig, "decommission_device").await.unwrap();
    assert_eq!(found["description"], "ours");
}

#[tokio::test]
async fn nonsense_is_refused() {
    let rig = Rig::new();
    for (change, wanted) in [
        (json!({"name": ""}), "Workflow missing name"),
        (json!({"tasks": 1}), "Error parsing JSON form: "),
        (json!({"version": "x"}), "Error parsing JSON form: "),
        (
            json!({"tasks": [{"name": "t", "type": "ftp"}]}),
            "task \"t\": unknown type",
        ),
        (
            json!({"tasks": [{"name": "t", "type": "http"}]}),
            "task \"t\": the member \"http\"",
        ),
        (
            json!({"tasks": [{"name": "t", "type": "cli", "cli": {"command": []}}]}),
            "task \"t\": cli.command",
        ),
    ] {
        let mut body = workflow(1);
        for (key, value) in change.as_object().unwrap() {
            body[key] = value.clone();
        }
        let error = rig.post(METADATA, &body).await.error(400);
        assert!(error.starts_with(wanted), "{error}");
    }
    let mut nameless = workflow(1);
    nameless.as_object_mut().unwrap().remove("name");
    let error = rig.post(METADATA, &nameless).await.error(400);
    assert_eq!(error, "Workflow missing name");
    let broken = Request::post(METADATA).body(Body::from("DUMMY")).unwrap();
    let error = rig.send(broken).await.error(400);
    assert!(error.starts_with("Error parsing JSON form: "), "{error}");
    let huge = Request::post(METADATA).body(Body::from(vec![b' '; (1 << 20) + 1]));
    rig.send(huge.unwrap()).await.error(413);
}

#[tokio::test]
async fn health_tells_the_truth() {
    let rig = Rig::new();
    let status = rig.get("/status").await.ok(200).json();
    assert_eq!(status, json!({"status": "ok"}));
    for path in ["/health", "/api/v1/health"] {
        rig.get(path).await.ok(204);
    }
    rig.db.close().await.unwrap();
    rig.get("/status").await.ok(200);
    for path in ["/health", "/api/v1/health"] {
        rig.get(path).await.error(502);
    }
}

//! The workflows that come with the server, against services that answer as theirs do.

use serde_json::{Value, json};

use crate::rig::Rig;

const TENANT: &str = "123456789012345678901234";

fn input(more: Value) -> Value {
    let mut input = json!({"request_id": "r 1", "device_id": "d1", "tenant_id": TENANT});
    for (key, value) in more.as_object().unwrap() {
        input[key] = value.clone();
    }
    input
}

#[tokio::test]
async fn decommissioning_reaches_every_service() {
    let rig = Rig::new();
    rig.neighbours.answer(|call| match call.path.as_str() {
        // As after an earlier, unfinished attempt.
        path if path.contains("inventory") => Ok((404, "{}".to_owned())),
        path if path.contains("deviceconnect") => Ok((202, String::new())),
        _ => Ok((204, String::new())),
    });
    let done = rig.ran("decommission_device", &input(json!({}))).await;
    assert_eq!(done["status"], "done", "{done}");
    let wanted = [
        ("inventory", "devices"),
        ("deployments", "deployments/devices"),
        ("deviceconnect", "devices"),
        ("deviceconfig", "devices"),
    ]
    .map(|(service, rest)| format!("DELETE /api/internal/v1/{service}/tenants/{TENANT}/{rest}/d1"));
    assert_eq!(rig.neighbours.paths(), wanted);
}

#[tokio::test]
async fn provisioning_makes_an_accepted_device_known() {
    let rig = Rig::new();
    let device = json!({"id": "d1", "revision": 3});
    let accepted = input(json!({"device": device, "status": "accepted"}));
    rig.neighbours.answer(|call| match call.path.as_str() {
        path if path.ends_with("/status") => Ok((200, r#"{"status":"accepted"}"#.to_owned())),
        path if path.contains("deviceconfig") => Ok((409, "{}".to_owned())),
        path if path.contains("deviceconnect") => Ok((201, String::new())),
        _ => Ok((200, String::new())),
    });
    let done = rig.ran("provision_device", &accepted).await;
    assert_eq!(done["status"], "done", "{done}");
    let calls = rig.neighbours.calls.lock().unwrap().clone();
    assert_eq!(calls[1].json(), json!({"device_id": "d1"}));
    assert_eq!(calls[2].json(), json!({"device_id": "d1"}));
    assert!(calls[3].path.ends_with("/devices/status/accepted"));
    assert_eq!(calls[3].json(), json!([device]));
}

#[tokio::test]
async fn provisioning_does_not_bring_back_a_device_that_has_left() {
    let rig = Rig::new();
    rig.neighbours.always(404);
    let done = rig.ran("provision_device", &input(json!({}))).await;
    assert_eq!(done["status"], "done", "{done}");
    assert_eq!(
        rig.neighbours.paths().len(),
        1,
        "only the question whether it is there"
    );
}

#[tokio::test]
async fn a_configuration_is_deployed_and_the_device_told() {
    let rig = Rig::new();
    rig.neighbours.answer(|call| match call.path.as_str() {
        path if path.ends_with("check-update") => Ok((409, "{}".to_owned())),
        _ => Ok((201, String::new())),
    });
    let input = input(json!({"deployment_id": "x1", "configuration": {"k": "v"}, "retries": 2}));
    let done = rig.ran("deploy_device_configuration", &input).await;
    assert_eq!(done["status"], "done", "{done}");
    let calls = rig.neighbours.calls.lock().unwrap().clone();
    let deployments = format!("/api/internal/v1/deployments/tenants/{TENANT}");
    assert_eq!(
        calls[0].path,
        format!("{deployments}/configuration/deployments/x1/devices/d1")
    );
    let wanted = json!({"name": "configuration-x1", "configuration": {"k": "v"}, "retries": 2,
        "update_control_map": null});
    assert_eq!(calls[0].json(), wanted);
    assert!(calls[1].path.ends_with("/devices/d1/check-update"));
}

#[tokio::test]
async fn the_inventory_is_told_of_states_and_attributes() {
    let rig = Rig::new();
    let devices = json!([{"id": "d1", "revision": 2}]);
    let status = input(json!({"devices": devices, "device_status": "rejected"}));
    rig.start("update_device_status", &status).await;
    let attributes = json!([{"name": "mac", "value": "x"}]);
    for given in [attributes.clone(), json!(attributes.to_string())] {
        let inventory = input(json!({"attributes": given, "scope": "identity"}));
        rig.start("update_device_inventory", &inventory).await;
    }
    rig.run_all().await;
    let calls = rig.neighbours.calls.lock().unwrap().clone();
    assert_eq!(calls.len(), 3);
    for call in calls {
        assert_eq!(call.headers["content-type"], "application/json");
        if call.method == "POST" {
            assert!(call.path.ends_with("/devices/status/rejected"));
            assert_eq!(call.json(), devices);
        } else {
            assert!(call.path.ends_with("/device/d1/attribute/scope/identity"));
            assert_eq!(call.json(), attributes);
        }
    }
}

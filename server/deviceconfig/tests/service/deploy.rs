use ambidex_kit::new_id;
use http::Method;
use serde_json::{Value, json};

use crate::rig::{Bearer, Rig, of};

#[tokio::test]
async fn a_deployment_carries_what_is_wanted_now() {
    let rig = Rig::new();
    let id = new_id().to_string();
    let deploy = format!("{}/deploy", of(&id));
    rig.user(Method::POST, &deploy, Some(&json!({"retries": 1})))
        .await
        .error(404);
    rig.user(Method::PUT, &of(&id), Some(&json!({"k": "v"})))
        .await
        .ok(204);
    let answer = rig
        .user(Method::POST, &deploy, Some(&json!({"retries": 2})))
        .await;
    let deployment = answer.ok(200).json()["deployment_id"]
        .as_str()
        .unwrap()
        .to_owned();
    let shown = rig.user(Method::GET, &of(&id), None).await.json();
    assert_eq!(shown["deployment_id"], deployment.as_str());
    let started = rig.neighbours.started.lock().unwrap()[0].clone();
    assert_eq!(
        (started.tenant.as_str(), started.workflow.as_str()),
        ("t1", "deploy_device_configuration")
    );
    for (name, value) in [
        ("tenant_id", json!("t1")),
        ("device_id", json!(id)),
        ("deployment_id", json!(deployment)),
        ("configuration", json!({"k": "v"})),
        ("retries", json!(2)),
    ] {
        assert_eq!(started.input[name], value);
    }
    assert!(!started.input["request_id"].as_str().unwrap().is_empty());
    assert_eq!(rig.jobs("workflow").await.len(), 1);
    assert_eq!(rig.neighbours.settled.lock().unwrap().len(), 1);
    let events = rig.jobs("audit").await;
    let event = events
        .iter()
        .find(|event| event["action"] == "deploy_configuration")
        .unwrap();
    assert_eq!(event["change"], r#"{"k":"v"}"#);
    // The next deployment is another one.
    let next = rig
        .user(Method::POST, &deploy, Some(&json!({})))
        .await
        .ok(200)
        .json();
    assert_ne!(next["deployment_id"], deployment.as_str());
    assert_eq!(
        rig.neighbours.started.lock().unwrap()[1].input["retries"],
        0
    );
}

#[tokio::test]
async fn wrong_requests_deploy_nothing() {
    let rig = Rig::new();
    let id = new_id().to_string();
    rig.user(Method::PUT, &of(&id), Some(&json!({})))
        .await
        .ok(204);
    let deploy = format!("{}/deploy", of(&id));
    for body in [
        json!({"retries": -1}),
        json!({"retries": "x"}),
        json!({"retries": 101}),
        json!([]),
        Value::Null,
    ] {
        rig.user(Method::POST, &deploy, Some(&body))
            .await
            .error(400);
    }
    rig.user(Method::POST, &deploy, None).await.error(400);
    assert!(rig.jobs("workflow").await.is_empty());
}

#[tokio::test]
async fn update_control_belongs_to_the_enterprise_plan() {
    let rig = Rig::new();
    let id = new_id().to_string();
    rig.user(Method::PUT, &of(&id), Some(&json!({})))
        .await
        .ok(204);
    let deploy = format!("{}/deploy", of(&id));
    let body =
        json!({"update_control_map": {"states": {"ArtifactInstall_Enter": {"action": "pause"}}}});
    let small = Bearer {
        plan: "professional",
        ..Bearer::default()
    };
    rig.with_token(&small.user(), Method::POST, &deploy, Some(&body))
        .await
        .error(403);
    rig.user(Method::POST, &deploy, Some(&body)).await.ok(200);
    let started = rig
        .neighbours
        .started
        .lock()
        .unwrap()
        .last()
        .unwrap()
        .clone();
    assert_eq!(
        started.input["update_control_map"],
        body["update_control_map"]
    );
}

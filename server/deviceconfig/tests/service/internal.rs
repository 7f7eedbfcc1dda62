use ambidex_kit::new_id;
use http::Method;
use serde_json::{Value, json};

use crate::rig::{Rig, of};

#[tokio::test]
async fn devices_come_and_go() {
    let rig = Rig::new();
    let id = new_id().to_string();
    let new = json!({"device_id": id});
    rig.internal(Method::POST, "/tenants/t1/devices", Some(&new))
        .await
        .ok(201);
    rig.internal(Method::POST, "/tenants/t1/devices", Some(&new))
        .await
        .error(409);
    for body in [json!({}), json!({"device_id": ""}), json!([]), Value::Null] {
        rig.internal(Method::POST, "/tenants/t1/devices", Some(&body))
            .await
            .error(400);
    }
    rig.user(Method::GET, &of(&id), None).await.ok(200);
    let one = format!("/tenants/t1/devices/{id}");
    rig.internal(Method::DELETE, &format!("/tenants/t2/devices/{id}"), None)
        .await
        .error(404);
    rig.internal(Method::DELETE, &one, None).await.ok(204);
    rig.internal(Method::DELETE, &one, None).await.error(404);
    rig.user(Method::GET, &of(&id), None).await.error(404);
}

#[tokio::test]
async fn the_tenant_of_a_server_without_tenants_has_two_spellings() {
    let rig = Rig::new();
    for tenant in ["/tenants/", "/tenants/default"] {
        let new = json!({"device_id": "d"});
        rig.internal(Method::POST, &format!("{tenant}/devices"), Some(&new))
            .await
            .ok(201);
        rig.internal(Method::DELETE, "/tenants//devices/d", None)
            .await
            .ok(204);
    }
}

#[tokio::test]
async fn tenants_come_and_go() {
    let rig = Rig::new();
    rig.internal(Method::POST, "/tenants", Some(&json!({"tenant_id": "t1"})))
        .await
        .ok(201);
    rig.internal(Method::POST, "/tenants", Some(&json!({})))
        .await
        .error(400);
    for tenant in ["t1", "t2"] {
        let path = format!("/tenants/{tenant}/devices");
        rig.internal(Method::POST, &path, Some(&json!({"device_id": "d"})))
            .await
            .ok(201);
    }
    rig.internal(Method::DELETE, "/tenants/t1", None)
        .await
        .ok(204);
    rig.internal(Method::DELETE, "/tenants/t1/devices/d", None)
        .await
        .error(404);
    rig.internal(Method::DELETE, "/tenants/t2/devices/d", None)
        .await
        .ok(204);
}

#[tokio::test]
async fn parts_of_a_configuration_can_be_changed() {
    let rig = Rig::new();
    let path = "/tenants/t1/configurations/device/d";
    rig.internal(Method::PATCH, path, Some(&json!({"a": "1", "b": "2"})))
        .await
        .ok(204);
    rig.internal(Method::PATCH, path, Some(&json!({"b": "3", "c": "4"})))
        .await
        .ok(204);
    rig.internal(Method::PATCH, path, Some(&json!({"b": 3})))
        .await
        .error(400);
    let shown = rig.user(Method::GET, &of("d"), None).await.ok(200).json();
    assert_eq!(shown["configured"], json!({"a": "1", "b": "3", "c": "4"}));
    let many: serde_json::Map<String, Value> =
        (0..98).map(|n| (format!("k{n}"), json!("x"))).collect();
    rig.internal(Method::PATCH, path, Some(&Value::Object(many)))
        .await
        .error(400);
    let deploy = format!("{path}/deploy");
    let answer = rig
        .internal(Method::POST, &deploy, Some(&json!({})))
        .await
        .ok(200)
        .json();
    assert!(answer["deployment_id"].is_string());
    assert!(rig.jobs("audit").await.is_empty(), "nobody is to be named");
    rig.internal(
        Method::POST,
        "/tenants/t1/configurations/device/x/deploy",
        Some(&json!({})),
    )
    .await
    .error(404);
}

#[tokio::test]
async fn changes_at_the_same_time_are_all_kept() {
    let rig = Rig::new();
    let path = "/tenants/t1/configurations/device/d";
    let changes: Vec<Value> = (0..8).map(|n| json!({format!("k{n}"): "x"})).collect();
    let all = changes
        .iter()
        .map(|change| rig.internal(Method::PATCH, path, Some(change)));
    for answer in futures_util::future::join_all(all).await {
        answer.ok(204);
    }
    let shown = rig.user(Method::GET, &of("d"), None).await.ok(200).json();
    assert_eq!(shown["configured"].as_object().unwrap().len(), 8);
}

#[tokio::test]
async fn health_tells_the_truth() {
    let rig = Rig::new();
    rig.internal(Method::GET, "/alive", None).await.ok(204);
    rig.internal(Method::GET, "/health", None).await.ok(204);
    rig.db.close().await.unwrap();
    rig.internal(Method::GET, "/alive", None).await.ok(204);
    rig.internal(Method::GET, "/health", None).await.error(503);
}

use axum::body::Body;
use http::{Method, Request};
use serde_json::{Value, json};

use crate::rig::{Answer, DEVICES, Rig, id, list};

async fn send(rig: &Rig, method: Method, body: Value, if_match: Option<&str>) -> Answer {
    let mut request = Request::builder()
        .method(method)
        .uri(format!("{DEVICES}/{}/tags", id(1)));
    request = request.header("authorization", format!("Bearer {}", rig.user_token("")));
    if let Some(tag) = if_match {
        request = request.header("if-match", tag);
    }
    rig.public(request.body(Body::from(body.to_string())).unwrap())
        .await
}

#[tokio::test]
async fn tags_are_replaced_and_merged() {
    let rig = Rig::new();
    rig.fleet(&[json!({"a": 1})]).await;
    send(&rig, Method::PUT, list(json!({"x": "1", "y": "2"})), None)
        .await
        .ok(200);
    send(&rig, Method::PATCH, list(json!({"y": "3"})), None)
        .await
        .ok(200);
    let shown = rig.shown(&id(1)).await;
    assert_eq!(
        (&shown["tags/x"], &shown["tags/y"], &shown["inventory/a"]),
        (&json!("1"), &json!("3"), &json!(1))
    );
    send(&rig, Method::PUT, list(json!({"z": "4"})), None)
        .await
        .ok(200);
    let shown = rig.shown(&id(1)).await;
    assert_eq!(
        shown
            .keys()
            .filter(|key| key.starts_with("tags/"))
            .collect::<Vec<_>>(),
        ["tags/z"]
    );
    let device = rig.get(&format!("{DEVICES}/{}", id(1))).await.json();
    let tag = device["attributes"]
        .as_array()
        .unwrap()
        .iter()
        .find(|attribute| attribute["scope"] == "tags")
        .unwrap();
    assert!(tag["timestamp"].is_string(), "{tag}");
}

#[tokio::test]
async fn tags_that_changed_meanwhile_are_not_overwritten() {
    let rig = Rig::new();
    rig.fleet(&[json!({})]).await;
    let tag = async || {
        rig.get(&format!("{DEVICES}/{}", id(1))).await.headers["etag"]
            .to_str()
            .unwrap()
            .to_owned()
    };
    let seen = tag().await;
    send(&rig, Method::PUT, list(json!({"x": "1"})), Some(&seen))
        .await
        .ok(200);
    assert_eq!(
        send(&rig, Method::PUT, list(json!({"x": "2"})), Some(&seen))
            .await
            .error(412),
        "ETag does not match"
    );
    send(
        &rig,
        Method::PATCH,
        list(json!({"x": "3"})),
        Some(&tag().await),
    )
    .await
    .ok(200);
    send(&rig, Method::PATCH, list(json!({"x": "4"})), Some("*"))
        .await
        .ok(200);
}

#[tokio::test]
async fn tags_are_few_and_belong_to_a_device() {
    let rig = Rig::new();
    assert_eq!(
        send(&rig, Method::PUT, list(json!({"x": "1"})), None)
            .await
            .error(404),
        "Device not found"
    );
    rig.fleet(&[json!({})]).await;
    let many = |count: usize| -> Value {
        (0..count)
            .map(|n| json!({"name": format!("t{n}"), "value": "x"}))
            .collect()
    };
    send(&rig, Method::PUT, many(20), None).await.ok(200);
    send(&rig, Method::PUT, many(21), None).await.error(400);
}

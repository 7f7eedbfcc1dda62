//! Whatever is sent, the answer is a 4xx with the usual body, never a 5xx or a panic.

use std::collections::HashMap;

use axum::body::Body;
use http::{Method, Request};
use serde::de::IgnoredAny;
use serde_json::{Value, json};

use crate::rig::{ATTRIBUTES, DEVICES, FILTERS, GROUPS, INTERNAL, Rig, id};

/// Bodies that no operation takes.
fn bodies() -> Vec<Vec<u8>> {
    let mut bodies: Vec<Vec<u8>> = [
        "[5]",
        "{",
        "nul",
        "\"text\"",
        "5",
        "true",
        "[[[[",
        "[1,",
        "\u{0}",
        "{\"a\":1e999}",
        "[{\"name\":[],\"value\":{}}]",
        "[{\"id\":{}}]",
        "{\"filters\":{}}",
        "{\"filters\":[5]}",
        "{\"sort\":\"a\"}",
        "{\"group\":[]}",
        "{\"name\":{},\"terms\":5}",
    ]
    .iter()
    .map(|text| text.as_bytes().to_vec())
    .collect();
    bodies.push(vec![0xff, 0xfe, 0x80]);
    bodies.push("[".repeat(200_000).into_bytes());
    bodies.push("{\"a\":".repeat(100_000).into_bytes());
    bodies.push(vec![b' '; (1 << 20) + 1]);
    bodies
}

#[tokio::test]
async fn wrong_bodies_are_refused_everywhere() {
    let rig = Rig::new();
    rig.fleet(&[json!({"a": 1})]).await;
    let before = rig.shown(&id(1)).await;
    let (user, device) = (rig.user_token(""), rig.device_token(&id(1)));
    let internal = ambidex_kit::front(rig.inventory.internal_routes());
    for body in bodies() {
        for (method, path) in [
            (Method::PATCH, ATTRIBUTES.to_owned()),
            (Method::PUT, ATTRIBUTES.to_owned()),
            (Method::PUT, format!("{DEVICES}/{}/group", id(1))),
            (Method::PUT, format!("{DEVICES}/{}/tags", id(1))),
            (Method::PATCH, format!("{GROUPS}/g/devices")),
            (Method::DELETE, format!("{GROUPS}/g/devices")),
            (Method::POST, format!("{FILTERS}/search")),
            (Method::POST, FILTERS.to_owned()),
        ] {
            let token = if path == ATTRIBUTES { &device } else { &user };
            let answer = rig.with_token(token, method, &path, body.clone()).await;
            // A search ignores members that it does not know.
            let known = serde_json::from_slice::<HashMap<String, IgnoredAny>>(&body).is_ok();
            if path.ends_with("/search") && known && answer.status == 200 {
                continue;
            }
            let status = answer.status.as_u16();
            assert!(
                (400..500).contains(&status),
                "{path}: {status} {}",
                answer.text
            );
            assert!(answer.error(status).len() < 1000, "{path}");
        }
        for (method, path) in [
            (Method::POST, format!("{INTERNAL}/tenants")),
            (Method::POST, format!("{INTERNAL}/devices")),
            (
                Method::POST,
                format!("{INTERNAL}/tenants//devices/accepted"),
            ),
            (
                Method::PATCH,
                format!(
                    "{INTERNAL}/tenants//device/{}/attribute/scope/inventory",
                    id(1)
                ),
            ),
        ] {
            let request = Request::builder()
                .method(method)
                .uri(&path)
                .body(Body::from(body.clone()))
                .unwrap();
            let status = rig.send(&internal, request).await.status.as_u16();
            assert!((400..500).contains(&status), "{path}: {status}");
        }
    }
    for path in [format!("{FILTERS}/search"), FILTERS.to_owned()] {
        rig.user(Method::POST, &path, Some(json!([])))
            .await
            .error(400);
    }
    assert_eq!(rig.shown(&id(1)).await, before);
}

#[tokio::test]
async fn wrong_paths_and_queries_are_refused() {
    let rig = Rig::new();
    let long = "x".repeat(5000);
    for path in [
        format!("{DEVICES}/%00"),
        format!("{DEVICES}/%ff%fe"),
        format!("{DEVICES}/{long}"),
        format!("{DEVICES}?page=99999999999999999999"),
        format!("{DEVICES}?sort=a:b"),
        format!("{DEVICES}?{}", "a=1&".repeat(200)),
        format!("{GROUPS}/'%20OR%201=1/devices"),
        format!("{FILTERS}/%00"),
        "/api/management/v1/inventory/nope".to_owned(),
    ] {
        let status = rig.get(&path).await.status.as_u16();
        assert!((400..500).contains(&status), "{path}: {status}");
    }
    rig.user(Method::PATCH, DEVICES, None).await.error(405);
    rig.user(Method::DELETE, GROUPS, None).await.error(405);
}

#[tokio::test]
async fn texts_of_any_kind_are_data_to_a_search() {
    let rig = Rig::new();
    let texts = [
        "%",
        "_",
        "!",
        "100%!_",
        "'; DROP TABLE x; --",
        "\\",
        "\"",
        "a\u{0}b",
        "\u{1F600}",
        "/x/",
        "",
        " ",
    ];
    let fleet: Vec<Value> = texts.iter().map(|text| json!({"a": text})).collect();
    rig.fleet(&fleet).await;
    for (number, text) in (1_u128..).zip(texts) {
        assert_eq!(
            rig.matching("inventory", "a", "$eq", json!(text)).await,
            [number],
            "{text:?}"
        );
        assert_eq!(
            rig.matching("inventory", "a", "$ne", json!(text))
                .await
                .len(),
            texts.len() - 1,
            "{text:?}"
        );
    }
    let long = "x".repeat(100_000);
    assert!(
        rig.matching("inventory", "a", "$eq", json!(long))
            .await
            .is_empty()
    );
}

#[tokio::test]
async fn every_operation_of_operators_asks_for_a_token_first() {
    let rig = Rig::new();
    for (method, path) in [
        (Method::GET, DEVICES.to_owned()),
        (Method::GET, format!("{DEVICES}/x")),
        (Method::DELETE, format!("{DEVICES}/x")),
        (Method::GET, format!("{DEVICES}/x/group")),
        (Method::PUT, format!("{DEVICES}/x/group")),
        (Method::DELETE, format!("{DEVICES}/x/group/g")),
        (Method::GET, GROUPS.to_owned()),
        (Method::GET, format!("{GROUPS}/g/devices")),
        (Method::PATCH, format!("{GROUPS}/g/devices")),
        (Method::DELETE, format!("{GROUPS}/g/devices")),
        (Method::GET, format!("{FILTERS}/attributes")),
        (Method::POST, format!("{FILTERS}/search")),
        (Method::GET, FILTERS.to_owned()),
        (Method::POST, FILTERS.to_owned()),
        (Method::GET, format!("{FILTERS}/x")),
        (Method::DELETE, format!("{FILTERS}/x")),
        (Method::GET, format!("{FILTERS}/x/search")),
        (Method::PATCH, ATTRIBUTES.to_owned()),
        (Method::PUT, ATTRIBUTES.to_owned()),
    ] {
        let request = Request::builder()
            .method(method)
            .uri(&path)
            .body(Body::empty())
            .unwrap();
        rig.public(request).await.error(401);
    }
}

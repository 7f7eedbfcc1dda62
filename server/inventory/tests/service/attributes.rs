use std::sync::Arc;

use http::Method;
use serde_json::{Value, json};

use crate::rig::{ATTRIBUTES, DEVICES, Rig, id, list};

#[tokio::test]
async fn i1_the_four_kinds_of_values_are_kept() {
    let rig = Rig::new();
    let values = json!({"text": "a", "empty": "", "number": 1.5, "whole": 5.0, "big": 12345678901u64, "texts": ["a", "b"], "numbers": [1, 2.5], "none": []});
    let answer = rig
        .device(&id(1), Method::PATCH, list(values.clone()))
        .await
        .ok(200);
    assert_eq!(answer.text, "");
    let shown = rig.shown(&id(1)).await;
    for (name, value) in values.as_object().unwrap() {
        let expected = if name == "whole" { &json!(5) } else { value };
        assert_eq!(&shown[&format!("inventory/{name}")], expected, "{name}");
    }
}

#[tokio::test]
async fn i2_i3_other_values_are_refused_and_change_nothing() {
    let rig = Rig::new();
    rig.device(&id(1), Method::PATCH, list(json!({"a": 1})))
        .await
        .ok(200);
    for (attribute, text) in [
        (
            json!({"name": "b", "value": true}),
            "supported types are string, float64, and arrays thereof",
        ),
        (json!({"name": "b", "value": {}}), "supported types are"),
        (json!({"name": "b", "value": null}), "supported types are"),
        (json!({"name": "b"}), "value: supported types are"),
        (
            json!({"name": "b", "value": ["a", 1]}),
            "array values must be of consistent type: string or float64",
        ),
        (
            json!({"name": "b", "value": [true]}),
            "array values must be either string or float64, not: bool",
        ),
        (json!({"value": 1}), "name: cannot be blank"),
        (json!({"name": "", "value": 1}), "name: cannot be blank"),
        (
            json!({"name": "x".repeat(1025), "value": 1}),
            "name: the length must be between 1 and 1024",
        ),
    ] {
        for method in [Method::PATCH, Method::PUT] {
            let body = json!([{"name": "a", "value": 2}, attribute]);
            let error = rig.device(&id(1), method, body).await.error(400);
            assert!(error.contains(text), "{error}");
        }
    }
    let empty = rig
        .with_token(&rig.device_token(&id(1)), Method::PATCH, ATTRIBUTES, "")
        .await;
    assert_eq!(
        empty.error(400),
        "failed to decode request body: JSON payload is empty"
    );
    assert_eq!(rig.shown(&id(1)).await["inventory/a"], 1);
}

#[tokio::test]
async fn i4_devices_speak_of_their_own_scope_only() {
    let rig = Rig::new();
    rig.accept(&id(1), json!({"mac": "m"}), "accepted", 1).await;
    let body = json!([
        {"name": "mac", "value": "forged", "scope": "identity"},
        {"name": "status", "value": "rejected", "scope": "identity"},
        {"name": "group", "value": "g", "scope": "system"},
        {"name": "odd", "value": "x", "scope": "no-such-scope"},
    ]);
    rig.device(&id(1), Method::PATCH, body).await.ok(200);
    let shown = rig.shown(&id(1)).await;
    assert_eq!(
        (&shown["identity/mac"], &shown["identity/status"]),
        (&json!("m"), &json!("accepted"))
    );
    assert_eq!(
        (&shown["inventory/mac"], &shown["inventory/status"]),
        (&json!("forged"), &json!("rejected"))
    );
    assert_eq!(
        (&shown["inventory/group"], &shown["inventory/odd"]),
        (&json!("g"), &json!("x"))
    );
    assert!(!shown.contains_key("system/group"));
}

#[tokio::test]
async fn i5_replacing_touches_the_inventory_scope_only() {
    let rig = Rig::new();
    rig.accept(&id(1), json!({"mac": "m"}), "accepted", 1).await;
    rig.device(&id(1), Method::PATCH, list(json!({"a": 1, "b": 2})))
        .await
        .ok(200);
    for _ in 0..2 {
        rig.device(&id(1), Method::PUT, list(json!({"c": 3})))
            .await
            .ok(200);
        let shown = rig.shown(&id(1)).await;
        let inventory: Vec<&String> = shown
            .keys()
            .filter(|key| key.starts_with("inventory/"))
            .collect();
        assert_eq!(inventory, ["inventory/c"]);
        assert_eq!(shown["identity/mac"], "m");
    }
    rig.device(&id(1), Method::PATCH, json!([])).await.ok(200);
    assert_eq!(rig.shown(&id(1)).await["inventory/c"], 3);
    rig.device(&id(1), Method::PUT, json!([])).await.ok(200);
    assert!(!rig.shown(&id(1)).await.contains_key("inventory/c"));
}

#[tokio::test]
async fn i6_names_of_any_kind_survive() {
    let rig = Rig::new();
    let names = [
        "a.b.c",
        "$set",
        "rootfs-image.version",
        "with space",
        "ä\"\\\n",
        "\u{ff0e}",
        "v",
        "d",
    ];
    for name in names {
        rig.device(
            &id(1),
            Method::PATCH,
            json!([{"name": name, "value": name, "description": "words"}]),
        )
        .await
        .ok(200);
    }
    let shown = rig.shown(&id(1)).await;
    for name in names {
        assert_eq!(shown[&format!("inventory/{name}")], name);
        assert_eq!(
            rig.matching("inventory", name, "$eq", json!(name)).await,
            [1],
            "{name}"
        );
    }
    let device = rig.get(&format!("{DEVICES}/{}", id(1))).await.json();
    let described = device["attributes"]
        .as_array()
        .unwrap()
        .iter()
        .find(|attribute| attribute["name"] == "v")
        .unwrap();
    assert_eq!(described["description"], "words");
}

#[tokio::test]
async fn the_last_value_of_a_name_counts_and_updates_set_the_time() {
    let rig = Rig::new();
    rig.device(
        &id(1),
        Method::PATCH,
        json!([{"name": "a", "value": 1}, {"name": "a", "value": 2}]),
    )
    .await
    .ok(200);
    let shown = rig.shown(&id(1)).await;
    assert_eq!(shown["inventory/a"], 2);
    assert_eq!(shown["system/created_ts"], "2023-11-14T22:13:20Z");
    rig.clock.advance(1500);
    rig.device(&id(1), Method::PATCH, json!([])).await.ok(200);
    let device = rig.get(&format!("{DEVICES}/{}", id(1))).await.json();
    assert_eq!(device["updated_ts"], "2023-11-14T22:13:21.5Z");
    let shown = rig.shown(&id(1)).await;
    assert_eq!(
        (&shown["system/updated_ts"], &shown["system/created_ts"]),
        (
            &json!("2023-11-14T22:13:21.5Z"),
            &json!("2023-11-14T22:13:20Z")
        )
    );
}

#[tokio::test]
async fn the_number_of_attributes_is_bounded() {
    let rig = Rig::new();
    let many = |from: usize, to: usize| -> Value {
        (from..to)
            .map(|n| json!({"name": format!("n{n}"), "value": n}))
            .collect()
    };
    rig.device(&id(1), Method::PATCH, many(0, 1000))
        .await
        .ok(200);
    let error = rig
        .device(&id(1), Method::PATCH, many(1000, 1001))
        .await
        .error(400);
    assert_eq!(
        error,
        "the number of attributes in the scope is above the limit"
    );
    rig.device(&id(1), Method::PUT, many(5, 1001)).await.ok(200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn concurrent_updates_of_one_device_lose_nothing() {
    let rig = Arc::new(Rig::new());
    let tasks: Vec<_> = (0..12)
        .map(|number| {
            let rig = rig.clone();
            tokio::spawn(async move {
                let body = list(json!({ format!("n{number}"): number }));
                rig.device(&id(1), Method::PATCH, body).await.ok(200);
            })
        })
        .collect();
    for task in tasks {
        task.await.unwrap();
    }
    let shown = rig.shown(&id(1)).await;
    assert_eq!(
        shown
            .keys()
            .filter(|key| key.starts_with("inventory/"))
            .count(),
        12
    );
}

#[tokio::test]
async fn only_devices_may_speak() {
    let rig = Rig::new();
    for method in [Method::PATCH, Method::PUT] {
        rig.with_token(&rig.user_token(""), method.clone(), ATTRIBUTES, "[]")
            .await
            .error(401);
        rig.with_token("x", method, ATTRIBUTES, "[]")
            .await
            .error(401);
    }
    rig.with_token(&rig.device_token(&id(1)), Method::GET, DEVICES, "")
        .await
        .error(401);
}

use ambidex_access::{Addon, Grants};
use ambidex_kit::new_id;
use http::Method;
use serde_json::{Value, json};

use crate::rig::{Bearer, DEVICE, Rig, START_MS, of};

#[tokio::test]
async fn operators_set_what_devices_read_and_devices_report() {
    let rig = Rig::new();
    let id = new_id().to_string();
    let path = of(&id);
    let device = Bearer::default().device(&id);
    rig.user(Method::GET, &path, None).await.error(404);
    rig.with_token(&device, Method::GET, DEVICE, None)
        .await
        .error(404);
    rig.internal(
        Method::POST,
        "/tenants/t1/devices",
        Some(&json!({"device_id": id})),
    )
    .await
    .ok(201);
    let fresh =
        json!({"id": id, "configured": {}, "reported": {}, "updated_ts": "2023-11-14T22:13:20Z"});
    assert_eq!(
        rig.user(Method::GET, &path, None).await.ok(200).json(),
        fresh
    );

    rig.clock.advance(1_000);
    let wanted = json!({"key": "value", "dollar-key": "$", "empty": ""});
    rig.user(Method::PUT, &path, Some(&wanted)).await.ok(204);
    let read = rig.with_token(&device, Method::GET, DEVICE, None).await;
    assert_eq!(read.ok(200).json(), wanted);
    rig.clock.advance(1_000);
    let reported = json!({"key": "old"});
    rig.with_token(&device, Method::PUT, DEVICE, Some(&reported))
        .await
        .ok(204);
    let shown = rig.user(Method::GET, &path, None).await.ok(200).json();
    assert_eq!(
        shown,
        json!({"id": id, "configured": wanted, "reported": reported,
            "updated_ts": "2023-11-14T22:13:21Z", "reported_ts": "2023-11-14T22:13:22Z"})
    );
    // Each PUT replaces the whole.
    rig.user(Method::PUT, &path, Some(&json!({"other": "x"})))
        .await
        .ok(204);
    let shown = rig.user(Method::GET, &path, None).await.json();
    assert_eq!(shown["configured"], json!({"other": "x"}));
    rig.user(Method::PUT, &path, Some(&json!({}))).await.ok(204);

    let events = rig.jobs("audit").await;
    assert_eq!(events.len(), 3);
    let event = &events[0];
    assert_eq!(event["action"], "set_configuration");
    assert_eq!(event["actor"], json!({"id": "u1", "type": "user"}));
    assert_eq!(event["object"], json!({"id": id, "type": "device"}));
    assert_eq!(event["time"], "2023-11-14T22:13:21Z");
    assert_eq!(
        event["change"],
        r#"{"dollar-key":"$","empty":"","key":"value"}"#
    );
}

#[tokio::test]
async fn only_objects_of_texts_are_taken() {
    let rig = Rig::new();
    let id = new_id().to_string();
    let device = Bearer::default().device(&id);
    for body in [
        json!({"key": 1}),
        json!({"key": null}),
        json!({"key": false}),
        json!({"key": ["x"]}),
        json!([]),
        json!("x"),
        Value::Null,
    ] {
        let by_user = rig
            .user(Method::PUT, &of(&id), Some(&body))
            .await
            .error(400);
        let by_device = rig
            .with_token(&device, Method::PUT, DEVICE, Some(&body))
            .await;
        assert_eq!(by_user, by_device.error(400));
    }
    rig.user(Method::PUT, &of(&id), None).await.error(400);
    rig.user(Method::GET, &of(&id), None).await.error(404);
    assert!(rig.jobs("audit").await.is_empty());
}

#[tokio::test]
async fn tenants_do_not_see_each_other() {
    let rig = Rig::new();
    let id = new_id().to_string();
    rig.user(Method::PUT, &of(&id), Some(&json!({"a": "1"})))
        .await
        .ok(204);
    let other = Bearer {
        tenant: "t2",
        ..Bearer::default()
    };
    rig.with_token(&other.user(), Method::GET, &of(&id), None)
        .await
        .error(404);
    rig.with_token(&other.device(&id), Method::GET, DEVICE, None)
        .await
        .error(404);
    let deploy = format!("{}/deploy", of(&id));
    rig.with_token(&other.user(), Method::POST, &deploy, Some(&json!({})))
        .await
        .error(404);
    let theirs = json!({"a": "2"});
    rig.with_token(&other.user(), Method::PUT, &of(&id), Some(&theirs))
        .await
        .ok(204);
    let ours = rig.user(Method::GET, &of(&id), None).await.ok(200).json();
    assert_eq!(ours["configured"], json!({"a": "1"}));
}

#[tokio::test]
async fn the_addon_is_needed() {
    let rig = Rig::new();
    let id = new_id().to_string();
    rig.user(Method::PUT, &of(&id), Some(&json!({})))
        .await
        .ok(204);
    let addon = |enabled| Addon {
        name: "configure".to_owned(),
        enabled,
    };
    for (addons, trial, open) in [
        (vec![], None, false),
        (vec![addon(false)], None, false),
        (vec![addon(true)], None, true),
        (vec![], Some(true), true),
    ] {
        let bearer = Bearer {
            addons,
            trial,
            ..Bearer::default()
        };
        let (user, device) = (bearer.user(), bearer.device(&id));
        let deploy = format!("{}/deploy", of(&id));
        let body = json!({});
        for answer in [
            rig.with_token(&user, Method::GET, &of(&id), None).await,
            rig.with_token(&user, Method::PUT, &of(&id), Some(&body))
                .await,
            rig.with_token(&user, Method::POST, &deploy, Some(&body))
                .await,
            rig.with_token(&device, Method::GET, DEVICE, None).await,
            rig.with_token(&device, Method::PUT, DEVICE, Some(&body))
                .await,
        ] {
            if open {
                assert!(answer.status < 300, "{}", answer.text);
            } else {
                assert_eq!(answer.error(403), "operation requires addon: configure");
            }
        }
    }
}

#[tokio::test]
async fn roles_reach_as_far_as_their_groups() {
    let rig = Rig::new();
    for id in ["member", "stranger"] {
        rig.user(Method::PUT, &of(id), Some(&json!({})))
            .await
            .ok(204);
    }
    let blue = || Some(vec!["blue".to_owned()]);
    *rig.grants.lock().unwrap() = Grants {
        inventory_groups: blue(),
        deployment_groups: blue(),
        ..Grants::everything()
    };
    let body = json!({});
    for (id, open) in [("member", true), ("stranger", false), ("unknown", false)] {
        let deploy = format!("{}/deploy", of(id));
        for answer in [
            rig.user(Method::GET, &of(id), None).await,
            rig.user(Method::PUT, &of(id), Some(&body)).await,
            rig.user(Method::POST, &deploy, Some(&body)).await,
        ] {
            assert_eq!(answer.status == 403, !open, "{id}: {}", answer.text);
        }
    }
    // Seeing is not deploying.
    rig.grants.lock().unwrap().deployment_groups = Some(vec![]);
    rig.user(Method::GET, &of("member"), None).await.ok(200);
    let deploy = format!("{}/deploy", of("member"));
    rig.user(Method::POST, &deploy, Some(&body))
        .await
        .error(403);
}

#[tokio::test]
async fn without_a_token_nothing_is_answered() {
    let rig = Rig::new();
    let id = new_id().to_string();
    let device = Bearer::default().device(&id);
    let user = Bearer::default().user();
    for (token, path) in [
        ("", DEVICE.to_owned()),
        (&user, DEVICE.to_owned()),
        ("", of(&id)),
        (&device, of(&id)),
    ] {
        for method in [Method::GET, Method::PUT] {
            rig.with_token(token, method, &path, Some(&json!({})))
                .await
                .error(401);
        }
    }
    rig.clock.advance(START_MS);
    rig.with_token(&device, Method::GET, DEVICE, None)
        .await
        .error(401);
}

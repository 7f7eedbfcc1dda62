use http::Method;
use serde_json::json;

use crate::rig::{DEVICES, INTERNAL, Rig, id, list};

#[tokio::test]
async fn c14_c16_the_usual_operations() {
    let rig = Rig::new();
    rig.internal(Method::GET, &format!("{INTERNAL}/alive"), None)
        .await
        .ok(204);
    rig.internal(Method::GET, &format!("{INTERNAL}/health"), None)
        .await
        .ok(204);
    for _ in 0..2 {
        rig.internal(
            Method::POST,
            &format!("{INTERNAL}/tenants"),
            Some(json!({"tenant_id": "t1"})),
        )
        .await
        .ok(201);
    }
    for body in [Some(json!({})), Some(json!({"tenant_id": ""})), None] {
        rig.internal(Method::POST, &format!("{INTERNAL}/tenants"), body)
            .await
            .error(400);
    }
    rig.db.close().await.unwrap();
    rig.internal(Method::GET, &format!("{INTERNAL}/health"), None)
        .await
        .error(503);
}

#[tokio::test]
async fn devices_are_initialised_repeatedly() {
    let rig = Rig::new();
    for path in [
        format!("{INTERNAL}/devices"),
        format!("{INTERNAL}/tenants//devices"),
    ] {
        let body = json!({"id": id(1), "attributes": [{"name": "a", "value": 1}, {"name": "m", "value": "x", "scope": "identity"}]});
        let answer = rig.internal(Method::POST, &path, Some(body)).await.ok(201);
        assert_eq!(
            answer.headers["location"],
            format!("devices/{}", id(1)).as_str()
        );
    }
    let shown = rig.shown(&id(1)).await;
    assert_eq!(
        (&shown["inventory/a"], &shown["identity/m"]),
        (&json!(1), &json!("x"))
    );
    rig.internal(
        Method::POST,
        &format!("{INTERNAL}/tenants/t1/devices"),
        Some(json!({"id": id(2)})),
    )
    .await
    .ok(201);
    rig.user_of("t1", Method::GET, &format!("{DEVICES}/{}", id(2)), None)
        .await
        .ok(200);
    rig.get(&format!("{DEVICES}/{}", id(2))).await.error(404);
    for (body, text) in [
        (json!({}), "id: cannot be blank."),
        (json!({"id": ""}), "id: cannot be blank."),
        (json!({"id": 5}), "failed to decode request body"),
        (
            json!({"id": "x", "attributes": 5}),
            "attributes must be a JSON array",
        ),
        (
            json!({"id": "x", "attributes": [{"name": "a"}]}),
            "value: supported types",
        ),
        (
            json!({"id": "x", "attributes": [{"name": "a", "value": 1, "scope": "foo"}]}),
            "scope: must be one of",
        ),
    ] {
        let error = rig
            .internal(Method::POST, &format!("{INTERNAL}/devices"), Some(body))
            .await
            .error(400);
        assert!(error.contains(text), "{error}");
    }
}

#[tokio::test]
async fn i30_statuses_follow_revisions() {
    let rig = Rig::new();
    let update = async |status: &str, body| {
        rig.internal(
            Method::POST,
            &format!("{INTERNAL}/tenants//devices/{status}"),
            Some(body),
        )
        .await
    };
    let status = async |number| rig.shown(&id(number)).await["identity/status"].clone();
    update(
        "pending",
        json!([{"id": id(1), "revision": 3}, {"id": id(2), "revision": 1}]),
    )
    .await
    .ok(200);
    assert_eq!(
        (status(1).await, status(2).await),
        (json!("pending"), json!("pending"))
    );
    assert_eq!(
        update("accepted", json!([{"id": id(1), "revision": 3}]))
            .await
            .error(409),
        "write conflict"
    );
    update(
        "accepted",
        json!([{"id": id(1), "revision": 2}, {"id": id(2), "revision": 2}]),
    )
    .await
    .ok(200);
    assert_eq!(
        (status(1).await, status(2).await),
        (json!("pending"), json!("accepted"))
    );
    update("noauth", json!([{"id": id(1)}])).await.ok(200);
    assert_eq!(status(1).await, "noauth");
    let newer = format!("{INTERNAL}/tenants//devices/status/rejected");
    rig.internal(
        Method::POST,
        &newer,
        Some(json!([{"id": id(1), "revision": 9}])),
    )
    .await
    .ok(200);
    assert_eq!(status(1).await, "rejected");
    update(
        "decommissioned",
        json!([{"id": id(1), "revision": 10}, {"id": id(7)}]),
    )
    .await
    .ok(200);
    rig.get(&format!("{DEVICES}/{}", id(1))).await.error(404);
    assert_eq!(
        update("foo", json!([{"id": id(2)}])).await.error(404),
        "unrecognized status: foo"
    );
    for body in [
        json!({}),
        json!([{}]),
        json!([{"id": 5}]),
        json!([{"id": ""}]),
        json!([{"id": "a", "revision": -1}]),
        json!([{"id": "a", "revision": "1"}]),
    ] {
        let error = update("accepted", body).await.error(400);
        assert!(error.starts_with("cant parse devices"), "{error}");
    }
    update("accepted", json!([])).await.ok(200);
}

#[tokio::test]
async fn i31_other_services_set_attributes_of_one_scope() {
    let rig = Rig::new();
    rig.fleet(&[json!({"a": 1})]).await;
    let updated = rig.shown(&id(1)).await["system/updated_ts"].clone();
    rig.clock.advance(5000);
    let path = |scope: &str| {
        format!(
            "{INTERNAL}/tenants//device/{}/attribute/scope/{scope}",
            id(1)
        )
    };
    let body = json!([{"name": "alert", "value": "on", "scope": "inventory"}]);
    rig.internal(Method::PATCH, &path("monitor"), Some(body))
        .await
        .ok(200);
    rig.internal(
        Method::PATCH,
        &path("system"),
        Some(list(
            json!({"group": "g", "latest_deployment_status": "success", "created_ts": "x"}),
        )),
    )
    .await
    .ok(200);
    let shown = rig.shown(&id(1)).await;
    assert_eq!(shown["monitor/alert"], "on");
    assert_eq!(
        (
            &shown["system/group"],
            &shown["system/latest_deployment_status"]
        ),
        (&json!("g"), &json!("success"))
    );
    assert_ne!(shown["system/created_ts"], "x");
    assert_eq!(shown["system/updated_ts"], updated);
    rig.internal(Method::PATCH, &path("nowhere"), Some(json!([])))
        .await
        .error(400);
    rig.internal(
        Method::PATCH,
        &path("inventory"),
        Some(json!([{"name": "a", "value": true}])),
    )
    .await
    .error(400);
    let no_device = format!("{INTERNAL}/tenants/t/device//attribute/scope/inventory");
    assert_eq!(
        rig.internal(Method::PATCH, &no_device, Some(json!([])))
            .await
            .error(400),
        "device id cannot be empty"
    );
    let of_tenant = format!(
        "{INTERNAL}/tenants/t1/device/{}/attribute/scope/inventory",
        id(8)
    );
    rig.internal(Method::PATCH, &of_tenant, Some(list(json!({"x": 1}))))
        .await
        .ok(200);
    rig.user_of("t1", Method::GET, &format!("{DEVICES}/{}", id(8)), None)
        .await
        .ok(200);
}

#[tokio::test]
async fn paths_of_newer_callers_are_served() {
    let rig = Rig::new();
    rig.fleet(&[json!({"a": 1})]).await;
    let device = format!("{INTERNAL}/tenants//devices/{}", id(1));
    assert_eq!(
        rig.internal(Method::GET, &format!("{device}/groups"), None)
            .await
            .ok(200)
            .json(),
        json!({"groups": []})
    );
    rig.user(
        Method::PUT,
        &format!("{DEVICES}/{}/group", id(1)),
        Some(json!({"group": "g"})),
    )
    .await
    .ok(204);
    assert_eq!(
        rig.internal(Method::GET, &format!("{device}/groups"), None)
            .await
            .json(),
        json!({"groups": ["g"]})
    );
    let attributes =
        json!([{"name": "t", "value": "x", "scope": "tags"}, {"name": "b", "value": 2}]);
    rig.internal(
        Method::PATCH,
        &format!("{INTERNAL}/tenants//device/{}/attributes", id(1)),
        Some(attributes),
    )
    .await
    .ok(200);
    let shown = rig.shown(&id(1)).await;
    assert_eq!(
        (&shown["tags/t"], &shown["inventory/b"]),
        (&json!("x"), &json!(2))
    );
    let search = "/api/internal/v2/inventory/tenants//filters/search";
    assert_eq!(
        rig.internal(Method::POST, search, Some(json!({})))
            .await
            .ok(200)
            .ids(),
        [id(1)]
    );
    rig.internal(Method::DELETE, &device, None).await.ok(204);
    rig.get(&format!("{DEVICES}/{}", id(1))).await.error(404);
}

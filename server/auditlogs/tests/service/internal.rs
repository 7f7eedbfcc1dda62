//! The internal listener.

use serde_json::json;

use crate::{LOGS, World};

#[tokio::test]
async fn health_is_told() {
    let world = World::new();
    for path in ["/health/alive", "/alive", "/health"] {
        assert_eq!(world.inner("GET", path, "").await.status, 204, "{path}");
    }
    world.db.close().await.unwrap();
    assert_eq!(world.inner("GET", "/health/alive", "").await.status, 204);
    assert_eq!(world.inner("GET", "/alive", "").await.status, 204);
    let health = world.inner("GET", "/health", "").await;
    assert_eq!(health.status, 503);
    assert!(
        health.error().starts_with("error reaching the database: "),
        "{}",
        health.error()
    );
}

#[tokio::test]
async fn neighbours_read_and_write_the_log_of_a_tenant() {
    let world = World::new();
    let event = json!({
        "actor": {"id": "u1", "type": "user", "email": "u1@example.com"},
        "time": "2019-08-24T16:15:22.5+02:00",
        "action": "create",
        "object": {"id": "d1", "type": "deployment", "deployment": {"name": "n", "artifact_name": "a"}},
        "change": "text",
        "meta": {"session_id": ["s1"]},
    });
    for path in ["/tenants/t1/logs", "/tenants//logs"] {
        let saved = world.inner("POST", path, &event.to_string()).await;
        assert_eq!((saved.status, saved.text.as_str()), (201, ""));
        let list = world.inner("GET", path, "").await;
        let mut expected = event.clone();
        expected["time"] = json!("2019-08-24T14:15:22.5Z");
        assert_eq!(list.json(), json!([expected]));
        assert_eq!(list.header("x-total-count"), "1");
        let none = world.inner("GET", &format!("{path}?actor_id=x"), "").await;
        assert_eq!(none.json(), json!([]));
    }
    // What neighbours write into the one tenant's log, its users see.
    assert_eq!(world.get(LOGS).await.objects(), ["d1"]);
}

#[tokio::test]
async fn the_specifications_own_example_is_understood() {
    let world = World::new();
    let event = json!({
        "actor": {"id": "string", "type": "user", "email": "string"},
        "time": "2019-08-24T14:15:22Z",
        "action": "create",
        "object": {
            "id": "string", "type": "user", "user": {"email": "user@acme.com"},
            "deployment": {"application/json": {"name": "production", "artifact_name": "Application 0.0.1"}},
        },
        "change": "string",
    });
    let saved = world
        .inner("POST", "/tenants/t1/logs", &event.to_string())
        .await;
    assert_eq!(saved.status, 201, "{}", saved.text);
    let list = world
        .inner(
            "GET",
            "/tenants/t1/logs?object_deployment_name=production",
            "",
        )
        .await;
    assert_eq!(list.objects(), ["string"]);
}

#[tokio::test]
async fn what_is_not_an_event_is_refused() {
    let world = World::new();
    let event = json!({
        "actor": {"id": "u1", "type": "user"},
        "time": "2019-08-24T14:15:22Z",
        "action": "create",
        "object": {"id": "d1", "type": "user"},
    });
    for (pointer, value) in [
        ("/actor/id", json!("")),
        ("/actor/id", json!(1)),
        ("/actor/type", json!("robot")),
        ("/actor", json!({})),
        ("/action", json!("")),
        ("/action", json!(null)),
        ("/object/id", json!("")),
        ("/object/type", json!("")),
        ("/object", json!("device")),
        ("/time", json!("yesterday")),
        ("/time", json!(0)),
    ] {
        let mut event = event.clone();
        *event.pointer_mut(pointer).unwrap() = value.clone();
        let answer = world
            .inner("POST", "/tenants/t1/logs", &event.to_string())
            .await;
        assert_eq!(answer.status, 400, "{pointer} {value}");
        assert!(!answer.error().is_empty());
    }
    for body in [
        "",
        "[]",
        "{}",
        "null",
        "{",
        "[[\"u\",\"user\"],\"t\",\"a\",[\"o\",\"user\"]]",
    ] {
        let answer = world.inner("POST", "/tenants/t1/logs", body).await;
        assert_eq!(answer.status, 400, "{body}");
    }
    assert_eq!(
        world.inner("GET", "/tenants/t1/logs", "").await.json(),
        json!([])
    );
}

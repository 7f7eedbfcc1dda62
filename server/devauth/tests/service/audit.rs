//! What the audit log is told.

use std::sync::{Arc, Mutex};

use ambidex_jobs::{AUDIT, Handler, Job, JobError};
use ambidex_kit::BoxFuture;
use http::Method;
use serde_json::{Value, json};

use crate::rig::{DEVICES, Device, Rig};

/// Keeps the events that it is given.
#[derive(Default)]
struct Events(Mutex<Vec<Value>>);

impl Handler for Events {
    fn run<'a>(&'a self, job: &'a Job) -> BoxFuture<'a, Result<(), JobError>> {
        self.0.lock().unwrap().push(job.payload.clone());
        Box::pin(async { Ok(()) })
    }
}

/// Action, object id, identity and text of what was recorded since the last call, and the actor's type.
async fn recorded(rig: &Rig, events: &Events) -> Vec<(String, String, Value, Value)> {
    rig.jobs.run_due().await.unwrap();
    let taken = std::mem::take(&mut *events.0.lock().unwrap());
    taken
        .into_iter()
        .map(|event| {
            assert_eq!(event["actor"]["type"], "user");
            assert_eq!(event["object"]["type"], "device");
            let text = |value: &Value| value.as_str().unwrap().to_owned();
            (
                text(&event["action"]),
                text(&event["object"]["id"]),
                event["object"]["device"]["identity_data"].clone(),
                event["change"].clone(),
            )
        })
        .collect()
}

#[tokio::test]
async fn users_changes_are_recorded_with_the_device() {
    let rig = Rig::new();
    let events = Arc::new(Events::default());
    rig.jobs.handle(AUDIT, events.clone());
    let device = Device::new("one");
    let identity = json!(r#"{"mac":"one"}"#);
    assert_eq!(device.identity(), json!({"mac": "one"}));
    let (id, set) = rig.pending(&device).await;
    assert_eq!(recorded(&rig, &events).await, [], "a device's own request");

    let of_set = |what: &str| json!(format!("authentication set {set}: {what}"));
    for (status, action) in [
        ("accepted", "accept"),
        ("rejected", "reject"),
        ("pending", "update"),
        ("accepted", "accept"),
    ] {
        rig.set_status(&id, &set, status).await.ok(204);
        assert_eq!(
            recorded(&rig, &events).await,
            [(
                action.to_owned(),
                id.clone(),
                identity.clone(),
                of_set(status)
            )]
        );
    }
    rig.set_status(&id, &set, "accepted").await.ok(204);
    assert_eq!(recorded(&rig, &events).await, [], "nothing changed");

    rig.authenticate(&device).await.ok(200);
    assert_eq!(recorded(&rig, &events).await, [], "a device's own request");
    let token = format!("/api/management/v2/devauth/tokens/{set}");
    rig.user(Method::DELETE, &token, None).await.ok(204);
    // Who the device is, the audit log asks itself here.
    let text = json!(format!("token of authentication set {set}"));
    assert_eq!(
        recorded(&rig, &events).await,
        [("revoke_token".to_owned(), id.clone(), Value::Null, text)]
    );

    let path = format!("{DEVICES}/{id}/auth/{set}");
    rig.user(Method::DELETE, &path, None).await.ok(204);
    assert_eq!(
        recorded(&rig, &events).await,
        [(
            "update".to_owned(),
            id.clone(),
            identity.clone(),
            of_set("removed")
        )]
    );
    let path = format!("{DEVICES}/{id}");
    rig.user(Method::DELETE, &path, None).await.ok(204);
    assert_eq!(
        recorded(&rig, &events).await,
        [("decommission".to_owned(), id, identity, Value::Null)]
    );
}

#[tokio::test]
async fn announcements_are_recorded_and_refusals_are_not() {
    let rig = Rig::new();
    let events = Arc::new(Events::default());
    rig.jobs.handle(AUDIT, events.clone());
    let device = Device::new("announced");
    let body = json!({"identity_data": device.identity(), "pubkey": device.pem()});
    rig.user(Method::POST, DEVICES, Some(body.clone()))
        .await
        .ok(201);
    let announced = recorded(&rig, &events).await;
    assert_eq!(announced.len(), 1);
    assert_eq!(announced[0].0, "preauthorize");
    assert_eq!(announced[0].2, r#"{"mac":"announced"}"#);

    rig.user(Method::POST, DEVICES, Some(body)).await.ok(409);
    let id = &announced[0].1;
    let unknown = ambidex_kit::new_id();
    rig.set_status(id, &unknown.to_string(), "accepted")
        .await
        .ok(404);
    rig.set_status(&unknown.to_string(), id, "accepted")
        .await
        .ok(404);
    for path in [
        format!("{DEVICES}/{unknown}"),
        format!("{DEVICES}/{id}/auth/{unknown}"),
        format!("/api/management/v2/devauth/tokens/{unknown}"),
    ] {
        rig.user(Method::DELETE, &path, None).await.ok(404);
    }
    rig.user(Method::GET, DEVICES, None).await.ok(200);
    assert_eq!(recorded(&rig, &events).await, []);

    // With `force`, another key of the same device.
    let other = Device::new("announced");
    let body = json!({"identity_data": other.identity(), "pubkey": other.pem(), "force": true});
    rig.user(Method::POST, DEVICES, Some(body)).await.ok(201);
    let forced = recorded(&rig, &events).await;
    assert_eq!(forced.len(), 1);
    assert_eq!((&*forced[0].0, &forced[0].1), ("preauthorize", id));
    assert!(
        forced[0]
            .3
            .as_str()
            .unwrap()
            .starts_with("authentication set ")
    );

    // A sole announced set takes its device with it.
    let path = format!("{DEVICES}/{id}");
    rig.user(Method::DELETE, &path, None).await.ok(204);
    assert_eq!(recorded(&rig, &events).await[0].0, "decommission");
}

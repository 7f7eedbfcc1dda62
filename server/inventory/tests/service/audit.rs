//! What the audit log is told.

use std::sync::{Arc, Mutex};

use ambidex_jobs::{AUDIT, Handler, Job, JobError};
use ambidex_kit::BoxFuture;
use http::Method;
use serde_json::{Value, json};

use crate::rig::{DEVICES, FILTERS, GROUPS, Rig, id, list};

/// Keeps the events that it is given.
#[derive(Default)]
struct Events(Mutex<Vec<Value>>);

impl Handler for Events {
    fn run<'a>(&'a self, job: &'a Job) -> BoxFuture<'a, Result<(), JobError>> {
        self.0.lock().unwrap().push(job.payload.clone());
        Box::pin(async { Ok(()) })
    }
}

struct Log {
    rig: Rig,
    events: Arc<Events>,
}

impl Log {
    async fn new() -> Log {
        let rig = Rig::new();
        let events = Arc::new(Events::default());
        rig.jobs.handle(AUDIT, events.clone());
        rig.fleet(&[json!({"a": 1}), json!({"a": 2})]).await;
        let log = Log { rig, events };
        assert!(log.recorded().await.is_empty(), "what devices do");
        log
    }

    /// The events since the last call.
    async fn recorded(&self) -> Vec<Value> {
        self.rig.jobs.run_due().await.unwrap();
        std::mem::take(&mut *self.events.0.lock().unwrap())
    }

    /// A call of an operator and the one event that it caused: action, type and id of its object, text.
    async fn event(&self, method: Method, path: &str, body: Option<Value>) -> [String; 4] {
        let answer = self.rig.user(method, path, body).await;
        assert!(answer.status.is_success(), "{path}: {}", answer.text);
        let events = self.recorded().await;
        assert_eq!(events.len(), 1, "{events:?}");
        let event = &events[0];
        assert_eq!(event["actor"]["id"], id(2).as_str());
        [
            &event["action"],
            &event["object"]["type"],
            &event["object"]["id"],
            &event["change"],
        ]
        .map(|value| value.as_str().unwrap().to_owned())
    }
}

#[tokio::test]
async fn changes_of_groups_are_recorded() {
    let log = Log::new().await;
    let (one, two) = (id(1), id(2));
    let group = format!("{DEVICES}/{one}/group");
    let put = log
        .event(Method::PUT, &group, Some(json!({"group": "g"})))
        .await;
    assert_eq!(put, ["update", "device", &one, "group: g"]);
    let members = format!("{GROUPS}/g/devices");
    let added = log
        .event(Method::PATCH, &members, Some(json!([two, "unknown"])))
        .await;
    assert_eq!(added[..3], ["update", "group", "g"]);
    assert_eq!(added[3], format!("devices added: {two}, unknown"));
    let removed = log
        .event(Method::DELETE, &members, Some(json!([two])))
        .await;
    assert_eq!(removed[3], format!("devices removed: {two}"));
    let cleared = log.event(Method::DELETE, &format!("{group}/g"), None).await;
    assert_eq!(cleared, ["update", "device", &one, "no longer in group g"]);
    log.event(Method::PATCH, &members, Some(json!([one, two])))
        .await;
    let gone = log
        .event(Method::DELETE, &format!("{GROUPS}/g"), None)
        .await;
    assert_eq!(gone, ["delete", "group", "g", "dissolved"]);

    let rig = &log.rig;
    rig.user(Method::DELETE, &format!("{GROUPS}/g"), None)
        .await
        .ok(200);
    rig.user(Method::PATCH, &members, Some(json!(["unknown"])))
        .await
        .ok(200);
    rig.user(Method::DELETE, &format!("{group}/g"), None)
        .await
        .error(404);
    rig.get(GROUPS).await.ok(200);
    assert!(log.recorded().await.is_empty(), "nothing changed");
}

#[tokio::test]
async fn changes_of_tags_and_inventories_are_recorded_with_a_diff() {
    let log = Log::new().await;
    let one = id(1);
    let tags = format!("{DEVICES}/{one}/tags");
    let set = log
        .event(Method::PUT, &tags, Some(list(json!({"x": "1"}))))
        .await;
    assert_eq!(set[..3], ["update", "device", &one]);
    assert!(
        set[3].starts_with("Updated attributes:\n--- Original\n+++ Current\n@@ "),
        "{}",
        set[3]
    );
    assert!(set[3].contains("\n+    \"x\""), "{}", set[3]);
    let cleared = log
        .event(Method::DELETE, &format!("{DEVICES}/{one}"), None)
        .await;
    assert!(cleared[3].contains("\n-"), "{}", cleared[3]);
    let unknown = format!("{DEVICES}/{}", id(99));
    log.rig.user(Method::DELETE, &unknown, None).await.ok(204);
    assert!(log.recorded().await.is_empty(), "nothing changed");
}

#[tokio::test]
async fn changes_of_saved_filters_are_recorded() {
    let log = Log::new().await;
    let term = json!({"scope": "inventory", "attribute": "a", "type": "$eq", "value": 1});
    let new = json!({"name": "ones", "terms": [term]});
    let created = log.event(Method::POST, FILTERS, Some(new.clone())).await;
    assert_eq!(created[..2], ["create", "filter"]);
    assert!(created[3].starts_with("ones: [{"), "{}", created[3]);
    log.rig
        .user(Method::POST, FILTERS, Some(new))
        .await
        .error(409);
    let path = format!("{FILTERS}/{}", created[2]);
    let deleted = log.event(Method::DELETE, &path, None).await;
    assert_eq!(deleted, ["delete", "filter", &created[2], "ones"]);
    log.rig.user(Method::DELETE, &path, None).await.ok(204);
    assert!(log.recorded().await.is_empty(), "nothing changed");
}

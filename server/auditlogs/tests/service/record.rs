//! From a service's batch onto the record, and off it again.

use ambidex_access::TenantId;
use ambidex_jobs::audit;
use ambidex_wire::management::auditlogs::{Actor, Object};
use serde_json::json;

use crate::{LOGS, World, event};

#[tokio::test]
async fn the_handler_fills_in_who_took_part() {
    let world = World::new();
    let mut by_device = event(1);
    by_device.actor = Actor::device("d1", None);
    by_device.object = Object::device("d1", None);
    let mut by_nobody = event(2);
    by_nobody.actor = Actor::user("gone");
    let statements = [event(0), by_device, by_nobody]
        .iter()
        .map(|event| audit(&world.jobs, "", event))
        .collect();
    world.db.apply(statements).await.unwrap();
    assert_eq!(world.get(LOGS).await.objects(), [""; 0], "not yet");
    world.jobs.run_due().await.unwrap();
    let list = world.get(&format!("{LOGS}?sort=asc")).await.json();
    assert_eq!(list[0]["actor"]["email"], "alice@.example.com");
    assert_eq!(list[1]["actor"]["identity_data"], r#"{"mac":"1"}"#);
    assert_eq!(
        list[1]["object"]["device"]["identity_data"],
        r#"{"mac":"1"}"#
    );
    assert_eq!(list[2]["actor"], json!({"id": "gone", "type": "user"}));
    assert!(
        world.jobs.counts().await.unwrap().is_empty(),
        "all are done"
    );
}

#[tokio::test]
async fn a_deleted_users_name_is_known_from_the_log() {
    let world = World::new();
    world
        .event(0, |e| {
            e.actor = Actor::user_with_email("gone", "gone@example.com")
        })
        .await;
    world.event(1, |e| e.actor = Actor::user("gone")).await;
    let list = world.get(LOGS).await.json();
    assert_eq!(list[0]["actor"]["email"], "gone@example.com");
}

#[tokio::test]
async fn an_event_told_twice_is_on_record_once() {
    let world = World::new();
    let tenant = TenantId::default();
    for _ in 0..2 {
        let recorded = world.auditlogs.record(&tenant, "same", event(0)).await;
        recorded.unwrap();
    }
    assert_eq!(world.get(LOGS).await.objects(), ["o0"]);
}

#[tokio::test]
async fn an_event_waits_for_a_neighbour_that_is_down() {
    let world = World::new();
    let mut event = event(0);
    event.actor = Actor::user("nobody can tell");
    let statement = audit(&world.jobs, "", &event);
    world.db.apply(vec![statement]).await.unwrap();
    world.jobs.run_due().await.unwrap();
    assert_eq!(world.get(LOGS).await.objects(), [""; 0]);
    let counts = world.jobs.counts().await.unwrap();
    assert_eq!((counts[0].state.as_str(), counts[0].jobs), ("ready", 1));
}

#[tokio::test]
async fn what_is_not_an_event_is_given_up() {
    let world = World::new();
    let statement = world
        .jobs
        .enqueue(ambidex_jobs::AUDIT, "", &json!({"actor": "x"}));
    world.db.apply(vec![statement]).await.unwrap();
    world.jobs.run_due().await.unwrap();
    assert_eq!(world.jobs.counts().await.unwrap()[0].state, "failed");
}

#[tokio::test]
async fn events_end_after_a_year() {
    let world = World::new();
    for number in 0..1_100 {
        world.event(0, |e| e.object.id = format!("n{number}")).await;
    }
    world.event(60, |_| ()).await;
    world.clock.advance(365 * 86_400_000);
    assert_eq!(world.auditlogs.sweep().await.unwrap(), 0, "to the second");
    world.clock.advance(1);
    assert_eq!(world.auditlogs.sweep().await.unwrap(), 1_100);
    // An endless token would have expired meanwhile, the log has not.
    let left = world.inner("GET", "/tenants//logs", "").await;
    assert_eq!(left.objects(), ["o60"]);
}

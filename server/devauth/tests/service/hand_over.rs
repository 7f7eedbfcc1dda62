use std::sync::atomic::Ordering;

use ambidex_db::{params, statement};
use ambidex_devauth::ports::Ports;
use ambidex_devauth::{Devauth, Settings};
use http::Method;
use serde_json::json;

use crate::rig::{DEVICES, Device, Rig};

#[tokio::test]
async fn what_a_failing_neighbour_misses_is_told_again() {
    let rig = Rig::new();
    let (known, known_set) = rig.pending(&Device::new("known")).await;
    let (leaving, _) = rig.pending(&Device::new("leaving")).await;
    rig.neighbours.down.store(true, Ordering::SeqCst);
    let (new, new_set) = rig.pending(&Device::new("new")).await;
    rig.set_status(&known, &known_set, "accepted").await.ok(204);
    rig.set_status(&new, &new_set, "rejected").await.ok(204);
    rig.user(Method::DELETE, &format!("{DEVICES}/{leaving}"), None)
        .await
        .ok(204);
    assert!(rig.devauth.hand_over_outstanding().await.is_err());
    assert_eq!(rig.neighbours.status(&known), Some("pending"));
    assert_eq!(rig.neighbours.status(&leaving), Some("pending"));

    // The process ends here; the next one starts on the same database.
    rig.neighbours.down.store(false, Ordering::SeqCst);
    let ports = Ports {
        inventory: rig.neighbours.clone(),
        workflows: rig.engine(),
        connections: rig.neighbours.clone(),
        tenants: None,
    };
    let next = Devauth::new(
        rig.db.clone(),
        rig.jobs.clone(),
        rig.clock.clone(),
        rig.keys.clone(),
        ports,
        Settings::default(),
    )
    .unwrap();
    assert_eq!(next.hand_over_outstanding().await.unwrap(), 2);
    rig.clock.advance(1_000);
    // The departure of one device and the admission of another.
    assert_eq!(rig.jobs.run_due().await.unwrap(), 2);
    assert_eq!(rig.neighbours.status(&known), Some("accepted"));
    assert_eq!(rig.neighbours.status(&new), Some("rejected"));
    assert_eq!(rig.neighbours.status(&leaving), None);
    assert_eq!(rig.neighbours.removed.lock().unwrap().as_slice(), [leaving]);
    assert_eq!(
        next.hand_over_outstanding().await.unwrap(),
        0,
        "nothing is owed any more"
    );
}

#[tokio::test]
async fn many_owed_changes_are_told_in_batches() {
    let rig = Rig::new();
    rig.neighbours.down.store(true, Ordering::SeqCst);
    for number in 0..450 {
        rig.authenticate(&Device::new(&format!("many-{number}")))
            .await
            .ok(401);
    }
    rig.neighbours.down.store(false, Ordering::SeqCst);
    assert_eq!(rig.devauth.hand_over_outstanding().await.unwrap(), 450);
    assert_eq!(rig.neighbours.known.lock().unwrap().len(), 450);
}

#[tokio::test]
async fn states_carry_growing_revisions() {
    let rig = Rig::new();
    let device = Device::new("revision");
    let (id, set) = rig.pending(&device).await;
    let revision = || rig.neighbours.known.lock().unwrap()[&id].revision;
    assert_eq!(revision(), 1);
    rig.set_status(&id, &set, "accepted").await.ok(204);
    assert_eq!(revision(), 2);
    rig.set_status(&id, &set, "rejected").await.ok(204);
    assert_eq!(revision(), 3);
}

#[tokio::test]
async fn an_accepted_device_is_made_known_to_every_service() {
    let rig = Rig::new();
    let (id, set) = rig.pending(&Device::new("new")).await;
    rig.set_status(&id, &set, "rejected").await.ok(204);
    assert_eq!(rig.jobs.run_due().await.unwrap(), 0);
    rig.set_status(&id, &set, "accepted").await.ok(204);
    assert_eq!(rig.jobs.run_due().await.unwrap(), 1);
    let given = rig.neighbours.provisioned.lock().unwrap()[0].clone();
    assert_eq!(given["device_id"], id.as_str());
    assert_eq!(given["status"], "accepted");
    assert_eq!(given["device"], json!({"id": id, "revision": 3}));
    assert!(!given["request_id"].as_str().unwrap().is_empty());
}

#[tokio::test]
async fn removals_that_an_earlier_version_still_owed_become_workflows() {
    let rig = Rig::new();
    let owed = statement(
        "INSERT INTO devauth_handovers (tenant_id, device_id, revision, removed) VALUES ($1, $2, 0, 1)",
        params!["", "gone"],
    );
    rig.db.apply(vec![owed]).await.unwrap();
    assert_eq!(rig.devauth.hand_over_outstanding().await.unwrap(), 1);
    assert_eq!(rig.neighbours.removed.lock().unwrap().as_slice(), ["gone"]);
    assert_eq!(rig.devauth.hand_over_outstanding().await.unwrap(), 0);
}

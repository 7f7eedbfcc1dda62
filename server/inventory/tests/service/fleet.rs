use std::sync::Arc;

use ambidex_access::TenantId;
use ambidex_inventory::{FleetDevice, Inventory, InventoryError};
use http::Method;
use serde_json::{Value, json};

use crate::rig::{DEVICES, Rig, id, list};

fn device(number: u128, identity: Value, status: &str, revision: i64) -> FleetDevice {
    FleetDevice {
        id: id(number),
        identity: identity.as_object().unwrap().clone(),
        status: status.into(),
        revision,
    }
}

#[tokio::test]
async fn states_are_taken_in_order_of_revision() {
    let rig = Rig::new();
    let status = async || rig.shown(&id(1)).await["identity/status"].clone();
    rig.accept(&id(1), json!({"mac": "m"}), "accepted", 2).await;
    rig.accept(&id(1), json!({"mac": "m"}), "pending", 1).await;
    assert_eq!(status().await, "accepted");
    rig.accept(&id(1), json!({"mac": "m"}), "accepted", 2).await;
    rig.accept(&id(1), json!({"mac": "m"}), "rejected", 3).await;
    assert_eq!(status().await, "rejected");
}

#[tokio::test]
async fn identities_of_any_kind_become_attributes() {
    let rig = Rig::new();
    let identity = json!({"mac": "m", "n": 5, "list": ["a"], "flag": true, "nested": {"a": [1, "b"]}, "none": null, "status": "forged", "id": "forged"});
    rig.accept(&id(1), identity, "accepted", 1).await;
    let shown = rig.shown(&id(1)).await;
    assert_eq!(shown["identity/n"], 5);
    assert_eq!(shown["identity/list"], json!(["a"]));
    assert_eq!(shown["identity/flag"], "true");
    assert_eq!(shown["identity/nested"], "{\"a\":[1,\"b\"]}");
    assert_eq!(shown["identity/status"], "accepted");
    assert!(!shown.contains_key("identity/none") && !shown.contains_key("identity/id"));
}

#[tokio::test]
async fn a_device_that_left_stays_away() {
    let rig = Rig::new();
    let tenant = TenantId::default();
    rig.fleet(&[json!({"a": 1}), json!({"a": 2})]).await;
    rig.inventory.remove_device(&tenant, &id(1)).await.unwrap();
    rig.inventory.remove_device(&tenant, &id(1)).await.unwrap();
    rig.get(&format!("{DEVICES}/{}", id(1))).await.error(404);
    let late = [
        device(1, json!({}), "accepted", 9),
        device(2, json!({}), "rejected", 9),
        device(3, json!({}), "accepted", 1),
    ];
    rig.inventory
        .put_fleet_devices(&tenant, &late)
        .await
        .unwrap();
    rig.device(&id(1), Method::PATCH, list(json!({"a": 1})))
        .await
        .error(401);
    rig.get(&format!("{DEVICES}/{}", id(1))).await.error(404);
    assert_eq!(rig.shown(&id(2)).await["identity/status"], "rejected");
    assert_eq!(rig.shown(&id(3)).await["identity/status"], "accepted");
    assert_eq!(rig.get(DEVICES).await.total(), 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_removal_wins_over_concurrent_updates() {
    let rig = Arc::new(Rig::new());
    for number in 1..=10 {
        rig.accept(&id(number), json!({"mac": "m"}), "accepted", 1)
            .await;
        let talking: Vec<_> = (0..4)
            .map(|n| {
                let rig = rig.clone();
                tokio::spawn(async move {
                    rig.device(
                        &id(number),
                        Method::PATCH,
                        list(json!({ format!("n{n}"): n })),
                    )
                    .await
                    .status
                    .as_u16()
                })
            })
            .collect();
        rig.inventory
            .remove_device(&TenantId::default(), &id(number))
            .await
            .unwrap();
        for task in talking {
            let status = task.await.unwrap();
            assert!(status == 200 || status == 401, "{status}");
        }
        rig.get(&format!("{DEVICES}/{}", id(number)))
            .await
            .error(404);
    }
    assert_eq!(
        rig.get("/api/management/v2/inventory/filters/attributes")
            .await
            .text,
        "[]"
    );
}

#[tokio::test]
async fn everything_survives_a_restart() {
    let rig = Rig::new();
    rig.fleet(&[json!({"a": 1})]).await;
    let before = rig.shown(&id(1)).await;
    let again = Inventory::new(rig.db.clone(), rig.jobs.clone(), rig.clock.clone()).unwrap();
    let device = again
        .get_device(&TenantId::default(), &id(1))
        .await
        .unwrap();
    assert_eq!(
        crate::rig::attributes(&serde_json::to_value(device).unwrap()),
        before
    );
    let missing = again.get_device(&TenantId::default(), &id(2)).await;
    assert!(matches!(missing, Err(InventoryError::DeviceNotFound)));
}

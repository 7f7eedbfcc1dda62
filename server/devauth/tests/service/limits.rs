use std::sync::Arc;

use http::Method;
use serde_json::json;

use ambidex_access::TenantId;

use crate::rig::{DEVICES, Device, INTERNAL, Rig};

const LIMIT: &str = "/api/management/v2/devauth/limits/max_devices";

async fn limit_to(rig: &Rig, limit: u64) {
    rig.devauth
        .set_device_limit(&TenantId::default(), limit)
        .await
        .unwrap();
}

#[tokio::test]
async fn d18_d19_the_limit_counts_accepted_devices() {
    let rig = Rig::new();
    limit_to(&rig, 1).await;
    let device = Device::new("a");
    let (id, _, _) = rig.accepted(&device).await;
    let (other, other_set) = rig.pending(&Device::new("b")).await;
    let error = rig
        .set_status(&other, &other_set, "accepted")
        .await
        .error(422);
    assert_eq!(error, "maximum number of accepted devices reached");
    assert_eq!(rig.device(&other).await["status"], "pending");
    let rekeyed = device.rekeyed();
    rig.authenticate(&rekeyed).await.ok(401);
    let (_, second) = rig.find(&rekeyed).await;
    rig.set_status(&id, &second, "accepted").await.ok(204);
    limit_to(&rig, 2).await;
    rig.set_status(&other, &other_set, "accepted").await.ok(204);
    limit_to(&rig, 1).await;
    assert_eq!(
        rig.device(&other).await["status"],
        "accepted",
        "lowering takes nothing away"
    );
    rig.set_status(&other, &other_set, "rejected").await.ok(204);
    rig.set_status(&other, &other_set, "accepted").await.ok(422);
    rig.devauth
        .clear_device_limit(&TenantId::default())
        .await
        .unwrap();
    rig.set_status(&other, &other_set, "accepted").await.ok(204);
}

#[tokio::test]
async fn d23_a_preauthorised_device_waits_for_a_place() {
    let rig = Rig::new();
    limit_to(&rig, 1).await;
    rig.accepted(&Device::new("a")).await;
    let device = Device::new("b");
    let body = json!({"identity_data": device.identity(), "pubkey": device.pem()});
    rig.user(Method::POST, DEVICES, Some(body)).await.ok(201);
    assert_eq!(rig.authenticate(&device).await.error(401), "unauthorized");
    let (id, _) = rig.find(&device).await;
    assert_eq!(rig.device(&id).await["status"], "preauthorized");
    limit_to(&rig, 2).await;
    rig.authenticate(&device).await.ok(200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn concurrent_acceptances_never_exceed_the_limit() {
    let rig = Arc::new(Rig::new());
    limit_to(&rig, 3).await;
    let mut sets = Vec::new();
    for number in 0..12 {
        sets.push(rig.pending(&Device::new(&format!("race-{number}"))).await);
    }
    let tasks: Vec<_> = sets
        .into_iter()
        .map(|(id, set)| {
            let rig = rig.clone();
            tokio::spawn(async move { rig.set_status(&id, &set, "accepted").await.status.as_u16() })
        })
        .collect();
    let mut accepted = 0;
    for task in tasks {
        match task.await.unwrap() {
            204 => accepted += 1,
            status => assert_eq!(status, 422),
        }
    }
    assert_eq!(accepted, 3);
    assert_eq!(
        rig.get(&format!("{DEVICES}/count?status=accepted"))
            .await
            .json(),
        json!({"count": 3})
    );
}

#[tokio::test]
async fn d35_limits_of_a_tenant_are_read_and_set() {
    let rig = Rig::new();
    assert_eq!(rig.get(LIMIT).await.ok(200).json(), json!({"limit": 0}));
    let path = format!("{INTERNAL}/tenant/t1/limits/max_devices");
    assert_eq!(
        rig.internal(Method::GET, &path, None).await.ok(200).json(),
        json!({"limit": 0})
    );
    rig.internal(Method::PUT, &path, Some(json!({"limit": 7})))
        .await
        .ok(204);
    assert_eq!(
        rig.internal(Method::GET, &path, None).await.json(),
        json!({"limit": 7})
    );
    assert_eq!(
        rig.user_of("t1", Method::GET, LIMIT, None).await.json(),
        json!({"limit": 7})
    );
    assert_eq!(rig.get(LIMIT).await.json(), json!({"limit": 0}));
    for body in [
        json!({"limit": "7"}),
        json!({"limit": -1}),
        json!({}),
        json!([]),
        json!({"limit": u64::MAX}),
    ] {
        let error = rig
            .internal(Method::PUT, &path, Some(body))
            .await
            .error(400);
        assert!(
            error.starts_with("failed to decode limit request"),
            "{error}"
        );
    }
    for _ in 0..2 {
        rig.internal(Method::DELETE, &path, None).await.ok(204);
    }
    assert_eq!(
        rig.internal(Method::GET, &path, None).await.json(),
        json!({"limit": 0})
    );
    let other = format!("{INTERNAL}/tenant/t1/limits/max_users");
    assert_eq!(
        rig.internal(Method::GET, &other, None).await.error(400),
        "unsupported limit max_users"
    );
    rig.internal(Method::PUT, &other, Some(json!({"limit": 7})))
        .await
        .error(400);
    rig.internal(Method::DELETE, &other, None).await.error(400);
}
